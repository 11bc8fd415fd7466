"""Figures of layers: bars, pairs, and how values over synapses are distributed within each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from linegraph.arguments import as_tensor, check_type
from linegraph.errors import DataError
from linegraph.io.accept import as_coupling
from linegraph.numerics import ROUNDING
from linegraph.plot.axes import add_colour_bar, add_message, axes_or_new, label_axes, points_of
from linegraph.plot.labels import BETA_EFF, quantity, short_names, with_note
from linegraph.plot.style import COLOURS
from linegraph.plot.tables import check_table

__all__ = ["layer_bars", "layer_pairs", "layer_values"]

NEGLIGIBLE = 1e-6
"""Share of the largest value below which the others are drawn as 0: single precision tells no more."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

SPAN = 30
"""Ratio of the largest to the smallest quantile above which an axis is logarithmic."""


def layer_bars(table: pd.DataFrame, ax: Any = None, *, column: str = "share") -> Any:
    """One column of the table of :func:`~linegraph.diagnose` as bars, from the first layer at the top to the last.

    Args:
        table: what :func:`~linegraph.diagnose` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure with room for all names.
        column: name of the column to draw.

    Returns:
        The matplotlib Axes. What all names of layers begin and end with is left out, and stated on the axis.

    Raises:
        DataError: if the table is not a DataFrame or has no column ``layer``, or ``column`` is not a column of numbers.

    Cost: proportional to the rows of the table.

    Source: the table of :func:`~linegraph.diagnose`.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"layer": ["1.weight", "3.weight"], "share": [0.7, 0.3]})
        >>> ax = lg.plot.layer_bars(table)
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('share of all strength', 'layer (….weight)')
    """
    from linegraph.plot.ticks import name_ticks, room_beside

    check_table(table, ("layer",), "lg.diagnose")
    if not isinstance(column, str) or column not in table or not pd.api.types.is_numeric_dtype(table[column]):
        numbers = ", ".join(map(repr, table.select_dtypes("number").columns))
        raise DataError(f"no column {column!r} of numbers; this table has {numbers}")
    names, note = short_names(table["layer"])
    ax = axes_or_new(ax, width=6.4 + room_beside(names), height=_height(len(table)))
    places, values = np.arange(len(table)), table[column].to_numpy(float)
    ax.barh(places, values, color=COLOURS[0], height=0.75)
    _from_the_top(ax, len(table))
    name_ticks(ax.yaxis, places, names)
    label_axes(ax, x=quantity(column), y=with_note("layer", note))
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.grid(alpha=0.3, axis="x")
    if len(values) and not values[np.isfinite(values)].any():
        ax.set_xlim(-1, 1)
        add_message(ax, f"every {column} is {'0' if np.isfinite(values).any() else 'undefined (0/0)'}")
    return ax


def layer_pairs(table: pd.DataFrame, ax: Any = None) -> Any:
    """Contributions of pairs of layers to β_eff as a heat map: columns influence rows; white is 0, a bar is a minus.

    Contributions below a millionth of the largest are 0 up to rounding, and white too.

    Args:
        table: what :func:`~linegraph.layer_pairs` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib Axes. What all names of layers begin and end with is left out, and stated on the axes.

    Raises:
        DataError: if the table is not a DataFrame, or its rows and columns are not the same layers.

    Cost: proportional to the entries of the table.

    Source: the table of :func:`~linegraph.layer_pairs`.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> lg.plot.layer_pairs(pd.DataFrame([[0.0, 1.0], [0.0, 0.0]], ["a", "b"], ["a", "b"])).get_ylabel()
        'influenced layer'
    """
    from linegraph.plot.ticks import name_ticks, room_below, room_beside

    check_table(table, (), "lg.layer_pairs")
    if list(table.index) != list(table.columns):
        raise DataError(
            f"the rows and columns of a table of pairs are the same layers, got columns {list(table.columns)}; such a "
            "table is made by lg.layer_pairs"
        )
    names, note = short_names(table.index)
    size = min(max(3.6, 1.6 + 0.19 * len(table)), 11)
    ax = axes_or_new(ax, width=size + 2 + room_beside(names), height=size + room_below(names, 0.7 * size))
    values = table.to_numpy(dtype=float)
    rounding = table.attrs.get("rounding", 0.0)
    largest = np.nanmax(np.abs(values), initial=0)
    drawn = np.where(np.abs(values) > max(NEGLIGIBLE * largest, rounding), values, np.nan)
    scale = np.nanmax(np.abs(drawn), initial=0) or 1.0
    signed = bool((drawn < 0).any())
    colours = {"cmap": "RdBu_r", "vmin": -scale} if signed else {"cmap": "viridis_r", "vmin": 0}
    image = ax.imshow(drawn, vmax=scale, interpolation="nearest", **colours)
    for axis in (ax.xaxis, ax.yaxis):
        name_ticks(axis, range(len(table)), names)
    label_axes(ax, x=with_note("influencing layer", note), y=with_note("influenced layer", note))
    if signed:
        _mark_negative(ax, drawn / scale)
    if np.isfinite(drawn).any():
        add_colour_bar(ax, image, f"contribution to {BETA_EFF} (units of $P$)")
    else:
        undefined = np.isnan(values).any()
        add_message(ax, f"{BETA_EFF} is 0/0" if undefined else "all contributions are 0\nup to rounding")
    return ax


