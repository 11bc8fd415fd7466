"""Figures. Every function draws into a matplotlib Axes and returns it; none shows or writes anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from linegraph.errors import DataError
from linegraph.selection.predictors import predict_final

__all__ = [
    "accuracy_against_capacitance",
    "coupling_matrix",
    "layer_bars",
    "layer_pairs",
    "neuron_graph",
    "predicted_against_true",
    "singular_values",
    "spectral_density",
    "strength_ccdf",
]

MARKERS = "osD^vP*X<>"


def accuracy_against_capacitance(history: pd.DataFrame, ax: Any = None) -> Any:
    """Accuracy against β_eff over the first epochs, a line per candidate, with its reading at β_eff = 0.

    Args:
        history: columns ``name``, ``beta_eff``, ``accuracy``, one row per epoch and candidate; epochs without a
            finite β_eff are left out.
        ax: where to draw; a new figure by default.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> history = pd.DataFrame({"name": "a", "beta_eff": [0.2, 0.1], "accuracy": [0.7, 0.8]})
        >>> lg.plot.accuracy_against_capacitance(history).get_xlabel()
        'neural capacitance β_eff, relative to the first epoch'
    """
    ax = _axes(ax)
    finite = history[np.isfinite(history["beta_eff"].astype(float))]
    for i, (name, rows) in enumerate(finite.groupby("name", sort=False)):
        # Candidates differ by orders of magnitude in β_eff, and the regression does not mind its unit.
        relative = rows["beta_eff"] / abs(rows["beta_eff"].iloc[0])
        style = {"color": f"C{i % 10}", "marker": MARKERS[i % len(MARKERS)]}
        ax.plot(relative, rows["accuracy"], linewidth=1.2, markersize=5, label=name, **style)
        if len(rows) > 1:
            reading = predict_final(rows).mean
            # A regression with an intercept runs through the mean of its points.
            mean = relative.mean(), rows["accuracy"].mean()
            ax.plot([mean[0], 0], [mean[1], reading], ":", linewidth=1.2, color=style["color"])
            ax.plot([0], [reading], markerfacecolor="white", markersize=6, linestyle="", clip_on=False, **style)
    ax.set(xlabel="neural capacitance β_eff, relative to the first epoch", ylabel="validation accuracy")
    ax.set_title("Accuracy against capacitance; dotted: regression from its mean to β_eff = 0", fontsize=10)
    ax.set_xlim(left=min(0, ax.get_xlim()[0]))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return ax


def predicted_against_true(table: pd.DataFrame, ax: Any = None, *, methods: Any = None) -> Any:
    """Predicted against true final accuracy, a marker per method, a named column of points per candidate.

    Args:
        table: what :func:`~linegraph.rank` returns with ``train_fully``.
        ax: where to draw; a new figure by default.
        methods: columns to draw; by default every known method that the table has.

    Raises:
        DataError: if the table has no column ``final``.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"name": ["a"], "capacitance": [0.9], "final": [0.92]})
        >>> lg.plot.predicted_against_true(table).get_ylabel()
        'predicted final accuracy'
    """
    from linegraph.selection.predictors import METHODS

    if "final" not in table:
        raise DataError("the table has no column 'final'; rank with train_fully=")
    ax = _axes(ax)
    known = table.dropna(subset=["final"])
    drawn = list(methods) if methods is not None else [m for m in METHODS if m in table]
    for i, method in enumerate(drawn):
        style = {"s": 44, "alpha": 0.85, "linewidths": 1.2}
        ax.scatter(known["final"], known[method], marker="o^v"[i % 3], label=method, color=f"C{i}", **style)
    # The axes keep scales of their own: predictions spread far more than the truth does.
    low, high = ax.get_xlim()
    ax.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0, label="predicted = true")
    ax.set(xlabel="true final accuracy", ylabel="predicted final accuracy", xlim=(low, high))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    if drawn and len(known):
        _name_in_margin(ax, known["name"], known["final"], known[drawn[0]])
    return ax


def strength_ccdf(distribution: Any, ax: Any = None, *, fit: Any = None, label: str | None = None) -> Any:
    """The share of nodes at least so strong, on logarithmic axes, and a power law fitted to the tail.

    Args:
        distribution: what :func:`~linegraph.strength_distribution` returns; strengths of 0 or less cannot be drawn.
        ax: where to draw; a new figure by default.
        fit: what its ``power_law()`` returns; no line by default.
        label: name of the curve in the legend.

    Raises:
        DataError: if no strength is positive.

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2, 3], [0, 0, 0]]))
        >>> lg.plot.strength_ccdf(lg.strength_distribution(star)).get_ylabel()
        'share of nodes at least so strong'
    """
    ax = _axes(ax)
    positive = distribution.values > 0
    if not positive.any():
        raise DataError("no strength is positive, and a logarithmic axis shows no other")
    x, y = distribution.values[positive], distribution.ccdf[positive]
    drawn, label = _seen(x), label or f"{distribution.direction}-strength"
    ax.loglog(x[drawn], y[drawn], ".", markersize=3, label=label)
    if fit is not None:
        tail = np.geomspace(fit.x_min, x[-1], 50)
        share = float(y[np.searchsorted(x, fit.x_min * (1 - 1e-9))])
        text = f"power law, α = {fit.alpha:.2f} ± {fit.sigma:.2f}, x_min = {fit.x_min:.2g}"
        ax.loglog(tail, fit.ccdf(tail, share), "--", color="k", linewidth=1.2, label=text)
        # A steep law runs far below the last node seen.
        ax.set_ylim(bottom=y[-1] / 2)
    where = "" if distribution.layer is None else f" of {distribution.layer}"
    ax.set(xlabel=f"strength{where}", ylabel="share of nodes at least so strong")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax


def singular_values(values: Any, ax: Any = None, *, label: str | None = None) -> Any:
    """Singular values by rank, on a logarithmic axis.

    Args:
        values: what :func:`~linegraph.singular_values` returns; zeros cannot be drawn.
        ax: where to draw; a new figure by default.
        label: name of the curve; a legend is drawn if it is given.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.plot.singular_values(torch.tensor([3.0, 2.0])).get_xlabel()
        'rank'
    """
    ax = _axes(ax)
    values = np.asarray(values.cpu() if hasattr(values, "cpu") else values, dtype=float)
    positive = values > 0
    ax.semilogy(np.arange(1, len(values) + 1)[positive], values[positive], "o-", markersize=4, linewidth=1, label=label)
    ax.set(xlabel="rank", ylabel="singular value σ of P")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend(fontsize=8)
    return ax


def spectral_density(
    density: Any, ax: Any = None, *, width: float | None = None, points: int = 500, label: str | None = None
) -> Any:
    """A spectral density, smoothed, on a logarithmic axis: spectra of P have a peak at 0 and thin tails.

    Args:
        density: what :func:`~linegraph.spectral_density` or :func:`~linegraph.singular_value_density` returns.
        ax: where to draw; a new figure by default.
        width: standard deviation of the smoothing; by default a hundredth of the range.
        points: how many to draw.
        label: name of the curve; a legend is drawn if it is given.

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))
        >>> lg.plot.spectral_density(lg.spectral_density(ring)).get_yscale()
        'log'
    """
    ax = _axes(ax)
    width = density.default_width if width is None else width
    low, high = density.nodes[0] - 3 * width, density.nodes[-1] + 3 * width
    x = np.linspace(low, high, points)
    y = density.density(x, width=width)
    ax.semilogy(x, y, linewidth=1.3, label=label)
    # Between nodes that are far apart a Gaussian falls to 1e-300.
    ax.set_ylim(bottom=max(y.min(), y.max() * 1e-7))
    ax.set(xlabel="λ", ylabel=f"density, smoothed by {width:.2g}")
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend(fontsize=8)
    return ax


def layer_bars(table: pd.DataFrame, ax: Any = None, *, column: str = "share") -> Any:
    """One column of a diagnosis as bars, a bar per layer, from the input at the top to the output at the bottom.

    Args:
        table: what :func:`~linegraph.diagnose` returns.
        ax: where to draw; a new figure by default, high enough for all names.
        column: which number.

    Raises:
        DataError: if the table has no such column.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"layer": ["a", "b"], "share": [0.7, 0.3]})
        >>> lg.plot.layer_bars(table).get_xlabel()
        'share'
    """
    if column not in table or column == "layer":
        raise DataError(f"no column {column!r} of numbers; this table has {', '.join(map(repr, table.columns))}")
    ax = _axes(ax, height=max(2.5, 1 + 0.19 * len(table)))
    places = np.arange(len(table))
    ax.barh(places, table[column].astype(float), color="C0", height=0.75)
    ax.set_yticks(places, table["layer"], fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel=column, ylabel="")
    ax.margins(y=0.01)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.grid(alpha=0.3, axis="x")
    return ax


def layer_pairs(table: pd.DataFrame, ax: Any = None) -> Any:
    """What each pair of layers contributes to β_eff, as a heat map: rows influenced by columns, white for none.

    Args:
        table: what :func:`~linegraph.layer_pairs` returns.
        ax: where to draw; a new figure by default.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> lg.plot.layer_pairs(pd.DataFrame([[0.0, 1.0], [0.0, 0.0]], ["a", "b"], ["a", "b"])).get_ylabel()
        'influenced layer'
    """
    size = max(3.5, 2 + 0.19 * len(table))
    ax = _axes(ax, width=size + 1.5, height=size)
    values = table.to_numpy(dtype=float)
    largest = np.nanmax(np.abs(values), initial=0) or 1.0
    signed = bool((values < 0).any())
    colours = {"cmap": "RdBu_r", "vmin": -largest} if signed else {"cmap": "viridis", "vmin": 0}
    image = ax.imshow(np.where(values == 0, np.nan, values), vmax=largest, **colours)
    ax.set_xticks(range(len(table)), table.columns, fontsize=7, rotation=90)
    ax.set_yticks(range(len(table)), table.index, fontsize=7)
    ax.set(xlabel="influencing layer", ylabel="influenced layer")
    ax.figure.colorbar(image, ax=ax, label="contribution to β_eff", shrink=0.8)
    return ax


def _seen(x: np.ndarray, most: int = 3000) -> np.ndarray:
    """Which of many points to draw: spread evenly over the logarithmic axis and over the ranks, the ends included."""
    if len(x) <= most:
        return np.arange(len(x))
    over_axis = np.searchsorted(x, np.geomspace(x[0], x[-1], most // 2)).clip(0, len(x) - 1)
    over_ranks = len(x) - np.geomspace(1, len(x), most // 2).astype(int)
    return np.unique(np.concatenate([[0, len(x) - 1], over_axis, over_ranks]))


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
    ax = _axes(ax)
    # Rounding leaves sums that vanish in exact arithmetic far below all others.
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

    ax = _axes(ax)
    place, columns = _in_columns(data)
    weight, ends = data.edge_weight.cpu().double().numpy(), data.edge_index.cpu().numpy()
    synapses = np.flatnonzero(data.synapse.cpu().numpy() >= 0)
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


def _name_in_margin(ax: Any, names: pd.Series, x: pd.Series, y: pd.Series) -> None:
    """Names to the right of the axes, each joined to its point by a thin line and kept clear of the next."""
    low, high = ax.get_ylim()
    heights = ((y - low) / (high - low)).sort_values(ascending=False)
    place = 1.05
    for index, height in heights.items():
        place = min(height, place - 0.048)
        ax.annotate(
            str(names[index]),
            (x[index], y[index]),
            xytext=(1.04, place),
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def _axes(ax: Any, *, width: float = 7.5, height: float = 4.5) -> Any:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()
