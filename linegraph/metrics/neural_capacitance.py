"""Neural capacitance β_eff and its decomposition."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import DegenerateCapacitanceWarning, PrecisionWarning
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.lazy import cached_property
from linegraph.numerics import ROUNDING, pieces, power_of_two

__all__ = ["Capacitance", "capacitance", "decompose"]


INACCURATE = 0.02
"""Estimated relative error of β_eff in half precision above which a warning is given."""

EQUAL = 4
"""Standard deviation, in roundings of the largest strength, up to which strengths count as equal."""


class Capacitance:
    """β_eff = mean_strength + symmetry · heterogeneity = numerator / denominator; ``float()`` gives β_eff.

    Attributes:
        beta_eff: (1ᵀPP1)/(1ᵀP1), in the units of P; nan if that is 0/0.
        mean_strength: ⟨s⟩ = 1ᵀP1 / n, in the units of P.
        heterogeneity: H = σ_in σ_out / ⟨s⟩, with standard deviations over nodes; in the units of P.
        symmetry: S, the correlation of in- and out-strengths, without unit; 0 if one of them is constant.
        numerator: 1ᵀPP1, in the squared units of P.
        denominator: 1ᵀP1, in the units of P.

    Heterogeneity and symmetry need the out-strengths, which are computed by one more product when either is first read.
    For a network, read them before its weights change. Until then the object keeps the coupling and the recorded pass
    of its network in memory. Copies and pickles contain all six numbers and no coupling.
    """

    def __init__(self, P: Coupling, beta_eff: float, numerator: float, denominator: float) -> None:
        self._coupling: Any = P
        self.beta_eff = beta_eff
        self.numerator = numerator
        self.denominator = denominator
        self.mean_strength = denominator / P.num_nodes if P.num_nodes else math.nan

    @property
    def heterogeneity(self) -> float:
        """H = σ_in σ_out / ⟨s⟩."""
        if math.isnan(self.beta_eff):
            return math.nan
        m = self._moments
        return m.deviation_in * m.deviation_out / (self.mean_strength / m.unit) * m.unit

    @property
    def symmetry(self) -> float:
        """S = corr(δ_in, δ_out)."""
        m = self._moments
        both = m.deviation_in * m.deviation_out
        return m.covariance / both if both else 0.0

    def as_dict(self) -> dict[str, float]:
        """All six numbers by name.

        Returns:
            A dict with the names of the attributes, in their order.

        Example:
            >>> import torch, linegraph as lg
            >>> found = lg.capacitance(lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]])))
            >>> {name: float(value) for name, value in found.as_dict().items()}["beta_eff"]
            1.0
        """
        return {name: getattr(self, name) for name in FIGURES}

    @cached_property
    def _moments(self) -> _Moments:
        P = self._coupling
        if P is None:  # another thread has computed them in the meantime
            formed: _Moments = vars(self)["_moments"]
            return formed
        return decompose(self, P.in_strength(), P.out_strength(), P.precision)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_moments": self._moments, "_coupling": None}

    def __float__(self) -> float:
        return self.beta_eff

    def __repr__(self) -> str:
        figures = "beta_eff", "mean_strength", "numerator", "denominator"
        return f"Capacitance({', '.join(f'{name}={getattr(self, name):.6g}' for name in figures)})"


FIGURES = "beta_eff", "mean_strength", "heterogeneity", "symmetry", "numerator", "denominator"


def capacitance(P: AnyGraph) -> Capacitance:
    """The neural capacitance β_eff of a coupling, with its decomposition.

    With δ_in = P 1 and δ_out = Pᵀ 1, both (n,),

        β_eff = (1ᵀ P δ_in) / (1ᵀ P 1) = Σ δ_out δ_in / Σ δ_in = ⟨s⟩ + S·H,   H = σ_in σ_out / ⟨s⟩

    where ⟨s⟩ is the mean strength, σ the standard deviation over nodes, and S = corr(δ_in, δ_out). Sums are computed in
    double precision.

    The ratio is treated as 0/0 if the denominator is no larger than the rounding error of its terms. This happens for
    signed couplings of a network with one hidden layer before a softmax, and of a transformer with layer norms. Then
    ``beta_eff`` and ``heterogeneity`` are nan, and a :class:`DegenerateCapacitanceWarning` states the reason. With two
    hidden layers before a softmax the numerator is 0, so that signed β_eff is 0 up to rounding for all weights.

    For networks in half precision or under autocast, signed terms may cancel to a sum that is smaller than their
    rounding errors. The relative error is estimated by ε (Σ|terms| / 1ᵀP1)², with the relative rounding ε of the
    activations. If it exceeds 2 %, a :class:`PrecisionWarning` is given.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).

    Returns:
        The numbers of the decomposition as floats. β_eff has the units of P: for a network, loss per squared weight.

    Cost: two products, P 1 and 1ᵀ P δ_in, of which the second needs no weight gradients; δ_in and δ_out again when the
    decomposition is read.

    Raises:
        NonFiniteError: if a product is NaN or infinite, or 1ᵀPP1 is out of the range of double precision.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: C. Jiang et al., arXiv 2201.04194; J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.full((3,), 2.0))
        >>> lg.capacitance(ring).beta_eff
        2.0
    """
    P = as_coupling(P)
    denominator, numerator, size = P.walks()
    degenerate = abs(denominator) <= max(ROUNDING * P.precision, P.rounding) * size
    if degenerate:
        warnings.warn(_explanation(numerator, denominator, size), DegenerateCapacitanceWarning, 2)
    elif P.rounding > P.precision:
        _check_rounding(P.rounding, size / abs(denominator))
    return Capacitance(P, math.nan if degenerate else numerator / denominator, numerator, denominator)


def decompose(found: Capacitance, incoming: Tensor, outgoing: Tensor, precision: float) -> _Moments:
    """Form the decomposition from the strengths of a coupling of this precision, where a caller has them already."""
    moments = vars(found)["_moments"] = _second_moments(incoming, outgoing, precision)
    found._coupling = None  # frees the recorded pass of a network
    return moments


def _check_rounding(rounding: float, cancellation: float) -> None:
    """Warn if β_eff is inaccurate; the terms of 1ᵀPP1 are assumed to cancel at both steps as much as those of 1ᵀP1."""
    error = rounding * cancellation**2
    if error > INACCURATE:
        warnings.warn(
            f"β_eff is formed in half precision (relative rounding {rounding:.0e}), and its terms cancel to 1 in "
            f"{cancellation:.2g} at each of two steps, so it may be wrong by {min(error, 1):.0%} or so. Couple "
            "model.float(), outside of autocast, or use kind='magnitude', whose terms do not cancel",
            PrecisionWarning,
            3,
        )


class _Moments(NamedTuple):
    """Second moments of the in- and out-strengths over nodes.

    They are in units of about the largest strength, so that squares neither overflow nor underflow.
    """

    deviation_in: float
    deviation_out: float
    covariance: float
    unit: float


def _second_moments(incoming: Tensor, outgoing: Tensor, precision: float) -> _Moments:
    """The moments, summed in double precision; a deviation no larger than rounding of equal strengths is 0."""
    n = len(incoming)
    if not n:
        return _Moments(math.nan, math.nan, math.nan, 1.0)
    largest = [float(s.abs().max()) for s in (incoming, outgoing)]
    unit = power_of_two(max(largest))
    mean_in, mean_out = (sum(a.sum(dtype=torch.float64) for (a,) in pieces(s)) / n for s in (incoming, outgoing))
    sums = torch.zeros(3, dtype=torch.float64, device=incoming.device)
    for a, b in pieces(incoming, outgoing):
        x = a.to(torch.float64, copy=True).sub_(mean_in).div_(unit)
        y = b.to(torch.float64, copy=True).sub_(mean_out).div_(unit)
        sums += torch.stack([x @ x, y @ y, x @ y])
    variance_in, variance_out, covariance = (sums / n).tolist()
    deviation_in, deviation_out = (
        deviation if deviation > EQUAL * precision * size / unit else 0.0
        for deviation, size in zip((math.sqrt(variance_in), math.sqrt(variance_out)), largest, strict=True)
    )
    return _Moments(deviation_in, deviation_out, covariance, unit)


def _explanation(numerator: float, denominator: float, total: float) -> str:
    if total == 0:
        return (
            "β_eff is 0/0: every coupling is 0, as at a minimum that fits every sample, or with no two synapses "
            "joined by a path"
        )
    return (
        f"β_eff is 0/0 up to rounding: 1ᵀP1 = {denominator:.1e} is a sum of terms of total size {total:.1e} "
        f"that cancel (1ᵀPP1 = {numerator:.1e}). Softmax with cross entropy makes every row of the block before the "
        "output layer sum to exactly 0, since Σ_k (p_k − y_k) = 0, so a network with one hidden layer has no "
        "signed capacitance: use kind='magnitude', or synapses with two layers more between them and the loss. "
        "Layer norm is blind to a shift of all features, so in a transformer the gradients of what enters its residual "
        "stream sum to 0 as well, and with them 1ᵀP1: use kind='magnitude'"
    )
