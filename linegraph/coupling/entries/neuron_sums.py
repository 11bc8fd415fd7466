"""Sums of couplings between neurons: for neurons o and k, over all weights into o and all weights into k.

For an output neuron k of a later layer, the sum over its weights sends back Vᵀ g with V = 1 in row k and 0 elsewhere;
R[o, b, k] is the signal that arrives at an output neuron o of an earlier layer, for sample or position b. The sum over
the weights of o multiplies it by V · x with V = 1. So no entry of P is needed for the sum

    C[o, k] = Σ P[(·→o), (·→k)] = ± Σ_b  (1 · x)[o, b] · R[o, b, k]

If the paths act element by element, R = D · U with the diagonal D of their Jacobian, and C of a pair of layers is one
product of matrices. Otherwise every neuron k takes one backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from linegraph.coupling.entries.blocks import Blocks
from linegraph.coupling.operations import factors
from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.structure.edge_layout import SynapseLayer
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.processes import jointly

__all__ = ["neuron_couplings"]


Sums = dict[tuple[SynapseLayer, SynapseLayer], Tensor]


def neuron_couplings(P: RecordedNetwork) -> tuple[Sums, Sums]:
    """Sums of couplings between all neurons of each pair of synapse layers that paths join.

    Returns:
        By (target layer, source layer): the matrices C (output neurons of the target, output neurons of the source);
        and matrices of the sums of absolute terms, which tell a sum that is 0 up to rounding. The second dictionary is
        empty if no entry of P is negative.
    """
    edges = jointly(lambda: P.edge_layout)
    pairs = [(t, s) for s in edges.synapse_layers for t in edges.synapse_layers if edges.joined(t, s)]
    sums = {pair: _zeros(P, *pair) for pair in pairs}
    sizes = {pair: _zeros(P, *pair) for pair in pairs if not P.is_non_negative}

    def add(tape: Tape) -> None:
        blocks = Blocks(P, tape)
        for source in edges.synapse_layers:
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


def _zeros(P: RecordedNetwork, target: SynapseLayer, source: SynapseLayer) -> Tensor:
    return torch.zeros(target.end - target.first, source.end - source.first, dtype=P.dtype, device=P.device)


def _add_product(sums: Tensor, diagonal: Tensor, outgoing: Tensor, into: Tensor) -> None:
    """Add C of a pair of calls between which paths act element by element."""
    groups = len(outgoing)
    sent = outgoing.unflatten(2, (into.shape[1] // groups, -1)).sum(3)  # over the taps of each neuron
    arrived = (sums * diagonal).unflatten(0, (groups, -1))
    for group, found in enumerate(arrived @ sent):
        rows, columns = found.shape
        into[group * rows :][:rows, group * columns :][:, :columns].add_(found)


def _add_neurons(blocks: Blocks, source: SynapseLayer, sums: Sums, sizes: Sums) -> None:
    """Add the columns of C of a synapse layer, each by a backward pass of its own."""
    calls, generator = blocks.calls(source), torch.Generator().manual_seed(0)
    inputs: dict[int, tuple[Tensor, Tensor]] = {}
    for k in range(source.end - source.first if calls else 0):
        chosen = blocks.outputs(source) == k
        arrived = blocks.sent_back(calls, chosen)
        terms = blocks.terms_sent_back(calls, chosen, generator) if sizes else {}
        for index, s in arrived.items():
            if not blocks.joins(index, source):
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
    """(1 · x)[o, b], the output of a call with all weights 1."""
    y = call.apply_ones(x)
    return factors.by_output(call.rule, y, y.ndim).to(blocks.dtype)
