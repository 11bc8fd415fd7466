"""Products of P with vectors, on one pass.

Every product is a sweep over the paths of a :class:`~linegraph.coupling.tracing.tape.Tape` whose results are added to a
vector
over all synapses: a pull seeds the inputs of calls with Vᵀ g and takes s at earlier calls, a push seeds their outputs
with V x and takes t at later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from linegraph.coupling.model.parameters import Synapse
from linegraph.coupling.operations import Linear, Matmul
from linegraph.coupling.operations.factors import by_output, incoming, is_one_product, relative_rank
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.numerics import double_dot, once
from linegraph.quiet import ignoring

__all__ = [
    "Product",
    "SynapseVector",
    "absolute_terms",
    "in_columns",
    "ones_seed",
    "outer",
    "pull",
    "pull_ones",
    "pull_total",
    "push",
    "push_ones",
    "taking_outer",
]

SMALL = 1 << 16
"""Weights up to which calls of operations cost more than arithmetic."""
LOW = 1 / 8
"""Relative rank below which the copies that make a product of matrices of a convolution cost less than they save."""
COLUMNS = 32
"""Columns of a block in one sweep; each needs memory of its own for activations."""

Parts = Mapping[str, Tensor]


class SynapseVector:
    """A vector (n,) to which parts are added tensor by tensor; what gets no part is 0.

    Args:
        synapses: the layout.
        memory: the vector's own, with anything in it.
    """

    def __init__(self, synapses: Sequence[Synapse], memory: Tensor) -> None:
        self._flat = memory
        self.dtype = memory.dtype
        self._places = {s.name: (s.offset, s.numel, s.shape) for s in synapses}
        self._untouched = set(self._places)

    def add(self, name: str, part: Tensor) -> None:
        """Add a part of the shape of the parameter called ``name``."""
        if name in self._untouched:  # the first part is copied, so that no zeros are written before it
            self._untouched.discard(name)
            self._view(name).copy_(part)
        else:
            self._view(name).add_(part)

    def add_product(self, name: str, left: Tensor, right: Tensor) -> None:
        """Add the product of two matrices, formed in place."""
        view = self._view(name).flatten(1)
        if name in self._untouched:
            self._untouched.discard(name)
            torch.mm(left, right, out=view)
        else:
            view.addmm_(left, right)

    def flat(self) -> Tensor:
        """The vector itself, not a copy."""
        for name in self._untouched:
            self._view(name).zero_()
        self._untouched.clear()
        return self._flat

    def _view(self, name: str) -> Tensor:
        offset, numel, shape = self._places[name]
        return self._flat[offset : offset + numel].view(shape)


Product = Callable[[Tape, Parts, SynapseVector], None]


def outer(tape: Tape, gradients: Sequence[Tensor | None], total: SynapseVector) -> None:
    """Σ over calls of x ⊗ g."""
    for call, g in zip(tape.calls, gradients, strict=True):
        if g is not None:
            _add_outer(total, call, call.input(), g)


def pull(tape: Tape, v: Parts, total: SynapseVector) -> None:
    """P v: seeds Vᵀ g."""
    tape.pull_back(lambda call: call.to_input(v[call.weight.name], tape.g(call)), taking_outer(tape, total))


def pull_ones(tape: Tape, total: SynapseVector) -> None:
    """P 1: the seeds are sums over channels."""
    tape.pull_back(lambda call: ones_seed(tape, call), taking_outer(tape, total))


def pull_total(tape: Tape, v: Parts, total: Tensor) -> None:
    """1ᵀ P v: what x ⊗ s adds up to is the product of 1 · x with s."""

    def take(call: Call, s: Tensor) -> None:
        core = once(call.apply_ones(tape.x(call)))
        total.add_(double_dot(core.flatten(), s.sum_to_size(core.shape).flatten()))

    def seed(call: Call) -> Tensor:
        part, g = v.get(call.weight.name), tape.g(call)
        return g.new_zeros(()).expand(call.x.shape) if part is None else call.to_input(part, g)

    tape.pull_back(seed, take)


def absolute_terms(tape: Tape, total: Tensor) -> None:
    """The size of the terms of 1ᵀP1 where they cancel: in a sum over outputs, or in a normalisation of equal seeds."""
    generator = torch.Generator().manual_seed(0)

    def take(call: Call, s: Tensor) -> None:
        total.add_((call.apply_ones(call.input().abs()) * s).abs().sum(dtype=total.dtype))

    def seed(call: Call) -> Tensor:
        sums = call.to_input_ones(tape.g(call).abs())
        signs = torch.randint(2, sums.shape, generator=generator, device="cpu").mul_(2).sub_(1)
        return sums * signs.to(sums.device, sums.dtype)

    tape.pull_back(seed, take)


def push(tape: Tape, v: Parts, total: SynapseVector) -> None:
    """Pᵀ v: seeds V x."""

    def seed(call: Call) -> Tensor | None:
        part = v.get(call.weight.name)
        return None if part is None else call.apply(tape.x(call), part)

    _push(tape, seed, total)


def push_ones(tape: Tape, total: SynapseVector) -> None:
    """Pᵀ 1."""
    _push(tape, lambda call: call.apply_ones(tape.x(call)), total)


def in_columns(product: Callable[[Tensor, Tensor], Tensor], columns: Tensor) -> Tensor:
    """A product with every row of ``columns`` (k, n), given memory for its result.

    Of a small network several in one sweep, where what they cost is calls of operations and torch can batch them all.
    """
    if len(columns) and columns.shape[1] <= SMALL:
        with suppress(RuntimeError), ignoring("There is a performance drop"):  # an operation without a batching rule
            return torch.vmap(lambda v: product(v, torch.empty_like(v)), chunk_size=COLUMNS)(columns.contiguous())
    found = columns.new_empty(columns.shape)
    for v, memory in zip(columns, found, strict=True):
        product(v.contiguous(), memory)
    return found


def _add_outer(total: SynapseVector, call: Call, x: Tensor, g: Tensor) -> None:
    weight, rule = call.weight, call.rule
    large = weight.is_whole and weight.parameter.numel() > SMALL  # and so not under vmap, which cannot batch it
    if not (large and x.dtype == g.dtype == total.dtype):
        total.add(weight.name, call.to_weight(x, g))
    elif isinstance(rule, Linear | Matmul):
        total.add_product(weight.name, *rule.factors(x, g, call.weight_shape))
    elif is_one_product(rule) and relative_rank(rule, g, call.weight_shape) < LOW:
        total.add_product(weight.name, by_output(rule, g, g.ndim), incoming(rule, x, call.weight_shape)[0].mT)
    else:
        total.add(weight.name, call.to_weight(x, g))


def taking_outer(tape: Tape, total: SynapseVector) -> Callable[[Call, Tensor], None]:
    """For a sweep back: add x ⊗ s of every call that s arrives at."""
    return lambda call, s: _add_outer(total, call, tape.x(call), s)


def _push(tape: Tape, seed: Callable[[Call], Tensor | None], total: SynapseVector) -> None:
    for call, t in zip(tape.calls, tape.push_forward(seed), strict=True):
        if t is not None:
            _add_outer(total, call, t, tape.g(call))


def ones_seed(tape: Tape, call: Call) -> Tensor:
    """1ᵀ g, where it is not 0 in exact arithmetic.

    Softmax with cross entropy, and every normalisation after the call, make the gradients of a layer's outputs sum to
    0 at every sample and position. Their sums are then rounding, which must not be taken for couplings.
    """
    g = tape.g(call)
    sums = call.to_input_ones(g)
    if not tape.signed:
        return _written_out(sums)
    core, sizes = once(sums), once(call.to_input_ones(g.abs()))
    epsilon = torch.finfo(g.dtype).eps
    tolerance = max(epsilon, min(epsilon**0.5, 1e-3))
    return _written_out((core * (core.abs().amax() > tolerance * sizes.amax())).expand(sums.shape))


def _written_out(t: Tensor) -> Tensor:
    """A tensor that is not repeated along its last dimension, where most operations go number by number then."""
    return t.contiguous() if t.ndim and t.stride(-1) == 0 else t
