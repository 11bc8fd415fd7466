"""Neural capacitance β_eff and its decomposition."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import DegenerateCapacitanceWarning

__all__ = ["Capacitance", "capacitance"]

PIECE = 1 << 17

ROUNDING = 32
"""A denominator below this many roundings of the terms it is made of is taken for 0."""


@dataclass(frozen=True)
class Capacitance:
    """β_eff = mean_strength + symmetry · heterogeneity = numerator / denominator.

    Attributes:
        beta_eff: (1ᵀPP1)/(1ᵀP1); nan where that is 0/0.
        mean_strength: ⟨s⟩ = 1ᵀP1 / n.
        heterogeneity: H = σ_in σ_out / ⟨s⟩, with the standard deviations of the strengths over nodes.
        symmetry: S, the correlation of in- and out-strengths; 0 where one of them does not vary.
        numerator: 1ᵀPP1.
        denominator: 1ᵀP1.
    """

    beta_eff: float
    mean_strength: float
    heterogeneity: float
    symmetry: float
    numerator: float
    denominator: float

    def __float__(self) -> float:
        return self.beta_eff


def capacitance(P: Coupling) -> Capacitance:
    """The neural capacitance of any coupling, with its decomposition.

    With δ_in = P 1 and δ_out = Pᵀ 1, both (n,),

        β_eff = (1ᵀ P δ_in) / (1ᵀ P 1) = Σ δ_out δ_in / Σ δ_in = ⟨s⟩ + S·H,   H = σ_in σ_out / ⟨s⟩

    where ⟨s⟩ is the mean strength, σ the standard deviations over nodes, S = corr(δ_in, δ_out). Sums are formed
    in double precision. Units: those of P, a loss over a squared weight.

    The ratio is 0/0 where the denominator vanishes against the sum of the absolute terms it is made of. Then
    ``beta_eff`` and ``heterogeneity`` are nan and a :class:`DegenerateCapacitanceWarning` says why.

    Cost: δ_in and δ_out, two products.

    Source: C. Jiang et al., arXiv 2201.04194; J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.full((3,), 2.0))
        >>> lg.capacitance(ring).beta_eff
        2.0
    """
    incoming, outgoing = P.in_strength(), P.out_strength()
    n = P.num_nodes
    denominator = float(incoming.sum(dtype=torch.float64))
    mean = denominator / n if n else math.nan
    numerator, variance_in, variance_out, covariance = _second_moments(incoming, outgoing)
    total = P.absolute_total()
    degenerate = abs(denominator) <= ROUNDING * P.precision * total
    if degenerate:
        warnings.warn(_explanation(numerator, denominator, total), DegenerateCapacitanceWarning, 2)
    deviations = math.sqrt(variance_in) * math.sqrt(variance_out)
    return Capacitance(
        beta_eff=math.nan if degenerate else numerator / denominator,
        mean_strength=mean,
        heterogeneity=math.nan if degenerate else deviations / mean,
        symmetry=covariance / deviations if deviations else 0.0,
        numerator=numerator,
        denominator=denominator,
    )


def _second_moments(incoming: Tensor, outgoing: Tensor) -> tuple[float, float, float, float]:
    """Σ in·out, and the variances and the covariance over nodes, summed in double precision.

    In pieces that stay in the processor's cache: there may be 10⁹ nodes, and a copy in double precision of each
    strength would cost more than the strengths themselves.
    """
    n = len(incoming)
    if not n:
        return 0.0, math.nan, math.nan, math.nan
    mean_in, mean_out = (strength.mean(dtype=torch.float64) for strength in (incoming, outgoing))
    sums = torch.zeros(4, dtype=torch.float64, device=incoming.device)
    for a, b in zip(incoming.split(PIECE), outgoing.split(PIECE), strict=True):
        x, y = a.to(torch.float64, copy=True), b.to(torch.float64, copy=True)
        product = x @ y
        x, y = x.sub_(mean_in), y.sub_(mean_out)
        sums += torch.stack([product, x @ x, y @ y, x @ y])
    numerator, variance_in, variance_out, covariance = sums.tolist()
    variance_in = _without_rounding(variance_in / n, incoming)
    variance_out = _without_rounding(variance_out / n, outgoing)
    return numerator, variance_in, variance_out, covariance / n


def _without_rounding(variance: float, strength: Tensor) -> float:
    """0 for a variance that is rounding of equal strengths."""
    return variance if variance > (1e-15 * float(strength.abs().max())) ** 2 else 0.0


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
        "signed capacitance: use kind='magnitude', or synapses with a layer more between them and the loss"
    )
