"""Figures of topological measures: many graphs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from linegraph.arguments import check_type
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.plot.axes import add_colour_bar, axes_or_new
from linegraph.plot.labels import BETA_EFF, short_names, with_note
from linegraph.plot.tables import check_table

__all__ = ["topology"]

MAKER = "lg.topology"
FEW = 12
"""Graphs up to which the numbers are written into the cells."""
SURPRISING = 2.0
"""Standard deviations from which on a measure is marked in a table of many graphs."""
WIDEST = 10.0
"""Standard deviations at the ends of the scale of colours, if there are larger ones."""
SAME = 1e-9
"""Relative size below which a difference, or a value beside others, is 0 but for rounding."""
CELL, WIDTH = 0.55, 8.0
"""Inches of a cell with a number, and of all columns, up to which names stand horizontally."""


def topology(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    ax: Any = None,
    *,
    column: str | None = None,
    measures: Sequence[str] | None = None,
) -> Any:
    """Topological measures of one graph or many: a row per measure, a column per graph, a colour per number.

    The colour of a z-score is brown below and blue-green above 0, and white at 0. That of a value goes from the
    smallest to the largest of its row, since each measure has its own unit, and is grey where all graphs have the same.
    Up to 12 graphs have the numbers in their cells; of more, z-scores beyond ±2 are marked by + and −. What is
    undefined is grey, too. A row without any number is left out, as z-scores are for measures that all random graphs
    share.

    Args:
        tables: what :func:`~linegraph.topology` returns for one graph, or a dict of such tables by the names of graphs.
        ax: the matplotlib Axes to draw into; by default those of a new figure, whose size follows the numbers of graphs
            and measures.
        column: the column to draw, such as "rewired_z", "shuffled_z" or "value"; by default the first column of
            z-scores that all tables have, or "value".
        measures: names of the measures to draw, in this order; by default all.

    Returns:
        The matplotlib Axes. What all names of graphs begin and end with is left out, and stated below them.

    Raises:
        ArgumentTypeError: if ``tables`` is neither a table nor a dict of tables.
        DataError: if there is no table, a table lacks the column or a measure, or there is no number to draw.

    Cost: proportional to the graphs and measures.

    Source: the table of :func:`~linegraph.topology`; z-scores of many networks side by side after R. Milo et al.,
    Science 303 (2004).

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> graphs = {"karate": nx.karate_club_graph(), "ring": nx.cycle_graph(30)}
        >>> tables = {name: lg.topology(graph, null=()) for name, graph in graphs.items()}
        >>> [label.get_text() for label in lg.plot.topology(tables).get_xticklabels()]
        ['karate', 'ring']
    """
    named = {"": tables} if isinstance(tables, pd.DataFrame) else tables
    if not isinstance(named, Mapping):
        raise ArgumentTypeError(
            f"tables must be a table, or a dict of tables by name, got {type(tables).__name__}; {MAKER} makes a table"
        )
    numbers, column = _numbers(named, column, measures)
    few, (rows, columns) = len(named) <= FEW, numbers.shape
    names, note = short_names(numbers)
    longest = max(map(len, names))
    cell = max(CELL, 0.085 * longest)  # inches
    upright = not few or cell * columns > WIDTH
    if upright:
        cell = CELL if few else 0.22
    ax = axes_or_new(
        ax, width=3.6 + cell * columns, height=0.9 + 0.23 * rows + (0.08 * longest if upright else 0.2 * (longest > 0))
    )
    values = numbers.to_numpy()
    image = _coloured(ax, values, column)
    _written(ax, image, values, column, few=few)
    if note:
        ax.set_xlabel(with_note("graph", note), fontsize=8)
    ax.set_yticks(range(rows), [_label(name) for name in numbers.index], fontsize=8)
    ax.set_xticks(range(columns), names, fontsize=8 if few else 7, rotation=90 if upright else 0)
    ax.tick_params(length=0)
    ax.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1 if few else 0.4)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)
    return ax


def _numbers(
    tables: Mapping[str, pd.DataFrame], column: str | None, measures: Sequence[str] | None
) -> tuple[pd.DataFrame, str]:
    """The numbers to draw, measures by graphs, without rows that have none; and the column that they are of."""
    if not tables:
        raise DataError(f"there is no table to draw; a table is made by {MAKER}")
    for table in tables.values():
        check_table(table, ("value",), MAKER)
    if column is None:
        shared = [name for name in next(iter(tables.values())) if all(name in table for table in tables.values())]
        column = next((name for name in shared if str(name).endswith("_z")), "value")
    check_type("column", column, str, "the name of a column")
    for table in tables.values():
        check_table(table, (column,), MAKER)
    all_numbers = pd.DataFrame({name: table[column].astype(float) for name, table in tables.items()})
    all_numbers = all_numbers.reindex(dict.fromkeys(name for table in tables.values() for name in table.index))
    if measures is not None:
        if isinstance(measures, str) or not isinstance(measures, Sequence):
            raise ArgumentTypeError(f"measures must be a list of names, got {type(measures).__name__}")
        for name in measures:
            check_type("measures", name, str, "a list of names")
        if unknown := [name for name in measures if name not in all_numbers.index]:
            raise DataError(f"the tables have no measure {unknown[0]!r}; they have {', '.join(all_numbers.index)}")
        all_numbers = all_numbers.loc[list(measures)]
    found = all_numbers[np.isfinite(all_numbers).any(axis=1)]
    if found.empty:
        raise DataError(f"no measure has a number in the column {column!r}; draw another one with column=")
    return found, column


def _coloured(ax: Any, values: np.ndarray, column: str) -> Any:
    """The image of the numbers, with its colour bar."""
    from matplotlib import colormaps

    is_z = column.endswith("_z")
    if is_z:
        largest = float(np.nanmax(np.abs(np.where(np.isfinite(values), values, np.nan))))
        limit = min(max(largest, SURPRISING), WIDEST)
        scaled, low, map_name = values, -limit, "BrBG"
        null = column.removesuffix("_z")
        label, extend = f"standard deviations from {null} graphs", "both" if largest > limit else "neither"
    else:
        least, most = (function(values, axis=1, keepdims=True) for function in (np.nanmin, np.nanmax))
        differs = most - least > SAME * np.maximum(np.abs(least), np.abs(most))
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.where(differs, (values - least) / (most - least), np.nan)
        low, limit, map_name, extend = 0.0, 1.0, "cividis", "neither"
        label = f"{column.replace('_', ' ')}, scaled by row"
    colours: Any = colormaps[map_name].with_extremes(bad="0.9")
    colours.colorbar_extend = extend
    image = ax.imshow(np.ma.masked_invalid(scaled), cmap=colours, vmin=low, vmax=limit, aspect="auto")
    if is_z or values.shape[1] > 1:
        bar = add_colour_bar(ax, image, label)
        bar.ax.yaxis.label.set_size(8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        if not is_z:
            bar.set_ticks([0, 1], labels=["smallest", "largest"])
    else:
        ax.set_title(column.replace("_", " "), fontsize=9)
    return image


def _written(ax: Any, image: Any, values: np.ndarray, column: str, *, few: bool) -> None:
    """Write the numbers into the cells of few graphs, and signs into those of many."""
    is_z = column.endswith("_z")
    colours = image.to_rgba(image.get_array())
    zero = SAME * np.nanmax(np.abs(values), axis=1)
    for (i, j), value in np.ndenumerate(values):
        text = ""
        if few:
            shown = _signed(value) if is_z else f"{value if abs(value) > zero[i] else 0:.3g}"
            text = "–" if np.isnan(value) else shown.replace("-", "−")
        elif is_z and abs(value) >= SURPRISING:
            text = "+" if value > 0 else "−"
        if text:
            light = colours[i, j, :3] @ (0.3, 0.59, 0.11) > 0.5
            ax.text(j, i, text, ha="center", va="center", fontsize=7, color="black" if light else "white")


def _signed(value: float) -> str:
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0"


def _label(measure: str) -> str:
    """The name of a measure on an axis."""
    return BETA_EFF if measure == "beta_eff" else measure.replace("_", " ")
