"""Figures of neuron graphs and coarse graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from linegraph.arguments import check_number_of
from linegraph.errors import DataError
from linegraph.plot.axes import add_colour_bar, axes_or_new
from linegraph.plot.tables import check_graph

__all__ = ["coupling_matrix", "neuron_graph"]

NEURONS = ("edge_index", "edge_weight", "edge_synapse", "kind", "layer", "activation", "layer_names", "kind_names")


def coupling_matrix(data: Any, ax: Any = None) -> Any:
    """Absolute couplings between the groups of a coarse graph, on a logarithmic scale; columns act on rows.

    The colour has the units of P. Couplings of 0 are white.

    Args:
        data: what :func:`~linegraph.coarse_graph` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the graph is not a PyG ``Data``, or lacks an attribute, or all couplings are 0.

    Cost: memory of 8 n² bytes for n groups.

    Source: the graph of :func:`~linegraph.coarse_graph`.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> lg.plot.coupling_matrix(lg.coarse_graph(P, "neuron")).get_ylabel()
        'receiving'
    """
    from matplotlib.colors import LogNorm

    check_graph(data, ("edge_index", "edge_weight"), "lg.coarse_graph")
    size = data.edge_weight.abs().cpu().double().numpy()
    if not (size > 0).any():
        raise DataError("this coarse graph has no coupling to draw")
    matrix = np.full((data.num_nodes, data.num_nodes), np.nan)
    sources, targets = data.edge_index.cpu().numpy()
    matrix[targets, sources] = np.where(size > 0, size, np.nan)
    ax = axes_or_new(ax)
    # A few couplings that are far smaller than all others must not take up most of the scale.
    norm = LogNorm(max(float(np.nanmin(matrix)), float(np.nanmax(matrix)) * 1e-6), float(np.nanmax(matrix)))
    image = ax.imshow(matrix, norm=norm, cmap="viridis", interpolation="nearest")
    add_colour_bar(ax, image, "|sum of couplings|")
    ax.set(xlabel="acting", ylabel="receiving")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    if "layer" in data:
        layer = data.layer.cpu().numpy()
        middle = [np.flatnonzero(layer == number).mean() for number in range(len(data.layer_names))]
        ax.set_xticks(middle, data.layer_names, rotation=90, fontsize=7)
        ax.set_yticks(middle, data.layer_names, fontsize=7)
        for edge in np.flatnonzero(np.diff(layer)) if len(layer) > len(middle) else ():
            ax.axhline(edge + 0.5, color="0.8", linewidth=0.6)
            ax.axvline(edge + 0.5, color="0.8", linewidth=0.6)
    return ax


def neuron_graph(data: Any, ax: Any = None, *, strongest: int = 2000) -> Any:
    """A neuron graph, layer by layer from the inputs on the left; neurons have the colour of their mean activation.

    Weights are red if positive and blue if negative, and the darker and wider the larger they are. Weights between the
    same two neurons, such as the taps of a kernel, are drawn side by side.

    Args:
        data: what :func:`~linegraph.neuron_graph` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        strongest: draw only this many weights, those of largest absolute value; edges into junctions are always drawn.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the graph is not a PyG ``Data``, or lacks an attribute; names it.

    Cost: proportional to the nodes, the weights drawn and the edges into junctions; all weights are sorted once.

    Source: the graph of :func:`~linegraph.neuron_graph`.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> lg.plot.neuron_graph(lg.neuron_graph(model, torch.randn(8, 4))).get_title()
        '9 neurons, 18 weights (red +, blue −)'
    """
    from matplotlib.collections import LineCollection

    check_graph(data, NEURONS, "lg.neuron_graph")
    check_number_of("strongest", strongest, least=0)
    place, room, columns = _in_columns(data)
    longest = max(map(len, columns), default=0)
    upright = len(columns) * longest > 80
    ax = axes_or_new(ax, width=max(7.5, 2 + 0.45 * len(columns)), height=4.5 + 0.06 * longest * upright)
    weight, ends = data.edge_weight.cpu().double().numpy(), data.edge_index.cpu().numpy()
    synapses = np.flatnonzero(data.edge_synapse.cpu().numpy() >= 0)
    kept = synapses[np.argsort(-np.abs(weight[synapses]), kind="stable")[:strongest]][::-1]
    paths = np.setdiff1d(np.arange(len(weight)), synapses)
    share = np.abs(weight[kept]) / max(np.abs(weight[kept]).max(initial=0), 1e-300)
    strong = np.where(weight[kept, None] >= 0, [[0.80, 0.25, 0.15]], [[0.15, 0.35, 0.75]])
    colours = 1 - (0.15 + 0.75 * share[:, None]) * (1 - strong)  # opaque: red over blue would be purple
    beside = _side_by_side(ends[:, kept]) * 0.7 * np.minimum(room[ends[0, kept]], room[ends[1, kept]])
    faint = min(1.0, 10 / max(len(paths), 1) ** 0.5)
    ax.add_collection(LineCollection(_lines(place, ends[:, paths]), colors="0.7", linewidths=0.3 + faint, alpha=faint))
    ax.add_collection(
        LineCollection(_lines(place, ends[:, kept], beside), colors=colours, linewidths=0.3 + 1.7 * share)
    )
    activation = data.activation.cpu().double().numpy()
    bound = max(np.abs(activation).max(initial=0), 1e-300)
    style = {"cmap": "PuOr_r", "vmin": -bound, "vmax": bound, "edgecolors": "0.3", "linewidths": 0.5, "zorder": 3}
    points = ax.scatter(*place.T, c=activation, s=np.clip(2500 / len(place), 8, 60), **style)
    add_colour_bar(ax, points, "mean activation")
    ax.set_xticks(range(len(columns)), columns, fontsize=7 if upright else 8, rotation=90 if upright else 0)
    of = f"{len(synapses)}" if len(kept) == len(synapses) else f"the {len(kept)} strongest of {len(synapses)}"
    ax.set(yticks=[], title=f"{data.num_nodes} neurons, {of} weights (red +, blue −)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def _lines(place: np.ndarray, ends: np.ndarray, beside: np.ndarray | float = 0.0) -> list[np.ndarray]:
    """Lines that arch around the columns between their ends, displaced by ``beside`` at the middle."""
    begin, end = place[ends[0]], place[ends[1]]
    t = np.linspace(0, 1, 21)[None, :, None]
    lines = begin[:, None] * (1 - t) + end[:, None] * t
    height = 0.05 * (np.abs(end[:, 0] - begin[:, 0]) > 1) + beside
    lines[:, :, 1] += height[:, None] * np.sin(np.pi * t[0, :, 0])
    return list(lines)


def _side_by_side(ends: np.ndarray) -> np.ndarray:
    """The position of each edge among those with the same ends, from −1/2 to 1/2; 0 for a single edge."""
    pairs = pd.DataFrame(ends.T).groupby([0, 1])
    rank, count = pairs.cumcount().to_numpy(), pairs[0].transform("size").to_numpy()
    return np.where(count > 1, rank / np.maximum(count - 1, 1) - 0.5, 0.0)


def _in_columns(data: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Where every neuron is drawn, how far from the next one, and the name of every column: of a kind and layer."""
    kind, layer = data.kind.cpu().numpy(), data.layer.cpu().numpy()
    starts = np.flatnonzero(np.r_[True, (np.diff(kind) != 0) | (np.diff(layer) != 0)])
    place, room, names = np.empty((len(kind), 2)), np.empty(len(kind)), []
    for x, (begin, end) in enumerate(zip(starts, np.r_[starts[1:], len(kind)], strict=True)):
        place[begin:end, 0] = x
        place[begin:end, 1] = -((np.arange(end - begin) + 0.5) / (end - begin))
        room[begin:end] = 1 / (end - begin)
        names.append(data.layer_names[layer[begin]] if layer[begin] >= 0 else data.kind_names[kind[begin]])
    return place, room, names
