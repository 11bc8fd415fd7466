"""Figures of equilibria and resilience."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pandas as pd

from linegraph.plot.axes import add_colour_bar, add_legend, axes_or_new, label_axes
from linegraph.plot.labels import BETA_EFF, X_EFF
from linegraph.plot.style import COLOURS
from linegraph.plot.tables import check_table

__all__ = ["state_against_capacity", "state_against_loss"]

MAKER = "lg.dynamics.resilience_curve"

STARTS = {"high": ("o", "none", "-"), "low": ("v", "k", "--")}
"""Marker, colour of its edge, and line style for each named start; dashed lines leave lines below visible."""

OTHERS = [("s", "none", "-"), ("D", "k", "--"), ("^", "none", ":"), ("P", "k", "-."), ("X", "none", (0, (5, 1)))]
"""The same for further starts, in turn."""


def state_against_capacity(curve: pd.DataFrame, model: Any, ax: Any = None) -> Any:
    """x_eff against β_eff of perturbed copies of a network, with branches and tipping points of the 1-D theory.

    Stable branches are solid, unstable ones dashed; dotted lines mark the critical β. A critical β above three times
    the largest β_eff is only named at the right edge. Both axes have the units of the model.

    Args:
        curve: what :func:`~linegraph.dynamics.resilience_curve` returns; copies without a link are left out.
        model: the dynamics of the curve.
        ax: the matplotlib Axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks a column; names it.

    Cost: proportional to the rows of the table, and the branches of the one-dimensional theory once.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016), figures 2 and 3.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> web, model = nx.complete_graph(8), lg.dynamics.Regulatory()
        >>> curve = lg.dynamics.resilience_curve(web, model, "links", [0, 0.5, 0.9], 2)
        >>> lg.plot.state_against_capacity(curve, model).get_yscale()
        'linear'
    """
    from linegraph.dynamics.reduction import branch_curves, tipping_points

    check_table(curve, ("kind", "fraction", "start", "beta_eff", "x_eff"), MAKER)
    ax = axes_or_new(ax)
    known = curve.dropna(subset=["beta_eff", "x_eff"])
    critical = tipping_points(model)
    least, most = (known["beta_eff"].agg(end) if len(known) else 0 for end in ("min", "max"))
    reached = max(most, 0) or min(critical, default=1.0) or 1.0
    shown = [b for b in critical if b <= 3 * reached]
    right = 1.05 * max([reached, *(1.3 * b for b in shown)])
    top = 1.1 * max(known["x_eff"].max() if len(known) else 0, 1e-9)
    labelled = set()
    for beta, x, stable in branch_curves(model, right):
        label = f"theory, {'stable' if stable else 'unstable'}"
        style = {"linestyle": "-" if stable else "--", "color": "0.35" if stable else "0.6"}
        ax.plot(beta, x, linewidth=1.8, zorder=1, label=None if label in labelled else label, **style)
        labelled.add(label)
    text: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "color": COLOURS[1],
        "fontsize": 8,
    }
    for b in shown:
        ax.axvline(b, color=COLOURS[1], linestyle=":", linewidth=1.2, zorder=0)
        ax.annotate(rf"$\beta$ = {b:.3g}", (b, 1.0), xytext=(0, 2), va="bottom", ha="center", **text)
    if beyond := ", ".join(f"{b:.3g}" for b in critical if b not in shown):
        ax.annotate(rf"$\beta$ = {beyond} →", (right, 1.0), xytext=(0, 2), va="bottom", ha="right", **text)
    points = None
    looks = _looks(known)
    for start, rows in known.groupby("start", sort=False):
        marker, edge, _ = looks[start]
        look = {"marker": marker, "edgecolors": edge, "linewidths": 0.6, "s": 26, "alpha": 0.85, "zorder": 2}
        fractions = {"c": rows["fraction"], "vmin": 0, "vmax": max(known["fraction"].max(), 1e-9), "cmap": "viridis"}
        points = ax.scatter(rows["beta_eff"], rows["x_eff"], label=f"network, start {start}", **look, **fractions)
    if points is not None:
        add_colour_bar(ax, points, f"fraction of {_lost(curve)} lost")
    ax.set(
        xlim=(min(1.05 * least, 0), right),
        ylim=(-0.02 * top, top),
    )
    label_axes(ax, x=f"{BETA_EFF} (units of the model)", y=f"state {X_EFF} (units of the model)")
    ax.grid(alpha=0.3)
    add_legend(ax, within=True)
    return ax


def state_against_loss(curve: pd.DataFrame, ax: Any = None) -> Any:
    """x_eff against the fraction lost: single repeats, their median, and their 10th to 90th percentile as a band.

    Args:
        curve: what :func:`~linegraph.dynamics.resilience_curve` returns; copies without a link are left out.
        ax: the matplotlib Axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks a column; names it.

    Cost: proportional to the rows of the table.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016); the table of
    :func:`~linegraph.dynamics.resilience_curve`.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> web, model = nx.complete_graph(8), lg.dynamics.Regulatory()
        >>> curve = lg.dynamics.resilience_curve(web, model, "links", [0, 0.5, 0.9], 2)
        >>> lg.plot.state_against_loss(curve).get_xlabel()
        'fraction of links lost'
    """
    check_table(curve, ("kind", "fraction", "start", "x_eff"), MAKER)
    ax = axes_or_new(ax)
    known = curve.dropna(subset=["x_eff"])
    looks = _looks(known)
    for i, (start, rows) in enumerate(known.groupby("start", sort=False)):
        marker, _, line = looks[start]
        spread = rows.groupby("fraction")["x_eff"].quantile([0.1, 0.5, 0.9]).unstack()
        ax.fill_between(
            spread.index, spread[0.1], spread[0.9], color=COLOURS[i % len(COLOURS)], alpha=0.18, linewidth=0
        )
        style = {"color": COLOURS[i % len(COLOURS)], "zorder": 2 if line == "-" else 3}
        ax.plot(
            spread.index,
            spread[0.5],
            linestyle=line,
            linewidth=1.8,
            label=f"start {start}, median and 10–90 %",
            **style,
        )
        ax.scatter(rows["fraction"], rows["x_eff"], marker=marker, s=14, alpha=0.5, linewidths=0, **style)
    ax.set_ylim(0, None)
    label_axes(ax, x=f"fraction of {_lost(curve)} lost", y=f"state {X_EFF} (units of the model)")
    ax.grid(alpha=0.3)
    add_legend(ax, within=True)
    return ax


def _looks(curve: pd.DataFrame) -> dict[Any, Any]:
    """Marker, colour of its edge, and line style for every start."""
    others = cycle(OTHERS)
    return {start: STARTS.get(start) or next(others) for start in curve["start"].unique()}


def _lost(curve: pd.DataFrame) -> str:
    kind = curve["kind"].iloc[0] if len(curve) else "links"
    return "weight" if kind == "weights" else str(kind)
