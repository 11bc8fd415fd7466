"""What metrics ask of a coupling before they compute, and of numbers that come out of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from linegraph.arguments import check_number_of, check_tolerance
from linegraph.convert import from_pyg, unexpected
from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.reductions import double_sum
from linegraph.errors import NegativeCouplingError, NonFiniteError
from linegraph.pyg import is_data

__all__ = [
    "as_coupling",
    "check_count",
    "check_finite",
    "default_tolerance",
    "explicit",
    "non_negative_strengths",
    "solver_options",
    "tie_tolerance",
]


def as_coupling(P: Any) -> Coupling:
    """What a metric was given: a coupling as it is, a PyG ``Data`` such as a coarse graph as one.

    Raises:
        TypeError: for anything else; names the function that makes a coupling of it.
    """
    if isinstance(P, Coupling):
        return P
    if is_data(P):
        return from_pyg(P)
    raise unexpected(P, "a coupling or a PyG Data")


def check_count(k: int, n: int, what: str) -> None:
    """Refuse to look for fewer than one, or more than n.

    Raises:
        ValueError: names k and n.
    """
    if not n:
        raise ValueError(f"k={k}, but a coupling of 0 nodes has no {what}")
    if not 1 <= k <= n:
        raise ValueError(f"k={k}, but a coupling of {n} nodes has {n} {what}; choose k from 1 to {n}")


def check_finite(number: float, metric: str) -> None:
    """Refuse a sum or norm that shows NaN or infinite numbers.

    Raises:
        NonFiniteError: names the metric.
    """
    if number in (float("inf"), float("-inf")) or number != number:
        raise NonFiniteError(
            f"{metric}: a product with P is NaN or infinite; look for extreme values in the couplings, as after a "
            "training that diverged, or compute in double precision"
        )


def non_negative_strengths(P: Coupling, metric: str) -> tuple[Tensor, Tensor]:
    """P 1 and Pᵀ 1, each (n,), of a coupling of which it is known that no entry is negative.

    Cost: the two strengths.

    Raises:
        NegativeCouplingError: names the metric, and the kinds of coupling it is defined for.
        NonFiniteError: if a strength is NaN or infinite.
    """
    if not P.is_non_negative:
        raise NegativeCouplingError(
            f"{metric} is defined for couplings ≥ 0, and these can be negative; use kind='magnitude' or "
            "kind='energy' for a network, absolute weights for a graph"
        )
    received, sent = P.in_strength(), P.out_strength()
    check_finite(float(double_sum(received)), metric)
    return received, sent


def default_tolerance(P: Coupling) -> float:
    """1e-10, or 100 roundings of P's arithmetic where that is more: 1.2e-5 in single precision."""
    return max(1e-10, 100 * P.precision)


def solver_options(P: Coupling, tol: float | None, max_iter: int, progress: bool) -> dict[str, Any]:
    """The keywords of the solvers, checked.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
    """
    tol = default_tolerance(P) if tol is None else tol
    check_tolerance(tol)
    check_number_of("max_iter", max_iter)
    return {"tol": tol, "max_iter": max_iter, "progress": progress}


def tie_tolerance(P: Coupling) -> float:
    """The relative difference up to which eigenvalues are taken for equal: 1e-8, or 100 roundings if that is more."""
    return max(1e-8, 100 * P.precision)


def explicit(P: Coupling) -> GraphCoupling:
    """P with its edges: itself if it has them, else built.

    Raises:
        TooLargeError: if there are too many to build.
        TypeError: if this coupling has no explicit form.
    """
    if isinstance(P, GraphCoupling):
        return P
    if hasattr(P, "to_graph"):
        return P.to_graph()
    if hasattr(P.T, "to_graph"):
        return P.T.to_graph().T
    raise TypeError(f"{type(P).__name__} has no explicit graph; this metric needs one, such as a GraphCoupling")
