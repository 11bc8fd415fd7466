"""Explicit entries of P: all of them, the strongest of each row, or chosen ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling.entries.blocks import Blocks, chunks
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.structure.edge_layout import EdgeLayout, SynapseLayer
from linegraph.coupling.tracing.tape import Tape
from linegraph.errors import NonFiniteError, TooLargeError
from linegraph.numerics import empty
from linegraph.processes import jointly

__all__ = ["backbone", "count_edges", "entries", "finite", "graph", "strongest"]

MAX_TIED_EDGES = 20_000_000
"""Largest number of edges that are enumerated to count those of a weight in two uses once."""


def graph(P: RecordedNetwork) -> GraphCoupling:
    """All entries of P as a graph; see :meth:`NeuralCoupling.to_graph`.

    Raises:
        NonFiniteError: if an entry is NaN or infinite.
    """
    edges = jointly(lambda: P.edge_layout)
    if not edges.disjoint:
        return _graph_of_tied(P)
    index = edges.edge_index(P.device)

    weight = empty((index.shape[1],), P.dtype, P.device, zero=True)

    def add(tape: Tape) -> None:
        blocks = Blocks(P, tape)
        for source in edges.synapse_layers:
            for columns in blocks.chunks(source):
                _place(P, blocks, weight, source, columns)

    P.passes.mean_over([weight], add)
    return _graph(P, index, P.entries_of_kind(weight, index[1], index[0]))


def backbone(P: RecordedNetwork, top: int) -> GraphCoupling:
    """The graph of the ``top`` entries of largest absolute value in every row.

    No weight may be used in two ways. Besides the entries kept, no more than a block is in memory at a time.
    """
    edges = jointly(lambda: P.edge_layout)
    best = {target: _Best(top, len(target.nodes)) for target in edges.synapse_layers}
    kept: list[Blocks] = []
    for source in edges.synapse_layers:
        followed = [target for target in edges.synapse_layers if edges.joined(target, source)]
        for columns in chunks(source, max((len(target.nodes) for target in followed), default=1)):
            found = _summed(P, kept, source, columns, followed)
            for target in followed:
                nodes = torch.from_numpy(edges.sources(target, source, columns)).to(P.device)
                output = torch.from_numpy(target.outputs - target.first).to(P.device)
                block = found[target]
                if not P.has_entries_of_the_tape:
                    targets = torch.from_numpy(target.nodes).to(P.device).unsqueeze(1).expand(block.shape)
                    block = P.entries_of_kind(block, targets, nodes[output])
                best[target].offer(block, nodes, output)
    return _graph(P, *_rows_sorted(P, best))


def entries(P: RecordedNetwork, targets: Tensor, sources: Tensor) -> Tensor:
    """The entries P[targets, sources] for pairs of nodes, (pairs,).

    Cost: a backward pass for each column number among the sources, in every synapse layer.

    Raises:
        NonFiniteError: if an entry is NaN or infinite.
    """
    edges = jointly(lambda: P.edge_layout)
    into, out = targets.cpu().numpy(), sources.cpu().numpy()

    found = torch.zeros(len(into), dtype=P.dtype, device=P.device)

    def add(tape: Tape) -> None:
        blocks = Blocks(P, tape)
        for source in edges.synapse_layers:
            if calls := blocks.calls(source):
                number = source.number if edges.disjoint else np.arange(source.numel)
                shape = source.view.weight.parameter.shape
                for k, pairs in _by_number(out - source.offset, number):
                    arrived = blocks.sent_back(calls, torch.from_numpy(number == k).view(shape))
                    blocks.read(arrived, into, pairs, found)

    P.passes.mean_over([found], add)
    return finite(P.entries_of_kind(found, targets, sources))


def _by_number(weights: np.ndarray, number: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Group the pairs whose source is a weight of this layer by the column number of the source.

    Args:
        weights: for each pair, the place of its source in the parameter; out of range for other parameters.
        number: the column number of each entry of the parameter.

    Yields:
        A column number, and the places of its pairs.
    """
    pairs = np.flatnonzero((weights >= 0) & (weights < len(number)))
    key = number[weights[pairs]]
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    # Not strict: without keys, np.split still returns one part, which is empty.
    yield from zip(keys.tolist(), np.split(pairs[order], first[1:]), strict=False)


def count_edges(P: RecordedNetwork) -> int:
    """Number of edges, from neuron degrees; by enumeration where a weight is used in two ways that may share edges.

    Raises:
        TooLargeError: if there are too many edges to enumerate.
    """
    structure = P.structure
    count = structure.num_edges()
    if structure.one_view_each or P.edge_layout.disjoint:
        return count
    if count > MAX_TIED_EDGES:
        raise TooLargeError(
            "a weight is used in two ways (tied and transposed, say), which may share edges. To count these once, all "
            f"{count:,} edges must be enumerated, more than {MAX_TIED_EDGES:,}; choose fewer synapses with include="
        )
    return int(_pattern(P.edge_layout).nnz)


def strongest(graph: GraphCoupling, top: int) -> GraphCoupling:
    """The graph of the edges that are among the ``top`` strongest into their target, in the same order."""
    target = graph.edge_index[1]
    order = graph.weight.abs().argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]
    counts = torch.bincount(target, minlength=graph.num_nodes)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - first[target[order]]
    kept = order[rank < top].sort().values
    return graph.with_edges(graph.edge_index[:, kept], graph.weight[kept])


