"""Null models: graphs drawn at random with some properties of a given one, to compare its measures with."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, triu

from linegraph.randomness import preserved_randomness

__all__ = ["NULL_MODELS", "Edges", "edges_of", "rewired", "shuffled"]

TRIALS = 10
"""Trials to exchange the ends of two edges, per edge."""


@dataclass(frozen=True)
class Edges:
    """The edges of a graph, in groups that null models keep apart.

    Attributes:
        ends: sources and targets, (2, E).
        weights: (E,), above 0.
        groups: (E,), the number of the group of each edge; edges of group −1 stay as they are.
        num_nodes: n.
        is_undirected: whether every edge stands for one in each direction.
    """

    ends: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    num_nodes: int
    is_undirected: bool

    def members(self) -> list[np.ndarray]:
        """The positions of the edges of each group that may change."""
        return [np.flatnonzero(self.groups == group) for group in np.unique(self.groups) if group >= 0]

    def matrix(self) -> csr_array:
        """A (n, n), in which the weight of the edge j → i is entry [i, j]."""
        sources, targets = self.ends
        A = csr_array((self.weights, (targets, sources)), shape=(self.num_nodes, self.num_nodes))
        if self.is_undirected:
            loops = csr_array((self.weights * (sources == targets), (targets, sources)), shape=A.shape)
            A = csr_array(A + A.T - loops)
            A.eliminate_zeros()
        A.sort_indices()
        return A


def edges_of(A: csr_array, layer: np.ndarray | None = None) -> Edges:
    """The edges of a matrix.

    Args:
        A: (n, n), with the weight of j → i, above 0, as entry [i, j].
        layer: the layer of each node, (n,), −1 for nodes without one. Edges between the same two layers are a group,
            and edges into nodes without a layer, such as sums of branches, stay as they are. Without layers, all edges
            are one group; then a symmetric matrix is taken to be an undirected graph. Self-loops always stay.
    """
    is_undirected = layer is None and not (A != A.T).nnz
    found = coo_array(triu(A) if is_undirected else A)
    targets, sources = found.coords
    groups = np.zeros(len(sources), dtype=np.int64)
    if layer is not None:
        between = np.stack([layer[sources], layer[targets]])
        groups = np.unique(between, axis=1, return_inverse=True)[1].reshape(-1)
        groups[between[1] < 0] = -1
    groups[sources == targets] = -1
    return Edges(np.stack([sources, targets]).astype(np.int64), found.data, groups, A.shape[0], is_undirected)


def rewired(edges: Edges, seed: int) -> Edges:
    """A graph with the same degrees: the ends of pairs of edges of a group are exchanged, where no edge is doubled.

    Every node keeps its numbers of edges to and from each layer, or its in- and out-degree. Weights are dealt out at
    random within their group.

    Args:
        edges: the graph.
        seed: of the random choices.

    Cost: ten trials per edge, by igraph.

    Source: R. Milo et al., arXiv cond-mat/0312028, for the exchange of ends; ten per edge are more than enough.
    """
    import igraph

    ends = edges.ends.copy()
    with preserved_randomness():
        # igraph draws from Python's generator in the main thread, but in other threads only after this call.
        igraph.set_random_number_generator(random)
        random.seed(seed)
        for members in edges.members():
            ends[:, members] = _exchanged(igraph, ends[:, members], directed=not edges.is_undirected)
    return shuffled(replace(edges, ends=ends), seed)


def shuffled(edges: Edges, seed: int) -> Edges:
    """The same wiring, with the weights of each group dealt out to its edges at random.

    Args:
        edges: the graph.
        seed: of the random choices.

    Cost: O(E).

    Source: the usual permutation of weights.
    """
    rng, weights = np.random.default_rng(seed), edges.weights.copy()
    for members in edges.members():
        weights[members] = rng.permutation(weights[members])
    return replace(edges, weights=weights)


NULL_MODELS = {"rewired": rewired, "shuffled": shuffled}


def _exchanged(igraph: Any, ends: np.ndarray, *, directed: bool) -> np.ndarray:
    """The edges (2, E) after exchanges of ends."""
    nodes, numbers = np.unique(ends, return_inverse=True)
    numbers = numbers.reshape(2, -1)
    sources, targets = (len(np.unique(each)) for each in numbers)
    if directed and numbers.shape[1] == sources * targets:  # all pairs are joined: there is one such graph only
        return ends
    graph = igraph.Graph(n=len(nodes), edges=numbers.T, directed=directed)
    # An even or an odd number of trials: where all of them succeed, as if each node has one edge, an even number
    # reaches half of the graphs only.
    graph.rewire(TRIALS * numbers.shape[1] + random.randrange(2))
    return nodes[np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2).T]
