"""Spectra: singular values and vectors, eigenvalues, of P and of the symmetric matrices made from it.

Which spectrum should I look at? A feed-forward network has an acyclic line graph, so every eigenvalue of P is 0; what
remains are its singular values (how far P stretches), the eigenvalues of (P + Pᵀ)/2 (how the undirected graph is
held together) and of the normalised Laplacian (how it falls apart). Eigenvalues of P itself mean something
where weights are shared along a path, as in recurrent networks, and for ordinary graphs.

All sizes k are checked against n; solvers are those of :mod:`linegraph.linalg.eigen`. ``tol`` is the relative residual
‖A x − λ x‖₂ / |λ| of the symmetric or general matrix A that is solved, by default 1e-10, in single precision 1.2e-5;
``max_iter`` counts restarts.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.io.accept import AnyGraph, as_coupling, labelled
from linegraph.linalg.components import cyclic_core, weak_components
from linegraph.linalg.eigen import eigenpairs, finite, is_small, symmetric_eigenpairs
from linegraph.linalg.irreducible import irreducible_spectra
from linegraph.linalg.operators import (
    Derived,
    dense,
    entries,
    keeps_apart,
    normal,
    normalized,
    rescaled,
    restricted,
    symmetrized,
)
from linegraph.linalg.options import check_count, solver_options
from linegraph.metrics.requirements import non_negative_strengths

__all__ = ["SingularTriplets", "eigenvalues", "laplacian_eigenvalues", "singular_triplets", "singular_values"]

MAX_ITER = 1000


@dataclass(frozen=True)
class SingularTriplets:
    """P ≈ left · diag(values) · rightᵀ; vectors are tensors, or DataFrames where the nodes have names.

    Attributes:
        left: (n, k), orthonormal columns: patterns of influence received.
        values: (k,), descending.
        right: (n, k), orthonormal columns: patterns of influence exerted.
    """

    left: Tensor | pd.DataFrame
    values: Tensor
    right: Tensor | pd.DataFrame


def singular_values(
    P: AnyGraph, k: int, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor:
    """The k largest singular values of P, (k,), descending.

    Cost: see :func:`singular_triplets`.

    Raises:
        ValueError: if k is less than 1 or more than n.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
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
    P: AnyGraph,
    k: int,
    *,
    basis: int | None = None,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> SingularTriplets:
    """The k largest singular values of P with their vectors.

    For n ≤ 256 or k > n/4 they are LAPACK's. Otherwise right vectors are eigenvectors of PᵀP; values and left vectors
    then come from the singular values of P times them. Values below about σ₁ √(machine epsilon), 3e-4 σ₁ in single
    precision, drown in its rounding there. Signs are arbitrary, as are bases of tied values. A Krylov space may miss
    copies of tied values; what lies beside the vectors found is searched until it holds none.

    Args:
        P: any coupling.
        k: how many.
        basis: Krylov vectors kept, more than k, by default max(2k + 1, 20): fewer take less memory and more products.
        tol: relative residual ‖PᵀP v − σ² v‖₂ / σ².
        max_iter: restarts.
        progress: show a bar over products.

    Cost: n products for n ≤ 256; otherwise 2 products an iteration, some 10 to 20 iterations for each of a few
    well-separated values, and ``basis`` vectors of memory. For k > 1, once more for the next value, with the k vectors
    found in memory too; each time again that tied values turn up.

    Raises:
        ValueError: if k is less than 1 or more than n.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
        >>> lg.singular_triplets(P, 1).right.abs().squeeze()
        tensor([0., 1., 0.])
    """
    P = as_coupling(P)
    check_count(k, P.num_nodes, "singular values")
    options = solver_options(P, tol, max_iter, progress)
    A, size = normalized(P, "singular values")
    if is_small(k, P.num_nodes):
        left, values, right = torch.linalg.svd(finite(dense(A)), full_matrices=False)
        return _triplets(P, left[:, :k], values[:k] * size, right[:k].mT)
    _, right = symmetric_eigenpairs(normal(A), k, basis=basis, **options)
    left, values, rotation = torch.linalg.svd(A.matvec(right.contiguous()), full_matrices=False)
    return _triplets(P, left, values * size, right @ rotation.mT)


def _triplets(P: Coupling, left: Tensor, values: Tensor, right: Tensor) -> SingularTriplets:
    return SingularTriplets(labelled(P, left, "left"), values, labelled(P, right, "right"))


