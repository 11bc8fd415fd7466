"""Successive halving: after some epochs only the best candidates are trained further."""

from __future__ import annotations

import math

import pandas as pd

from linegraph.arguments import as_real
from linegraph.errors import DataError

__all__ = ["FIRST", "check_halving", "rungs", "survivors"]

FIRST = 3
"""Epochs before candidates are dropped. After one, the best of them may be among the worst: ``python -m
benchmarks.selection halving``."""

ROUNDING = 1e-9


def check_halving(halving: float | None, epochs: int, total_epochs: int) -> float | None:
    """The factor by which the number of candidates is divided; None for no halving.

    Raises:
        DataError: if it is not a finite number above 1, or too few epochs are trained to drop a candidate.
    """
    if halving is None:
        return None
    factor = as_real("halving", halving, 1)
    if factor == 1:
        raise DataError("halving must be above 1, got 1, which drops no candidate; pass None for that")
    if len(rungs(epochs, total_epochs, factor)) == 1:
        raise DataError(
            f"halving drops candidates after {FIRST} epochs at the earliest, and with epochs={epochs} all are trained "
            f"to their end by then; pass epochs={FIRST + 1} or more, or epochs={FIRST} with train_fully="
        )
    return factor


def rungs(epochs: int, total_epochs: int, halving: float | None, first: int = FIRST) -> list[int]:
    """The numbers of epochs up to which candidates are trained in turn, the last of which is ``total_epochs``.

    By a factor f the others are ``first``, f·``first``, f²·``first``, ..., rounded up, so that all rungs cost the same;
    as many as are at most ``epochs``, after which methods predict no more, and fewer than ``total_epochs``.
    """
    found, rung = [total_epochs], float(first)
    while halving and (number := math.ceil(rung - ROUNDING)) <= min(epochs, total_epochs - 1):
        found.append(number)
        rung *= halving
    return sorted(set(found))


def survivors(table: pd.DataFrame, method: str, halving: float | None) -> list[str]:
    """The candidates of a ranking that are trained further, best first: n/halving of n, rounded up.

    If the method has no value for any of them, all are trained further.
    """
    kept = len(table) if halving is None or table[method].isna().all() else math.ceil(len(table) / halving)
    return list(table["name"][:kept])