def layer_values(P: Any, values: Any, ax: Any = None, *, label: str = "value") -> Any:
    """How values over the synapses, such as a centrality or a strength, are distributed within each layer.

    For each layer from the first at the top: a line from the 5th to the 95th percentile, a box from the 25th to the
    75th, and a bar at the median. Where no value is negative and they span more than a factor of 30, the axis is
    logarithmic; the percentiles are then those of the values above 0, and the name of the layer says which share is 0,
    up to rounding.

    Args:
        P: a coupling of n nodes, or a graph, which counts as one layer.
        values: one number per node (n,), in any unit, such as ``lg.pagerank(P)`` or ``P.in_strength()``.
        ax: the matplotlib Axes to draw into; by default those of a new figure with room for all names.
        label: what the values are, and their unit, for the axis.

    Returns:
        The matplotlib Axes. What all names of layers begin and end with is left out, and stated on the axis.

    Raises:
        NotAGraphError: if P is neither a coupling nor a graph.
        DataError: if there is not one number for each node.

    Cost: sorting the values of each layer.

    Source: J. Tukey, Exploratory Data Analysis (1977), for boxes of quartiles.

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2, 3], [0, 0, 0]]))
        >>> lg.plot.layer_values(star, lg.pagerank(star), label="PageRank").get_xlabel()
        'PageRank'
    """
    from linegraph.plot.ticks import name_ticks, room_beside

    P = as_coupling(P)
    check_type("label", label, str, "a text")
    wanted = f"one number for each of the {P.num_nodes} nodes, such as lg.pagerank(P) or P.in_strength()"
    numbers = as_tensor("values", values, wanted, device=torch.device("cpu"))
    if numbers.shape != (P.num_nodes,) or numbers.is_complex():
        raise DataError(f"values must be {wanted}, got the shape {tuple(numbers.shape)}")
    precision = torch.finfo(numbers.dtype).eps if numbers.is_floating_point() else 0.0
    of_all = numbers.double().numpy()
    finite = np.abs(of_all[np.isfinite(of_all)])
    negligible = ROUNDING * precision * finite.max(initial=0)
    parts = [of_all[layer.nodes] for layer in P.layers]
    parts = [part[np.isfinite(part)] for part in parts]
    positive = [part[part > negligible] for part in parts]
    logarithmic = bool(finite.size and of_all[np.isfinite(of_all)].min() >= -negligible and _spans_decades(positive))
    names, note = short_names(layer.name for layer in P.layers)
    if logarithmic:
        names = [_with_zeros(*each) for each in zip(names, parts, positive, strict=True)]
    ax = axes_or_new(ax, width=6.4 + room_beside(names), height=_height(len(names)))
    for place, part in enumerate(positive if logarithmic else parts):
        if len(part):
            _box(ax, place, np.quantile(part, QUANTILES))
    if logarithmic:
        ax.set_xscale("log")
    elif finite.size and not finite.any():
        add_message(ax, f"{label}: 0 everywhere")
    _from_the_top(ax, len(names))
    name_ticks(ax.yaxis, range(len(names)), names)
    what = "median, quartiles, 5th to 95th percentile" + (" of values > 0" if logarithmic else "")
    label_axes(ax, x=label, y=with_note("layer", note) if len(names) > 1 else "", title=what)
    ax.grid(alpha=0.3, axis="x")
    return ax


def _mark_negative(ax: Any, relative: np.ndarray) -> None:
    """A minus sign in each negative cell: in grey, both ends of a scale with two signs look alike."""
    width, height = points_of(ax)
    size = min(0.35 * min(width, height) / len(relative), 9)
    for strong, colour in ((True, "white"), (False, "0.25")):
        rows, columns = np.nonzero((relative < 0) & ((relative < -0.5) == strong))
        ax.plot(columns, rows, "_", color=colour, markersize=size, markeredgewidth=max(0.12 * size, 0.5), gid="minus")


def _box(ax: Any, place: int, quantiles: np.ndarray) -> None:
    low, first, median, third, high = quantiles
    ax.plot([low, high], [place, place], color=COLOURS[0], linewidth=1.2, solid_capstyle="butt")
    ax.fill_betweenx([place - 0.3, place + 0.3], first, third, facecolor="#9ecae1", edgecolor=COLOURS[0], linewidth=0.8)
    ax.plot([median, median], [place - 0.3, place + 0.3], color="black", linewidth=1.8, solid_capstyle="butt")


def _spans_decades(positive: list[np.ndarray]) -> bool:
    """Whether the values above 0 span more than a factor of ``SPAN`` over all layers."""
    ends = [np.quantile(part, QUANTILES[:: len(QUANTILES) - 1]) for part in positive if len(part)]
    return bool(ends) and max(end[1] for end in ends) > SPAN * min(end[0] for end in ends)


def _with_zeros(name: str, part: np.ndarray, positive: np.ndarray) -> str:
    """The name of a layer with the share of its values that are 0, where it is not small."""
    share = 1 - len(positive) / max(len(part), 1)
    return f"{name} ({share:.0%} are 0)" if share >= 0.005 else name


def _height(count: int) -> float:
    """Inches for so many names from top to bottom."""
    return min(1.1 + 0.2 * max(count, 5), 13)


def _from_the_top(ax: Any, count: int) -> None:
    ax.set_ylim(count - 0.4, -0.6)
