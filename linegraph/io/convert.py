"""Couplings of graphs of PyG, igraph, networkx and SciPy, with their directions and weights.

An undirected edge becomes one edge each way, an undirected self-loop one edge.
"""

from __future__ import annotations

from collections.abc import Hashable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, issparse
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError, NotAGraphError
from linegraph.pyg import is_data

__all__ = ["from_igraph", "from_networkx", "from_pyg", "from_scipy", "unexpected"]


MAKERS = {
    "networkx": "make a coupling of it with lg.from_networkx",
    "igraph": "make a coupling of it with lg.from_igraph",
    "scipy": "make a coupling of it with lg.from_scipy",
    "numpy": "make a coupling of a matrix with lg.from_scipy, of edges with lg.GraphCoupling",
    "torch_geometric": "make a coupling of it with lg.from_pyg",
    "pandas": "make a coupling of edges with lg.from_networkx(networkx.from_pandas_edgelist(...))",
    "linegraph": "a network's coupling P as a graph is lg.line_graph(P) or P.to_graph(), P.T is P.to_graph().T",
}
"""For a package, the advice to a user who passes an object of it where another type is required."""


def unexpected(given: Any, wanted: str) -> NotAGraphError:
    """The error for an argument that is not the graph that is ``wanted``; it names the function that converts it."""
    library = type(given).__module__.partition(".")[0]
    way = MAKERS.get(library, "lg.NeuralCoupling is the coupling of a network, lg.GraphCoupling that of edges")
    name = repr(given) if isinstance(given, Coupling) else type(given).__name__
    return NotAGraphError(f"expected {wanted}, got {name}; {way}")


def from_pyg(data: Any, weight: str = "edge_weight") -> GraphCoupling:
    """A :class:`torch_geometric.data.Data` as a coupling: the edge j → i of weight a gives P[i, j] = a.

    PyG stores an undirected edge as two edges, one in each direction, so every edge is converted as it is.

    Args:
        data: the graph, with ``edge_index`` (2, E); row 0 holds the sources, row 1 the targets. n is its ``num_nodes``.
        weight: name of the edge attribute that holds the weights, (E,) or (E, 1), in any unit. If it is "edge_weight",
            and the data have no such attribute, all edges weigh 1.

    Returns:
        The coupling P, (n, n), with E edges in the order of ``edge_index``; parallel edges add up. Weights of
        single or double precision keep it, half precision becomes single precision, and integers become torch's default
        floating-point type. Nodes have no names.

    Raises:
        DataError: if the data have no ``edge_index``, or lack an attribute ``weight`` other than "edge_weight", or if
            the shapes, types or indices of edges and weights do not fit.
        NonFiniteError: if a weight is NaN or infinite.
        NotAGraphError: if ``data`` is not a ``Data``; the message names the function that converts it.

    Cost: one check of the edges, O(E).

    Source: PyG's definition of ``edge_index``: row 0 sources, row 1 targets.

    Example:
        >>> import torch, linegraph as lg
        >>> from torch_geometric.data import Data
        >>> lg.from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=4)).shape
        (4, 4)
    """
    if not is_data(data):
        raise unexpected(data, "a PyG Data")
    if data.edge_index is None:
        raise DataError("this PyG Data has no edge_index")
    values = data.get(weight)
    if values is None and weight != "edge_weight":
        raise DataError(f"this PyG Data has no {weight!r}; its edge attributes are {data.edge_attrs()}")
    if isinstance(values, Tensor) and values.ndim == 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    return GraphCoupling(data.edge_index, values, num_nodes=data.num_nodes)


def from_igraph(g: Any, weight: str | None = "weight") -> GraphCoupling:
    """An :class:`igraph.Graph` as a coupling: the edge j → i of weight a gives P[i, j] = a.

    An undirected edge becomes two edges, one in each direction, and an undirected self-loop becomes one edge.

    Args:
        g: the graph, directed or undirected, with n vertices.
        weight: name of the edge attribute that holds the weights, numbers in any unit. If it is "weight", and the graph
            has no such attribute, all edges weigh 1. None gives all edges the weight 1.

    Returns:
        The coupling P, (n, n), in double precision; node i is vertex i, and parallel edges add up. Its ``node_names``
        are the vertex attribute ``name`` if the names of all vertices differ, and are not the integers 0 to n − 1
        in this order; else None.

    Raises:
        DataError: if the graph lacks an edge attribute ``weight`` other than "weight", or its values are not numbers.
        NonFiniteError: if a weight is NaN or infinite, or if only some edges have a weight.
        NotAGraphError: if ``g`` is not an igraph graph; the message names the function that converts it.

    Cost: about 1 µs per edge.

    Source: igraph's definition of directed edges. An undirected self-loop of weight a gives P[i, i] = a, as in
    networkx; igraph itself counts it twice in the degree.

    Example:
        >>> import igraph, linegraph as lg
        >>> lg.from_igraph(igraph.Graph.Ring(4, directed=True)).num_edges
        4
    """
    import igraph

    if not isinstance(g, igraph.Graph):
        raise unexpected(g, "an igraph Graph")
    known = g.es.attributes()
    if weight not in (None, "weight", *known):
        raise DataError(f"no edge attribute {weight!r}; this graph has {known or 'none'}")
    edges = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    values = _numbers(g.es[weight], weight) if weight is not None and weight in known else np.ones(len(edges))
    names = g.vs["name"] if "name" in g.vs.attributes() else []
    told_apart = all(isinstance(name, Hashable) for name in names) and len({*names}) == g.vcount()
    return _from_edges(edges[:, 0], edges[:, 1], values, g.vcount(), g.is_directed(), names if told_apart else None)