def eigenvalues(
    P: AnyGraph,
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

    A graph, and what can be written down as one (up to 256 nodes, or a network with up to a million edges), is solved
    part by part, each part one within which walks lead from every node to every other: no tie between parts is missed.

    Cost: up to one product a layer to find the cycles, twice where there are some. Then dense algebra for parts of up
    to 256 nodes, otherwise a product an iteration and max(2k + 1, 40) vectors; with ``symmetrize`` n products for
    n ≤ 256, otherwise two an iteration, 20 vectors and the k found. Where many eigenvalues of one part of P, or of a P
    that is not written down, are nearly as large as the k-th, as in a random graph, or tied, no Krylov method is sure
    to have found all of them; where hundreds are as large, as of a long directed ring, it may not converge. With
    ``symmetrize`` ties are found, as by :func:`singular_triplets`.

    Raises:
        ValueError: if k is less than 1 or more than n.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
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
    P = as_coupling(P)
    check_count(k, P.num_nodes, "eigenvalues")
    options = solver_options(P, tol, max_iter, progress)
    if symmetrize:
        return symmetric_eigenpairs(symmetrized(P), k, **options)[0]
    found = torch.zeros(k, dtype=P.dtype.to_complex(), device=P.device)
    core = cyclic_core(P)
    size = int(core.sum())
    if not size:
        return found
    if (matrix := entries(P)) is None:
        values = eigenpairs(restricted(P, core), min(k, size), "LM", **options)[0]
    else:
        parts = irreducible_spectra(matrix, k, "LM", P.device, **options)
        every = [found[:0], *(part.values.flatten().to(P.device, found.dtype) for part in parts)]
        values = torch.cat(every)
    values = values[values.abs().argsort(descending=True, stable=True)[:k]]
    found[: len(values)] = values
    return found


def laplacian_eigenvalues(
    P: AnyGraph, k: int, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor:
    """The k smallest eigenvalues, (k,), ascending, of the normalised Laplacian of the undirected graph of P.

        L = I − D^(−1/2) A D^(−1/2),   A = (P + Pᵀ)/2,   D = diag(A 1),   0 ≤ λ ≤ 2

    with couplings ≥ 0. The number of zeros is the number of components; the second eigenvalue is the spectral
    gap of diffusion on the graph. A self-coupling counts once in D. An isolated node has a row of zeros, as in
    networkx, and so an eigenvalue 0 of its own.

    The components of a graph are known, and those of a network from its structure, each with the vector D^(1/2) 1_c of
    eigenvalue 0: these zeros are exact and are not searched for. Ties are found as by :func:`singular_triplets`.

    Cost: the strengths, and a product; then n products for n ≤ 256, otherwise two an iteration, max(2k + 1, 20)
    vectors and the k found. Layered graphs hang together loosely and may need hundreds.

    Raises:
        ValueError: if k is less than 1 or more than n.
        NegativeCouplingError: if there are negative couplings.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` no positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Source: F. R. K. Chung, Spectral Graph Theory (1997).

    Example:
        >>> import torch, linegraph as lg
        >>> pair = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.ones(1, dtype=torch.float64))
        >>> lg.laplacian_eigenvalues(pair, 2).round(decimals=6)
        tensor([0., 2.], dtype=torch.float64)
    """
    P = as_coupling(P)
    check_count(k, P.num_nodes, "Laplacian eigenvalues")
    options = solver_options(P, tol, max_iter, progress)
    received, sent = non_negative_strengths(P, "the normalised Laplacian")
    degree = received.add_(sent).mul_(0.5)
    connected = degree > torch.finfo(P.dtype).tiny
    root = torch.where(connected, degree, 1).rsqrt()
    adjacency = restricted(rescaled(symmetrized(P), root, root), connected)
    kernel = _Kernel(adjacency, degree[connected].sqrt(), weak_components(P)[connected])
    found = torch.zeros(k, dtype=P.dtype, device=P.device)
    missing = k - (P.num_nodes - adjacency.num_nodes) - kernel.dimension
    if missing > 0:
        largest, _ = symmetric_eigenpairs(kernel.beside(), missing, **options)
        found[-missing:] = 2 - largest
    return found.clamp_min_(0).sort().values


class _Kernel:
    """The vectors of Laplacian eigenvalue 0 that are known: D^(1/2) 1_c for each component c of the graph.

    Args:
        adjacency: A = D^(−1/2) (P + Pᵀ)/2 D^(−1/2), whose eigenvalue of these vectors is 1.
        root: the diagonal of D^(1/2).
        component: the number of each node's.

    Attributes:
        dimension: how many there are.
    """

    def __init__(self, adjacency: Coupling, root: Tensor, component: Tensor) -> None:
        self._adjacency, self._root = adjacency, root
        if not keeps_apart(adjacency, component, root, root):
            component = torch.zeros_like(component)
        _, self._component, counts = torch.unique(component, return_inverse=True, return_counts=True)
        self.dimension = len(counts)
        squares = torch.zeros_like(counts, dtype=root.dtype).index_add_(0, self._component, root * root)
        self._unit = (root / squares.sqrt()[self._component]).unsqueeze(1)

    def beside(self) -> Coupling:
        """A + 1, whose eigenvalues are from 0 to 2, with that of these vectors, 2, moved to 0."""

        def multiply(block: Tensor) -> Tensor:
            sums = block.new_zeros(self.dimension, block.shape[1]).index_add_(0, self._component, self._unit * block)
            return self._adjacency.matvec(block).add_(block).sub_(sums[self._component] * self._unit, alpha=2)

        return Derived(self._adjacency, multiply, multiply)
