"""Nodes and lines: neuron graphs, line graphs and coarse graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from linegraph.arguments import check_number_of
from linegraph.errors import DataError, TooLargeError
from linegraph.plot.axes import add_colour_bar, axes_or_new, label_axes
from linegraph.plot.columns import (
    Columns,
    Lines,
    beside_each_other,
    chosen_layers,
    curves,
    in_columns,
    layer_columns,
    strongest_lines,
)
from linegraph.plot.labels import HALO, short_names, with_note
from linegraph.plot.layouts import spread_out
from linegraph.plot.tables import check_graph

__all__ = ["coarse_graph", "line_graph", "neuron_graph"]

NEURONS = ("edge_index", "edge_weight", "edge_synapse", "kind", "layer", "activation", "layer_names", "kind_names")

MOST = 40
"""Places in a column; of more neurons, consecutive ones share a place."""

FEW = 300
"""Lines up to which they are of full width."""

DASHES = (0, (4, 1.5))
"""Lines of negative weights, which differ in grey too."""

LARGEST = 1000
"""Nodes up to which a line graph, or a coarse graph without layers, can be told apart when drawn."""

ROUNDED = 1e-7
"""Absolute activations up to this size are 0 up to the rounding of single precision."""


def neuron_graph(data: Any, ax: Any = None, *, layers: Any = None, strongest: int = 2000) -> Any:
    """A neuron graph, layer by layer from the inputs on the left; neurons have the colour of their mean activation.

    Weights are red if positive and dashed blue if negative, and the darker and wider the larger they are within their
    layer. Weights between the same two neurons, such as the taps of a kernel, are drawn side by side. In layers of more
    than 40 neurons, consecutive neurons are drawn as one block, and all weights between two blocks as one line: its
    colour is that of their sum, its width that of the sum of their absolute values. ``layers`` shows a part in detail.

    Args:
        data: what :func:`~linegraph.neuron_graph` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        layers: names or numbers (from 0) of the layers whose weights are shown, or one; by default all.
        strongest: draw only this many lines, the strongest of each layer; edges into junctions are always drawn.

    Returns:
        The matplotlib Axes. What all names of layers begin and end with is left out, and stated on the axis.

    Raises:
        DataError: if the graph is not a PyG ``Data``, or lacks an attribute; names it. If ``layers`` names a layer that
            there is not.

    Cost: proportional to the nodes and weights; the lines are sorted once.

    Source: the graph of :func:`~linegraph.neuron_graph`.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> lg.plot.neuron_graph(lg.neuron_graph(model, torch.randn(8, 4))).get_title()
        '9 neurons, 18 weights (red +, blue dashed −)'
    """
    check_graph(data, NEURONS, "lg.neuron_graph")
    check_number_of("strongest", strongest, least=0)
    ends, weight = data.edge_index.cpu().numpy(), data.edge_weight.cpu().double().numpy()
    layer, is_weight = data.layer.cpu().numpy(), data.edge_synapse.cpu().numpy() >= 0
    column, names = _columns_of_neurons(data, ends, layer, is_weight, layers)
    columns = in_columns(column, MOST)
    into = np.isin(layer, chosen_layers(layers, data.layer_names))
    shown = is_weight & into[ends[1]]
    lines = strongest_lines(columns, ends[:, shown], weight[shown], np.maximum(layer, 0), strongest)
    paths = strongest_lines(
        columns, ends[:, ~is_weight], np.ones((~is_weight).sum()), np.zeros_like(layer), len(ends[0])
    )
    width = float(np.clip(2 + 0.42 * len(names), 6.4, 20))
    ax = axes_or_new(ax, width=width, height=(4.4 if columns.longest < 15 else 5.4) + _below(names, width))
    faint = min(1.0, 10 / max(len(paths.weight), 1) ** 0.5)
    _draw_lines(
        ax, curves(columns, paths.ends, _over(columns, paths)), colors="0.7", linewidths=0.3 + faint, alpha=faint
    )
    room = 0.7 * np.minimum(columns.room[lines.ends[0]], columns.room[lines.ends[1]])
    _draw_signed(ax, columns, lines, _over(columns, lines) + room * beside_each_other(lines.ends))
    activation = columns.mean(data.activation.cpu().double().numpy())
    bound = np.abs(activation).max(initial=0)
    is_zero = bound <= ROUNDED
    style = {"cmap": "PuOr_r", "vmin": -(bound or 1.0), "vmax": bound or 1.0, "edgecolors": "0.3", "linewidths": 0.5}
    sizes = np.clip(2500 / max(len(columns.place), 1), 8, 60)
    points = ax.scatter(*columns.place.T, c=np.where(is_zero, 0.0, activation), s=sizes, zorder=3, **style)
    add_colour_bar(ax, points, "mean activation" + (", 0 up to rounding" if is_zero else ""))
    neurons = f"{int((column >= 0).sum())} neurons"
    if columns.has_blocks:
        title = f"{neurons} in {len(columns.nodes)} blocks, {_count(lines)} sums of weights between blocks"
    else:
        title = f"{neurons}, {_count(lines)} weights"
    _name_columns(ax, names, "layer, from the inputs to the outputs", title)
    return ax


def line_graph(data: Any, ax: Any = None, *, strongest: int = 1500) -> Any:
    """A small line graph: its nodes are synapses, or the edges of a graph, its lines the couplings between them.

    Of a network, a column per layer, in the order of the layers, and in it a point for each synapse, whose colour is
    its weight. Couplings are red if positive and dashed blue if negative, and the darker and wider the larger they are
    within the layer that receives them. They lead from the right to the left, against the signal. Of another graph,
    nodes that are joined stand near each other.

    Args:
        data: what :func:`~linegraph.line_graph` returns, of up to 1,000 nodes.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        strongest: draw only this many couplings, the strongest into each layer.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the graph is not a PyG ``Data``, or lacks an attribute; names it.
        TooLargeError: if it has more than 1,000 nodes.

    Cost: proportional to the edges; of other graphs than of networks, the square of the nodes.

    Source: the graph of :func:`~linegraph.line_graph`; T. Kamada, S. Kawai, Information Processing Letters 31 (1989),
    for graphs without layers.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> lg.plot.line_graph(lg.line_graph(P)).get_title()
        '18 synapses, 24 couplings (red +, blue dashed −)'
    """
    check_graph(data, ("edge_index",), "lg.line_graph")
    check_number_of("strongest", strongest, least=0)
    if data.num_nodes > LARGEST:
        raise TooLargeError(
            f"this line graph has {data.num_nodes:,} nodes, and more than {LARGEST:,} cannot be told apart; draw "
            "lg.plot.coarse_graph(lg.coarse_graph(P)), or lg.plot.coupling_matrix of it"
        )
    ends = data.edge_index.cpu().numpy()
    features = list(data.feature_names) if "feature_names" in data else []
    if "layer" not in features or "layer_names" not in data:
        ax = axes_or_new(ax, width=6.4, height=5.4)
        areas = np.full(data.num_nodes, np.clip(2000 / max(data.num_nodes, 1), 16, 70))
        _draw_spread_out(ax, ends, data.num_nodes, areas, _names_of_edges(data))
        label_axes(ax, title=f"line graph: {data.num_nodes} nodes, {len(ends[0])} edges")
        return ax
    layer = data.x[:, features.index("layer")].cpu().numpy().astype(int)
    column, names = layer_columns(layer, data.layer_names, None)
    columns = in_columns(column, LARGEST)
    weight = data.edge_weight.cpu().double().numpy()
    lines = strongest_lines(columns, ends, weight, layer, strongest)
    height = float(np.clip(2.5 + 0.03 * columns.longest, 4.2, 9))
    width = float(np.clip(2 + 1.4 * len(names), 6.4, 14))
    ax = axes_or_new(ax, width=width, height=height + _below(names, width))
    _draw_signed(ax, columns, lines, _over(columns, lines))
    own = data.x[:, features.index("weight")].cpu().double().numpy() if "weight" in features else np.zeros(len(layer))
    bound = np.abs(own).max(initial=0) or 1.0
    style = {"cmap": "PuOr_r", "vmin": -bound, "vmax": bound, "edgecolors": "0.3", "linewidths": 0.4, "zorder": 3}
    points = ax.scatter(
        *columns.place.T, c=own[np.argsort(columns.block)], s=np.clip(2500 / len(layer), 8, 60), **style
    )
    add_colour_bar(ax, points, "weight of the synapse")
    title = f"{len(layer)} synapses, {_count(lines)} couplings"
    _name_columns(ax, names, "layer of the synapse; couplings act from right to left", title)
    return ax


def coarse_graph(data: Any, ax: Any = None, *, layers: Any = None, strongest: int = 600) -> Any:
    """A coarse graph: its nodes are layers, channels or other groups of synapses, its lines sums of couplings.

    Lines are red if the sum is positive and dashed blue if it is negative, and the darker and wider the larger they
    are. A graph of whole layers is an arc diagram: layers stand side by side in their order, arcs above lead from later
    to earlier layers, as the gradient does, arcs below the other way. Of neurons or channels, a column per layer; of
    more than 40 in a layer, consecutive ones are drawn as one block. Of other groups, those that are joined stand near
    each other. The size of a point tells how many synapses it stands for, its colour how strongly others act on it.

    Args:
        data: what :func:`~linegraph.coarse_graph` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        layers: names or numbers (from 0) of the layers to show, or one; by default all.
        strongest: draw only this many lines, the strongest; of neurons or channels, the strongest into each layer.

    Returns:
        The matplotlib Axes. What all names of layers begin and end with is left out, and stated on the axis.

    Raises:
        DataError: if the graph is not a PyG ``Data``, or lacks an attribute; names it. If ``layers`` names a layer that
            there is not, or groups have no layers.
        TooLargeError: if more than 1,000 groups have no layers.

    Cost: proportional to the couplings, which are sorted once.

    Source: M. Wattenberg, Arc diagrams: visualizing structure in strings, IEEE Symposium on Information Visualization
    (2002); T. Kamada, S. Kawai, Information Processing Letters 31 (1989), for groups without layers.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> lg.plot.coarse_graph(lg.coarse_graph(P)).get_title()
        '2 layers, 1 sum of couplings (red +, blue dashed −)'
    """
    check_graph(data, ("edge_index", "edge_weight", "group_size"), "lg.coarse_graph")
    check_number_of("strongest", strongest, least=0)
    ends, weight = data.edge_index.cpu().numpy(), data.edge_weight.cpu().double().numpy()
    group_size = data.group_size.cpu().numpy().astype(float)
    if "layer" not in data:
        return _coarse_without_layers(ends, group_size, ax, layers)
    layer = data.layer.cpu().numpy()
    column, names = layer_columns(layer, data.layer_names, layers)
    columns = in_columns(column, MOST)
    of_layers = len(columns.nodes) == len(names)
    lines = strongest_lines(columns, ends, weight, np.zeros_like(layer) if of_layers else layer, strongest)
    height = 3.4 if of_layers else 4.4 if columns.longest < 15 else 5.4
    width = float(np.clip(2 + (0.3 if of_layers else 0.42) * len(names), 6.4, 20))
    ax = axes_or_new(ax, width=width, height=height + _below(names, width))
    if of_layers:
        columns.place[:, 1] = 0
        # Sums over whole layers span decades, of which a linear scale shows one.
        lines = replace(lines, share=lines.share**0.3)
    _draw_signed(ax, columns, lines, _arcs(columns, lines) if of_layers else _over(columns, lines))
    kept = column >= 0
    received = np.bincount(ends[1], np.abs(weight), len(layer))
    received = np.bincount(columns.block[kept], received[kept], len(columns.nodes))
    total = np.bincount(columns.block[kept], group_size[kept], len(columns.nodes))
    style = {"cmap": "viridis_r", "vmin": 0, "edgecolors": "0.3", "linewidths": 0.5, "zorder": 3}
    points = ax.scatter(*columns.place.T, c=received, s=_areas(total, 120 if of_layers else 40), **style)
    add_colour_bar(ax, points, "sum of |couplings| received (units of $P$)")
    what = "sum" if len(lines.weight) == 1 == lines.of else "sums"
    blocks = f" in {len(columns.nodes)} blocks" if columns.has_blocks else ""
    nodes = "layers" if of_layers else "groups"
    title = f"{int(kept.sum())} {nodes}{blocks}, {_count(lines)} {what} of couplings"
    _name_columns(ax, names, "layer; arcs above act from right to left" if of_layers else "layer", title)
    return ax


def _coarse_without_layers(ends: np.ndarray, group_size: np.ndarray, ax: Any, layers: Any) -> Any:
    if layers is not None:
        raise DataError("these groups have no layers; make them by lg.coarse_graph(P, 'neuron'), or leave out layers=")
    if len(group_size) > LARGEST:
        raise TooLargeError(
            f"these {len(group_size):,} groups have no layers, and more than {LARGEST:,} cannot be told apart; draw "
            "lg.plot.coupling_matrix of them"
        )
    ax = axes_or_new(ax, width=6.4, height=5.4)
    _draw_spread_out(ax, ends, len(group_size), _areas(group_size, 160), [str(i) for i in range(len(group_size))])
    label_axes(ax, title=f"{len(group_size)} groups, {len(ends[0])} sums of couplings; area: nodes in a group")
    return ax


def _columns_of_neurons(
    data: Any, ends: np.ndarray, layer: np.ndarray, is_weight: np.ndarray, layers: Any
) -> tuple[np.ndarray, list[str]]:
    """The column of each neuron, that of its kind and layer, −1 for those not shown, and the names of the columns."""
    kind, chosen = data.kind.cpu().numpy(), chosen_layers(layers, data.layer_names)
    column = np.cumsum(np.r_[False, (np.diff(kind) != 0) | (np.diff(layer) != 0)][: len(kind)])
    if layers is not None:
        shown = np.isin(layer, chosen)
        shown[ends[0, is_weight & shown[ends[1]]]] = True
        column = np.where(shown, column, -1)
    firsts = [np.flatnonzero(column == number)[0] for number in np.unique(column[column >= 0])]
    return column, [data.layer_names[layer[i]] if layer[i] >= 0 else data.kind_names[kind[i]] for i in firsts]


def _draw_lines(ax: Any, lines: list[np.ndarray], **style: Any) -> None:
    from matplotlib.collections import LineCollection

    ax.add_collection(LineCollection(lines, **style))
    ax.autoscale_view()


def _draw_signed(ax: Any, columns: Columns, lines: Lines, rise: np.ndarray) -> None:
    strong = np.where(lines.weight[:, None] >= 0, [[0.80, 0.25, 0.15]], [[0.15, 0.35, 0.75]])
    colours = 1 - (0.2 + 0.75 * lines.share[:, None]) * (1 - strong)  # opaque: red over blue would be purple
    thin = min(1.0, (FEW / max(len(lines.weight), 1)) ** 0.5)
    style: dict[str, Any] = {"linestyles": ["-" if weight >= 0 else DASHES for weight in lines.weight]}
    _draw_lines(
        ax, curves(columns, lines.ends, rise), colors=colours, linewidths=0.3 + 1.7 * thin * lines.share, **style
    )


def _over(columns: Columns, lines: Lines) -> np.ndarray:
    """How far lines rise that pass over a column."""
    begin, end = columns.place[lines.ends][:, :, 0]
    return np.asarray(0.05 * (np.abs(end - begin) > 1))


def _arcs(columns: Columns, lines: Lines) -> np.ndarray:
    """The rise of arcs in proportion to their length, upwards from right to left."""
    begin, end = columns.place[lines.ends][:, :, 0]
    return np.asarray((begin - end) / max(np.abs(begin - end).max(initial=0), 1.0))


def _name_columns(ax: Any, names: list[str], label: str, title: str) -> None:
    from linegraph.plot.ticks import name_ticks

    short, note = _short(names)
    name_ticks(ax.xaxis, range(len(names)), short)
    ax.set(yticks=[], xlim=(-0.6, len(names) - 0.4))
    label_axes(ax, x=with_note(label, note), title=f"{title} (red +, blue dashed −)")
    ax.spines[["top", "right", "left"]].set_visible(False)


def _short(names: list[str]) -> tuple[list[str], str]:
    """Short names of columns, and what those of layers begin and end with; inputs and junctions have no dot."""
    layers = [name for name in names if "." in name]
    short, note = short_names(layers)
    of = dict(zip(layers, short, strict=True))
    return [of.get(name, name) for name in names], note


def _below(names: list[str], width: float) -> float:
    """Inches that the names of columns take if they stand upright."""
    from linegraph.plot.ticks import room_below

    return room_below(_short(names)[0], 0.75 * width)


def _draw_spread_out(ax: Any, ends: np.ndarray, count: int, areas: np.ndarray, names: list[str]) -> None:
    """Nodes near those that they are joined to, without axes; few nodes have their names."""
    from matplotlib.patheffects import withStroke

    place = spread_out(ends, count)
    both = {(int(a), int(b)) for a, b in ends.T}
    few = len(ends[0]) <= 200
    for a, b in both if few else ():
        arrow = {"arrowstyle": "-" if (b, a) in both else "-|>", "color": "0.55", "linewidth": 0.9}
        ends_of_arrow = {"shrinkA": areas[a] ** 0.5 / 2, "shrinkB": areas[b] ** 0.5 / 2}
        ax.annotate("", place[b], place[a], arrowprops=arrow | ends_of_arrow)
    if not few:
        _draw_lines(ax, list(place[ends.T]), colors="0.6", linewidths=0.5, alpha=0.6)
    ax.scatter(*place.T, s=areas, color="#0072B2", edgecolors="white", linewidths=0.6, zorder=3)
    style = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8, "zorder": 4}
    for at, name, area in zip(place, names, areas, strict=True) if len(names) <= 30 else ():
        ax.annotate(name, at, (0, 2 + area**0.5 / 2), path_effects=[withStroke(**HALO)], **style)
    ax.margins(0.08)
    ax.set_axis_off()


def _names_of_edges(data: Any) -> list[str]:
    """The names of the nodes of a graph's line graph: the ends of its edges."""
    if "endpoint_names" in data:
        return [f"{source}, {target}" for source, target in data.endpoint_names]
    if "endpoints" in data:
        return [f"{source}, {target}" for source, target in data.endpoints.tolist()]
    return [str(number) for number in range(data.num_nodes)]


def _areas(count: np.ndarray, largest: float) -> np.ndarray:
    """Areas of points in proportion to the square root of counts, so that small groups can be seen."""
    return np.asarray(np.maximum(largest * np.sqrt(count / max(count.max(initial=0), 1.0)), 10))


def _count(lines: Lines) -> str:
    few = len(lines.weight) < lines.of
    return f"the {len(lines.weight):,} strongest of {lines.of:,}" if few else f"{lines.of:,}"
