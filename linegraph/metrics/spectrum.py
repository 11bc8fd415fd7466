"""Spectra: singular values and vectors, eigenvalues, of P and of the symmetric matrices made from it.

Which spectrum should I look at? A feed-forward network has an acyclic line graph, so every eigenvalue of P is 0; what
remains are its singular values (how far P stretches), the eigenvalues of (P + Pᵀ)/2 (how the undirected graph is
held together) and of the normalised Laplacian (how it falls apart). Eigenvalues of P itself mean something
where weights are shared along a path, as in recurrent networks, and for ordinary graphs.

All sizes k are checked against n; solvers are those of :mod:`linegraph.metrics.eigen`. ``tol`` is the relative residual
‖A x − λ x‖₂ / |λ| of the symmetric or general matrix A that is solved, by default 1e-10, in single precision 1.2e-5;
``max_iter`` counts restarts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.metrics.cycles import cyclic_core
from linegraph.metrics.eigen import eigenpairs, symmetric_eigenpairs
from linegraph.metrics.operators import normal, rescaled, restricted, symmetrized
from linegraph.metrics.requirements import check_count, default_tolerance, non_negative_strengths

__all__ = ["SingularTriplets", "eigenvalues", "laplacian_eigenvalues", "singular_triplets", "singular_values"]

MAX_ITER = 1000


@dataclass(frozen=True)
class SingularTriplets:
    """P ≈ left · diag(values) · rightᵀ.

    Attributes:
        left: (n, k), orthonormal columns: patterns of influence received.
        values: (k,), descending.
        right: (n, k), orthonormal columns: patterns of influence exerted.
    """

    left: Tensor
    values: Tensor
    right: Tensor


def singular_values(
    P: Coupling, k: int, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor:
    """The k largest singular values of P, (k,), descending.

    Cost: see :func:`singular_triplets`.

    Raises:
        ValueError: if k is less than 1 or more than n.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
        >>> lg.singular_values(P, 2)
        tensor([3., 2.])
    """
    return singular_triplets(P, k, tol=tol, max_iter=max_iter, progress=progress).values


def singular_triplets(
    P: Coupling,
    k: int,
    *,
    basis: int | None = None,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> SingularTriplets:
    """The k largest singular values of P with their vectors.

    Right vectors are eigenvectors of PᵀP; values and left vectors then come from the singular values of P times
    them, so that small values keep their relative accuracy. Signs are arbitrary, as are bases of tied values.

    Args:
        P: any coupling.
        k: how many.
        basis: Krylov vectors kept, more than k, by default max(2k + 1, 20): fewer take less memory and more products.
        tol: relative residual ‖PᵀP v − σ² v‖₂ / σ².
        max_iter: restarts.
        progress: show a bar over products.

    Cost: n products for n ≤ 256; otherwise 2 products an iteration, some 10 to 20 iterations for each of a few
    well-separated values, and ``basis`` vectors of memory.

    Raises:
        ValueError: if k is less than 1 or more than n.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
        >>> lg.singular_triplets(P, 1).right.abs().squeeze()
        tensor([0., 1., 0.])
    """
    check_count(k, P.num_nodes, "singular values")
    options = _options(P, tol, max_iter, progress)
    _, right = symmetric_eigenpairs(normal(P), k, "LA", basis=basis, **options)
    left, values, rotation = torch.linalg.svd(P.matvec(right.contiguous()), full_matrices=False)
    return SingularTriplets(left, values, right @ rotation.mT)


def eigenvalues(
    P: Coupling,
    k: int,
    *,
    symmetrize: bool = False,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> Tensor:
    """The k eigenvalues of largest magnitude: of P, complex (k,); with ``symmetrize`` of (P + Pᵀ)/2, real (k,).

    Descending in magnitude. A conjugate pair counts as two, and k may part it.

    An acyclic graph, such as the line graph of a feed-forward network, has a nilpotent P: every eigenvalue is
    exactly 0, and that is what comes back; nothing is iterated. In other graphs what lies outside the cycles
    contributes exact zeros, and the solver sees the rest.

    Cost: up to one product a layer to find the cycles, twice where there are some. Then n products for n ≤ 256,
    otherwise a product (two with ``symmetrize``) an iteration and max(2k + 1, 40) vectors (20). Where many
    eigenvalues of P are nearly as large as the k-th, as in a random graph, no Krylov method is sure to have found all
    of them.

    Raises:
        ValueError: if k is less than 1 or more than n.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))
        >>> lg.eigenvalues(path, 2)
        tensor([0.+0.j, 0.+0.j])
        >>> lg.eigenvalues(path, 1, symmetrize=True).abs()
        tensor([0.7071])
    """
    check_count(k, P.num_nodes, "eigenvalues")
    options = _options(P, tol, max_iter, progress)
    if symmetrize:
        return symmetric_eigenpairs(symmetrized(P), k, "LM", **options)[0]
    core = cyclic_core(P)
    size = int(core.sum())
    found = torch.zeros(k, dtype=P.dtype.to_complex(), device=P.device)
    if size:
        some = min(k, size)
        found[:some] = eigenpairs(restricted(P, core), some, "LM", **options)[0]
    return found


def laplacian_eigenvalues(
    P: Coupling, k: int, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor:
    """The k smallest eigenvalues, (k,), ascending, of the normalised Laplacian of the undirected graph of P.

        L = I − D^(−1/2) A D^(−1/2),   A = (P + Pᵀ)/2,   D = diag(A 1),   0 ≤ λ ≤ 2

    with couplings ≥ 0. The number of zeros is the number of components; the second eigenvalue is the spectral
    gap of diffusion on the graph. A self-coupling counts once in D. An isolated node has a row of zeros, as in
    networkx, and so an eigenvalue 0 of its own.

    Cost: the strengths; then n products for n ≤ 256, otherwise two an iteration and max(2k + 1, 20) vectors. Layered
    graphs hang together loosely and may need hundreds.

    Raises:
        ValueError: if k is less than 1 or more than n.
        NegativeCouplingError: if there are negative couplings.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Source: F. R. K. Chung, Spectral Graph Theory (1997).

    Example:
        >>> import torch, linegraph as lg
        >>> pair = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.ones(1, dtype=torch.float64))
        >>> lg.laplacian_eigenvalues(pair, 2).round(decimals=6)
        tensor([0., 2.], dtype=torch.float64)
    """
    check_count(k, P.num_nodes, "Laplacian eigenvalues")
    received, sent = non_negative_strengths(P, "the normalised Laplacian")
    degree = received.add_(sent).mul_(0.5)
    connected = degree > torch.finfo(P.dtype).tiny
    size = int(connected.sum())
    found = torch.zeros(k, dtype=P.dtype, device=P.device)
    missing = min(size, k - (P.num_nodes - size))
    if missing > 0:
        root = torch.where(connected, degree, 1).rsqrt()
        adjacency = restricted(rescaled(symmetrized(P), root, root), connected)
        largest, _ = symmetric_eigenpairs(adjacency, missing, "LA", **_options(P, tol, max_iter, progress))
        found[-missing:] = 1 - largest
    return found.clamp_min_(0).sort().values


def _options(P: Coupling, tol: float | None, max_iter: int, progress: bool) -> dict[str, Any]:
    return {"tol": default_tolerance(P) if tol is None else tol, "max_iter": max_iter, "progress": progress}
