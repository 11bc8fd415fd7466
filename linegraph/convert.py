"""Graphs from PyG, igraph, networkx and SciPy, with directions and weights kept.

The way back are the methods of :class:`~linegraph.GraphCoupling`. An undirected edge becomes one edge each way, an
undirected self-loop one edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array

from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError

__all__ = ["from_igraph", "from_networkx", "from_pyg", "from_scipy"]


def from_pyg(data: Any) -> GraphCoupling:
    """A :class:`torch_geometric.data.Data` as a coupling; ``edge_weight`` is taken where there is one.

    PyG stores undirected graphs with both directions, so its edges are taken as they are.

    Raises:
        DataError: if the data has no ``edge_index``.

    Example:
        >>> import torch, linegraph as lg
        >>> from torch_geometric.data import Data
        >>> lg.from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=4)).shape
        (4, 4)
    """
    if data.edge_index is None:
        raise DataError("this PyG Data has no edge_index")
    return GraphCoupling(data.edge_index, data.edge_weight, num_nodes=data.num_nodes)


def from_igraph(g: Any, weight: str | None = None) -> GraphCoupling:
    """An :class:`igraph.Graph` as a coupling; ``weight`` names the edge attribute, None means ones.

    Raises:
        DataError: if no edge attribute has that name.

    Example:
        >>> import igraph, linegraph as lg
        >>> lg.from_igraph(igraph.Graph.Ring(4, directed=True)).num_edges
        4
    """
    if weight is not None and weight not in g.es.attributes():
        raise DataError(f"no edge attribute {weight!r}; this graph has {g.es.attributes() or 'none'}")
    edges = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    values = np.asarray(g.es[weight], dtype=np.float64) if weight else None
    return _from_edges(edges[:, 0], edges[:, 1], values, g.vcount(), directed=g.is_directed())


def from_networkx(g: Any, weight: str | None = "weight") -> GraphCoupling:
    """A networkx graph as a coupling, nodes numbered in the graph's order.

    ``weight`` names the edge attribute; edges that lack it weigh 1, as everywhere in networkx. None means ones.

    Raises:
        DataError: if ``weight`` is another name than "weight" that no edge has.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> lg.from_networkx(nx.path_graph(3)).num_edges
        4
    """
    number = {node: i for i, node in enumerate(g)}
    edges = list(g.edges(data=True))
    if weight not in (None, "weight") and edges and not any(weight in d for _, _, d in edges):
        raise DataError(f"no edge of this graph has an attribute {weight!r}")
    sources = np.array([number[u] for u, _, _ in edges], dtype=np.int64)
    targets = np.array([number[v] for _, v, _ in edges], dtype=np.int64)
    values = np.array([d.get(weight, 1.0) for _, _, d in edges], dtype=np.float64) if weight else None
    return _from_edges(sources, targets, values, len(number), directed=g.is_directed())


def from_scipy(m: Any) -> GraphCoupling:
    """A square SciPy sparse matrix or array as a coupling: ``m[i, j]`` is the weight of j → i, so P = m.

    Raises:
        DataError: if the matrix is not square.

    Example:
        >>> from scipy.sparse import csr_array
        >>> import linegraph as lg
        >>> lg.from_scipy(csr_array([[0.0, 2.0], [0.0, 0.0]])).edge_index.tolist()
        [[1], [0]]
    """
    if m.ndim != 2 or m.shape[0] != m.shape[1]:
        raise DataError(f"a coupling is square, this matrix has shape {m.shape}")
    entries = coo_array(m)
    targets, sources = (torch.from_numpy(np.asarray(index, dtype=np.int64)) for index in entries.coords)
    values = torch.from_numpy(np.ascontiguousarray(entries.data))
    return GraphCoupling(torch.stack([sources, targets]), values, num_nodes=m.shape[0])


def _from_edges(
    sources: np.ndarray, targets: np.ndarray, values: np.ndarray | None, n: int, *, directed: bool
) -> GraphCoupling:
    if not directed:
        other_way = sources != targets
        sources, targets = np.r_[sources, targets[other_way]], np.r_[targets, sources[other_way]]
        values = None if values is None else np.r_[values, values[other_way]]
    index = torch.from_numpy(np.stack([sources, targets]))
    return GraphCoupling(index, None if values is None else torch.from_numpy(values), num_nodes=n)
