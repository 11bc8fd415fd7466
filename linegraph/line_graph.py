"""Explicit line graphs: synapses as nodes, couplings as weighted edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.neural import MAX_EDGES, NeuralCoupling

__all__ = ["line_graph"]


def line_graph(P: NeuralCoupling, *, max_edges: int = MAX_EDGES, top: int | None = None, features: bool = True) -> Data:
    """The line graph of a network as a PyG object, with the edge dynamics as node features.

    Nodes are the n synapses, in the order of ``P.synapses``; the edge j → i carries P[i, j], so influence flows
    from the later synapse to the earlier one, as the gradient does.

    Args:
        P: a coupling small enough to write down.
        max_edges: the most edges to materialise.
        top: keep only this many couplings into each node, those of largest absolute value; all by default.
        features: whether to compute the node features; without them ``x`` and ``feature_names`` are left out.

    Returns:
        Data with ``edge_index`` (2, E), ``edge_weight`` (E,), ``x`` (n, 7), whose columns ``feature_names`` names:
        weight w, gradient ∇C, velocity −∇C, drive b, in_strength P1, out_strength Pᵀ1 and layer (the number of the
        synapse tensor); and ``layer_names``, the parameter name of each layer number. E is ``P.num_edges``, unless
        ``top`` makes it smaller.

    Cost: one product per column colour (see :meth:`NeuralCoupling.to_graph`) and 24 bytes an edge.

    Raises:
        TooLargeError: if P has more than ``max_edges`` edges; names both numbers.
        ValueError: if ``top`` is less than 1.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> data = lg.line_graph(P)
        >>> data.num_nodes, data.num_edges, data.x.shape
        (18, 24, torch.Size([18, 7]))
    """
    if top is not None and top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    graph = P.to_graph(max_edges)
    kept = slice(None) if top is None else _strongest(graph, top)
    data = Data(
        edge_index=graph.edge_index[:, kept],
        edge_weight=graph.weight[kept],
        num_nodes=P.num_nodes,
        layer_names=[s.name for s in P.synapses],
    )
    if features:
        columns = _features(P)
        data.x, data.feature_names = torch.stack(list(columns.values()), 1), list(columns)
    return data


def _strongest(graph: GraphCoupling, top: int) -> Tensor:
    """The edges, in their order, that are among the ``top`` strongest into their target."""
    target = graph.edge_index[1]
    order = graph.weight.abs().argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]
    counts = torch.bincount(target, minlength=graph.num_nodes)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - first[target[order]]
    return order[rank < top].sort().values


def _features(P: NeuralCoupling) -> dict[str, Tensor]:
    gradient = P.gradient()
    sizes = torch.tensor([s.numel for s in P.synapses], device=P.device)
    return {
        "weight": P.weights(),
        "gradient": gradient,
        "velocity": -gradient,
        "drive": P.drive(),
        "in_strength": P.in_strength(),
        "out_strength": P.out_strength(),
        "layer": torch.arange(len(sizes), device=P.device).repeat_interleave(sizes).to(P.dtype),
    }
