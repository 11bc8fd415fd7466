"""Spectral figures: one number each.

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
"""Krylov vectors where one or two values are wanted of a network with as many weights as memory holds."""


def spectral_radius(
    P: AnyGraph, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> float:
    """ρ(P) = max |λ|; exactly 0 for an acyclic graph, such as that of a feed-forward network.

    Cost and errors are those of :func:`eigenvalues` with k = 1.

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
    """‖P‖₂ = σ₁, the largest singular value; 0 of an empty coupling.

    Cost: n products for n ≤ 256, otherwise 2 an iteration, some tens in all, and a basis of 10 vectors.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

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
    """1 − σ₂/σ₁: how far the leading pattern of influence stands apart; nan where P is 0 or has one node.

    Hubs and authorities converge like (σ₂/σ₁)^2t. The gap of diffusion is the second of
    :func:`laplacian_eigenvalues`.

    Cost and errors are those of :func:`singular_values` with k = 2.

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
    """‖P‖_F² / ‖P‖₂², between 1 and the rank: how many patterns of influence carry P; nan where P is 0.

    The norm ‖P‖₂ is solved for. The Frobenius norm is exact of a graph, of a network whose line graph has up to a
    million edges, and of any coupling of up to 256 nodes; otherwise random signs ε estimate it, ‖P‖_F² = E‖P ε‖², with
    a relative standard error below √(2 / (probes · stable rank)), by default 25 %/√(stable rank).

    Args:
        P: any coupling.
        probes: number of random vectors, where they are needed.
        generator: draws them; by default a fixed seed.
        tol: relative residual of the norm.
        max_iter: restarts.
        progress: show a bar over products.

    Cost: that of :func:`spectral_norm`, and that of the entries, O(E), or ``probes`` products.

    Raises:
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

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
    """``spectral_norm``, ``spectral_gap`` and ``stable_rank``, from the same two singular values."""
    if not P.num_nodes:
        return 0.0, math.nan, math.nan
    first, *second = singular_triplets(P, min(2, P.num_nodes), basis=FEW, progress=progress).values.tolist()
    gap = 1 - second[0] / first if first and second else math.nan
    return first, gap, _stable_rank(P, first, probes, generator, progress)


def _stable_rank(P: Coupling, norm: float, probes: int, generator: torch.Generator | None, progress: bool) -> float:
    check_probes(probes)
    if not norm:
        return math.nan
    if (matrix := entries(P)) is not None:
        return float(np.square(matrix.data / norm).sum())
    squares = 0.0
    for signs in random_signs(P, probes, generator, progress=progress):
        squares += float((P.matvec(signs).double() / norm).square().sum())
        check_finite(squares, "stable rank")
    return squares / min(probes, P.num_nodes)
