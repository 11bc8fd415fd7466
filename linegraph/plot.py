"""Figures. Every function draws into a matplotlib Axes and returns it; none shows or writes anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from linegraph.errors import DataError
from linegraph.selection.predictors import predict_final

__all__ = ["accuracy_against_capacitance", "predicted_against_true", "state_against_capacity", "state_against_loss"]

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


STARTS = {"high": ("o", "none", "-"), "low": ("v", "k", "--")}
"""Marker, its edge and line of the named starts; a dashed line shows what is under it."""


def state_against_capacity(curve: pd.DataFrame, model: Any, ax: Any = None) -> Any:
    """x_eff against β_eff of perturbed copies of a network, over the branches and tipping points of the 1-D theory.

    Stable branches are solid, unstable ones dashed; dotted lines mark the critical β.

    Args:
        curve: what :func:`~linegraph.dynamics.resilience_curve` returns; copies without a link are left out.
        model: the dynamics of the curve.
        ax: where to draw; a new figure by default.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016), figures 2 and 3.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> web, model = lg.from_networkx(nx.complete_graph(8)), lg.dynamics.Regulatory()
        >>> curve = lg.dynamics.resilience_curve(web, model, "links", [0, 0.5, 0.9], 2)
        >>> lg.plot.state_against_capacity(curve, model).get_ylabel()
        'state x_eff'
    """
    from linegraph.dynamics.reduction import branch_curves, tipping_points

    ax = _axes(ax)
    known = curve.dropna(subset=["beta_eff", "x_eff"])
    reached = known["beta_eff"].max() if len(known) else 1.0
    right = 1.05 * max(reached, *(1.3 * b for b in tipping_points(model)), 0)
    top = 1.1 * max(known["x_eff"].max() if len(known) else 0, 1e-9)
    labelled = set()
    for beta, x, stable in branch_curves(model, right):
        label = f"theory, {'stable' if stable else 'unstable'}"
        style = {"linestyle": "-" if stable else "--", "color": "0.35" if stable else "0.6"}
        ax.plot(beta, x, linewidth=1.8, zorder=1, label=None if label in labelled else label, **style)
        labelled.add(label)
    for critical in tipping_points(model):
        ax.axvline(critical, color="C3", linestyle=":", linewidth=1.2, zorder=0)
        ax.annotate(
            f"β = {critical:.3g}",
            (critical, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            color="C3",
            fontsize=8,
            va="top",
        )
    points = None
    for start, rows in known.groupby("start", sort=False):
        marker, edge, _ = STARTS.get(str(start), ("s", "none", "-"))
        look = {"marker": marker, "edgecolors": edge, "linewidths": 0.6, "s": 26, "alpha": 0.85, "zorder": 2}
        fractions = {"c": rows["fraction"], "vmin": 0, "vmax": max(known["fraction"].max(), 1e-9), "cmap": "viridis"}
        points = ax.scatter(rows["beta_eff"], rows["x_eff"], label=f"network, start {start}", **look, **fractions)
    if points is not None:
        ax.figure.colorbar(points, ax=ax, label=f"fraction of {_lost(curve)} lost")
    ax.set(xlabel="β_eff", ylabel="state x_eff", xlim=(0, right), ylim=(-0.02 * top, top))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="best")
    return ax


def state_against_loss(curve: pd.DataFrame, ax: Any = None) -> Any:
    """x_eff against the fraction lost: the median over repeats, the range from the 10th to the 90th percentile, points.

    Args:
        curve: what :func:`~linegraph.dynamics.resilience_curve` returns; copies without a link are left out.
        ax: where to draw; a new figure by default.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> web, model = lg.from_networkx(nx.complete_graph(8)), lg.dynamics.Regulatory()
        >>> curve = lg.dynamics.resilience_curve(web, model, "links", [0, 0.5, 0.9], 2)
        >>> lg.plot.state_against_loss(curve).get_xlabel()
        'fraction of links lost'
    """
    ax = _axes(ax)
    known = curve.dropna(subset=["x_eff"])
    for i, (start, rows) in enumerate(known.groupby("start", sort=False)):
        marker, _, line = STARTS.get(str(start), ("s", "none", "-"))
        spread = rows.groupby("fraction")["x_eff"].quantile([0.1, 0.5, 0.9]).unstack()
        ax.fill_between(spread.index, spread[0.1], spread[0.9], color=f"C{i}", alpha=0.18, linewidth=0)
        style = {"color": f"C{i}", "zorder": 3 if line == "--" else 2}
        ax.plot(spread.index, spread[0.5], line, linewidth=1.8, label=f"start {start}, median and 10–90 %", **style)
        ax.scatter(rows["fraction"], rows["x_eff"], marker=marker, s=14, alpha=0.5, linewidths=0, **style)
    ax.set(xlabel=f"fraction of {_lost(curve)} lost", ylabel="state x_eff", ylim=(0, None))
    ax.grid(alpha=0.3)
    if len(known):
        ax.legend(fontsize=8)
    return ax


def _lost(curve: pd.DataFrame) -> str:
    kind = curve["kind"].iloc[0] if len(curve) else "links"
    return "weight" if kind == "weights" else str(kind)


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


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(7.5, 4.5), layout="constrained").add_subplot()
