"""Coarse graphs, whose nodes are neurons, channels, layers or other groups, and whose weights are sums of couplings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from linegraph.arguments import as_tensor
from linegraph.coupling.base import Coupling
from linegraph.coupling.entries import explicit
from linegraph.coupling.entries.neuron_sums import neuron_couplings
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import DataError
from linegraph.io.accept import AnyGraph, as_coupling, without_names
from linegraph.numerics import ROUNDING
from linegraph.progress import shown
from linegraph.pyg import new_data

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["coarse_graph"]

GROUPS_PER_PRODUCT = 8
"""Number of groups whose columns are multiplied by P in one product; every product reads the data once."""


def coarse_graph(P: AnyGraph, by: str | Tensor | Sequence[int] = "layer", *, progress: bool = False) -> Data:
    r"""The coarse line graph: groups of nodes become nodes, and couplings between groups are summed.

    The weight of the edge B → A is Σ_{i∈A, j∈B} P[i, j]. The strengths of a group are the sums of the strengths of
    its nodes, and the sum of all weights is 1ᵀP1. The sums are exact, and the line graph is never formed.

    Args:
        P: any coupling or graph, with n nodes.
        by: for couplings of a network "layer", one group per synapse tensor, or "neuron" or "channel" (the same), one
            group per feature or channel, of the synapses that enter it. For any coupling integers (n,), the number of
            the group of every node, from 0, such as the labels of :func:`~linegraph.communities`; −1 leaves a node
            out.
        progress: show a bar over the products.

    Returns:
        Data with the m groups as nodes: ``edge_index`` (2, E) and ``edge_weight`` (E,), in units of P, of all sums that
        are not 0; ``num_nodes``, m; and ``group_size`` (m,), the number of nodes in each group. Metrics take it, and
        :func:`~linegraph.from_pyg` makes a coupling of it. If ``by`` is a word, also ``layer`` (m,), the number of the
        synapse tensor of each group, ``neuron`` (m,), the number of its neuron in that layer (−1 for whole layers), and
        ``layer_names``, the parameter name of each layer number.

        A sum of terms of different signs counts as 0 if it is at most 32 ε times the sum of their absolute values, ε
        the machine epsilon: softmax and normalisation make such terms cancel. :func:`~linegraph.capacitance` uses the
        same bound.

    Cost: with a word for ``by`` and kind "signed" or "magnitude", two backward passes for each layer behind which the
    paths act element by element, and one backward pass for each output neuron of other layers; weight gradients are
    never formed. For other kinds and for integers, one product with P for each group; with kind "energy" these are
    estimates. Kinds "signed" and "flow" take twice as many passes per neuron, or products per group, since their terms
    can cancel.

    Raises:
        DataError: if ``by`` is another word, or not one integer for each node.
        NotAGraphError: if P is neither a coupling nor a graph.
        NonFiniteError: if a sum is NaN or infinite.

    Source: V. Blondel, J.-L. Guillaume, R. Lambiotte, E. Lefebvre, Journal of Statistical Mechanics (2008) P10008:
    groups become nodes, and the weights between two groups are summed.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> data = torch.randn(8, 4), torch.randn(8, 2)
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data, kind="magnitude")
        >>> graph = lg.coarse_graph(P, "neuron")
        >>> graph.num_nodes, graph.num_edges, graph.group_size.tolist()
        (5, 6, [4, 4, 4, 3, 3])
        >>> torch.allclose(graph.edge_weight.sum(), P.in_strength().sum())
        True
    """
    P = as_coupling(P)
    if P.is_view:
        data = coarse_graph(P.T, by, progress=progress)
        data.edge_index = data.edge_index.flip(0)
        return data
    if not isinstance(by, str):
        by = without_names(P, by)
        by = as_tensor("by", by, "'layer', 'neuron', 'channel' or one integer per node")
        return _graph(P, *_summed(P, _checked(by, P.num_nodes), progress), _sizes(by))
    if by not in ("layer", "neuron", "channel"):
        raise DataError(f"by must be 'layer', 'neuron', 'channel' or one integer per node, got {by!r}")
    if not isinstance(P, NeuralCoupling):
        raise DataError(
            f"only a network has {by}s; give the group of every node of this {type(P).__name__} as integers"
        )
    group, layer, neuron = _neurons(P) if by != "layer" else _layers(P)
    if P.has_entries_of_the_tape and P.edge_layout.disjoint:
        sums = _from_neurons(P, group, len(layer))
    else:
        sums = _summed(P, group, progress)
    return _graph(P, *sums, _sizes(group), layer=layer, neuron=neuron, layer_names=[s.name for s in P.synapses])


def _layers(P: NeuralCoupling) -> tuple[Tensor, Tensor, Tensor]:
    """The group of every node, and the layer and neuron of every group, with one group per synapse tensor."""
    number = torch.arange(len(P.synapses), device=P.device)
    group = number.repeat_interleave(torch.tensor([s.numel for s in P.synapses], device=P.device))
    return group, number, torch.full_like(number, -1)


def _neurons(P: NeuralCoupling) -> tuple[Tensor, Tensor, Tensor]:
    """The same with one group per neuron that synapses enter, in the order of the layers."""
    layer, _, _ = _layers(P)
    neuron = P.neurons()[1]
    width = int(neuron.max()) + 1
    keys, group = torch.unique(layer * width + neuron, return_inverse=True)
    return group, keys // width, keys % width


def _from_neurons(P: NeuralCoupling, group: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sums of couplings between groups of output neurons, and the sums of their absolute values.

    All synapses that enter a neuron are in the same group.
    """
    matrix, size = (torch.zeros(count, count, dtype=P.dtype, device=P.device) for _ in range(2))
    sums, sizes = neuron_couplings(P)
    of = {
        layer: torch.empty(layer.end - layer.first, dtype=torch.int64, device="cpu") for pair in sums for layer in pair
    }
    for layer, groups in of.items():
        groups[torch.from_numpy(layer.outputs - layer.first)] = group[torch.from_numpy(layer.nodes)].cpu()
    for blocks, into in ((sums, matrix), (sizes, size)):
        for (target, source), block in blocks.items():
            rows, columns = (of[layer].to(P.device) for layer in (target, source))
            into.index_put_((rows.unsqueeze(1), columns.unsqueeze(0)), block, accumulate=True)
    return matrix, size


