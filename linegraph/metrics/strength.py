"""Strengths of nodes and their distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from linegraph.arguments import check_choice, check_number_of, check_seed
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
"""Default number of strengths in a fit: the search for x_min takes time in proportion to its square."""


@dataclass(frozen=True)
class Strengths:
    """Strengths of all nodes: tensors, or Series with the node names as index where the nodes have names.

    Attributes:
        in_strength: (n,), δ_in = P 1, the sum of the couplings into each node.
        out_strength: (n,), δ_out = Pᵀ 1, the sum of the couplings out of each node.
    """

    in_strength: Tensor | pd.Series
    out_strength: Tensor | pd.Series

    @property
    def total(self) -> Tensor | pd.Series:
        """δ_in + δ_out, (n,); a self-coupling counts twice."""
        return self.in_strength + self.out_strength


@dataclass(frozen=True)
class StrengthDistribution:
    """The complementary cumulative distribution of one kind of strength.

    Attributes:
        values: (u,), float64: the distinct strengths, ascending.
        ccdf: (u,), the share of nodes whose strength is at least each value, from 1 downwards, with all nodes counted.
        counts: (u,), the number of nodes that have each value.
        direction: "in", "out" or "total".
        layer: the name of the layer whose nodes were counted; None for all nodes.
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
        """Fit a power law to the tail of the positive strengths, and compare it with other distributions.

        If all strengths are multiples of one number, a discrete law of the multiples is fitted: degrees are multiples
        of 1, and strengths are multiples of the weight of an edge if all edges have the same weight. Otherwise a
        continuous law is fitted. ``discrete`` and ``unit`` of the result tell which. The package ``powerlaw`` fits the
        other distributions.

        Args:
            sample: largest number of strengths in the fit, 10 or more. If more are positive, a random sample of this
                size is fitted. The search for x_min takes time in proportion to its square (some seconds for 5,000).
            seed: seed of the random sample.

        Returns:
            The fitted law: exponent, x_min in the units of P, and the comparison.

        Cost: O(u log u) for u distinct strengths, and O(sample²) for the search for x_min.

        Raises:
            NegativeCouplingError: if there are negative strengths.
            NonFiniteError: if a strength is NaN or infinite.
            DataError: if ``sample`` is not an integer ≥ 10, or ``seed`` not an integer ≥ 0; if fewer than 10 strengths
                are positive, or fewer than 4 of their values differ by more than a relative 1e-6.

        Source: A. Clauset, C. Shalizi, M. Newman, SIAM Review 51 (2009), section 3; J. Alstott, E. Bullmore,
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
                f"a power law needs strengths ≥ 0, and the smallest is {self.values[0]:.3g}; use kind='magnitude'"
            )
        check_number_of("sample", sample, least=FEWEST)
        check_seed(seed)
        if not np.isfinite(self.values).all():
            raise NonFiniteError("a power law needs finite strengths, and some of these are NaN or infinite")
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
    """In-strengths δ_in = P 1 and out-strengths δ_out = Pᵀ 1 of all nodes: their weighted degrees.

    Negative couplings cancel positive ones; use kind="magnitude" for a network to prevent that.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).

    Returns:
        The strengths, each (n,), in the units of P: tensors in P's dtype, or Series with the node names as index where
        the nodes have names.

    Cost: two products; for a network one pass over the data.

    Raises:
        NonFiniteError: if a strength is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: A. Barrat, M. Barthélemy, R. Pastor-Satorras, A. Vespignani, PNAS 101 (2004).

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
    """The complementary cumulative distribution of the strengths of all nodes, or of the nodes of one layer.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        direction: "in" for δ_in, "out" for δ_out, "total" for their sum.
        layer: the name of a layer, for a network the name of the parameter; by default all nodes.

    Returns:
        The distribution: the distinct strengths (u,), in the units of P, the share of nodes with at least each of them
        (u,), and the number of nodes with each (u,), as NumPy arrays without names.

    Cost: two products and a sort, O(n log n).

    Raises:
        DataError: if ``direction`` is none of these, or P has no layer of that name.
        NonFiniteError: if a strength is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: A. Clauset, C. Shalizi, M. Newman, SIAM Review 51 (2009).

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2, 3], [0, 0, 0]]))
        >>> found = lg.strength_distribution(star, direction="in")
        >>> found.values, found.ccdf
        (array([0., 3.]), array([1.  , 0.25]))
    """
    P = as_coupling(P)
    check_choice("direction", direction, DIRECTIONS)
    nodes = slice(None)
    if layer is not None:
        places = {one.name: one.nodes for one in P.layers}
        if not isinstance(layer, str) or layer not in places:
            raise DataError(f"no layer {layer!r}; this coupling has {', '.join(map(repr, places))}")
        nodes = places[layer]
    received, sent = checked_strengths(P)
    of = {"in": received, "out": sent, "total": received + sent}[direction]
    values, counts = np.unique(of[nodes].double().cpu().numpy(), return_counts=True)
    at_least = counts[::-1].cumsum()[::-1]
    ccdf = at_least / at_least[0] if len(counts) else np.zeros(0)
    return StrengthDistribution(values, ccdf, counts, direction, layer)
