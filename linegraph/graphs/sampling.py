"""Samples of the neighbourhood of chosen nodes of a line graph, without forming the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from linegraph.arguments import as_tensor, check_generator
from linegraph.coupling.entries import explicit
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import DataError
from linegraph.graphs.line_graphs import features_of
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.io.convert import unexpected
from linegraph.pyg import new_data

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["sample_line_graph"]

Incoming = Callable[[int], tuple[np.ndarray, np.ndarray | None]]


def sample_line_graph(
    P: AnyGraph,
    nodes: Tensor | Iterable[int],
    num_neighbors: Sequence[int],
    *,
    features: bool = False,
    generator: torch.Generator | None = None,
) -> Data:
    """Sample the neighbourhood of chosen nodes hop by hop, as PyG's ``NeighborLoader`` does, without forming the graph.

    In each hop, edges into every node that the hop before has found are drawn at random without replacement; their
    sources are the nodes of the next hop. In a network, the first hop finds later synapses that act on the chosen
    ones, and the second hop synapses that act on these. Every edge j → i carries its exact coupling P[i, j].

    Args:
        P: a coupling of a network, of any size, or any graph.
        nodes: numbers of the nodes to start from, or a mask (n,). The nodes of a synapse tensor s in ``P.synapses`` are
            s.offset to s.offset + s.numel − 1.
        num_neighbors: for each hop, the largest number of edges drawn into each node; −1 takes all.
        features: for networks, whether to add ``x`` and ``feature_names``, see :func:`~linegraph.line_graph`.
        generator: random generator that draws the edges; by default that of torch.

    Returns:
        Data like that of ``NeighborLoader``: ``n_id``, the numbers of the nodes found, first the chosen ones in their
        order; ``edge_index`` (2, E), whose entries are positions in ``n_id``; ``edge_weight`` (E,); ``batch_size``, the
        number of chosen nodes; and ``edge_hop`` (E,), the hop in which each edge was drawn, from 0. If the nodes have
        names, ``node_names`` are those of ``n_id``.

    Cost: one backward pass for each source node, to the layers directly before it; sources whose paths never meet take
    one pass together. Memory for the structure of P, about 100 bytes per synapse, once.

    Raises:
        DataError: if a node does not exist, is given twice or is no integer, or a number of neighbours is less than −1.
        NonFiniteError: if a coupling is NaN or infinite.
        NotAGraphError: for any other coupling, including the transpose of a network's: sample from ``P.to_graph().T``.
        ArgumentTypeError: if ``generator`` is not one of torch's.

    Source: W. Hamilton, R. Ying, J. Leskovec, NeurIPS 2017 (GraphSAGE), for the sampling.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Tanh(), torch.nn.Linear(30, 20))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 40), torch.randn(8, 20)))
        >>> part = lg.sample_line_graph(P, [0, 41], [5])
        >>> part.num_nodes, part.num_edges, part.batch_size, part.n_id[:2].tolist()
        (12, 10, 2, [0, 41])
    """
    P = as_coupling(P)
    if not isinstance(P, (NeuralCoupling, GraphCoupling)):
        raise unexpected(P, "a NeuralCoupling or a GraphCoupling")
    if not (_is_list(nodes) and _is_list(num_neighbors)):
        raise DataError("nodes and num_neighbors are lists, such as [0] and [10, 5]: a number of neighbours per hop")
    check_generator(generator)
    chosen = _numbers(nodes, P.num_nodes)
    num_neighbors = num_neighbors.tolist() if hasattr(num_neighbors, "tolist") else list(num_neighbors)
    _check(chosen, num_neighbors, P.num_nodes)
    incoming = _stored(P) if isinstance(P, GraphCoupling) else _followers(P)
    known = dict.fromkeys(chosen.tolist())
    frontier = list(known)
    targets, sources, numbers, hops = [], [], [], []
    for hop, most in enumerate(num_neighbors):
        found: dict[int, None] = {}
        for node in frontier:
            neighbors, edges = incoming(node)
            drawn = _drawn(len(neighbors), most, generator)
            sources.append(neighbors[drawn])
            targets.append(np.full(len(drawn), node))
            hops.append(np.full(len(drawn), hop))
            numbers.append(drawn if edges is None else edges[drawn])
            found.update(dict.fromkeys(neighbors[drawn].tolist()))
        frontier = [node for node in found if node not in known]
        known.update(dict.fromkeys(frontier))
    target, source, number, hop_of = (_joined(parts) for parts in (targets, sources, numbers, hops))
    n_id = torch.tensor(list(known), dtype=torch.int64)
    place = {node: i for i, node in enumerate(known)}
    local = [[place[int(node)] for node in ends] for ends in (source, target)]
    if isinstance(P, GraphCoupling):
        weight = P.weight[number.to(P.device)]
    else:
        weight = explicit.entries(P, target.to(P.device), source.to(P.device))
    data = new_data(
        edge_index=torch.tensor(local, dtype=torch.int64, device=P.device).reshape(2, -1),
        edge_weight=weight,
        num_nodes=len(n_id),
        n_id=n_id.to(P.device),
        edge_hop=hop_of.to(P.device),
        batch_size=len(chosen),
    )
    if P.node_names is not None:
        data.node_names = [P.node_names[node] for node in known]
    if features:
        if not isinstance(P, NeuralCoupling):
            raise DataError("features= belongs to couplings of a network")
        columns = features_of(P)
        data.x, data.feature_names = torch.stack(list(columns.values()), 1)[data.n_id], list(columns)
    return data


def _followers(P: NeuralCoupling) -> Incoming:
    """The later synapses that act on a node."""
    edges = P.edge_layout

    def followers(node: int) -> tuple[np.ndarray, None]:
        outputs = [o for layer in edges.synapse_layers for o in layer.outputs_of(node)]
        found = [edges.followers[edges.first[o] : edges.first[o + 1]] for o in outputs]
        # Two output neurons of a node may have followers in common, where a weight enters in two ways.
        return np.unique(np.concatenate([np.empty(0, np.int64), *found])), None

    return followers


def _stored(P: GraphCoupling) -> Incoming:
    """The sources of the edges into a node, and the numbers of these edges."""
    order = torch.argsort(P.edge_index[1], stable=True).cpu().numpy()
    sources = P.edge_index[0].cpu().numpy()
    first = np.r_[0, np.cumsum(torch.bincount(P.edge_index[1], minlength=P.num_nodes).cpu().numpy())]

    def edges_into(node: int) -> tuple[np.ndarray, np.ndarray]:
        edges = order[first[node] : first[node + 1]]
        return sources[edges], edges

    return edges_into


def _drawn(count: int, most: int, generator: torch.Generator | None) -> np.ndarray:
    if most < 0 or count <= most:
        return np.arange(count)
    return torch.randperm(count, generator=generator, device="cpu")[:most].numpy()


def _joined(parts: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64))


def _is_list(given: Any) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str) and getattr(given, "ndim", 1) > 0


def _numbers(nodes: Tensor | Iterable[int], n: int) -> Tensor:
    """The numbers of nodes that are given by their numbers or by a mask."""
    listed = nodes if hasattr(nodes, "__array__") else list(nodes)
    given = as_tensor("nodes", listed, "numbers of nodes, integers, or a mask").cpu()
    if given.dtype == torch.bool:
        if given.shape != (n,):
            raise DataError(f"a mask of nodes has shape ({n},), one entry per node, got {tuple(given.shape)}")
        return given.nonzero().squeeze(1)
    if given.numel() and (given.is_floating_point() or given.is_complex()):
        raise DataError(f"nodes must be numbers of nodes, integers, or a mask, got {given.dtype}")
    return given.reshape(-1).long()


def _check(chosen: Tensor, num_neighbors: Sequence[int], n: int) -> None:
    if chosen.numel() and not 0 <= int(chosen.min()) <= int(chosen.max()) < n:
        raise DataError(f"nodes are numbered 0 to {n - 1}, got {int(chosen.min())} to {int(chosen.max())}")
    if len(chosen.unique()) < len(chosen):
        raise DataError("a node is given twice; give every node once")
    for most in num_neighbors:
        if not isinstance(most, Integral) or most < -1:
            raise DataError(f"num_neighbors holds {most!r}; it is the most edges of each hop, integers, or −1 for all")
