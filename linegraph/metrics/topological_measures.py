"""Topological measures of a graph: those of its wiring, of which edges there are, and those of its weights.

The matrix A holds the weight of the edge j → i, above 0, as entry [i, j], with parallel edges added up. Where a measure
ignores directions, it is that of the undirected graph (A + Aᵀ)/2 without self-loops.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csgraph, csr_array, diags_array, eye_array, tril, triu

from linegraph.coupling.graph import GraphCoupling
from linegraph.linalg.eigen import arpack
from linegraph.metrics.community_structure import communities
from linegraph.metrics.neural_capacitance import capacitance
from linegraph.metrics.norms import norm_gap_and_stable_rank, spectral_radius
from linegraph.metrics.structure import assortativity, density

__all__ = ["measures_of_weights", "measures_of_wiring"]

DENSE_NODES = 512
"""Nodes up to which all eigenvalues of a Laplacian are computed."""

BLOCK, ITERATIONS, PRECISE = 5, 500, 1e-3
"""Of the search for an eigenvalue: vectors, iterations, and the residual relative to the value, of which the relative
error is about the square."""

PRODUCT_ENTRIES = 1 << 24
"""Bound on the entries of a part of a matrix product that are in memory at a time."""

LENGTHS = 1 << 21
"""Bound on the lengths of paths that are in memory as objects of Python at a time."""


def measures_of_wiring(A: csr_array, sources: np.ndarray) -> dict[str, float]:
    """The measures that do not depend on the values of weights.

    Args:
        A: (n, n), with entries above 0 only.
        sources: nodes (k,) from which paths are searched.

    Returns:
        Each measure by its name; :func:`~linegraph.topology` has their definitions. nan where one is undefined.

    Cost: O(k E) for paths, O(E d) for clustering at largest degree d, and one factorisation of the Laplacian.
    """
    links = undirected(A)
    links.data[:] = 1
    degrees = np.diff(links.indptr).astype(float)
    graph = to_igraph(links)
    wired = coupling_of(csr_array((np.ones(A.nnz), A.indices, A.indptr), A.shape))
    return {
        "nodes": float(A.shape[0]),
        "edges": float(A.nnz),
        "density": density(wired),
        "mean_degree": float(degrees.mean()) if len(degrees) else math.nan,
        "degree_heterogeneity": heterogeneity(degrees),
        "degree_assortativity": assortativity(wired),
        "clustering": graph.transitivity_avglocal_undirected(mode="zero") if len(degrees) else math.nan,
        "transitivity": graph.transitivity_undirected(mode="nan"),
        "square_clustering": square_clustering(links),
        "largest_component": largest_component(links),
        **paths(graph, sources),
        "betweenness_heterogeneity": heterogeneity(np.array(graph.betweenness(directed=False, sources=sources))),
        "algebraic_connectivity": algebraic_connectivity(links),
    }


def measures_of_weights(A: csr_array, sources: np.ndarray, seed: int) -> dict[str, float]:
    """The measures that depend on the values of weights.

    Args:
        A: (n, n), with entries above 0 only.
        sources: nodes (k,) from which paths are searched.
        seed: of the search for communities.

    Returns:
        Each measure by its name; :func:`~linegraph.topology` has their definitions. nan where one is undefined.

    Cost: O(k E log n) for paths, O(E d) for clustering at largest degree d, the Leiden method, and some tens of
    products for singular values.
    """
    P = coupling_of(A)
    received, sent = P.in_strength().numpy(), P.out_strength().numpy()
    found = capacitance(P) if A.nnz else None
    parts = communities(P, seed=seed)
    norm, gap, rank = norm_gap_and_stable_rank(P, probes=2, generator=None, progress=False)
    return {
        "mean_strength": float(received.mean()) if len(received) else math.nan,
        "in_strength_heterogeneity": heterogeneity(received),
        "out_strength_heterogeneity": heterogeneity(sent),
        "symmetry": found.symmetry if found else math.nan,
        "beta_eff": found.beta_eff if found else math.nan,
        "strength_assortativity": assortativity(P),
        **weighted(undirected(A), sources),
        "modularity": parts.modularity,
        "communities": float(len(parts.sizes)),
        "spectral_radius": spectral_radius(P),
        "spectral_norm": norm,
        "spectral_gap": gap,
        "stable_rank": rank,
    }


def coupling_of(A: csr_array) -> GraphCoupling:
    """The coupling P = A."""
    targets, sources = (torch.from_numpy(index.astype(np.int64)) for index in A.tocoo().coords)
    return GraphCoupling.of_valid(torch.stack([sources, targets]), torch.from_numpy(A.data), A.shape[0])


def undirected(A: csr_array) -> csr_array:
    """(A + Aᵀ)/2 without its diagonal."""
    both = ((A + A.T) / 2).tocoo()
    apart = both.coords[0] != both.coords[1]
    found = csr_array((both.data[apart], tuple(index[apart] for index in both.coords)), shape=A.shape)
    found.sort_indices()
    return found


def to_igraph(links: csr_array) -> Any:
    """The undirected igraph graph of a symmetric matrix; its edges are in the order of the upper triangle."""
    import igraph

    return igraph.Graph(n=links.shape[0], edges=np.stack(triu(links, format="coo").coords, 1), directed=False)


def heterogeneity(values: np.ndarray) -> float:
    """The standard deviation of values ≥ 0 divided by their mean; nan if all are 0."""
    mean = float(values.mean()) if len(values) else 0.0
    return float(values.std()) / mean if mean else math.nan


def largest_component(links: csr_array) -> float:
    """The share of the nodes in the largest connected component."""
    if not links.shape[0]:
        return math.nan
    sizes = np.bincount(csgraph.connected_components(links, directed=False)[1])
    return float(sizes.max() / sizes.sum())


def paths(graph: Any, sources: np.ndarray) -> dict[str, float]:
    """The mean length of shortest paths between connected nodes, and the mean inverse length between all nodes."""
    lengths = distances(graph, sources)
    lengths = lengths[lengths != 0]  # of a node to itself
    joined = lengths[np.isfinite(lengths)]
    return {
        "path_length": float(joined.mean()) if len(joined) else math.nan,
        "efficiency": float((1 / joined).sum()) / len(lengths) if len(lengths) else math.nan,
    }


def distances(graph: Any, sources: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """Lengths of shortest paths from the sources to all nodes, (k, n), for edges of these lengths, or 1."""
    n = graph.vcount()
    parts = np.array_split(sources, max(math.ceil(len(sources) * n / LENGTHS), 1))
    found = [np.array(graph.distances(part, weights=lengths), dtype=float).reshape(len(part), n) for part in parts]
    return np.concatenate(found)


def weighted(links: csr_array, sources: np.ndarray) -> dict[str, float]:
    """The weighted clustering of Barrat et al., and the mean length of shortest paths at lengths ⟨w⟩/w."""
    if not links.nnz:
        return {"weighted_clustering": 0.0 if links.shape[0] else math.nan, "weighted_path_length": math.nan}
    graph, weights = to_igraph(links), triu(links, format="coo").data
    weights = weights / weights.mean()
    local = graph.transitivity_local_undirected(mode="zero", weights=weights)
    lengths = distances(graph, sources, 1 / weights)
    joined = lengths[np.isfinite(lengths) & (lengths > 0)]
    return {
        "weighted_clustering": float(np.mean(local)),
        "weighted_path_length": float(joined.mean()) if len(joined) else math.nan,
    }


def square_clustering(links: csr_array) -> float:
    """The share of paths of three edges whose ends are joined by a fourth edge, 4 C₄ / L₃; nan without such a path.

    A cycle of four, C₄, is counted at its node u of largest degree, as two paths u – v – w to one opposite node w. So
    the products take O(Σ min(kᵢ, kⱼ)) steps over edges, and hubs are no burden. L₃ leaves out triangles.
    """
    degrees = np.diff(links.indptr)
    order = np.argsort(degrees, kind="stable")
    ranked = csr_array(links[order][:, order])
    below = csr_array(tril(ranked, -1, format="csr"))
    steps = np.cumsum(below @ np.diff(ranked.indptr).astype(float))
    starts = np.unique(np.searchsorted(steps, np.arange(0, steps[-1:].sum() + 1, PRODUCT_ENTRIES)))
    squares = triangles = 0.0
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        two_steps = csr_array(below[start:end] @ ranked)
        triangles += float(two_steps.multiply(below[start:end]).sum()) / 2
        opposite = tril(two_steps, start - 1, format="coo").data
        squares += float((opposite * (opposite - 1)).sum()) / 2
    i, j = triu(links, format="coo").coords
    of_three = float(((degrees[i] - 1.0) * (degrees[j] - 1.0)).sum()) - 3 * triangles
    return 4 * squares / of_three if of_three else math.nan


def algebraic_connectivity(links: csr_array) -> float:
    """The second smallest eigenvalue of the Laplacian D − A; exactly 0 for a graph that is not connected."""
    n = links.shape[0]
    if n < 2:
        return math.nan
    if csgraph.connected_components(links, directed=False)[0] > 1:
        return 0.0
    if n <= DENSE_NODES:
        from scipy.linalg import eigh

        return float(eigh(csgraph.laplacian(links).toarray(), eigvals_only=True, subset_by_index=[1, 1])[0])
    # Iterations converge fast where the gap is wide, as in random graphs, whose factors would be dense. Where they do
    # not, as in long chains and grids, small cuts part the graph, and factors are sparse.
    laplacian = csgraph.laplacian(links).tocsc()
    value, error = by_iteration(laplacian)
    return value if error < PRECISE * value else by_factors(laplacian)


def by_iteration(laplacian: Any) -> tuple[float, float]:
    """The second smallest eigenvalue by LOBPCG, and the norm of the residual of its eigenvector."""
    from scipy.sparse.linalg import lobpcg

    n, degrees = laplacian.shape[0], laplacian.diagonal()
    start = np.random.default_rng(0).standard_normal((n, BLOCK))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what has not converged is seen by its residual
        values, vectors = lobpcg(
            laplacian, start, M=diags_array(1 / degrees), Y=np.ones((n, 1)), tol=1e-5, maxiter=ITERATIONS, largest=False
        )
    value, vector = values.min(), vectors[:, values.argmin()]
    return float(value), float(np.linalg.norm(laplacian @ vector - value * vector))


def by_factors(laplacian: Any) -> float:
    """The second smallest eigenvalue by Lanczos iterations with the inverse of the shifted Laplacian."""
    from scipy.sparse.linalg import LinearOperator, splu

    n = laplacian.shape[0]
    # Shifted to be positive definite: the eigenvalues next to the shift are found by solving with one factorisation.
    shift = 1e-3 * float(laplacian.diagonal().mean())
    inverse = LinearOperator((n, n), splu(laplacian + shift * eye_array(n, format="csc")).solve, dtype=float)
    start = np.random.default_rng(0).standard_normal(n)
    largest, _ = arpack(inverse, 2, "LM", start=start, tol=1e-12, symmetric=True)
    return float(1 / min(largest) - shift)
