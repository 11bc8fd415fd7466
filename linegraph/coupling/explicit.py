"""The entries of P, written down: all of them, the strongest of each row, or chosen ones.

Entries are formed in blocks: the weights of a layer as rows, some columns of a later layer. What a column sends
back through the network is one product of P with the columns that share its number (the colouring of sparse
Jacobians; Curtis, Powell, Reid 1974). Where the paths between two layers act element by element, two products give
their whole Jacobian, and the block is one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling import lowered
from linegraph.coupling.bicliques import Bicliques, Layer, empty
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.kinds import Kind
from linegraph.coupling.tape import Call, Tape
from linegraph.errors import NonFiniteError, TooLargeError, UnsupportedOperationError

if TYPE_CHECKING:
    from linegraph.coupling.neural import NeuralCoupling

__all__ = ["Blocks", "backbone", "count_edges", "entries", "graph"]

AT_ONCE = 2**25
"""Entries formed in one block of columns."""

TIED_AT_MOST = 20_000_000
"""Edges up to which those that two views of a weight both give are told apart."""

Block = Callable[[Layer], Tensor]
Right = Callable[[int, int], Tensor]


def graph(P: NeuralCoupling) -> GraphCoupling:
    """All entries of P."""
    edges = P.bicliques
    if not edges.disjoint:
        return _graph_of_tied(P)
    index = edges.edge_index(P.device)

    def products(tape: Tape) -> dict[str, Tensor]:
        weight = empty((index.shape[1],), P.dtype, P.device, zero=True)
        blocks = Blocks(P, tape)
        for source in edges.layers:
            for columns in blocks.chunks(source):
                _place(P, blocks, weight, source, columns)
        return {"": weight}

    weight = P._sum(products, lambda: {"": torch.zeros(index.shape[1], dtype=P.dtype, device=P.device)})[""]
    return _checked(P, index, P._kind.entries(P, weight, index[1], index[0]))


def backbone(P: NeuralCoupling, top: int) -> GraphCoupling:
    """The ``top`` entries of largest absolute value in every row; at no time more than a block beside them.

    No weight may be seen in two ways.
    """
    edges = P.bicliques
    best = {target: _Best(top, len(target.nodes)) for target in edges.layers}
    kept: list[Blocks] = []
    for source in edges.layers:
        followed = [target for target in edges.layers if edges.joined(target, source)]
        for columns in _chunks(source, max((len(target.nodes) for target in followed), default=1)):
            found = _summed(P, kept, source, columns, followed)
            for target in followed:
                nodes = torch.from_numpy(edges.sources(target, source, columns)).to(P.device)
                output = torch.from_numpy(target.outputs - target.first).to(P.device)
                block = found[target]
                if type(P._kind) is not Kind:
                    targets = torch.from_numpy(target.nodes).to(P.device).unsqueeze(1).expand(block.shape)
                    block = P._kind.entries(P, block, targets, nodes[output])
                best[target].offer(block, nodes, output)
    return _checked(P, *_rows_sorted(P, best))


def entries(P: NeuralCoupling, targets: Tensor, sources: Tensor) -> Tensor:
    """P[targets, sources] for pairs of nodes: every column number among the sources is sent back once."""
    edges = P.bicliques
    into, out = targets.cpu().numpy(), sources.cpu().numpy()

    def products(tape: Tape) -> dict[str, Tensor]:
        blocks = Blocks(P, tape)
        found = torch.zeros(len(into), dtype=P.dtype, device=P.device)
        for source in edges.layers:
            if calls := blocks.calls(source):
                number = source.number if edges.disjoint else np.arange(source.numel)
                shape = source.view.weight.parameter.shape
                for k, pairs in _by_number(out - source.offset, number):
                    arrived = blocks.sent_back(calls, torch.from_numpy(number == k).view(shape))
                    blocks.read(arrived, into, pairs, found)
        return {"": found}

    found = P._sum(products, lambda: {"": torch.zeros(len(into), dtype=P.dtype, device=P.device)})[""]
    return P._kind.entries(P, found, targets, sources)


def _by_number(weights: np.ndarray, number: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The pairs whose source is a weight of the layer, by the column number of that weight."""
    pairs = np.flatnonzero((weights >= 0) & (weights < len(number)))
    key = number[weights[pairs]]
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    yield from zip(keys.tolist(), np.split(pairs[order], first[1:]), strict=False)  # no key leaves one empty part


