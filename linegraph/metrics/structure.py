"""Whole-graph figures: density, reciprocity, assortativity.

Heterogeneity and symmetry are those of :func:`~linegraph.capacitance`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.linalg.components import is_acyclic
from linegraph.linalg.operators import entries, normalized
from linegraph.linalg.options import check_finite
from linegraph.linalg.probes import check_probes, random_signs
from linegraph.metrics.requirements import non_negative_strengths
from linegraph.numerics import power_of_two

__all__ = ["assortativity", "density", "reciprocity"]

PROBES = 32


def density(P: AnyGraph) -> float:
    """E / (n (n − 1)): the share of all ordered pairs that an edge joins; 0 for fewer than two nodes.

    igraph's and networkx's. Self-loops and parallel edges count in E, so that it can exceed 1. Edges whose coupling
    happens to be 0 count.

    Cost: no product; one forward pass for a network.

    Raises:
        TooLargeError: if the edges can only be counted one by one and are too many (tied, transposed weights).
        TypeError: if this kind of coupling does not count its edges.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.density(lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]])))
        0.3333333333333333
    """
    P = as_coupling(P)
    n = P.num_nodes
    return P.num_edges / (n * (n - 1)) if n > 1 else 0.0


def reciprocity(
    P: AnyGraph, *, probes: int = PROBES, generator: torch.Generator | None = None, progress: bool = False
) -> float:
    """tr(P²) / ‖P‖_F² = Σ P_ij P_ji / Σ P_ij²: how much of each coupling comes back; nan where P is 0.

    On an unweighted graph it is the share of edges that are reciprocated, self-loops counted (igraph's with
    ``ignore_loops=False``). 1 for a symmetric P, −1 for an antisymmetric one, and exactly 0 for an acyclic graph, such
    as the line graph of a feed-forward network. Signs count.

    Exact of a graph, of a network whose line graph has up to a million edges, and of any coupling of up to 256 nodes.
    Otherwise numerator and denominator are means over random signs ε of εᵀPPε and ‖Pε‖². The variance of the numerator
    over one probe is at most 4 ‖P²‖_F², as that of the denominator is at most 2 ‖PᵀP‖_F².

    Args:
        P: any coupling.
        probes: number of random vectors, where they are needed.
        generator: draws them; by default a fixed seed.
        progress: show a bar over probes.

    Cost: that of the entries, O(E); else up to one product a layer to find a cycle, then two for each probe.

    Raises:
        NonFiniteError: if a product is NaN or infinite.

    Source: M. Hutchinson, Communications in Statistics 19 (1990), for the estimate.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.reciprocity(lg.GraphCoupling(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 0]])))
        0.5
    """
    P = as_coupling(P)
    check_probes(probes)
    if (matrix := entries(P)) is not None:
        matrix /= np.abs(matrix.data).max(initial=0.0) or 1.0
        squares = float(matrix.data @ matrix.data)
        return float((matrix * matrix.T).sum()) / squares if squares else math.nan
    trace = squares = 0.0
    acyclic = is_acyclic(P)
    A, _ = normalized(P, "reciprocity")
    for signs in random_signs(P, probes, generator, progress=progress):
        received = A.matvec(signs)
        squares += float(received.double().square().sum())
        trace += 0.0 if acyclic else float((A.rmatvec(signs).double() * received).sum())
        check_finite(squares, "reciprocity")
    if not squares:
        return math.nan
    return min(max(trace / squares, 0.0 if P.is_non_negative else -1.0), 1.0)


def assortativity(P: AnyGraph) -> float:
    """Whether strong nodes influence strong ones: corr(δ_out of j, δ_in of i) over edges j → i, weighted by P_ij.

        r = (Σ_ij P_ij x_j y_i / m − x̄ ȳ) / (σ_x σ_y),   x = δ_out, y = δ_in, m = 1ᵀP1

    with means and deviations over edges too. On an unweighted graph this is the directed degree assortativity of
    Newman, as in igraph and networkx. nan where one of the two does not vary, or P is 0.

    Args:
        P: couplings ≥ 0.

    Cost: the strengths and one product.

    Raises:
        NegativeCouplingError: if there are negative couplings: they are the weights of the mean.
        NonFiniteError: if a product is NaN or infinite.

    Source: M. Newman, Physical Review E 67 (2003).

    Example:
        >>> import torch, linegraph as lg
        >>> two_stars = torch.tensor([[0, 0, 0, 4, 5], [1, 2, 3, 6, 6]])
        >>> round(lg.assortativity(lg.GraphCoupling(two_stars)), 6)
        -1.0
    """
    P = as_coupling(P)
    received, sent = non_negative_strengths(P, "assortativity")
    if not received.any():
        return math.nan
    # In units of the largest strength, since cubes of strengths may be no numbers.
    unit = power_of_two(max(float(received.max()), float(sent.max())), P.dtype)
    y, x = received.double() / unit, sent.double() / unit
    total = float(y.sum())
    mean_x, mean_y = float(x @ x) / total, float(y @ y) / total
    rounding = max(1e-12, 8 * P.precision)
    deviation_x, deviation_y = _deviation(x, x, mean_x, rounding), _deviation(y, y, mean_y, rounding)
    if not deviation_x or not deviation_y:
        return math.nan
    # Centred before the product, so that equal strengths do not drown in rounding.
    centred = P.matvec((x - mean_x).to(P.dtype)).double() / unit
    covariance = float((y - mean_y) @ centred) / total
    check_finite(covariance, "assortativity")
    return covariance / (deviation_x * deviation_y)


def _deviation(values: Tensor, weights: Tensor, mean: float, rounding: float) -> float:
    """√(Σ w (v − mean)² / Σ w), 0 where it is rounding of equal values."""
    deviation = math.sqrt(float(weights @ (values - mean).square()) / float(weights.sum()))
    return deviation if deviation > rounding * abs(mean) else 0.0
