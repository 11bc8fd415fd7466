"""Spectra: singular values and vectors, eigenvalues, of P and of the symmetric matrices made from it.

Which spectrum to use: the line graph of a feed-forward network is acyclic, so all eigenvalues of P are 0. Use the
singular values of P (the factors by which P stretches vectors), the eigenvalues of (P + Pᵀ)/2 (the undirected graph),
or those of the normalised Laplacian (components and bottlenecks). The eigenvalues of P itself are informative for
recurrent networks, whose weights are used several times along a path, and for graphs with cycles.

The solvers are those of :mod:`linegraph.linalg.eigen`. ``tol`` bounds the relative residual ‖A x − λ x‖₂ / |λ| for the
matrix A whose eigenvalues are computed; the default is 1e-10, and 1.2e-5 in single precision. ``max_iter`` is the
largest number of restarts of the Krylov method.
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
    for_products,
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
    """The truncated singular value decomposition P ≈ left · diag(values) · rightᵀ.

    Vectors are tensors, or DataFrames with the node names as index where the nodes have names.

    Attributes:
        left: (n, k), orthonormal columns, the left singular vectors: the influence that each node receives.
        values: (k,), the singular values in descending order.
        right: (n, k), orthonormal columns, the right singular vectors: the influence that each node exerts.
    """

    left: Tensor | pd.DataFrame
    values: Tensor
    right: Tensor | pd.DataFrame


def singular_values(
    P: AnyGraph, k: int, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor:
    """The k largest singular values of P, (k,), in descending order.

    They are the square roots of the largest eigenvalues of PᵀP, in the units of P. The line graph of a network is built
    if it has up to 100,000 edges; otherwise each product with P is a pass through the network.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        k: number of singular values, from 1 to n.
        tol: bound on the relative residual ‖PᵀP v − σ² v‖₂ / σ²; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A tensor (k,) in P's dtype, on P's device.

    Cost: that of :func:`singular_triplets`.

    Raises:
        DataError: if k is not an integer from 1 to n, ``tol`` is not positive and finite, or ``max_iter`` is not a
            positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: R. Lehoucq, D. Sorensen, C. Yang, ARPACK Users' Guide (1998), for the solver.

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

    Products with P are those of the explicit line graph if a network has up to 100,000 edges, and passes through the
    network, forward and backward, if it has more. For n ≤ 256 or k > n/4 LAPACK decomposes the dense matrix. Otherwise
    a Krylov method computes eigenvectors V of PᵀP, and the singular value decomposition of P V gives the values and the
    left vectors. With this method, values below about σ₁ √(machine epsilon), 3e-4 σ₁ in single precision, are lost in
    rounding. The signs of the vectors are arbitrary, and so is the basis of the space of equal singular values. A
    Krylov method may miss copies of equal values. The space orthogonal to the vectors found is therefore searched
    again, until it has no value as large.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        k: number of singular values, from 1 to n.
        basis: number of Krylov vectors in memory, more than k, by default max(2k + 1, 20). Fewer vectors take less
            memory and more products.
        tol: bound on the relative residual ‖PᵀP v − σ² v‖₂ / σ²; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        The triplets: ``values`` (k,), in descending order and in the units of P, ``left`` and ``right`` (n, k), all in
        P's dtype. Vectors are tensors, or DataFrames with the node names as index where the nodes have names.

    Cost: n products for n ≤ 256. Otherwise 2 products per iteration, some 10 to 20 iterations for each of a few
    well-separated values, and ``basis`` vectors of memory. For k > 1 the search is repeated at least once, with the k
    vectors found in memory too, and once more each time that it finds equal values.

    Raises:
        DataError: if k is not an integer from 1 to n, ``tol`` is not positive and finite, or ``max_iter`` is not a
            positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: R. Lehoucq, D. Sorensen, C. Yang, ARPACK Users' Guide (1998), for the solver.

    Example:
        >>> import torch, linegraph as lg
        >>> P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
        >>> lg.singular_triplets(P, 1).right.abs().squeeze()
        tensor([0., 1., 0.])
    """
    P = as_coupling(P)
    check_count(k, P.num_nodes, "singular values")
    options = solver_options(P, tol, max_iter, progress)
    A, size = normalized(for_products(P), "singular values")
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
    """The k eigenvalues of largest magnitude of P, or of (P + Pᵀ)/2 if ``symmetrize`` is true.

    The matrix P of an acyclic graph, such as the line graph of a feed-forward network, is nilpotent: all eigenvalues
    are exactly 0, and no solver runs. In other graphs, nodes that are on no walk between cycles contribute eigenvalues
    that are exactly 0, and the solver runs on the other nodes.

    If the edges can be listed (a graph, a coupling of up to 256 nodes, or a network whose line graph has up to a
    million edges), each strongly connected component is solved separately, so that equal eigenvalues of different
    components are all found.

    Within one component of more than 256 nodes, or if the edges are not listed, a Krylov method may miss eigenvalues
    when many are nearly as large as the k-th, as in a random graph, or equal to it. If hundreds are as large, as in a
    long directed ring, the method may not converge. With ``symmetrize`` copies of equal eigenvalues are searched for,
    as in :func:`singular_triplets`.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        k: number of eigenvalues, from 1 to n.
        symmetrize: compute the eigenvalues of (P + Pᵀ)/2, which are real.
        tol: bound on the relative residual ‖A x − λ x‖₂ / |λ|, with A = P or (P + Pᵀ)/2; by default 1e-10, in single
            precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A tensor (k,) in descending order of magnitude, in the units of P: complex, or real with ``symmetrize``. A
        conjugate pair counts as two eigenvalues, so the k-th may come without its conjugate.

    Cost: up to one product per layer to find cycles, and as many again if there are some. Then dense algebra for
    components of up to 256 nodes; for others one product per iteration and max(2k + 1, 40) vectors. With
    ``symmetrize``: n products for n ≤ 256, otherwise two per iteration, max(2k + 1, 20) vectors and the k found.

    Raises:
        DataError: if k is not an integer from 1 to n, ``tol`` is not positive and finite, or ``max_iter`` is not a
            positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: R. Lehoucq, D. Sorensen, C. Yang, ARPACK Users' Guide (1998), for the solver.

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
    """The k smallest eigenvalues of the normalised Laplacian of the undirected graph of P, in ascending order.

        L = I − D^(−1/2) A D^(−1/2),   A = (P + Pᵀ)/2,   D = diag(A 1),   0 ≤ λ ≤ 2

    The number of eigenvalues that are 0 is the number of weakly connected components. In a connected graph the second
    eigenvalue is the spectral gap of diffusion on the graph. A self-coupling counts once in D. An isolated node has a
    row of zeros in L, as in networkx, and so contributes an eigenvalue 0.

    The components c are computed from the edges of a graph, or from the structure of a network. Each has the
    eigenvector D^(1/2) 1_c of eigenvalue 0, so these zeros are exact and the solver computes only the others. Copies of
    equal eigenvalues are searched for, as in :func:`singular_triplets`.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0.
        k: number of eigenvalues, from 1 to n.
        tol: bound on the relative residual ‖B x − μ x‖₂ / μ of B = 2 I − L, with μ = 2 − λ; by default 1e-10, in single
            precision 1.2e-5.
        max_iter: largest number of restarts of the Krylov method.
        progress: show a bar over products.

    Returns:
        A tensor (k,) of real numbers without unit, in P's dtype.

    Cost: the strengths and one product. Then n products for n ≤ 256; otherwise two per iteration, max(2k + 1, 20)
    vectors and the k found. Layered graphs have many eigenvalues near 0 and may need hundreds of products.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        DataError: if k is not an integer from 1 to n, ``tol`` is not positive and finite, or ``max_iter`` is not a
            positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

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
    """The eigenvectors of Laplacian eigenvalue 0: D^(1/2) 1_c for each component c of the graph.

    Args:
        adjacency: A = D^(−1/2) (P + Pᵀ)/2 D^(−1/2), for which these vectors have the eigenvalue 1.
        root: (n,), the diagonal of D^(1/2).
        component: (n,), the number of the component of each node.

    Attributes:
        dimension: number of these vectors.
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
        """A + I, whose eigenvalues lie in [0, 2], with the eigenvalue 2 of these vectors changed to 0."""

        def multiply(block: Tensor) -> Tensor:
            sums = block.new_zeros(self.dimension, block.shape[1]).index_add_(0, self._component, self._unit * block)
            return self._adjacency.matvec(block).add_(block).sub_(sums[self._component] * self._unit, alpha=2)

        return Derived(self._adjacency, multiply, multiply)
