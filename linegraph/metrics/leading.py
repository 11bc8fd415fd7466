"""Centralities by leading vectors: hubs and authorities, eigenvector centrality.

Orientation, results and tolerances are those of :mod:`linegraph.metrics.centrality`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import AmbiguousSolutionError
from linegraph.metrics.cycles import is_acyclic
from linegraph.metrics.eigen import DENSE, eigenpairs, symmetric_eigenpairs
from linegraph.metrics.operators import normal
from linegraph.metrics.requirements import default_tolerance, non_negative_strengths

__all__ = ["Hits", "eigenvector_centrality", "hits"]

MAX_ITER = 1000
TIED = 1e-8
"""Eigenvalues that differ by less, relatively, are taken for equal."""


@dataclass(frozen=True)
class Hits:
    """Kleinberg's two scores of each node, each summing to 1.

    Attributes:
        hubs: (n,), high for nodes that influence good authorities.
        authorities: (n,), high for nodes that good hubs influence.
    """

    hubs: Tensor
    authorities: Tensor


def hits(P: Coupling, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False) -> Hits:
    """Hubs and authorities: h = Pᵀ a, a = P h up to scale, the leading singular vectors of P.

    A good hub influences good authorities, a good authority is influenced by good hubs. Where the largest singular
    value is tied, they are what Kleinberg's iteration finds from equal scores: the part of the vector of ones in the
    tied space.

    Args:
        P: couplings ≥ 0.
        tol: relative residual ‖PᵀP h − σ² h‖₂ / σ².
        max_iter: restarts of the Lanczos method.
        progress: show a bar over products.

    Returns:
        Scores ≥ 0 that sum to 1, as networkx gives them (igraph scales the largest to 1). An isolated node has 0.

    Cost: the strengths, then 2n products for n ≤ 256; otherwise two products an iteration, some tens in all, and a
    Krylov basis of 8 vectors (16 with all that works on it), where the power iteration needs few vectors and many
    more products.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        AmbiguousSolutionError: if all couplings are 0.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Source: J. Kleinberg, Journal of the ACM 46 (1999).

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2], [0, 0]]))
        >>> lg.hits(star).hubs
        tensor([0.0000, 0.5000, 0.5000])
    """
    received, sent = non_negative_strengths(P, "HITS")
    if not P.num_nodes:
        return Hits(sent, received)
    if not bool(received.any()):
        raise AmbiguousSolutionError("HITS: all couplings are 0, so every score is as good as any other")
    tol = default_tolerance(P) if tol is None else tol
    hubs = _leading(normal(P), torch.ones_like(received), tol, max_iter, progress)
    authorities = P.matvec(hubs).clamp_min_(0)
    return Hits(_to_sum_one(hubs), _to_sum_one(authorities))


def _leading(A: Coupling, ones: Tensor, tol: float, max_iter: int, progress: bool) -> Tensor:
    """The leading eigenvector ≥ 0 of a symmetric A ≥ 0; of a tied space, the part of the vector of ones in it."""
    # The Krylov space of the ones holds no other vector of a tied space.
    many = A.num_nodes if A.num_nodes <= DENSE else 1
    values, vectors = symmetric_eigenpairs(
        A, many, "LA", tol=tol, max_iter=max_iter, progress=progress, start=ones, basis=8
    )
    tied = vectors[:, values >= (1 - TIED) * values[0]]
    return (tied @ (tied.mT @ ones)).clamp_min_(0)


def _to_sum_one(scores: Tensor) -> Tensor:
    return scores / scores.sum(dtype=torch.float64).to(scores.dtype)


def eigenvector_centrality(
    P: Coupling, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor:
    """Eigenvector centrality P x = ρ x, x ≥ 0, ‖x‖₂ = 1: a node is central by the centrality of what influences it.

    ρ is the spectral radius, by Perron and Frobenius an eigenvalue of P ≥ 0. Periodic graphs are no exception. The
    line graph of a feed-forward network is acyclic, ρ = 0, and has no such centrality: use :func:`katz`,
    :func:`pagerank` or :func:`hits` there.

    Args:
        P: couplings ≥ 0.
        tol: relative residual ‖P x − ρ x‖₂ / ρ.
        max_iter: restarts of Arnoldi's method.
        progress: show a bar over products.

    Returns:
        x (n,), as networkx gives it (igraph scales the largest to 1). Nodes that no dominant cycle reaches have 0.

    Cost: the strengths and up to one product a layer to find a cycle; then n products for n ≤ 256, otherwise one an
    iteration, and 40 vectors.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        AmbiguousSolutionError: if the graph is acyclic, or parts of it without a way back to each other have the
            same ρ (recognised to a relative 1e-8).
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.

    Source: P. Bonacich, Journal of Mathematical Sociology 2 (1972).

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))
        >>> lg.eigenvector_centrality(ring)
        tensor([0.5774, 0.5774, 0.5774])
    """
    received, _ = non_negative_strengths(P, "eigenvector centrality")
    if not P.num_nodes:
        return received
    if is_acyclic(P):
        raise AmbiguousSolutionError(
            "eigenvector centrality: this graph is acyclic (as is the line graph of every feed-forward network), all "
            "eigenvalues are 0 and no vector leads; use katz, pagerank or hits"
        )
    tol = default_tolerance(P) if tol is None else tol
    some = min(2, P.num_nodes)
    values, vectors = eigenpairs(P, some, "LR", tol=tol, max_iter=max_iter, progress=progress)
    leading = float(values[0].real)
    if some == 2 and leading - float(values[1].real) <= TIED * leading:
        raise AmbiguousSolutionError(
            f"eigenvector centrality: the leading eigenvalue {leading:.6g} is tied, as where the graph falls into "
            "parts with no way back and forth; take one part, or use pagerank, which is unique"
        )
    x = vectors[:, 0].real
    x = (x * x.sum().sign()).clamp_min_(0)
    return x / torch.linalg.vector_norm(x)