def count_edges(P: NeuralCoupling) -> int:
    """The number of edges, counted from neuron degrees; one by one where two views of a weight may give the same."""
    structure = P._structure
    count = structure.num_edges()
    if structure.one_view_each or P.bicliques.disjoint:
        return count
    if count > TIED_AT_MOST:
        raise TooLargeError(
            "a weight is seen in two ways (tied and transposed, say), and edges that both give can be told apart "
            f"only one by one, up to {TIED_AT_MOST:,}"
        )
    return int(_pattern(P.bicliques).nnz)


def strongest(graph: GraphCoupling, top: int) -> GraphCoupling:
    """The edges, in their order, that are among the ``top`` strongest into their target."""
    target = graph.edge_index[1]
    order = graph.weight.abs().argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]
    counts = torch.bincount(target, minlength=graph.num_nodes)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - first[target[order]]
    kept = order[rank < top].sort().values
    return GraphCoupling(graph.edge_index[:, kept], graph.weight[kept], num_nodes=graph.num_nodes)


def _place(P: NeuralCoupling, blocks: Blocks, weight: Tensor, source: Layer, columns: slice) -> None:
    """Add the entries of some columns where they belong among all: in place, if they lie there as a block."""
    edges = P.bicliques
    aside: dict[Layer, Tensor] = {}

    def block_of(target: Layer) -> Tensor:
        block = edges.block(weight, target, source, columns)
        return aside.setdefault(target, _zeros(P, target, columns)) if block is None else block

    blocks.add(source, columns, block_of)
    for target, block in aside.items():
        edges.add(weight, target, source, columns, block)


def _summed(
    P: NeuralCoupling, kept: list[Blocks], source: Layer, columns: slice, targets: list[Layer]
) -> dict[Layer, Tensor]:
    """The entries of some columns in the rows of each of the targets, over all data; ``kept`` holds the last pass."""

    def zeros() -> dict[str, Tensor]:
        return {str(i): _zeros(P, target, columns) for i, target in enumerate(targets)}

    def products(tape: Tape) -> dict[str, Tensor]:
        if not kept or kept[0].tape is not tape:
            kept[:] = [Blocks(P, tape)]
        found = zeros()
        kept[0].add(source, columns, dict(zip(targets, found.values(), strict=True)).__getitem__)
        return found

    return dict(zip(targets, P._sum(products, zeros).values(), strict=True))


