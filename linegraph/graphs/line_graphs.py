"""Explicit line graphs: of a neural network, with couplings as weights, and of any graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from linegraph.arguments import check_limit, check_number_of
from linegraph.coupling.base import MAX_EDGES
from linegraph.coupling.entries import explicit
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import ArgumentTypeError, NotAGraphError, TooLargeError
from linegraph.graphs.line_digraph import line_digraph
from linegraph.io.accept import AnyGraph, as_coupling, is_of
from linegraph.pyg import is_data, new_data

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["features_of", "line_graph"]


def line_graph(
    P: AnyGraph,
    *,
    max_edges: int = MAX_EDGES,
    top: int | None = None,
    features: bool = True,
    directed: bool | None = None,
) -> Data:
    """The line graph: edges become nodes, and two are joined where the head of one is the tail of the other.

    **Of a network**, given as a :class:`~linegraph.NeuralCoupling`: nodes are the n synapses, in the order of
    ``P.synapses``. The edge j → i carries P[i, j]. It leads from the later synapse to the earlier one, as the gradient
    does: against the direction of the signal, so the graph is the reverse of the usual directed line graph.

    **Of a graph**, of any type: edge number e is node e, and e → f
    wherever the head of e is the tail of f, along the direction of the edges; a self-loop is joined to itself. Of an
    undirected graph, a node stands for both directions of an edge, and two different edges that share a node are
    joined by one edge in each direction. These are the rules of ``networkx.line_graph``.

    Args:
        P: a coupling of a network, or a graph: a PyG ``Data``, a :class:`~linegraph.GraphCoupling`, an igraph or
            networkx graph, or a SciPy sparse matrix.
        max_edges: largest number of edges to form.
        top: of a network, keep only this many couplings into each node, those of largest absolute value. All couplings
            are formed, but in blocks, so that the whole line graph need not fit in memory.
        features: of a network, whether to compute the node features ``x`` and their ``feature_names``.
        directed: of a graph, whether edges have a direction. By default as an igraph or networkx graph says; True for a
            ``GraphCoupling`` and a matrix, and for a ``Data`` unless every edge is stored in both directions, with the
            same ``edge_weight`` and ``edge_attr``.

    Returns:
        Of a network, Data with ``edge_index`` (2, E) sorted by target, then by source, ``edge_weight`` (E,), ``x``
        (n, 9), whose columns ``feature_names`` names: weight w, gradient ∇C, velocity −∇C, drive b, in_strength P1,
        out_strength Pᵀ1, layer (the number of the synapse tensor), source_neuron and target_neuron (the feature or
        channel that the synapse leaves and enters, numbered within the layer); and ``layer_names``, the parameter
        name of each layer number. E is ``P.num_edges``, unless ``top`` makes it smaller.

        Of a graph, Data with ``edge_index`` sorted by source; of every node ``origin`` (n,), the number of the edge
        that it stands for, ``endpoints`` (n, 2), the source and target of that edge, ``node_weight``, its
        ``edge_weight``, and ``x``, its ``edge_attr`` (its weight if there is no ``edge_attr``); and ``endpoint_names``,
        the names of the nodes in ``endpoints``, if the nodes of the graph have names.

    Cost: memory of 16 bytes per edge, and 4 or 8 per weight. For the time of the weights see
    :meth:`NeuralCoupling.to_graph`; with ``top`` and several batches, every block of columns reads the data once.

    Raises:
        TooLargeError: if there are more than ``max_edges`` edges; names both numbers.
        NonFiniteError: if a coupling is NaN or infinite.
        DataError: if a graph is malformed, or ``directed=False`` and an edge lacks its counterpart with the same weight
            and attributes; if ``top`` is not an integer ≥ 1, or ``max_edges`` not a number ≥ 0.
        ArgumentTypeError: if ``top`` is given for a graph, or ``directed`` for a network.
        NotAGraphError: for any other P.

    Source: F. Harary, R. Norman, Rendiconti del Circolo Matematico di Palermo 9 (1960), for line digraphs.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> data = lg.line_graph(P)
        >>> data.num_nodes, data.num_edges, data.x.shape
        (18, 24, torch.Size([18, 9]))
        >>> from torch_geometric.data import Data
        >>> lg.line_graph(Data(edge_index=torch.tensor([[0, 1, 1], [1, 1, 2]]), num_nodes=3)).edge_index.tolist()
        [[0, 0, 1, 1], [1, 2, 1, 2]]
    """
    check_limit("max_edges", max_edges)
    if isinstance(P, NeuralCoupling):
        if directed is not None:
            raise ArgumentTypeError("directed= belongs to graphs; the couplings of a network have a direction")
        return _of_network(P, max_edges, top, features)
    if top is not None:
        raise ArgumentTypeError(
            "top= belongs to couplings of a network; the edges of a graph's line graph are all alike"
        )
    if is_data(P):
        return line_digraph(P, directed=directed, max_edges=max_edges)
    graph = as_coupling(P)
    if not isinstance(graph, GraphCoupling):
        raise NotAGraphError(
            f"{P!r} has no line graph; take that of the network, and flip its edge_index for a transpose"
        )
    if directed is None:
        directed = _has_directions(P)
    data = line_digraph(graph.to_pyg(), directed=directed, max_edges=max_edges)
    if (names := graph.node_names) is not None:
        data.endpoint_names = [(names[source], names[target]) for source, target in data.endpoints.tolist()]
    return data


def _has_directions(graph: Any) -> bool:
    """Whether an igraph or networkx graph is directed; True for all others."""
    return not (is_of(graph, "networkx") or is_of(graph, "igraph")) or bool(graph.is_directed())


def _of_network(P: NeuralCoupling, max_edges: int, top: int | None, features: bool) -> Data:
    if top is not None:
        check_number_of("top", top)
    graph = P.to_graph(max_edges) if top is None else _backbone(P, top, max_edges)
    data = new_data(
        edge_index=graph.edge_index,
        edge_weight=graph.weight,
        num_nodes=P.num_nodes,
        layer_names=[s.name for s in P.synapses],
    )
    if features:
        columns = features_of(P)
        data.x, data.feature_names = torch.stack(list(columns.values()), 1), list(columns)
    return data


def _backbone(P: NeuralCoupling, top: int, max_edges: int) -> GraphCoupling:
    if (
        not P.edge_layout.disjoint
    ):  # a weight that enters operations in two ways: the couplings of both have to be added first
        return explicit.strongest(P.to_graph(max_edges), top)
    degree = np.diff(P.edge_layout.start)
    kept = int(np.minimum(degree, top).sum())
    if kept > max_edges:
        raise TooLargeError(
            f"the {top} strongest couplings of every node are {kept:,} edges, more than max_edges={max_edges:,}; "
            "lower top, or raise the limit if memory allows (about 24 bytes an edge)"
        )
    return explicit.backbone(P, top)


def features_of(P: NeuralCoupling) -> dict[str, Tensor]:
    """The features of every synapse by name, each (n,): the columns of ``x`` of :func:`line_graph`."""
    gradient = P.gradient()
    into, out = P.neurons()
    sizes = torch.tensor([s.numel for s in P.synapses], device=P.device)
    return {
        "weight": P.weights(),
        "gradient": gradient,
        "velocity": -gradient,
        "drive": P.drive(),
        "in_strength": P.in_strength(),
        "out_strength": P.out_strength(),
        "layer": torch.arange(len(sizes), device=P.device).repeat_interleave(sizes).to(P.dtype),
        "source_neuron": into.to(P.dtype),
        "target_neuron": out.to(P.dtype),
    }
