"""Explicit line graphs: synapses as nodes, couplings as weighted edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from linegraph.coupling.neural import MAX_EDGES, NeuralCoupling

__all__ = ["line_graph"]


def line_graph(P: NeuralCoupling, *, max_edges: int = MAX_EDGES) -> Data:
    """The line graph of a network as a PyG object, with the edge dynamics as node features.

    Nodes are the n synapses, in the order of ``P.synapses``; the edge j → i carries P[i, j], so influence flows
    from the later synapse to the earlier one, as the gradient does.

    Args:
        P: a coupling small enough to write down.
        max_edges: the most edges to materialise.

    Returns:
        Data with ``edge_index`` (2, E), ``edge_weight`` (E,), ``x`` (n, 7), whose columns ``feature_names`` names:
        weight w, gradient ∇C, velocity −∇C, drive b, in_strength P1, out_strength Pᵀ1 and layer (the number of the
        synapse tensor); and ``layer_names``, the parameter name of each layer number. E is ``P.num_edges``.

    Cost: one product per column colour (see :meth:`NeuralCoupling.to_graph`) and 24 bytes an edge.

    Raises:
        TooLargeError: if P has more than ``max_edges`` edges; names both numbers.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)))
        >>> lg.line_graph(P)
        Data(x=[18, 7], edge_index=[2, 24], edge_weight=[24], feature_names=[7], layer_names=[2])
    """
    graph = P.to_graph(max_edges)
    features = _features(P)
    return Data(
        x=torch.stack(list(features.values()), 1),
        edge_index=graph.edge_index,
        edge_weight=graph.weight,
        feature_names=list(features),
        layer_names=[s.name for s in P.synapses],
    )


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
