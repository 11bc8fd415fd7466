"""Strengths of nodes and how they are distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from linegraph.arguments import check_number_of
from linegraph.coupling.base import Coupling
from linegraph.errors import DataError, NegativeCouplingError, NonFiniteError
from linegraph.io.accept import AnyGraph, as_coupling, labelled
from linegraph.metrics.power_law import SAME, PowerLaw, fit, lattice_unit

__all__ = [
    "DIRECTIONS",
    "PowerLaw",
    "StrengthDistribution",
    "Strengths",
    "checked_strengths",
    "strength_distribution",
    "strengths",
]

DIRECTIONS = ("in", "out", "total")
FEWEST, DIFFERING = 10, 4
FITTED = 5000
"""Strengths that a fit looks at by default: the search for x_min costs their number squared."""


@dataclass(frozen=True)
class Strengths:
    """Weighted degrees of all nodes: tensors, or Series where the nodes have names.

    Attributes:
        in_strength: δ_in = P 1, (n,): what a node receives.
        out_strength: δ_out = Pᵀ 1, (n,): what it exerts.
    """

    in_strength: Tensor | pd.Series
    out_strength: Tensor | pd.Series

    @property
    def total(self) -> Tensor | pd.Series:
        """δ_in + δ_out, (n,); a self-coupling counts in both."""
        return self.in_strength + self.out_strength


@dataclass(frozen=True)
class StrengthDistribution:
    """The complementary cumulative distribution of one kind of strength.

    Attributes:
        values: (u,), float64: the distinct strengths, ascending.
        ccdf: (u,), P(strength ≥ values), from 1 down to the share of the largest; nodes of strength 0 count.
        counts: (u,), how many nodes have each value.
        direction: "in", "out" or "total".
        layer: the synapse tensor it is of; None for all nodes.
    """

    values: np.ndarray
    ccdf: np.ndarray
    counts: np.ndarray
    direction: str
    layer: str | None

    def __repr__(self) -> str:
        ends = f", from {self.values[0]:.4g} to {self.values[-1]:.4g}" if len(self.values) else ""
        of = f"direction={self.direction!r}, layer={self.layer!r}"
        return f"StrengthDistribution({of}, nodes={self.counts.sum()}, values={len(self.values)}{ends})"

    def power_law(self, *, sample: int = FITTED, seed: int = 0) -> PowerLaw:
        """A power law fitted to the tail of the positive strengths, with its alternatives.

        Strengths that are multiples of one number, as degrees are of 1, and of the weight of a link where all links
        have the same, have a law of these multiples; what is random in every digit has a continuous one. The result's
        ``discrete`` and ``unit`` say which. Alternatives are fitted by ``powerlaw``.

        Args:
            sample: of more positive strengths than this a random sample is fitted; the search for x_min takes time in
                proportion to its square (some seconds for 5,000).
            seed: of that sample.

        Raises:
            ValueError: if ``sample`` is no integer of 10 or more.
            NegativeCouplingError: if there are negative strengths.
            NonFiniteError: if a strength is NaN or infinite.
            DataError: if fewer than 10 strengths are positive, or they have fewer than 4 values that differ in their
                first six digits: beyond the largest two no tail begins.

        Source: A. Clauset, C. Shalizi, M. Newman, SIAM Review 51 (2009), eq. 3.1 and 3.7; J. Alstott, E. Bullmore,
        D. Plenz, PLoS ONE 9 (2014).

        Example:
            >>> import numpy as np, linegraph as lg
            >>> degrees = np.random.default_rng(0).zipf(2.5, 1000)
            >>> loops = np.repeat(np.arange(1000), degrees)
            >>> found = lg.strength_distribution(lg.GraphCoupling(np.stack([loops, loops])), direction="in").power_law()
            >>> found.discrete, found.unit, found.x_min, round(found.alpha, 1)
            (True, 1.0, 1.0, 2.5)
        """
        if len(self.values) and self.values[0] < 0:
            raise NegativeCouplingError(
                f"a power law is of strengths ≥ 0, and the smallest is {self.values[0]:.3g}; use kind='magnitude'"
            )
        check_number_of("sample", sample, least=FEWEST)
        if not np.isfinite(self.values).all():
            raise NonFiniteError("a power law is of finite strengths, and some of these are NaN or infinite")
        positive = self.values > 0
        strengths = np.repeat(self.values[positive], self.counts[positive])
        unit = lattice_unit(self.values[positive]) if positive.any() else None
        if len(strengths) > sample:
            strengths = np.random.default_rng(seed).choice(strengths, sample, replace=False)
        differing = len(strengths) and 1 + int((np.diff(np.log(np.sort(strengths))) > SAME).sum())
        if len(strengths) < FEWEST or differing < DIFFERING:
            raise DataError(
                f"a power law needs at least {FEWEST} positive strengths of {DIFFERING} values; there are "
                f"{len(strengths)}, of {differing} values"
            )
        return fit(strengths, unit)


def strengths(P: AnyGraph) -> Strengths:
    """In- and out-strengths of all nodes: weighted degrees.

    Units: those of P. Negative couplings cancel positive ones; kind="magnitude" has none.

    Cost: two products, one pass over the data for a network.

    Raises:
        NonFiniteError: if a strength is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
        >>> lg.strengths(path).total
        tensor([2., 5., 3.])
    """
    P = as_coupling(P)
    received, sent = checked_strengths(P)
    return Strengths(labelled(P, received, "in_strength"), labelled(P, sent, "out_strength"))


def checked_strengths(P: Coupling) -> tuple[Tensor, Tensor]:
    """δ_in and δ_out, each (n,), as tensors.

    Raises:
        NonFiniteError: if a strength is NaN or infinite.
    """
    received, sent = P.in_strength(), P.out_strength()
    for name, strength in (("in_strength", received), ("out_strength", sent)):
        if not bool(strength.isfinite().all()):
            node = int((~strength.isfinite()).nonzero()[0])
            raise NonFiniteError(f"the {name} of node {node} is NaN or infinite")
    return received, sent


def strength_distribution(P: AnyGraph, *, direction: str = "total", layer: str | None = None) -> StrengthDistribution:
    """How strengths are distributed over the nodes, or over those of one layer.

    Args:
        P: any coupling.
        direction: "in", "out" or "total".
        layer: the parameter name of a synapse tensor; all nodes by default.

    Cost: two products and a sort, O(n log n).

    Raises:
        ValueError: if ``direction`` is none of these.
        DataError: if P has no layer of that name.
        NonFiniteError: if a strength is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2, 3], [0, 0, 0]]))
        >>> found = lg.strength_distribution(star, direction="in")
        >>> found.values, found.ccdf
        (array([0., 3.]), array([1.  , 0.25]))
    """
    P = as_coupling(P)
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(map(repr, DIRECTIONS))}, got {direction!r}")
    nodes = slice(None)
    if layer is not None:
        places = {one.name: one.nodes for one in P.layers}
        if layer not in places:
            raise DataError(f"no layer {layer!r}; this coupling has {', '.join(map(repr, places))}")
        nodes = places[layer]
    received, sent = checked_strengths(P)
    of = {"in": received, "out": sent, "total": received + sent}[direction]
    values, counts = np.unique(of[nodes].double().cpu().numpy(), return_counts=True)
    at_least = counts[::-1].cumsum()[::-1]
    ccdf = at_least / at_least[0] if len(counts) else np.zeros(0)
    return StrengthDistribution(values, ccdf, counts, direction, layer)
