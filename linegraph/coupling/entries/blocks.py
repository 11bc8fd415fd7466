"""Blocks of entries of P: the weights of a layer as rows, some columns of a later layer.

What a column sends back through the network is one product of P with all columns that share its number (the
colouring of sparse Jacobians; Curtis, Powell, Reid 1974). Where the paths between two layers act element by element,
two products give their whole Jacobian, and a block is one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from linegraph.coupling.operations import factors
from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.structure.edge_layout import Layer
from linegraph.coupling.structure.neurons import View
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.errors import UnsupportedOperationError

__all__ = ["Blocks", "chunks"]

AT_ONCE = 2**25
"""Entries in one block."""

Block = Callable[[Layer], Tensor]
Right = Callable[[int, int], Tensor]


def chunks(source: Layer, largest: int) -> Iterator[slice]:
    """Ranges of the column numbers of a layer, so that ``largest`` rows of them fit in a block."""
    step = max(1, AT_ONCE // largest) if largest else max(1, source.count)
    for first in range(0, source.count, step):
        yield slice(first, min(source.count, first + step))


def _has_factors(met: Call | View) -> bool:
    """Whether an operation has factors, and sees its weight as it is but for the places of its entries."""
    return met.rule.has_factors and met.weight.factor is None


class Blocks:
    """Blocks of entries of the P of one pass."""

    def __init__(self, P: RecordedNetwork, tape: Tape) -> None:
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
        targets = [t for t in self.edges.layers if self.edges.joined(t, source)]
        largest = max((len(t.nodes) for t in targets), default=1)
        if self.diagonal(source) is None:
            largest = max([largest, *(call.x.numel() for call in self.calls(source))])
        elif all(self.edges.in_place(t, source) for t in targets):
            largest = 0  # nothing is held beside the entries themselves
        return chunks(source, largest)

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
                if index not in self.layer_of:
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

    def _add_columns(self, calls: list[Call], source: Layer, columns: slice, block: Block) -> None:
        """Send every column back through the network by itself."""
        numbers = torch.from_numpy(source.number).view(source.view.weight.parameter.shape)
        sent = [self.sent_back(calls, numbers == number) for number in range(columns.start, columns.stop)]
        for call in self.tape.calls:
            like = next((arrived[call.index] for arrived in sent if call.index in arrived), None)
            if like is None or call.index not in self.layer_of:
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
        """What the chosen entries of a parameter, set to 1, send back to calls before, by number of call."""
        v = chosen.to(self.tape.loss.device, self.dtype)
        return self.tape.send_back({call.index: call.to_input(v, self.tape.g(call)) for call in calls})

    def terms_sent_back(self, calls: list[Call], chosen: Tensor, generator: torch.Generator) -> dict[int, Tensor]:
        """The same of |g| with random factors: of the size of its terms, also where a normalisation lets none pass."""
        v = chosen.to(self.tape.loss.device, self.dtype)
        seeds = {call.index: call.to_input(v, self.tape.g(call).abs()) for call in calls}
        return self.tape.send_back(
            {i: s * torch.randn(s.shape, generator=generator, device="cpu").to(s) for i, s in seeds.items()}
        )

    def read(self, arrived: dict[int, Tensor], targets: np.ndarray, pairs: np.ndarray, into: Tensor) -> None:
        """Add to ``into``, for some pairs, what arrived at their targets."""
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

    def outputs(self, layer: Layer) -> Tensor:
        """The output neuron of every entry of a layer's parameter, −1 where the layer does not see it."""
        out = torch.full((layer.view.weight.parameter.numel(),), -1, device="cpu")
        out[torch.from_numpy(layer.nodes - layer.offset)] = torch.from_numpy(layer.outputs - layer.first)
        return out.view(layer.view.weight.parameter.shape)

    def _multiply(self, call: Call, right: Right, block: Block) -> None:
        if call.index not in self._inputs:
            x = self.tape.x(call).to(self.dtype)
            self._inputs[call.index] = factors.input_factor(call.rule, x, call.weight_shape)
        into = block(self.layer_of[call.index])
        factors.add_product(call.rule, into, self._inputs[call.index], right, call.weight_shape)

    def outgoing(self, call: Call) -> Tensor:
        """U of a call."""
        return factors.gradient_factor(call.rule, self.tape.g(call).to(self.dtype), call.x.shape, call.weight_shape)
