"""Sums of couplings between neurons: P as its strengths see it, before neurons are added up too.

The weights into one output neuron o, summed, are its input V · x with V = 1; those out of one neuron k of a later
layer, summed, send back Vᵀ g with V = 1 in row k. So the sum of all couplings from the weights of k to those of o
is one number of the product form

    C[o, k] = Σ P[(·→o), (·→k)] = ± Σ_b  (1 · x)[o, b] · R[o, b, k]

with R what k sends back to o: no entry of P is formed. Where the paths act element by element, R = D · U and a
pair of layers is one product of matrices; elsewhere every neuron k takes one pass back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from linegraph.coupling import lowered
from linegraph.coupling.bicliques import Layer
from linegraph.coupling.blocks import Blocks
from linegraph.coupling.tape import Call, Tape

if TYPE_CHECKING:
    from linegraph.coupling.neural import NeuralCoupling

__all__ = ["neuron_couplings"]


def neuron_couplings(P: NeuralCoupling) -> dict[tuple[Layer, Layer], Tensor]:
    """C for every layer (rows: its output neurons) and layer after it (columns: its output neurons)."""
    edges = P.bicliques
    into = {
        (t, s): torch.zeros(t.end - t.first, s.end - s.first, dtype=P.dtype, device=P.device)
        for s in edges.layers
        for t in edges.layers
        if edges.joined(t, s)
    }

    def add(tape: Tape) -> None:
        blocks = Blocks(P, tape)
        for source in edges.layers:
            if (diagonals := blocks.diagonal(source)) is None:
                _add_neurons(blocks, source, into)
            else:
                for call, later, diagonal in diagonals:
                    _add_product(blocks, call, later, diagonal, into[blocks.layer_of[call.index], source])

    P.mean_over_data([*into.values()], add)
    return into


def _add_product(blocks: Blocks, call: Call, later: Call, diagonal: Tensor, into: Tensor) -> None:
    """A pair of calls joined element by element."""
    outgoing = blocks.outgoing(later)
    groups = len(outgoing)
    sent = outgoing.unflatten(2, (into.shape[1] // groups, -1)).sum(3)  # over the taps of each neuron
    arrived = (_input(blocks, call) * diagonal).unflatten(0, (groups, -1))
    for group, found in enumerate(arrived @ sent):
        rows, columns = found.shape
        into[group * rows :][:rows, group * columns :][:, :columns].add_(found)


def _add_neurons(blocks: Blocks, source: Layer, into: dict[tuple[Layer, Layer], Tensor]) -> None:
    """Every neuron of a layer by itself."""
    calls, tape = blocks.calls(source), blocks.tape
    if not calls:
        return
    inputs: dict[int, Tensor] = {}
    for k in range(source.end - source.first):
        for index, s in blocks.sent_back(calls, blocks.outputs(source) == k).items():
            if index not in blocks.layer_of:
                continue
            call = tape.calls[index]
            if index not in inputs:
                inputs[index] = _input(blocks, call)
            received = (inputs[index] * lowered.by_output(call.rule, s, s.ndim)).sum(1)
            into[blocks.layer_of[index], source][:, k].add_(received)


def _input(blocks: Blocks, call: Call) -> Tensor:
    """(1 · x)[o, b]."""
    y = call.apply_ones(blocks.tape.x(call))
    return lowered.by_output(call.rule, y, y.ndim).to(blocks.dtype)
