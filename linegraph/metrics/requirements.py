"""Checks of couplings that metrics make before they compute."""

from __future__ import annotations

from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import NegativeCouplingError
from linegraph.linalg.options import check_finite
from linegraph.numerics import double_sum

__all__ = ["non_negative_strengths"]


def non_negative_strengths(P: Coupling, metric: str) -> tuple[Tensor, Tensor]:
    """The strengths P 1 and Pᵀ 1, each (n,), of a coupling whose entries are known to be ≥ 0.

    Cost: the two strengths.

    Raises:
        NegativeCouplingError: if entries can be negative; names the metric and the kinds of coupling that it takes.
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
