"""Betweenness and communities, computed by igraph from the list of edges.

If the line graph of a network has too many edges to list, pass a coarse graph, whose nodes are neurons, channels or
layers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array
from torch import Tensor

from linegraph.arguments import as_real, check_seed
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import NegativeCouplingError
from linegraph.io.accept import AnyGraph, as_coupling, labelled
from linegraph.linalg.operators import explicit
from linegraph.randomness import preserved_randomness

__all__ = ["Communities", "betweenness", "communities"]


@dataclass(frozen=True)
class Communities:
    """A partition of the nodes.

    Attributes:
        labels: (n,), int64: the community of each node, numbered from 0 in descending order of size; a tensor, or a
            Series with the node names as index where the nodes have names.
        modularity: Newman's modularity Q of the partition on the undirected weighted graph; nan without edges.
    """

    labels: Tensor | pd.Series
    modularity: float

    def __repr__(self) -> str:
        nodes, count = len(self.labels), len(self.sizes)
        return f"Communities(communities={count}, nodes={nodes}, modularity={self.modularity:.4g})"

    @property
    def sizes(self) -> Tensor:
        """Number of nodes in each community, (communities,), int64."""
        labels = self.labels if isinstance(self.labels, Tensor) else torch.from_numpy(self.labels.to_numpy(copy=True))
        return torch.bincount(labels)


def betweenness(P: AnyGraph) -> Tensor | pd.Series:
    """Betweenness centrality: the number of shortest paths between other nodes that pass through each node.

    The length of an edge is 1/P_ij, so a strong coupling is a short edge. Couplings of 0 are not edges. If several
    paths between two nodes are shortest, each counts as an equal fraction of one. The result is not normalised; to
    normalise it, divide by (n − 1)(n − 2).

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0
            and few enough edges to list.

    Returns:
        A float64 tensor (n,) of numbers without unit, or a Series with the node names as index where the nodes have
        names.

    Cost: that of ``to_graph()``, then O(n E + n² log n) by igraph.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        TooLargeError: if the line graph has too many edges to list; use a coarse graph.
        TypeError: if P has products only and does not know its edges.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: U. Brandes, Journal of Mathematical Sociology 25 (2001).

    Example:
        >>> import torch, linegraph as lg
        >>> lg.betweenness(lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 3]])))
        tensor([0., 2., 2., 0.], dtype=torch.float64)
    """
    P = as_coupling(P)
    graph = _with_weights(explicit(P), "betweenness")
    found = _to_igraph(graph).betweenness(weights=1 / graph.data if len(graph.data) else None)
    return labelled(P, torch.tensor(found, dtype=torch.float64, device=P.device), "betweenness")


def communities(P: AnyGraph, *, resolution: float = 1.0, seed: int = 0) -> Communities:
    """Communities of the undirected graph P + Pᵀ, found by maximising modularity with the Leiden method.

        Q = (1/2m) Σ_ij (A_ij − γ k_i k_j / 2m) [c_i = c_j],   A = P + Pᵀ,   k = A 1,   2m = 1ᵀA1

    with the community c_i of node i and the resolution γ.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0
            and few enough edges to list.
        resolution: γ ≥ 0; a larger resolution gives smaller communities.
        seed: seed of the random choices of the method.

    Returns:
        The community of each node (n,), a tensor or a Series with the node names as index where the nodes have names;
        and the modularity of the partition at γ = 1, a float without unit.

    Cost: that of ``to_graph()``, then iterations of near-linear time in the edges by igraph, until none improves Q.

    Raises:
        DataError: if ``resolution`` is no finite number ≥ 0, or ``seed`` no integer ≥ 0.
        NegativeCouplingError: if there are negative couplings.
        TooLargeError: if the line graph has too many edges to list; use a coarse graph.
        TypeError: if P has products only and does not know its edges.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: V. Traag, L. Waltman, N. J. van Eck, Scientific Reports 9 (2019).

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> found = lg.communities(nx.karate_club_graph())
        >>> len(found.sizes), round(found.modularity, 2)
        (4, 0.44)
    """
    P = as_coupling(P)
    resolution = as_real("resolution", resolution, 0)
    check_seed(seed)
    entries = _with_weights(explicit(P), "communities")
    both = coo_array((entries + entries.T).tocsr())
    once = both.coords[0] <= both.coords[1]
    # igraph counts a self-loop twice in the degree, and its entry of P + Pᵀ is already twice that of P.
    weights = np.where(both.coords[0] == both.coords[1], both.data / 2, both.data)[once]
    graph = coo_array((weights, (both.coords[0][once], both.coords[1][once])), shape=both.shape)
    undirected = _to_igraph(graph, directed=False)
    import igraph

    with preserved_randomness():
        # igraph draws from Python's generator in the main thread, but in other threads only after this call.
        igraph.set_random_number_generator(random)
        random.seed(seed)
        found = undirected.community_leiden(
            objective_function="modularity", weights=weights, resolution=resolution, n_iterations=-1
        )
    labels = np.asarray(found.membership, dtype=np.int64)
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"), kind="stable") if len(labels) else labels
    modularity = undirected.modularity(found.membership, weights=weights) if len(weights) else float("nan")
    return Communities(labelled(P, torch.from_numpy(rank[labels]).to(P.device), "community"), modularity)


def _with_weights(G: GraphCoupling, metric: str) -> coo_array:
    """The non-zero entries of P divided by the largest, with parallel edges summed; rows are targets.

    Divided, since igraph compares path lengths and gains of modularity with absolute tolerances.
    """
    matrix = G.to_scipy_sparse().astype(float)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if (matrix.data < 0).any():
        raise NegativeCouplingError(
            f"{metric} is defined for couplings ≥ 0, and some of these are negative; use kind='magnitude' for a "
            "network, absolute weights for a graph"
        )
    matrix /= matrix.data.max(initial=0.0) or 1.0
    return coo_array(matrix)


def _to_igraph(entries: coo_array, *, directed: bool = True) -> Any:
    import igraph

    targets, sources = entries.coords
    return igraph.Graph(n=entries.shape[0], edges=np.stack([sources, targets], 1), directed=directed)
