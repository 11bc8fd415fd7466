"""Checks of arguments that many functions take: tolerances, and numbers of iterations or samples."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from linegraph.errors import DataError

__all__ = ["check_number_of", "check_tolerance"]


def check_tolerance(tol: Any, name: str = "tol") -> None:
    """Check that a tolerance is a positive, finite number.

    Raises:
        DataError: if it is not; names the argument.
    """
    if not isinstance(tol, Real) or isinstance(tol, bool) or not 0 < float(tol) < math.inf:
        raise DataError(f"{name} must be positive and finite, got {tol!r}")


def check_number_of(what: str, number: Any, least: int = 1) -> None:
    """Check that a number is an integer of at least ``least``.

    Raises:
        DataError: names the argument and the number.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise DataError(f"{what} must be {least} or more, got {number!r}; pass such an integer")
