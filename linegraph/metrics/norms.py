"""Spectral radius, spectral norm, spectral gap and stable rank: one number each.

``tol`` and ``max_iter`` are those of :mod:`linegraph.metrics.spectrum`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from linegraph.coupling.base import Coupling
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.linalg.operators import entries
from linegraph.linalg.options import check_finite, solver_options
from linegraph.linalg.probes import check_probes, random_signs
from linegraph.metrics.spectrum import MAX_ITER, eigenvalues, singular_triplets, singular_values

__all__ = ["norm_gap_and_stable_rank", "spectral_gap", "spectral_norm", "spectral_radius", "stable_rank"]

PROBES = 32
FEW = 10
"""Number of Krylov vectors for one or two singular values; few, since each may be as large as all weights."""


def spectral_radius(
    P: AnyGraph, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> float:
    """The spectral radius ρ(P) = max |λ|; exactly 0 for an acyclic graph, such as that of a feed-forward network.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        tol: bound on the relative residual of the solver; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A float ≥ 0 in the units of P; 0 for a coupling of 0 nodes.

    Cost: that of :func:`~linegraph.eigenvalues` with k = 1: one product per layer to find cycles; with cycles, dense
    algebra for components of up to 256 nodes and one product per iteration for larger ones.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: R. Horn, C. Johnson, Matrix Analysis (2013), section 1.2.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.spectral_radius(lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([2.0, 8.0])))
        4.0
    """
    P = as_coupling(P)
    options = solver_options(P, tol, max_iter, progress)
    if not P.num_nodes:
        return 0.0
    return float(eigenvalues(P, 1, **options).abs())


def spectral_norm(P: AnyGraph, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False) -> float:
    """The spectral norm ‖P‖₂ = σ₁, the largest singular value.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        tol: bound on the relative residual of the solver; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A float ≥ 0 in the units of P; 0 for a coupling of 0 nodes.

    Cost: n products for n ≤ 256; otherwise 2 per iteration, some tens in all, and 10 vectors.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: R. Horn, C. Johnson, Matrix Analysis (2013), section 5.6.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.spectral_norm(lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0])))
        3.0
    """
    P = as_coupling(P)
    options = solver_options(P, tol, max_iter, progress)
    if not P.num_nodes:
        return 0.0
    return float(singular_triplets(P, 1, basis=FEW, **options).values)


def spectral_gap(P: AnyGraph, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False) -> float:
    """The relative gap 1 − σ₂/σ₁ between the two largest singular values.

    It is 1 for a matrix of rank 1, and 0 if the two values are equal. The error of the iteration for hubs and
    authorities decreases like (σ₂/σ₁)^(2t) over the steps t. The spectral gap of diffusion is another quantity: the
    second of :func:`~linegraph.laplacian_eigenvalues`.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        tol: bound on the relative residual of the solver; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A float in [0, 1], without unit; nan if P is 0 or has fewer than two nodes.

    Cost: that of :func:`~linegraph.singular_values` with k = 2: n products for n ≤ 256, otherwise 2 per iteration.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: J. Kleinberg, Journal of the ACM 46 (1999), for the rate of convergence.

    Example:
        >>> import torch, linegraph as lg
        >>> P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 4.0]))
        >>> round(lg.spectral_gap(P), 6)
        0.5
    """
    P = as_coupling(P)
    options = solver_options(P, tol, max_iter, progress)
    if P.num_nodes < 2:
        return math.nan
    first, second = singular_values(P, 2, **options).tolist()
    return 1 - second / first if first else math.nan


def stable_rank(
    P: AnyGraph,
    *,
    probes: int = PROBES,
    generator: torch.Generator | None = None,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> float:
    """The stable rank ‖P‖_F² / ‖P‖₂² = Σ σ_i² / σ₁²: how many singular values are nearly as large as σ₁.

    It lies between 1 and the rank of P. A Krylov method computes ‖P‖₂. The Frobenius norm is exact for a graph, for a
    network whose line graph has up to a million edges, and for any coupling of up to 256 nodes. Otherwise it is
    estimated from vectors ε of random signs, ‖P‖_F² = E‖P ε‖², with a relative standard error below
    √(2 / (probes · stable rank)), by default 25 %/√(stable rank).

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        probes: number of random vectors, 2 or more, for the estimate.
        generator: ``torch.Generator`` that draws them; by default one with a fixed seed.
        tol: bound on the relative residual of the solver; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A float ≥ 1, without unit; nan if P is 0. An estimate may be below 1.

    Cost: that of :func:`~linegraph.spectral_norm`, and O(E) for the entries or ``probes`` products.

    Raises:
        DataError: if ``probes`` is not an integer ≥ 2.
        ArgumentTypeError: if ``generator`` is not one of torch's.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: M. Rudelson, R. Vershynin, Journal of the ACM 54 (2007), for the stable rank; M. Hutchinson,
    Communications in Statistics 19 (1990), for the estimate.

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 4.0]))
        >>> round(lg.stable_rank(path), 6)
        1.25
    """
    P = as_coupling(P)
    norm = spectral_norm(P, tol=tol, max_iter=max_iter, progress=progress)
    return _stable_rank(P, norm, probes, generator, progress)


def norm_gap_and_stable_rank(
    P: Coupling, *, probes: int, generator: torch.Generator | None, progress: bool
) -> tuple[float, float, float]:
    """``spectral_norm``, ``spectral_gap`` and ``stable_rank``, all from one computation of two singular values."""
    if not P.num_nodes:
        return 0.0, math.nan, math.nan
    first, *second = singular_triplets(P, min(2, P.num_nodes), basis=FEW, progress=progress).values.tolist()
    gap = 1 - second[0] / first if first and second else math.nan
    return first, gap, _stable_rank(P, first, probes, generator, progress)


def _stable_rank(P: Coupling, norm: float, probes: int, generator: torch.Generator | None, progress: bool) -> float:
    check_probes(probes, generator)
    if not norm:
        return math.nan
    if (matrix := entries(P)) is not None:
        return float(np.square(matrix.data / norm).sum())
    squares = 0.0
    for signs in random_signs(P, probes, generator, progress=progress):
        squares += float((P.matvec(signs).double() / norm).square().sum())
        check_finite(squares, "stable rank")
    return squares / min(probes, P.num_nodes)
