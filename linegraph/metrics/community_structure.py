"""Betweenness and communities, by igraph: they need the edges one by one.

For a network that is too large to write down, pass a coarse graph of it, whose nodes are neurons, channels or layers.
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
        labels: (n,), int64: the community of each node, numbered from 0 by falling size; a tensor, or a Series where
            the nodes have names.
        modularity: Newman's Q of the partition, of the undirected weighted graph; nan without edges.
    """

    labels: Tensor | pd.Series
    modularity: float

    def __repr__(self) -> str:
        nodes, count = len(self.labels), len(self.sizes)
        return f"Communities(communities={count}, nodes={nodes}, modularity={self.modularity:.4g})"

    @property
    def sizes(self) -> Tensor:
        """Nodes in each community."""
        labels = self.labels if isinstance(self.labels, Tensor) else torch.from_numpy(self.labels.to_numpy(copy=True))
        return torch.bincount(labels)


def betweenness(P: AnyGraph) -> Tensor | pd.Series:
    """Betweenness centrality: the number of shortest paths through each node, (n,), float64.

    A strong coupling is a short edge: its length is 1/P_ij. Couplings of 0 are no edges; between ties all shortest
    paths count, shared out. Not normalised: divide by (n − 1)(n − 2).

    Args:
        P: couplings ≥ 0: a graph, or a network small enough to write down.

    Returns:
        A tensor (n,), or a Series where the nodes have names.

    Cost: that of ``to_graph()``, then O(n E + n² log n) by igraph.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        TooLargeError: if the line graph is too large to write down; use a coarse graph.

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
    """Communities by the Leiden method, that maximise the modularity of the undirected graph P + Pᵀ.

    Args:
        P: couplings ≥ 0: a graph, or a network small enough to write down.
        resolution: 0 or more; more makes smaller communities.
        seed: of the method's random choices.

    Cost: that of ``to_graph()``, then near-linear time in the edges by igraph, until it finds no improvement.

    Raises:
        ValueError: if ``resolution`` is negative or nan.
        NegativeCouplingError: if there are negative couplings.
        TooLargeError: if the line graph is too large to write down; use a coarse graph.

    Source: V. Traag, L. Waltman, N. J. van Eck, Scientific Reports 9 (2019).

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> found = lg.communities(nx.karate_club_graph())
        >>> len(found.sizes), round(found.modularity, 2)
        (4, 0.44)
    """
    if not resolution >= 0:
        raise ValueError(f"resolution must be 0 or more, got {resolution}")
    P = as_coupling(P)
    entries = _with_weights(explicit(P), "communities")
    both = coo_array((entries + entries.T).tocsr())
    once = both.coords[0] <= both.coords[1]
    # A self-loop of an undirected graph counts twice in the degree, as its entry of P + Pᵀ does already.
    weights = np.where(both.coords[0] == both.coords[1], both.data / 2, both.data)[once]
    graph = coo_array((weights, (both.coords[0][once], both.coords[1][once])), shape=both.shape)
    undirected = _to_igraph(graph, directed=False)
    import igraph

    with preserved_randomness():
        # igraph draws from Python's generator in the main thread; in others from one of its own, until it is told.
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
    """Its non-zero entries, parallel edges added up, in units of the largest; rows are targets.

    igraph compares sums of lengths, and gains of modularity, with numbers of its own.
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