def from_networkx(g: Any, weight: str | None = "weight") -> GraphCoupling:
    """A networkx graph as a coupling: the edge j → i of weight a gives P[i, j] = a.

    An undirected edge becomes two edges, one in each direction, and an undirected self-loop becomes one edge.

    Args:
        g: the graph or multigraph, directed or undirected, with n nodes.
        weight: name of the edge attribute that holds the weights, numbers in any unit. An edge without it weighs 1.
            None gives all edges the weight 1.

    Returns:
        The coupling P, (n, n), in double precision; node i is ``list(g)[i]``, and parallel edges add up. Its
        ``node_names`` are the nodes of ``g``; None if these are the integers 0 to n − 1 in this order.

    Raises:
        DataError: if no edge has an attribute ``weight`` other than "weight", or its values are not numbers.
        NonFiniteError: if a weight is NaN or infinite.
        NotAGraphError: if ``g`` is not a networkx graph; the message names the function that converts it.

    Cost: about 10 µs per edge.

    Source: networkx's definition, by which an edge without the attribute weighs 1. P is the transpose of
    ``networkx.to_numpy_array(g)``, whose rows are sources.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> lg.from_networkx(nx.path_graph(3)).num_edges
        4
    """
    import networkx as nx

    if not isinstance(g, nx.Graph):
        raise unexpected(g, "a networkx graph")
    number = {node: i for i, node in enumerate(g)}
    edges = list(g.edges(data=True))
    if weight not in (None, "weight") and edges and not any(weight in d for _, _, d in edges):
        raise DataError(f"no edge of this graph has an attribute {weight!r}")
    sources = np.array([number[u] for u, _, _ in edges], dtype=np.int64)
    targets = np.array([number[v] for _, v, _ in edges], dtype=np.int64)
    values = _numbers([d.get(weight, 1.0) for _, _, d in edges], weight) if weight else np.ones(len(edges))
    return _from_edges(sources, targets, values, len(number), g.is_directed(), list(number))


def from_scipy(m: Any) -> GraphCoupling:
    """A square SciPy sparse matrix or array as a coupling: ``m[i, j]`` is the weight of j → i, so P = m.

    Args:
        m: SciPy sparse matrix or array, or NumPy array, (n, n), of real numbers in any unit.

    Returns:
        The coupling P, (n, n). Every stored entry of a sparse matrix is an edge, also a stored 0, and entries at the
        same place add up; of a NumPy array, all entries that are not 0. Weights of single precision keep it, those of
        half precision become single, all others double precision. Nodes have no names.

    Raises:
        DataError: if the matrix is not square, is complex, or does not hold numbers.
        NonFiniteError: if an entry is NaN or infinite.
        NotAGraphError: if ``m`` is not a matrix; the message names the function that converts it.

    Cost: O(E) for E entries of a sparse matrix, O(n²) for a NumPy array.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016), for the direction: row i holds what acts on i. In
    ``scipy.sparse.csgraph`` rows are sources; pass the transpose of such a matrix.

    Example:
        >>> from scipy.sparse import csr_array
        >>> import linegraph as lg
        >>> lg.from_scipy(csr_array([[0.0, 2.0], [0.0, 0.0]])).edge_index.tolist()
        [[1], [0]]
    """
    if not hasattr(m, "ndim"):
        raise unexpected(m, "a SciPy sparse matrix")
    if m.ndim != 2 or m.shape[0] != m.shape[1]:
        raise DataError(f"a coupling is square, this matrix has shape {m.shape}")
    if not issparse(m):
        try:
            m = np.asarray(m)
        except (TypeError, ValueError, RuntimeError):  # as of a tensor that requires gradients
            raise unexpected(m, "a SciPy sparse matrix or a NumPy array") from None
        m = m.astype(np.float32) if m.dtype == np.float16 else m  # SciPy has no sparse matrices of half precision
    if m.dtype.kind not in "biuf":
        what = "is complex" if m.dtype.kind == "c" else "does not hold numbers"
        raise DataError(f"a coupling holds real numbers; this matrix of {m.dtype} {what}")
    entries = coo_array(m)
    targets, sources = (torch.from_numpy(np.asarray(index, dtype=np.int64)) for index in entries.coords)
    precision = np.float32 if entries.dtype == np.float32 else np.float64
    values = torch.from_numpy(np.ascontiguousarray(entries.data, dtype=precision))
    return GraphCoupling(torch.stack([sources, targets]), values, num_nodes=m.shape[0])


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the edge attribute {name!r} does not hold numbers: {error}") from error


def _is_number(name: Any, i: int) -> bool:
    """Whether the name of a node is the integer i; False and 0.0 equal 0 in Python, but count as names."""
    return isinstance(name, Integral) and not isinstance(name, bool) and name == i


def _from_edges(
    sources: np.ndarray, targets: np.ndarray, values: np.ndarray, n: int, directed: bool, names: list[Any] | None
) -> GraphCoupling:
    if not directed:
        other_way = sources != targets
        sources, targets = np.r_[sources, targets[other_way]], np.r_[targets, sources[other_way]]
        values = np.r_[values, values[other_way]]
    index = torch.from_numpy(np.stack([sources, targets]))
    if names is not None and all(_is_number(name, i) for i, name in enumerate(names)):
        names = None  # the numbers that nodes have anyway
    return GraphCoupling(index, torch.from_numpy(values), num_nodes=n, node_names=names)
