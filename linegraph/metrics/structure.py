"""Metrics of the whole graph: density, reciprocity, assortativity.

For heterogeneity and symmetry see :func:`~linegraph.capacitance`.
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
    """The density E / (n (n − 1)): the number of edges divided by the number of ordered pairs of nodes.

    Self-loops and parallel edges count in E, so the density can exceed 1. Edges whose coupling is 0 count too.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).

    Returns:
        A float ≥ 0, without unit; 0 for fewer than two nodes.

    Cost: no product; one forward pass for a network.

    Raises:
        TooLargeError: if the edges of a network have to be listed to be counted (a weight is used both as it is and
            transposed), and are too many.
        TypeError: if P has products only and does not know its edges.
        NotAGraphError: if P is neither a coupling nor a graph.

    Source: igraph's and networkx's definition for directed graphs.

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
    """The weighted reciprocity tr(P²) / ‖P‖_F² = Σ P_ij P_ji / Σ P_ij²: how far P_ij and P_ji agree.

    It is 1 for a symmetric P, −1 for an antisymmetric P, and exactly 0 for an acyclic graph, such as the line graph of
    a feed-forward network. On an unweighted graph it is the share of edges i → j for which j → i is an edge too;
    self-loops count, as in igraph with ``ignore_loops=False``.

    The result is exact for a graph, for a network whose line graph has up to a million edges, and for any coupling of
    up to 256 nodes. Otherwise the numerator is the mean of εᵀPPε and the denominator the mean of ‖Pε‖² over vectors ε
    of random signs. For one vector, the variance of the numerator is at most 4 ‖P²‖_F² and that of the denominator at
    most 2 ‖PᵀP‖_F².

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        probes: number of random vectors, 2 or more, for the estimate.
        generator: ``torch.Generator`` that draws them; by default one with a fixed seed.
        progress: show a bar over probes.

    Returns:
        A float in [−1, 1], without unit; nan if P is 0.

    Cost: O(E) if the entries are listed; otherwise up to one product per layer to find a cycle, then two products per
    probe, or one if there is no cycle.

    Raises:
        DataError: if ``probes`` is not an integer ≥ 2.
        ArgumentTypeError: if ``generator`` is not one of torch's.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: igraph's definition for unweighted graphs; M. Hutchinson, Communications in Statistics 19 (1990), for the
    estimate.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.reciprocity(lg.GraphCoupling(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 0]])))
        0.5
    """
    P = as_coupling(P)
    check_probes(probes, generator)
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
    """Assortativity: the correlation of δ_out of j and δ_in of i over edges j → i, weighted by P_ij.

        r = (Σ_ij P_ij x_j y_i / m − x̄ ȳ) / (σ_x σ_y),   x = δ_out, y = δ_in, m = 1ᵀP1

    The means x̄, ȳ and the standard deviations σ are over edges with the same weights. r is positive if nodes of large
    out-strength mostly influence nodes of large in-strength. On an unweighted graph this is the directed degree
    assortativity of Newman, as in igraph and networkx.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0.

    Returns:
        A float in [−1, 1], without unit; nan if δ_out or δ_in has the same value on all edges, or if P is 0.

    Cost: the strengths and one product.

    Raises:
        NegativeCouplingError: if there are negative couplings, since they are the weights of the correlation.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

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
    # In units of the largest strength, since the cube of a strength may overflow or underflow.
    unit = power_of_two(max(float(received.max()), float(sent.max())), P.dtype)
    y, x = received.double() / unit, sent.double() / unit
    total = float(y.sum())
    mean_x, mean_y = float(x @ x) / total, float(y @ y) / total
    rounding = max(1e-12, 8 * P.precision)
    deviation_x, deviation_y = _deviation(x, x, mean_x, rounding), _deviation(y, y, mean_y, rounding)
    if not deviation_x or not deviation_y:
        return math.nan
    # Centred before the product, so that small differences between strengths are not lost in rounding.
    centred = P.matvec((x - mean_x).to(P.dtype)).double() / unit
    covariance = float((y - mean_y) @ centred) / total
    check_finite(covariance, "assortativity")
    return covariance / (deviation_x * deviation_y)


def _deviation(values: Tensor, weights: Tensor, mean: float, rounding: float) -> float:
    """The weighted standard deviation √(Σ w (v − mean)² / Σ w); 0 if it is no larger than rounding of equal values."""
    deviation = math.sqrt(float(weights @ (values - mean).square()) / float(weights.sum()))
    return deviation if deviation > rounding * abs(mean) else 0.0
