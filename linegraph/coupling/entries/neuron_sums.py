"""Sums of couplings between neurons: P as its strengths see it, before neurons are added up too.

The weights into one output neuron o, summed, are its input V · x with V = 1; those out of one neuron k of a later
layer, summed, send back Vᵀ g with V = 1 in row k. So the sum of all couplings from the weights of k to those of o
is one number of the product form

    C[o, k] = Σ P[(·→o), (·→k)] = ± Σ_b  (1 · x)[o, b] · R[o, b, k]

with R what k sends back to o: no entry of P is formed. Where the paths act element by element, R = D · U and a
pair of layers is one product of matrices; elsewhere every neuron k takes one pass back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from linegraph.coupling.entries.blocks import Blocks
from linegraph.coupling.operations import factors
from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.structure.edge_layout import Layer
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.processes import jointly

__all__ = ["neuron_couplings"]


Sums = dict[tuple[Layer, Layer], Tensor]


def neuron_couplings(P: RecordedNetwork) -> tuple[Sums, Sums]:
    """C for every layer (rows: its output neurons) and layer after it (columns: its output neurons).

    Beside it the size of the terms of each entry, by which a sum that vanishes is told; none where no term is negative.
    """
    edges = jointly(lambda: P.bicliques)
    pairs = [(t, s) for s in edges.layers for t in edges.layers if edges.joined(t, s)]
    sums = {pair: _zeros(P, *pair) for pair in pairs}
    sizes = {pair: _zeros(P, *pair) for pair in pairs if not P.is_non_negative}

    def add(tape: Tape) -> None:
        blocks = Blocks(P, tape)
        for source in edges.layers:
            if (diagonals := blocks.diagonal(source)) is None:
                _add_neurons(blocks, source, sums, sizes)
            else:
                for call, later, diagonal in diagonals:
                    pair, x, sent = (blocks.layer_of[call.index], source), tape.x(call), blocks.outgoing(later)
                    _add_product(_sum(blocks, call, x), diagonal, sent, sums[pair])
                    if sizes:
                        _add_product(_sum(blocks, call, x.abs()), diagonal.abs(), sent.abs(), sizes[pair])

    P.passes.mean_over([*sums.values(), *sizes.values()], add)
    return sums, sizes


def _zeros(P: RecordedNetwork, target: Layer, source: Layer) -> Tensor:
    return torch.zeros(target.end - target.first, source.end - source.first, dtype=P.dtype, device=P.device)


def _add_product(sums: Tensor, diagonal: Tensor, outgoing: Tensor, into: Tensor) -> None:
    """A pair of calls joined element by element."""
    groups = len(outgoing)
    sent = outgoing.unflatten(2, (into.shape[1] // groups, -1)).sum(3)  # over the taps of each neuron
    arrived = (sums * diagonal).unflatten(0, (groups, -1))
    for group, found in enumerate(arrived @ sent):
        rows, columns = found.shape
        into[group * rows :][:rows, group * columns :][:, :columns].add_(found)


def _add_neurons(blocks: Blocks, source: Layer, sums: Sums, sizes: Sums) -> None:
    """Every neuron of a layer by itself."""
    calls, generator = blocks.calls(source), torch.Generator().manual_seed(0)
    inputs: dict[int, tuple[Tensor, Tensor]] = {}
    for k in range(source.end - source.first if calls else 0):
        chosen = blocks.outputs(source) == k
        arrived = blocks.sent_back(calls, chosen)
        terms = blocks.terms_sent_back(calls, chosen, generator) if sizes else {}
        for index, s in arrived.items():
            if index not in blocks.layer_of:
                continue
            call, pair = blocks.tape.calls[index], (blocks.layer_of[index], source)
            if index not in inputs:
                x = blocks.tape.x(call)
                inputs[index] = _sum(blocks, call, x), _sum(blocks, call, x.abs())
            sum_of, size_of = inputs[index]
            sums[pair][:, k].add_((sum_of * factors.by_output(call.rule, s, s.ndim)).sum(1))
            if sizes:
                t = factors.by_output(call.rule, terms[index], s.ndim)
                sizes[pair][:, k].add_((size_of * t).abs().sum(1))


def _sum(blocks: Blocks, call: Call, x: Tensor) -> Tensor:
    """(1 · x)[o, b]."""
    y = call.apply_ones(x)
    return factors.by_output(call.rule, y, y.ndim).to(blocks.dtype)
