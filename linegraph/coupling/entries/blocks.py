"""Blocks of entries of P: rows are the weights of one synapse layer, columns some weights of a later one.

In general, one product of P gives all columns that share a column number, as in the colouring of sparse Jacobians
(Curtis, Powell, Reid 1974). If the paths between two synapse layers act element by element, their Jacobian is diagonal:
two products find it, and the block is one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from linegraph.coupling.operations import factors
from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.structure.edge_layout import SynapseLayer
from linegraph.coupling.structure.neurons import View
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.errors import UnsupportedOperationError

__all__ = ["Blocks", "chunks"]

ENTRIES_PER_BLOCK = 2**25
"""Entries of the largest block: 128 MiB in single precision."""

Block = Callable[[SynapseLayer], Tensor]
RightFactor = Callable[[int, int], Tensor]


def chunks(source: SynapseLayer, largest: int) -> Iterator[slice]:
    """Ranges of the column numbers of a layer, so that a block of ``largest`` rows has few enough entries."""
    step = max(1, ENTRIES_PER_BLOCK // largest) if largest else max(1, source.count)
    for first in range(0, source.count, step):
        yield slice(first, min(source.count, first + step))


def _has_factors(met: Call | View) -> bool:
    """Whether an operation has factors, and gets its weight unscaled: reshaped or transposed at most."""
    return met.rule.has_factors and met.weight.factor is None


class Blocks:
    """Blocks of entries of the P of one pass.

    Args:
        P: the coupling.
        tape: the pass.

    Attributes:
        layer_of: the synapse layer of each call, by number of call.

    Raises:
        UnsupportedOperationError: if a weight enters an operation that it did not enter in the first batch.
    """

    def __init__(self, P: RecordedNetwork, tape: Tape) -> None:
        self.tape, self.edges, self.dtype = tape, P.edge_layout, P.dtype
        by_key = {layer.key: layer for layer in self.edges.synapse_layers}
        names = {synapse.name for synapse in P.synapses}
        self.layer_of: dict[int, SynapseLayer] = {}
        for call in tape.calls:
            if call.weight.name not in names:
                continue
            key = (call.weight.name, call.weight.view, call.rule.op)
            if key not in by_key:
                raise UnsupportedOperationError(
                    f"'{call.weight.name}' enters {call.rule.op} in a later batch but not in the first one, from "
                    "which the structure of P is read; put a batch that uses every weight first"
                )
            self.layer_of[call.index] = by_key[key]
        self._inputs: dict[int, Tensor] = {}
        self._diagonals: dict[SynapseLayer, list[tuple[Call, Call, Tensor]] | None] = {}

    def chunks(self, source: SynapseLayer) -> Iterator[slice]:
        """Ranges of column numbers for which the blocks, and the signals sent back, fit in memory."""
        targets = [t for t in self.edges.synapse_layers if self.edges.joined(t, source)]
        largest = max((len(t.nodes) for t in targets), default=1)
        if self.diagonal(source) is None:
            largest = max([largest, *(call.x.numel() for call in self.calls(source))])
        elif all(self.edges.in_place(t, source) for t in targets):
            largest = 0  # entries are written to their places, without other memory
        return chunks(source, largest)

    def add(self, source: SynapseLayer, columns: slice, block: Block) -> None:
        """Add the entries of some columns of ``source`` to a block for each synapse layer before it.

        Args:
            source: the synapse layer of the columns.
            columns: the range of column numbers.
            block: returns the block (weights, columns) of a synapse layer.
        """
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

    def calls(self, source: SynapseLayer) -> list[Call]:
        """The calls of a layer that send a signal back: those with an output gradient, and synapses before them."""
        return [
            call
            for call, g in zip(self.tape.calls, self.tape.gradients, strict=True)
            if self.layer_of.get(call.index) is source and g is not None and call.x_edge is not None
        ]

    def joins(self, index: int, source: SynapseLayer) -> bool:
        """Whether paths join the layer of a call to ``source``; else what arrives at it is 0, as behind a selection."""
        return index in self.layer_of and self.edges.joined(self.layer_of[index], source)

    def diagonal(self, source: SynapseLayer) -> list[tuple[Call, Call, Tensor]] | None:
        """Triples of earlier call, later call in ``source``, and the diagonal of the Jacobian between them.

        None if one of these Jacobians is not diagonal.
        """
        if source not in self._diagonals:
            self._diagonals[source] = self._find_diagonal(source)
        return self._diagonals[source]

    def _find_diagonal(self, source: SynapseLayer) -> list[tuple[Call, Call, Tensor]] | None:
        calls, shape = self.calls(source), source.view.shape
        if not _has_factors(source.view) or 2 * len(calls) >= source.count:
            return None
        with torch.device("cpu"):
            expected = factors.outgoing_numbers(source.view.rule, shape).expand(shape).flatten().numpy()
        if not np.array_equal(source.number[source.nodes - source.offset], expected):
            return None
        pairs = []
        for later in calls:
            scales = factors.random_scales(later.x.shape, later.x.dtype, later.x.device)
            from_ones = self.tape.send_back({later.index: torch.ones_like(later.x)})
            from_scales = self.tape.send_back({later.index: scales})
            for index, ones in from_ones.items():
                call, scaled = self.tape.calls[index], from_scales[index]
                if not self.joins(index, source):
                    continue
                if (
                    not _has_factors(call)
                    or ones.shape != later.x.shape
                    or call.rule.output_dim % ones.ndim != (later.rule.input_dim or 0) % ones.ndim
                    or not torch.equal(scaled, ones * scales)
                ):
                    return None
                pairs.append((call, later, factors.by_output(call.rule, ones, ones.ndim).to(self.dtype)))
        return pairs

    def _add_columns(self, calls: list[Call], source: SynapseLayer, columns: slice, block: Block) -> None:
        """Add the entries of some columns, each by a backward pass of its own."""
        numbers = torch.from_numpy(source.number).view(source.view.weight.parameter.shape)
        sent = [self.sent_back(calls, numbers == number) for number in range(columns.start, columns.stop)]
        for call in self.tape.calls:
            like = next((arrived[call.index] for arrived in sent if call.index in arrived), None)
            if like is None or not self.joins(call.index, source):
                continue
            found = [arrived[call.index] if call.index in arrived else torch.zeros_like(like) for arrived in sent]
            if _has_factors(call):
                stacked = factors.by_output(call.rule, torch.stack(found, -1), like.ndim).to(self.dtype)
                self._multiply(call, lambda first, end, whole=stacked: whole[first:end], block)  # type: ignore[misc]
            else:
                x = self.tape.x(call)
                entries = [call.to_weight_as_read(x, s).flatten() for s in found]
                block(self.layer_of[call.index]).add_(torch.stack(entries, 1).to(self.dtype))

    def sent_back(self, calls: list[Call], chosen: Tensor) -> dict[int, Tensor]:
        """The signals s = Jᵀ Vᵀ g at earlier calls, by number of call, with V = 1 at the chosen entries, else 0."""
        v = chosen.to(self.tape.loss.device, self.dtype)
        return self.tape.send_back({call.index: call.to_input(v, self.tape.g(call)) for call in calls})

    def terms_sent_back(self, calls: list[Call], chosen: Tensor, generator: torch.Generator) -> dict[int, Tensor]:
        """Signals as of :meth:`sent_back` that do not cancel, of the size of its terms: from |g| times random factors.

        A normalisation subtracts the mean, and so may cancel a signal to rounding error; random factors prevent it.
        """
        v = chosen.to(self.tape.loss.device, self.dtype)
        seeds = {call.index: call.to_input(v, self.tape.g(call).abs()) for call in calls}
        return self.tape.send_back(
            {i: s * torch.randn(s.shape, generator=generator, device="cpu").to(s) for i, s in seeds.items()}
        )

    def read(self, arrived: dict[int, Tensor], targets: np.ndarray, pairs: np.ndarray, into: Tensor) -> None:
        """Add the entries of some pairs to ``into``, from the signals that arrived at their targets.

        Args:
            arrived: signals by number of call, as of :meth:`sent_back`.
            targets: the target node of each pair.
            pairs: which pairs; each is a place in ``targets`` and ``into``.
            into: the entries of all pairs.
        """
        for index, s in arrived.items():
            if index not in self.layer_of:
                continue
            call = self.tape.calls[index]
            layer = self.layer_of[call.index]
            weights = targets[pairs] - layer.offset
            mine = np.flatnonzero((weights >= 0) & (weights < layer.numel))
            if len(mine):
                r = call.to_weight(self.tape.x(call), s)
                values = r.flatten()[torch.from_numpy(weights[mine]).to(into.device)].to(self.dtype)
                into.index_add_(0, torch.from_numpy(pairs[mine]).to(into.device), values)

    def outputs(self, layer: SynapseLayer) -> Tensor:
        """The output neuron of every entry of a layer's parameter, in its shape.

        −1 for entries that it does not use.
        """
        out = torch.full((layer.view.weight.parameter.numel(),), -1, device="cpu")
        out[torch.from_numpy(layer.nodes - layer.offset)] = torch.from_numpy(layer.outputs - layer.first)
        return out.view(layer.view.weight.parameter.shape)

    def _multiply(self, call: Call, right: RightFactor, block: Block) -> None:
        if call.index not in self._inputs:
            x = self.tape.x(call).to(self.dtype)
            self._inputs[call.index] = factors.input_factor(call.rule, x, call.weight_shape)
        into = block(self.layer_of[call.index])
        factors.add_product(call.rule, into, self._inputs[call.index], right, call.weight_shape)

    def outgoing(self, call: Call) -> Tensor:
        """The factor U of a call, (groups, samples and positions, weights that leave an input neuron)."""
        return factors.gradient_factor(call.rule, self.tape.g(call).to(self.dtype), call.x.shape, call.weight_shape)
