"""The matrix of a coarse graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from linegraph.errors import DataError
from linegraph.plot.axes import add_colour_bar, axes_or_new, label_axes
from linegraph.plot.columns import in_columns, layer_columns
from linegraph.plot.labels import short_names, with_note
from linegraph.plot.tables import check_graph

__all__ = ["coupling_matrix"]

MOST = 300
"""Rows of the matrix; more groups are drawn in blocks."""

RANGE = 1e-6
"""The smallest coupling on the scale of colours, relative to the largest."""


def coupling_matrix(data: Any, ax: Any = None, *, layers: Any = None) -> Any:
    """Absolute couplings between the groups of a coarse graph, on a logarithmic scale; columns act on rows.

    The colour has the units of P. Couplings of 0 are white, and those below a millionth of the largest have its colour.
    Of more than 300 groups, consecutive ones of a layer are drawn as blocks, with the sum of their absolute couplings;
    every layer has its share of the blocks. ``layers`` shows a part of the matrix in detail.

    Args:
        data: what :func:`~linegraph.coarse_graph` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        layers: names or numbers (from 0) of the layers to show, or one; by default all.

    Returns:
        The matplotlib Axes. What all names of layers begin and end with is left out, and stated on the axes.

    Raises:
        DataError: if the graph is not a PyG ``Data``, or lacks an attribute; if ``layers`` names a layer that there is
            not; if all couplings are 0.

    Cost: proportional to the couplings, and memory of 8 · 300² bytes.

    Source: the graph of :func:`~linegraph.coarse_graph`.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> lg.plot.coupling_matrix(lg.coarse_graph(P, "neuron")).get_ylabel()
        'receiving (….weight)'
    """
    from matplotlib.colors import LogNorm

    from linegraph.plot.ticks import room_below, room_beside

    check_graph(data, ("edge_index", "edge_weight"), "lg.coarse_graph")
    column, names = _layers(data, layers)
    width = len(np.unique(column[column >= 0]))
    rows = in_columns(column, len(column) if (column >= 0).sum() <= MOST else max(MOST // max(width, 1), 1))
    matrix = _matrix(data, rows.block, len(rows.nodes))
    if not (matrix > 0).any():
        raise DataError("this coarse graph has no coupling to draw" + ("" if layers is None else " in these layers"))
    size = float(np.clip(1.6 + max(0.19 * len(names), 0.012 * len(matrix)), 3.8, 10))
    short = short_names(names)[0]
    ax = axes_or_new(ax, width=size + 2 + room_beside(short), height=size + room_below(short, 0.7 * size))
    largest = float(matrix.max())
    # A few couplings that are far smaller than all others must not take up most of the scale.
    norm = LogNorm(max(float(matrix[matrix > 0].min()), largest * RANGE), largest)
    drawn = np.where(matrix > 0, matrix, np.nan)
    image = ax.imshow(drawn, norm=norm, cmap="viridis_r", interpolation="nearest")
    blocks = f"|couplings| of blocks of up to {rows.nodes.max()} groups" if rows.has_blocks else "couplings|"
    add_colour_bar(
        ax, image, f"sum of {blocks} (units of $P$)" if rows.has_blocks else f"|sum of {blocks} (units of $P$)"
    )
    _mark_layers(ax, rows.column, names, "blocks" if rows.has_blocks else "groups")
    return ax


def _layers(data: Any, layers: Any) -> tuple[np.ndarray, list[str]]:
    """The column of each group, that of its layer, and the names of the layers; none if the groups have no layers."""
    if "layer" in data:
        return layer_columns(data.layer.cpu().numpy(), data.layer_names, layers)
    if layers is not None:
        raise DataError("these groups have no layers; make them by lg.coarse_graph(P, 'neuron'), or leave out layers=")
    return np.zeros(data.num_nodes, dtype=int), []


def _matrix(data: Any, block: np.ndarray, count: int) -> np.ndarray:
    """Sums of absolute couplings between blocks; rows receive."""
    sources, targets = block[data.edge_index.cpu().numpy()]
    kept = (sources >= 0) & (targets >= 0)
    size = data.edge_weight.abs().cpu().double().numpy()[kept]
    return np.bincount(targets[kept] * count + sources[kept], size, count**2).reshape(count, count)


def _mark_layers(ax: Any, column: np.ndarray, names: list[str], what: str) -> None:
    """Names of layers as ticks, and lines between layers that have several rows."""
    from linegraph.plot.ticks import name_ticks

    if not names:
        label_axes(ax, x=f"acting ({what} in their order)", y=f"receiving ({what} in their order)")
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(integer=True)
        return
    short, note = short_names(names)
    middle = [float(np.flatnonzero(column == number).mean()) for number in range(len(names))]
    for axis in (ax.xaxis, ax.yaxis):
        name_ticks(axis, middle, short)
    label_axes(ax, x=with_note("acting", note), y=with_note("receiving", note))
    for edge in np.flatnonzero(np.diff(column)) if len(column) > len(names) else ():
        ax.axhline(edge + 0.5, color="0.8", linewidth=0.5)
        ax.axvline(edge + 0.5, color="0.8", linewidth=0.5)
