"""Conversion of graphs to igraph and networkx, with all their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from linegraph.coupling.graph import GraphCoupling
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.io.convert import from_pyg
from linegraph.pyg import is_data

__all__ = ["to_igraph", "to_networkx"]


def to_igraph(graph: AnyGraph) -> Any:
    """Any graph as a directed :class:`igraph.Graph`; a PyG ``Data`` with the attributes of its nodes and edges.

    Args:
        graph: a PyG ``Data``, such as that of :func:`~linegraph.line_graph`, or a coupling or another graph (igraph,
            networkx, SciPy), with n nodes and E edges. A coupling of a network is expanded by its ``to_graph()``, which
            has weights only; ``lg.line_graph(P)`` also has features and layers.

    Returns:
        The :class:`igraph.Graph` with n vertices and E directed edges, in the same order. It has the edge
        attribute ``weight``, and the vertex attribute ``name`` if nodes have names. Of a ``Data``, it has all tensors
        (n,) and (n, k) as vertex attributes, and all tensors (E,) and (E, k) as edge attributes. Edge attributes lose
        the prefix ``edge_``: ``edge_weight`` becomes ``weight``. Each of several columns is an attribute of its own,
        ``x_0``, ``x_1``, ...; the columns of ``x`` are called by the ``feature_names`` if there are any.
        If the ``Data`` has ``layer_names``, the vertex attribute ``layer_name`` is the name of each node's layer.

    Raises:
        DataError: if a ``Data`` has no ``edge_index``, or edges or weights are malformed.
        NonFiniteError: if a weight is NaN or infinite.
        NotAGraphError: if ``graph`` is neither a coupling nor a graph.
        TooLargeError: if a coupling of a network has more edges than ``to_graph()`` forms by default.

    Cost: up to 3 µs per edge, and about 0.5 µs for each further attribute value of a node or edge.

    Source: igraph's definition of directed edges and their attribute ``weight``.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> g = lg.to_igraph(lg.neuron_graph(model, torch.randn(8, 4)))
        >>> g.es.attributes(), g.vs["layer_name"][4]
        (['weight', 'synapse'], '0.weight')
    """
    return _with_attributes(graph) if is_data(graph) else _explicit(graph).to_igraph()


def to_networkx(graph: AnyGraph) -> Any:
    """Any graph as a directed networkx graph; a PyG ``Data`` with the attributes of its nodes and edges.

    Args:
        graph: a PyG ``Data``, such as that of :func:`~linegraph.line_graph`, or a coupling or another graph (igraph,
            networkx, SciPy), with n nodes and E edges. A coupling of a network is expanded by its ``to_graph()``, which
            has weights only; ``lg.line_graph(P)`` also has features and layers.

    Returns:
        The :class:`networkx.DiGraph`, or :class:`networkx.MultiDiGraph` if edges are parallel, with n nodes and E
        edges. Nodes are the names of the nodes if they have names, else the numbers 0 to n − 1. Attributes of
        nodes and edges are those of :func:`to_igraph`.

    Raises:
        DataError: if a ``Data`` has no ``edge_index``, or edges or weights are malformed.
        NonFiniteError: if a weight is NaN or infinite.
        NotAGraphError: if ``graph`` is neither a coupling nor a graph.
        TooLargeError: if a coupling of a network has more edges than ``to_graph()`` forms by default.

    Cost: about 15 µs per edge.

    Source: networkx's definition of directed edges and their attribute ``weight``.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> g = lg.to_networkx(lg.neuron_graph(model, torch.randn(8, 4)))
        >>> type(g).__name__, g.nodes[8]["layer_name"]
        ('DiGraph', '2.weight')
    """
    import networkx as nx

    if not is_data(graph):
        return _explicit(graph).to_networkx()
    g = _with_attributes(graph)
    found = nx.MultiDiGraph() if g.has_multiple() else nx.DiGraph()
    found.add_nodes_from((v.index, v.attributes()) for v in g.vs)
    found.add_edges_from((e.source, e.target, e.attributes()) for e in g.es)
    return found


def _with_attributes(data: Any) -> Any:
    """A PyG ``Data`` as an igraph graph with the attributes of its nodes and edges."""
    g = from_pyg(data).to_igraph()
    for key, value in data.to_dict().items():
        if not isinstance(value, Tensor) or value.ndim not in (1, 2) or key in ("edge_index", "edge_weight"):
            continue
        if data.is_edge_attr(key):
            _set_columns(g.es, key.removeprefix("edge_"), value)
        elif data.is_node_attr(key):
            _set_columns(g.vs, key, value, data.get("feature_names") if key == "x" else None)
    if "layer" in g.vs.attributes() and "layer_names" in data:
        names = [*data.layer_names, ""]  # −1, no layer, is the last
        g.vs["layer_name"] = [names[int(layer)] for layer in g.vs["layer"]]
    return g


def _explicit(graph: AnyGraph) -> GraphCoupling:
    explicit = as_coupling(graph).to_graph()
    assert isinstance(explicit, GraphCoupling)
    return explicit


def _set_columns(elements: Any, key: str, values: Tensor, names: Sequence[str] | None = None) -> None:
    """Set each column of an attribute as an attribute of its own; a single column keeps the name."""
    columns = values.reshape(len(values), prod(values.shape[1:])).T.tolist()
    if names is None or len(names) != len(columns):
        names = [key] if len(columns) == 1 else [f"{key}_{i}" for i in range(len(columns))]
    for name, column in zip(names, columns, strict=True):
        elements[name] = column