class Blocks:
    """Blocks of entries of the P of one pass."""

    def __init__(self, P: NeuralCoupling, tape: Tape) -> None:
        self.tape, self.edges, self.dtype = tape, P.bicliques, P.dtype
        by_key = {layer.key: layer for layer in self.edges.layers}
        names = {synapse.name for synapse in P.synapses}
        self.layer_of: dict[int, Layer] = {}
        for call in tape.calls:
            if call.weight.name not in names:
                continue
            key = (call.weight.name, call.weight.view, call.rule.op)
            if key not in by_key:
                raise UnsupportedOperationError(
                    f"'{call.weight.name}' enters {call.rule.op} in a later batch in a way that the first batch, which "
                    "shows the structure of P, does not have; put a batch that uses every weight first"
                )
            self.layer_of[call.index] = by_key[key]
        self._inputs: dict[int, Tensor] = {}
        self._diagonals: dict[Layer, list[tuple[Call, Call, Tensor]] | None] = {}

    def chunks(self, source: Layer) -> Iterator[slice]:
        """Ranges of column numbers whose blocks, and what they send back, fit in memory."""
        largest = max((len(t.nodes) for t in self.edges.layers if self.edges.joined(t, source)), default=1)
        if self.diagonal(source) is None:
            largest = max([largest, *(call.x.numel() for call in self.calls(source))])
        return _chunks(source, largest)

    def add(self, source: Layer, columns: slice, block: Block) -> None:
        """Add the entries of some columns of ``source`` to a block per layer, (weights, columns)."""
        calls = self.calls(source)
        if not calls:
            return
        if (pairs := self.diagonal(source)) is None:
            self._add_columns(calls, source, columns, block)
            return
        for call, later, diagonal in pairs:
            u = self.outgoing(later)[:, :, columns]

            def right(first: int, end: int, d: Tensor = diagonal, u: Tensor = u) -> Tensor:
                group = torch.arange(first, end, device=d.device) // (len(d) // len(u))
                return d[first:end].unsqueeze(2) * (u if len(u) == 1 else u[group])

            self._multiply(call, right, block)

    def calls(self, source: Layer) -> list[Call]:
        """The calls of a layer from which something can be sent back."""
        return [
            call
            for call, g in zip(self.tape.calls, self.tape.gradients, strict=True)
            if self.layer_of.get(call.index) is source and g is not None and call.x_edge is not None
        ]

    def diagonal(self, source: Layer) -> list[tuple[Call, Call, Tensor]] | None:
        """Earlier call, later call and the Jacobian between them, if all that lead to ``source`` are diagonal."""
        if source not in self._diagonals:
            self._diagonals[source] = self._find_diagonal(source)
        return self._diagonals[source]

    def _find_diagonal(self, source: Layer) -> list[tuple[Call, Call, Tensor]] | None:
        calls, shape = self.calls(source), source.view.shape
        if not lowered.is_lowered(source.view.rule) or 2 * len(calls) >= source.count:
            return None
        expected = lowered.leaving(source.view.rule, shape).expand(shape).flatten().numpy()
        if not np.array_equal(source.number[source.nodes - source.offset], expected):
            return None
        pairs = []
        for later in calls:
            scales = lowered.random_scales(later.x.shape, later.x.dtype, later.x.device)
            seeds: list[Tensor | None] = [None] * len(self.tape.calls)
            arrived = []
            for seed in (torch.ones_like(later.x), scales):
                seeds[later.index] = seed
                arrived.append(self.tape.pull_back(seeds))
            for call, ones, scaled in zip(self.tape.calls, *arrived, strict=True):
                if ones is None or call.index not in self.layer_of:
                    continue
                if (
                    not lowered.is_lowered(call.rule)
                    or ones.shape != later.x.shape
                    or call.rule.output_dim % ones.ndim != (later.rule.input_dim or 0) % ones.ndim
                    or not torch.equal(scaled, ones * scales)
                ):
                    return None
                pairs.append((call, later, lowered.by_output(call.rule, ones, ones.ndim).to(self.dtype)))
        return pairs

    def _add_columns(self, calls: list[Call], source: Layer, columns: slice, block: Block) -> None:
        """Send every column back through the network by itself."""
        numbers = torch.from_numpy(source.number).view(source.view.weight.parameter.shape)
        arrived: dict[int, list[Tensor | None]] = {}
        for number in range(columns.start, columns.stop):
            for index, s in enumerate(self.sent_back(calls, numbers == number)):
                if index in self.layer_of:
                    arrived.setdefault(index, []).append(s)
        for call in self.tape.calls:
            parts = arrived.get(call.index, [])
            if (like := next((s for s in parts if s is not None), None)) is None:
                continue
            found = [torch.zeros_like(like) if s is None else s for s in parts]
            if lowered.is_lowered(call.rule):
                stacked = lowered.by_output(call.rule, torch.stack(found, -1), like.ndim).to(self.dtype)
                self._multiply(call, lambda first, end, whole=stacked: whole[first:end], block)  # type: ignore[misc]
            else:
                x = self.tape.factor(call.input())
                entries = [call.rule.to_weight(x, s, call.weight_shape).flatten() for s in found]
                block(self.layer_of[call.index]).add_(torch.stack(entries, 1).to(self.dtype), alpha=self.tape.sign)

    def sent_back(self, calls: list[Call], chosen: Tensor) -> list[Tensor | None]:
        """What the chosen entries of a parameter, set to 1, send back to every call."""
        seeds: list[Tensor | None] = [None] * len(self.tape.calls)
        for call in calls:
            g = self.tape.gradients[call.index]
            assert g is not None
            v = call.weight.seen(chosen.to(g.device, g.dtype))
            seeds[call.index] = call.rule.to_input(v, self.tape.factor(g), call.x.shape)
        return self.tape.pull_back(seeds)

    def read(self, arrived: list[Tensor | None], targets: np.ndarray, pairs: np.ndarray, into: Tensor) -> None:
        """Add to ``into``, for some pairs, what arrived at their targets."""
        for call, s in zip(self.tape.calls, arrived, strict=True):
            if s is None or call.index not in self.layer_of:
                continue
            layer = self.layer_of[call.index]
            weights = targets[pairs] - layer.offset
            mine = np.flatnonzero((weights >= 0) & (weights < layer.numel))
            if len(mine):
                r = call.weight.back(call.rule.to_weight(self.tape.factor(call.input()), s, call.weight_shape))
                values = r.flatten()[torch.from_numpy(weights[mine]).to(into.device)].to(self.dtype)
                into.index_add_(0, torch.from_numpy(pairs[mine]).to(into.device), values, alpha=self.tape.sign)

    def outputs(self, layer: Layer) -> Tensor:
        """The output neuron of every entry of a layer's parameter, −1 where the layer does not see it."""
        out = torch.full((layer.view.weight.parameter.numel(),), -1)
        out[torch.from_numpy(layer.nodes - layer.offset)] = torch.from_numpy(layer.outputs - layer.first)
        return out.view(layer.view.weight.parameter.shape)

    def _multiply(self, call: Call, right: Right, block: Block) -> None:
        if call.index not in self._inputs:
            x = self.tape.factor(call.input()).to(self.dtype)
            self._inputs[call.index] = lowered.incoming(call.rule, x, call.weight_shape)
        into = block(self.layer_of[call.index])
        lowered.add_product(call.rule, into, self._inputs[call.index], right, call.weight_shape, self.tape.sign)

    def outgoing(self, call: Call) -> Tensor:
        """U of a call."""
        g = self.tape.gradients[call.index]
        assert g is not None
        return lowered.outgoing(call.rule, self.tape.factor(g).to(self.dtype), call.x.shape, call.weight_shape)


