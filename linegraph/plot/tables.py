"""Checks of the tables and graphs to be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from linegraph.errors import ArgumentTypeError, DataError
from linegraph.pyg import is_data

__all__ = ["check_graph", "check_numeric", "check_table"]


def check_table(table: Any, columns: Iterable[str], maker: str) -> None:
    """Refuse anything but a DataFrame with these columns.

    Raises:
        ArgumentTypeError: if it is not a DataFrame.
        DataError: if it lacks a column; names the missing columns, and ``maker``, the function that makes such a table.
    """
    if not isinstance(table, pd.DataFrame):
        raise ArgumentTypeError(
            f"expected a table, a pandas DataFrame, got {type(table).__name__}; it is made by {maker}"
        )
    _refuse_missing("table", "column", columns, list(table), maker)


def check_graph(data: Any, attributes: Iterable[str], maker: str) -> None:
    """Refuse anything but a PyG ``Data`` with these attributes.

    Raises:
        ArgumentTypeError: if it is not a ``Data``.
        DataError: if it lacks an attribute; names the missing attributes, and ``maker``, the function that makes such a
            graph.
    """
    if not is_data(data):
        raise ArgumentTypeError(f"expected a graph, a PyG Data, got {type(data).__name__}; it is made by {maker}")
    _refuse_missing("graph", "attribute", attributes, data.keys(), maker)


def check_numeric(table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuse columns that are not of numbers.

    Raises:
        DataError: if a column has anything but numbers, None and nan; names it.
    """
    for column in columns:
        try:
            table[column].astype(float)
        except (TypeError, ValueError) as error:
            numbers = ", ".join(map(repr, table.select_dtypes("number").columns)) or "none"
            raise DataError(
                f"the column {column!r} is not of numbers ({error}); columns of numbers are {numbers}"
            ) from None


def _refuse_missing(what: str, part: str, needed: Iterable[str], present: list[Any], maker: str) -> None:
    if missing := [name for name in needed if name not in present]:
        names, s = ", ".join(map(repr, missing)), "s" if len(missing) > 1 else ""
        there = ", ".join(map(repr, present)) or "none"
        raise DataError(f"the {what} has no {part}{s} {names}; it has {there}; such a {what} is made by {maker}")
