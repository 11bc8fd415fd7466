"""Arguments that every solver takes: counts, tolerances, iterations."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from linegraph.arguments import check_number_of, check_tolerance
from linegraph.coupling.base import Coupling
from linegraph.errors import DataError, NonFiniteError

__all__ = ["check_count", "check_finite", "default_tolerance", "solver_options", "tie_tolerance"]


def check_count(k: int, n: int, what: str) -> None:
    """Refuse a number k of eigenvalues below 1 or above n.

    Raises:
        DataError: names k and n.
    """
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise DataError(f"k must be an integer, the number of {what}, got {k!r}")
    if not n:
        raise DataError(f"k={k}, but a coupling of 0 nodes has no {what}")
    if not 1 <= k <= n:
        raise DataError(f"k={k}, but a coupling of {n} nodes has {n} {what}; choose k from 1 to {n}")


def check_finite(number: float, metric: str) -> None:
    """Refuse a sum or norm that is NaN or infinite.

    Raises:
        NonFiniteError: names the metric.
    """
    if number in (float("inf"), float("-inf")) or number != number:
        raise NonFiniteError(
            f"{metric}: a product with P is NaN or infinite; look for extreme values in the couplings, as after a "
            "training that diverged, or compute in double precision"
        )


def default_tolerance(P: Coupling) -> float:
    """1e-10, or 100 roundings of P's arithmetic where that is more: 1.2e-5 in single precision."""
    return max(1e-10, 100 * P.precision)


def solver_options(P: Coupling, tol: float | None, max_iter: int, progress: bool) -> dict[str, Any]:
    """The keywords ``tol``, ``max_iter`` and ``progress`` of the solvers, checked.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
    """
    tol = default_tolerance(P) if tol is None else tol
    check_tolerance(tol)
    check_number_of("max_iter", max_iter)
    return {"tol": tol, "max_iter": max_iter, "progress": progress}


def tie_tolerance(P: Coupling) -> float:
    """The relative difference up to which eigenvalues are taken for equal: 1e-8, or 100 roundings if that is more."""
    return max(1e-8, 100 * P.precision)