class _Best:
    """The entries of largest absolute value in every row of a layer, of all that have been offered."""

    def __init__(self, top: int, rows: int) -> None:
        self.top = top
        self.entries = torch.empty(rows, 0)
        self.sources = torch.empty(rows, 0, dtype=torch.int64)

    def offer(self, entries: Tensor, nodes: Tensor, output: Tensor) -> None:
        """A block of entries; ``nodes`` tells, for the output neuron of a row, where its columns are from, or −1."""
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


def _rows_sorted(P: NeuralCoupling, best: dict[Layer, _Best]) -> tuple[Tensor, Tensor]:
    """The entries kept, sorted by target, then by source."""
    index, weight = [], []
    for target, found in best.items():
        kept = found.sources >= 0
        rows = torch.from_numpy(target.nodes).to(kept.device).unsqueeze(1).expand(kept.shape)
        index.append(torch.stack([found.sources[kept], rows[kept]]).to(P.device))
        weight.append(found.entries[kept].to(P.device, P.dtype))
    edges, weights = torch.cat(index, 1), torch.cat(weight)
    order = torch.argsort(edges[1] * P.num_nodes + edges[0])
    return edges[:, order], weights[order]


def _chunks(source: Layer, largest: int) -> Iterator[slice]:
    step = max(1, AT_ONCE // max(1, largest))
    for first in range(0, source.count, step):
        yield slice(first, min(source.count, first + step))


def _zeros(P: NeuralCoupling, target: Layer, columns: slice) -> Tensor:
    return torch.zeros(len(target.nodes), columns.stop - columns.start, dtype=P.dtype, device=P.device)


def _checked(P: NeuralCoupling, index: Tensor, weight: Tensor) -> GraphCoupling:
    # Two numbers show NaN and infinity; the edges are ours and need no check.
    if len(weight) and not all(bound.isfinite() for bound in torch.aminmax(weight)):
        raise NonFiniteError("P has entries that are NaN or infinite: the loss has no finite gradient on this data")
    return GraphCoupling.of_valid(index, weight, P.num_nodes)


def _pattern(edges: Bicliques) -> csr_array:
    """Where P has entries, also if two layers give the same."""
    outputs, n = len(edges.degree), edges.num_nodes
    followers = csr_array((np.ones(len(edges.followers), np.int32), edges.followers, edges.first), (outputs, n))
    total = csr_array((n, n), dtype=np.int32)
    for layer in edges.layers:
        ends = csr_array((np.ones(len(layer.nodes), np.int32), (layer.nodes, layer.outputs)), (n, outputs))
        total = total + ends @ followers
    return csr_array(total).astype(bool)


def _graph_of_tied(P: NeuralCoupling) -> GraphCoupling:
    """All entries where a weight is seen in two ways: one product per column."""
    targets, sources = (torch.from_numpy(i.astype(np.int64)).to(P.device) for i in _pattern(P.bicliques).tocoo().coords)
    return _checked(P, torch.stack([sources, targets]), entries(P, targets, sources))