def _summed(P: Coupling, group: Tensor, progress: bool) -> tuple[Tensor, Tensor]:
    """Zᵀ P Z for the indicator matrix Z of the groups, in blocks of columns, and the size of the terms in each sum.

    The size is Zᵀ |P (ε ∘ Z)| with random ε, since random factors keep the terms from cancelling. Where no coupling is
    negative, nothing cancels and the size is left at 0.
    """
    group = group.to(P.device)
    count = int(group.max()) + 1 if group.numel() else 0
    kept = group >= 0
    matrix, size = (torch.zeros(count, count, dtype=P.dtype, device=P.device) for _ in range(2))
    noise = torch.randn(P.num_nodes, 1, generator=torch.Generator().manual_seed(0), device="cpu").to(matrix)
    for first in shown(range(0, count, GROUPS_PER_PRODUCT), progress, unit="product", desc="coarse graph"):
        columns = torch.arange(first, min(count, first + GROUPS_PER_PRODUCT), device=P.device)
        members = (group.unsqueeze(1) == columns).to(P.dtype)
        product = P.matvec(members if P.is_non_negative else torch.cat([members, noise * members], 1))[kept]
        matrix[:, columns] = _by_group(product[:, : len(columns)], group[kept], count)
        if not P.is_non_negative:
            size[:, columns] = _by_group(product[:, len(columns) :].abs(), group[kept], count)
    return matrix, size


def _by_group(rows: Tensor, group: Tensor, count: int) -> Tensor:
    return rows.new_zeros(count, rows.shape[1]).index_add_(0, group, rows)


def _checked(group: Tensor, n: int) -> Tensor:
    if group.shape != (n,) or group.is_complex() or group.is_floating_point() or group.dtype == torch.bool:
        raise DataError(f"by must hold one integer for each of the {n} nodes, got {group.dtype} {tuple(group.shape)}")
    if group.numel() and int(group.min()) < -1:
        raise DataError(f"by holds {int(group.min())}; groups are numbered from 0, and −1 leaves a node out")
    return group.long()


def _sizes(group: Tensor) -> Tensor:
    return torch.bincount(group[group >= 0])


def _graph(P: Coupling, matrix: Tensor, terms: Tensor, size: Tensor, **attributes: Any) -> Data:
    """The graph of all sums that exceed the rounding errors of their terms."""
    kept = explicit.finite(matrix).abs() > ROUNDING * P.precision * terms
    targets, sources = kept.nonzero().unbind(1)
    weight = matrix[targets, sources]
    edges = torch.stack([sources, targets])
    return new_data(edge_index=edges, edge_weight=weight, num_nodes=len(matrix), group_size=size, **attributes)
