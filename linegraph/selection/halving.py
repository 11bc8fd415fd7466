"""Successive halving: after some epochs only the best candidates are trained further."""

from __future__ import annotations

import math

import pandas as pd

from linegraph.arguments import as_real
from linegraph.errors import DataError

__all__ = ["check_halving", "rungs", "survivors"]


def check_halving(halving: float | None) -> float | None:
    """The factor by which the number of candidates is divided; None for no halving.

    Raises:
        DataError: if it is not a finite number above 1.
    """
    if halving is None:
        return None
    factor = as_real("halving", halving, 1)
    if factor == 1:
        raise DataError("halving must be above 1, got 1, which drops no candidate; pass None for that")
    return factor


def rungs(epochs: int, total_epochs: int, halving: float | None) -> list[int]:
    """The numbers of epochs up to which candidates are trained in turn: 1, 3, 5, ... below ``epochs``, then all."""
    return [*(range(1, epochs, 2) if halving else ()), total_epochs]


def survivors(table: pd.DataFrame, method: str, halving: float | None) -> list[str]:
    """The candidates of a ranking that are trained further, best first: n/halving of n, rounded up.

    If the method has no value for any of them, all are trained further.
    """
    kept = len(table) if halving is None or table[method].isna().all() else math.ceil(len(table) / halving)
    return list(table["name"][:kept])