def _place(P: RecordedNetwork, blocks: Blocks, weight: Tensor, source: SynapseLayer, columns: slice) -> None:
    """Add the entries of some columns to the vector of all entries, directly where they form a block there."""
    edges = P.edge_layout
    aside: dict[SynapseLayer, Tensor] = {}

    def block_of(target: SynapseLayer) -> Tensor:
        block = edges.block(weight, target, source, columns)
        return aside.setdefault(target, _zeros(P, target, columns)) if block is None else block

    blocks.add(source, columns, block_of)
    for target, block in aside.items():
        edges.add(weight, target, source, columns, block)


def _summed(
    P: RecordedNetwork, kept: list[Blocks], source: SynapseLayer, columns: slice, targets: list[SynapseLayer]
) -> dict[SynapseLayer, Tensor]:
    """The entries of some columns in the rows of each target layer, over all data.

    ``kept`` holds the ``Blocks`` of the last pass, which serve again if the pass is kept.
    """
    found = {target: _zeros(P, target, columns) for target in targets}

    def add(tape: Tape) -> None:
        if not kept or kept[0].tape is not tape:
            kept[:] = [Blocks(P, tape)]
        kept[0].add(source, columns, found.__getitem__)

    P.passes.mean_over([*found.values()], add)
    return found


class _Best:
    """The ``top`` entries of largest absolute value in every row of a layer, among those offered so far."""

    def __init__(self, top: int, rows: int) -> None:
        self.top = top
        self.entries = torch.empty(rows, 0, device="cpu")
        self.sources = torch.empty(rows, 0, dtype=torch.int64, device="cpu")

    def offer(self, entries: Tensor, nodes: Tensor, output: Tensor) -> None:
        """Consider a block of entries.

        Args:
            entries: (rows, columns).
            nodes: (output neurons, columns), the source node of each column for rows of that output neuron, or −1.
            output: (rows,), the output neuron of each row.
        """
        before = self.entries.shape[1]
        entries = torch.cat([self.entries.to(entries), entries], 1)
        size = entries.abs()
        if (nodes < 0).any():
            size[:, before:].masked_fill_((nodes < 0)[output], -1)
        kept = size.topk(min(self.top, size.shape[1]), 1).indices
        found = nodes[output.unsqueeze(1), (kept - before).clamp_(min=0)]
        if before:
            found = torch.where(kept < before, self.sources.gather(1, kept.clamp(max=before - 1)), found)
        self.entries, self.sources = entries.gather(1, kept), found


def _rows_sorted(P: RecordedNetwork, best: dict[SynapseLayer, _Best]) -> tuple[Tensor, Tensor]:
    """Edge index and weights of the entries kept, sorted by target, then by source."""
    index, weight = [], []
    for target, found in best.items():
        kept = found.sources >= 0
        rows = torch.from_numpy(target.nodes).to(kept.device).unsqueeze(1).expand(kept.shape)
        index.append(torch.stack([found.sources[kept], rows[kept]]).to(P.device))
        weight.append(found.entries[kept].to(P.device, P.dtype))
    edges, weights = torch.cat(index, 1), torch.cat(weight)
    order = torch.argsort(edges[1] * P.num_nodes + edges[0])
    return edges[:, order], weights[order]


def _zeros(P: RecordedNetwork, target: SynapseLayer, columns: slice) -> Tensor:
    return torch.zeros(len(target.nodes), columns.stop - columns.start, dtype=P.dtype, device=P.device)


def finite(weight: Tensor) -> Tensor:
    """Return the same numbers if all are finite.

    Raises:
        NonFiniteError: if one is not.
    """
    # The least and the largest number show NaN and infinity.
    if weight.numel() and not all(bound.isfinite() for bound in torch.aminmax(weight)):
        raise NonFiniteError("P has entries that are NaN or infinite: the loss has no finite gradient on this data")
    return weight


def _graph(P: RecordedNetwork, index: Tensor, weight: Tensor) -> GraphCoupling:
    return GraphCoupling.of_valid(index, finite(weight), P.num_nodes)


def _pattern(edges: EdgeLayout) -> csr_array:
    """The boolean matrix (n, n) of P's edges, where two synapse layers may share edges."""
    outputs, n = len(edges.degree), edges.num_nodes
    followers = csr_array((np.ones(len(edges.followers), np.int32), edges.followers, edges.first), (outputs, n))
    total = csr_array((n, n), dtype=np.int32)
    for layer in edges.synapse_layers:
        ends = csr_array((np.ones(len(layer.nodes), np.int32), (layer.nodes, layer.outputs)), (n, outputs))
        total = total + ends @ followers
    return csr_array(total).astype(bool)


def _graph_of_tied(P: RecordedNetwork) -> GraphCoupling:
    """All entries of P where a weight is used in two ways, by one backward pass for each column."""
    targets, sources = (
        torch.from_numpy(i.astype(np.int64)).to(P.device) for i in _pattern(P.edge_layout).tocoo().coords
    )
    return _graph(P, torch.stack([sources, targets]), entries(P, targets, sources))
