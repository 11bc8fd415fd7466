"""Figures of rankings: predicted accuracies with intervals, and beside the true ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from linegraph.arguments import check_number_of, check_type
from linegraph.errors import DataError
from linegraph.plot.axes import add_legend, add_message, axes_or_new, label_axes
from linegraph.plot.labels import label_points, quantity, short_names, with_note
from linegraph.plot.style import COLOURS, MARKERS, TOP, look
from linegraph.plot.tables import check_numeric, check_table

__all__ = ["predicted_against_true", "ranking"]

INTERVAL = 1.96
"""Standard deviations on each side of a 95 % interval of a normal distribution."""


def ranking(table: pd.DataFrame, ax: Any = None, *, methods: Any = None) -> Any:
    """Predicted final accuracies with 95 % intervals, the best candidate at the top.

    Candidates stand in the order of the table, which is that of the first method. The filled markers are its values,
    with mean ± 1.96 std as a line if the table has the standard deviation; the open markers are those of the other
    methods, and bars the true final accuracies, if the table has them.

    Args:
        table: what :func:`~linegraph.rank` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure with room for all names.
        methods: names of the columns to draw; by default those of all methods in the table that predict
            an accuracy.

    Returns:
        The matplotlib Axes. What all names begin and end with is left out, and stated on the axis.

    Raises:
        DataError: if the table is not a DataFrame, or lacks the column ``name`` or that of a given method; names it. If
            it has no column of a method that predicts an accuracy.

    Cost: proportional to the rows of the table.

    Source: the table of :func:`~linegraph.rank`; W. Cleveland, R. McGill, Journal of the American Statistical
    Association 79 (1984), for dots on a common scale.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"name": ["b", "a"], "combined": [0.9, 0.8], "combined_std": [0.01, 0.02]})
        >>> [text.get_text() for text in lg.plot.ranking(table).get_yticklabels()]
        ['b', 'a']
    """
    from linegraph.plot.ticks import name_ticks, room_beside

    drawn = _methods(table, ("name",), methods, "lg.rank")
    if not drawn:
        raise DataError("no column of this table is of a method that predicts an accuracy; name others by methods=")
    names, note = short_names(table["name"])
    within, places = ax is not None, np.arange(len(table))
    ax = axes_or_new(ax, width=7.2 + room_beside(names), height=min(1.3 + 0.22 * max(len(table), 5), 14))
    for i, method in reversed(list(enumerate(drawn))):
        values = table[method].to_numpy(float)
        if i:
            style = {"facecolors": "none", "edgecolors": COLOURS[i % len(COLOURS)], "linewidths": 1.1}
            ax.scatter(values, places, s=26, marker=MARKERS[i % len(MARKERS)], label=method, zorder=2, **style)
            continue
        spread = INTERVAL * table[f"{method}_std"].to_numpy(float) if f"{method}_std" in table else None
        text = f"{method}, 95 % interval" if spread is not None else method
        style = {**look(0), "markersize": 6, "elinewidth": 1.6, "linestyle": ""}
        ax.errorbar(values, places, xerr=spread, zorder=3, label=text, **style)
    if "final" in table and table["final"].notna().any():
        style = {"marker": "|", "s": 90, "linewidths": 2.2, "color": "black"}
        ax.scatter(table["final"].to_numpy(float), places, zorder=4, label="true final accuracy", **style)
    _limit(ax, table, drawn)
    for place in places[table[drawn[0]].isna().to_numpy()]:
        style = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "color": "0.45", "va": "center"}
        ax.text(0.01, place, f"no value of {drawn[0]}", **style)
    ax.set_ylim(len(table) - 0.4, -0.6)
    name_ticks(ax.yaxis, places, names)
    label_axes(ax, x=_axis_of(drawn), y=with_note("candidate, best first", note))
    ax.grid(alpha=0.3)
    add_legend(ax, within=within, order=[f"{drawn[0]}, 95 % interval", *drawn])
    return ax


def predicted_against_true(table: pd.DataFrame, ax: Any = None, *, methods: Any = None, top: int = TOP) -> Any:
    """Predicted against true final accuracy, with a marker for each method and the names of the best candidates.

    Thin lines are the 95 % intervals of the first method, mean ± 1.96 std, if the table has its standard deviation.

    Args:
        table: what :func:`~linegraph.rank` returns with ``train_fully``.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        methods: names of the columns to draw; by default those of all methods in the table that predict
            an accuracy.
        top: so many candidates, those of highest true accuracy, are named at the points of the first method, as far as
            there is room.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks the column ``final``, ``name`` or that of a given method;
            names it.

    Cost: proportional to the rows of the table; the figure is drawn once to find room for the names.

    Source: the table of :func:`~linegraph.rank`.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"name": ["a"], "capacitance": [0.9], "final": [0.92]})
        >>> lg.plot.predicted_against_true(table).get_ylabel()
        'predicted final accuracy'
    """
    drawn = _methods(table, ("name", "final"), methods, "lg.rank with train_fully=")
    check_numeric(table, ("final",))
    check_number_of("top", top, least=0)
    known = table.dropna(subset=["final"])
    true = known["final"].to_numpy(float)
    within = ax is not None
    ax = axes_or_new(ax, width=7.2, height=4.8)
    for i, method in reversed(list(enumerate(drawn))):
        values = known[method].to_numpy(float)
        if i == 0 and f"{method}_std" in known:
            spread = INTERVAL * known[f"{method}_std"].to_numpy(float)
            ax.errorbar(true, values, spread, fmt="none", ecolor=COLOURS[0], elinewidth=0.8, alpha=0.5, zorder=1)
        colour, size = COLOURS[i % len(COLOURS)], float(np.clip(1200 / max(len(known), 1), 16, 40))
        style = {"facecolors": "none" if i else colour, "edgecolors": colour, "marker": MARKERS[i % len(MARKERS)]}
        ax.scatter(true, values, s=size, linewidths=1.1, label=method, zorder=2 if i else 3, **style)
    # The axes have different scales: predictions spread far more than true accuracies.
    low, high = ax.get_xlim()
    _limit_to(ax, "y", [*known[drawn].to_numpy(float).ravel(), *true])
    bottom, above = ax.get_ylim()
    ax.set_ylim(bottom, above + 0.12 * (above - bottom) * (len(known) > top > 0))  # room for names
    ax.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0, label="predicted = true")
    ax.set_xlim(low, high)
    label_axes(ax, x="true final accuracy", y="predicted final accuracy", title=_title(known, drawn, top))
    ax.grid(alpha=0.3)
    add_legend(ax, within=within, order=drawn)
    if drawn and len(known) and top:
        without = _name_the_best(ax, known, drawn, top)
        ax.set_title(ax.get_title() + (f" ({without} without room)" if without else ""), fontsize=9)
    if not len(known):
        add_message(ax, "no candidate has a true final accuracy")
    return ax


def _methods(table: Any, columns: tuple[str, ...], methods: Any, maker: str) -> list[str]:
    """The columns to draw: those given, or of all methods in the table that predict an accuracy, in its order."""
    from linegraph.selection.methods import METHODS

    if methods is not None:
        check_type("methods", methods, Iterable, "the name of a column, or a list of names")
    named = [] if methods is None else [methods] if isinstance(methods, str) else list(methods)
    check_table(table, (*columns, *named), maker)
    found = named or [name for name in table if name in METHODS and METHODS[name].predicts]
    check_numeric(table, found)
    return found


def _axis_of(drawn: list[str]) -> str:
    from linegraph.selection.methods import METHODS

    predicts = all(name in METHODS and METHODS[name].predicts for name in drawn)
    return "predicted final accuracy" if predicts else " or ".join(map(quantity, drawn))


def _limit(ax: Any, table: pd.DataFrame, drawn: list[str]) -> None:
    """Limits of the horizontal axis: all markers, and intervals up to a margin."""
    final = table["final"].to_numpy(float) if "final" in table else []
    _limit_to(ax, "x", [*table[drawn].to_numpy(float).ravel(), *final])


def _limit_to(ax: Any, axis: str, values: list[float]) -> None:
    """Limits that hold the values; intervals that reach further are cut at a fifth of the range."""
    known = np.array(values)[np.isfinite(values)]
    if len(known):
        room = 0.2 * (known.max() - known.min() or 0.1)
        low, high = getattr(ax.dataLim, f"interval{axis}")
        near = 0.25 * room
        limits = max(low - near, known.min() - room), min(high + near, known.max() + room)
        getattr(ax, f"set_{axis}lim")(*limits)


def _title(known: pd.DataFrame, drawn: list[str], top: int) -> str:
    """What all names begin and end with, and which candidates are named if not all are."""
    note, count = short_names(known["name"])[1], known[drawn[0]].notna().sum() if drawn else 0
    of = f"names of the best {min(top, count)} of {len(known)}" if 0 < min(top, count) < len(known) else ""
    return ", ".join(filter(None, [note and f"names: {note}", of]))


def _name_the_best(ax: Any, known: pd.DataFrame, drawn: list[str], top: int) -> int:
    """Write names at the points of the first method; returns for how many there is no room."""
    with_value = known.dropna(subset=[drawn[0]])
    best = with_value.sort_values("final", ascending=False, kind="stable").head(top)
    short = dict(zip(known["name"], short_names(known["name"])[0], strict=True))
    others = np.column_stack([np.repeat(known["final"], len(drawn)), known[drawn].to_numpy(float).ravel()])
    names = [short[name] for name in best["name"]]
    return len(label_points(ax, best["final"], best[drawn[0]], names, obstacles=others[np.isfinite(others).all(1)]))
