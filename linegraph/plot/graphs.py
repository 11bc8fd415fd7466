"""Figures of neuron graphs and coarse graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from linegraph.errors import DataError
from linegraph.plot.axes import axes_or_new

__all__ = ["coupling_matrix", "neuron_graph"]


def coupling_matrix(data: Any, ax: Any = None) -> Any:
    """Absolute couplings between the groups of a coarse graph, on a logarithmic scale; columns act on rows.

    Args:
        data: what :func:`~linegraph.coarse_graph` returns.
        ax: where to draw; a new figure by default.

    Raises:
        DataError: if no coupling differs from 0.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> lg.plot.coupling_matrix(lg.coarse_graph(P, "neuron")).get_ylabel()
        'receiving'
    """
    from matplotlib.colors import LogNorm

    size = data.edge_weight.abs().cpu().double().numpy()
    if not (size > 0).any():
        raise DataError("this coarse graph has no coupling to draw")
    matrix = np.full((data.num_nodes, data.num_nodes), np.nan)
    sources, targets = data.edge_index.cpu().numpy()
    matrix[targets, sources] = np.where(size > 0, size, np.nan)
    ax = axes_or_new(ax)
    # A few couplings far below all others would take up most of the scale.
    norm = LogNorm(max(float(np.nanmin(matrix)), float(np.nanmax(matrix)) * 1e-6), float(np.nanmax(matrix)))
    image = ax.imshow(matrix, norm=norm, cmap="viridis", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="|sum of couplings|")
    ax.set(xlabel="acting", ylabel="receiving")
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
    """Neurons in columns, inputs on the left; weights by sign and size, neurons by their mean activation.

    Args:
        data: what :func:`~linegraph.neuron_graph` returns.
        ax: where to draw; a new figure by default.
        strongest: draw only this many weights of largest absolute value; what leads into junctions is always drawn.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> lg.plot.neuron_graph(lg.neuron_graph(model, torch.randn(8, 4))).get_title()
        '9 neurons, 18 weights (red +, blue −)'
    """
    from matplotlib.collections import LineCollection

    ax = axes_or_new(ax)
    place, columns = _in_columns(data)
    weight, ends = data.edge_weight.cpu().double().numpy(), data.edge_index.cpu().numpy()
    synapses = np.flatnonzero(data.edge_synapse.cpu().numpy() >= 0)
    kept = synapses[np.argsort(-np.abs(weight[synapses]), kind="stable")[:strongest]][::-1]
    paths = np.setdiff1d(np.arange(len(weight)), synapses)
    share = np.abs(weight[kept]) / max(np.abs(weight[kept]).max(initial=0), 1e-300)
    colours = np.where(weight[kept, None] >= 0, [[0.80, 0.25, 0.15, 1]], [[0.15, 0.35, 0.75, 1]])
    colours[:, 3] = 0.15 + 0.75 * share
    straight = np.stack([place[ends[0, kept]], place[ends[1, kept]]], 1)
    ax.add_collection(LineCollection(list(_bent(place[ends[0, paths]], place[ends[1, paths]])), colors="0.75"))
    ax.add_collection(LineCollection(list(straight), colors=colours, linewidths=list(0.3 + 1.7 * share)))
    activation = data.activation.cpu().double().numpy()
    bound = max(np.abs(activation).max(initial=0), 1e-300)
    style = {"cmap": "PuOr_r", "vmin": -bound, "vmax": bound, "edgecolors": "0.3", "linewidths": 0.5, "zorder": 3}
    points = ax.scatter(*place.T, c=activation, s=np.clip(2500 / len(place), 8, 60), **style)
    ax.figure.colorbar(points, ax=ax, label="mean activation")
    ax.set_xticks(range(len(columns)), columns, fontsize=8)
    ax.set(yticks=[], title=f"{data.num_nodes} neurons, {len(synapses)} weights (red +, blue −)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def _bent(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Lines that go round the columns between their ends."""
    t = np.linspace(0, 1, 21)[None, :, None]
    lines = begin[:, None] * (1 - t) + end[:, None] * t
    skipped = np.abs(end[:, 0] - begin[:, 0]) > 1
    lines[:, :, 1] += 0.05 * np.sin(np.pi * t[0, :, 0]) * skipped[:, None]
    return lines


def _in_columns(data: Any) -> tuple[np.ndarray, list[str]]:
    """Where every neuron is drawn, and the name of every column: those of a kind and layer, in order."""
    kind, layer = data.kind.cpu().numpy(), data.layer.cpu().numpy()
    starts = np.flatnonzero(np.r_[True, (np.diff(kind) != 0) | (np.diff(layer) != 0)])
    place, names = np.empty((len(kind), 2)), []
    for x, (begin, end) in enumerate(zip(starts, np.r_[starts[1:], len(kind)], strict=True)):
        place[begin:end, 0] = x
        place[begin:end, 1] = -((np.arange(end - begin) + 0.5) / (end - begin))
        names.append(data.layer_names[layer[begin]] if layer[begin] >= 0 else data.kind_names[kind[begin]])
    return place, names
