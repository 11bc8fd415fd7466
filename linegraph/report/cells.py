"""Tables for a page: their cells as text with keys to sort by, and as CSV."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["LONG", "Cell", "Column", "as_cell", "as_columns", "as_csv", "as_frame"]

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a text begins that spreadsheets take for a formula."""

LONG = 24
"""Letters above which a text may take several lines, in a wider column."""


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what is shown; empty for a missing value.
        key: the number to sort by, as JavaScript reads it; None: it is sorted by its text.
    """

    text: str
    key: str | None = None


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its header.
        is_number: whether all values that are not missing are numbers.
        cells: its cells.
    """

    name: str
    is_number: bool
    cells: list[Cell]

    @property
    def looks(self) -> str:
        """How it is set: "number", "text" or "text long"."""
        if self.is_number:
            return "number"
        return "text long" if any(len(cell.text) > LONG for cell in self.cells) else "text"


def as_frame(table: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """The table with its index as columns, unless the index only numbers the rows."""
    frame = table.to_frame("value" if table.name is None else table.name) if isinstance(table, pd.Series) else table
    if isinstance(frame.columns, pd.MultiIndex):
        frame = frame.set_axis([" ".join(map(str, names)) for names in frame.columns], axis=1)
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return frame
    return frame.reset_index(allow_duplicates=True)


def as_columns(frame: pd.DataFrame) -> list[Column]:
    """The columns of a table, with cells as they are shown."""
    found = []
    for place, name in enumerate(frame.columns):
        values = frame.iloc[:, place].tolist()
        cells = [as_cell(value) for value in values]
        filled = [cell for cell in cells if cell.text]
        is_number = bool(filled) and all(cell.key is not None for cell in filled)
        if not is_number:
            cells = [Cell(cell.text) for cell in cells]
        found.append(Column(str(name), is_number, cells))
    return found


def as_cell(value: Any) -> Cell:
    """A value as it is shown: numbers with four digits, missing values empty, truth values as words."""
    if is_missing(value):
        return Cell("")
    if isinstance(value, bool | np.bool_):
        return Cell("yes" if value else "no")
    if isinstance(value, Integral):
        whole = int(value)
        return Cell(f"{whole:,}" if abs(whole) >= 10_000 else str(whole), str(whole))
    if isinstance(value, Real):
        return _of_number(float(value))
    return Cell(str(value))


def as_csv(frame: pd.DataFrame) -> str:
    """The table as CSV: numbers with all digits, missing values empty.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    plain = pd.DataFrame({place: _plain(frame.iloc[:, place]) for place in range(frame.shape[1])}, index=frame.index)
    plain.columns = pd.Index([_defused(name) for name in frame.columns])
    return plain.to_csv(index=False, lineterminator="\r\n")  # Python quotes the signs that end a line, so both of them


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA."""
    found = pd.isna(value) if np.ndim(value) == 0 else False
    return bool(found)


def _of_number(value: float) -> Cell:
    if math.isinf(value):
        return Cell("∞" if value > 0 else "−∞", "Infinity" if value > 0 else "-Infinity")
    text = f"{value:.4g}"
    return Cell("0" if text == "-0" else text, repr(value))


def _plain(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return values
    return pd.Series([_defused(value) for value in values], index=values.index, dtype=object)


def _defused(value: Any) -> Any:
    if is_missing(value) or isinstance(value, Real):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(FORMULAS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
