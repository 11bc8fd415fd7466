"""Products of P with vectors, for one recorded pass.

Every product is one sweep over the paths of a :class:`~linegraph.coupling.tracing.tape.Tape`, whose results are added
to a vector over all synapses. V is the part of the vector that belongs to the weight of a call.

===========  ====================================  ============================================
function     seed at a call m or ℓ                 added for a call
===========  ====================================  ============================================
``pull``     Vᵀ g_m at the input of call m         x_ℓ ⊗ s_ℓ with s_ℓ = Σ_m J_{m←ℓ}ᵀ seed_m
``push``     V · x_ℓ at the output of call ℓ       t_m ⊗ g_m with t_m = Σ_ℓ J_{m←ℓ} seed_ℓ
===========  ====================================  ============================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor

from linegraph.coupling.model.parameters import Synapse
from linegraph.coupling.operations.factors import by_output, input_factor, relative_rank
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.numerics import double_dot, once
from linegraph.quiet import ignoring

__all__ = [
    "Sums",
    "SweepProduct",
    "SynapseVector",
    "VectorsByName",
    "absolute_terms",
    "bounded_ones_seed",
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

FEW_WEIGHTS = 1 << 16
"""Number of weights up to which calls of torch operations take longer than their arithmetic."""
LOW_RANK = 1 / 8
"""Relative rank of a convolution's x ⊗ g below which a product of its factors is faster, the copies of x included."""
COLUMNS_PER_SWEEP = 32
"""Number of columns of a block in one sweep; each needs memory of its own for activations."""

VectorsByName = Mapping[str, Tensor]
"""A vector over the synapses as one tensor for each weight, of the weight's shape, by the name of the parameter."""


class SynapseVector:
    """A vector (n,) over all synapses to which tensors are added weight by weight; weights without any stay 0.

    Args:
        synapses: the synapse weights with their offsets in the vector.
        memory: the memory of the vector (n,); its values are overwritten.
    """

    def __init__(self, synapses: Sequence[Synapse], memory: Tensor) -> None:
        self._flat = memory
        self.dtype = memory.dtype
        self._places = {s.name: (s.offset, s.numel, s.shape) for s in synapses}
        self._untouched = set(self._places)

    def add(self, name: str, values: Tensor) -> None:
        """Add a tensor of the weight's shape to the entries of the weight called ``name``."""
        if name in self._untouched:  # the first tensor is copied, which saves filling the vector with zeros
            self._untouched.discard(name)
            self._view(name).copy_(values)
        else:
            self._view(name).add_(values)

    def add_product(self, name: str, left: Tensor, right: Tensor) -> None:
        """Add the product of two matrices to the entries of the weight called ``name``, without a temporary."""
        view = self._view(name).flatten(1)
        if name in self._untouched:
            self._untouched.discard(name)
            torch.mm(left, right, out=view)
        else:
            view.addmm_(left, right)

    def flat(self) -> Tensor:
        """The vector (n,) itself, not a copy."""
        for name in self._untouched:
            self._view(name).zero_()
        self._untouched.clear()
        return self._flat

    def _view(self, name: str) -> Tensor:
        offset, numel, shape = self._places[name]
        return self._flat[offset : offset + numel].view(shape)


class Sums(Protocol):
    """A vector over all synapses to which tensors are added weight by weight: of one process, or split over several."""

    dtype: torch.dtype

    def add(self, name: str, values: Tensor) -> None: ...
    def add_product(self, name: str, left: Tensor, right: Tensor) -> None: ...


SweepProduct = Callable[[Tape, VectorsByName, SynapseVector], None]
"""Adds the product of one pass's P, or of its transpose, with a vector to a vector."""


def outer(tape: Tape, gradients: Sequence[Tensor | None], total: SynapseVector) -> None:
    """Add Σ x ⊗ g over the calls, for one gradient g at the output of every call, or None."""
    for call, g in zip(tape.calls, gradients, strict=True):
        if g is not None:
            _add_outer(total, call, call.input(), g)


def pull(tape: Tape, v: VectorsByName, total: SynapseVector) -> None:
    """Add P v; the seeds are Vᵀ g."""
    tape.pull_back(lambda call: call.to_input(v[call.weight.name], tape.g(call)), taking_outer(tape, total))


def pull_ones(tape: Tape, total: SynapseVector) -> None:
    """Add P 1; the seeds are 1ᵀ g, sums over output channels."""
    tape.pull_back(lambda call: ones_seed(tape, call), taking_outer(tape, total))


def pull_total(tape: Tape, v: VectorsByName, total: Tensor) -> None:
    """Add 1ᵀ P v. The entries of x ⊗ s sum to the dot product of 1 · x with s, so x ⊗ s is not formed."""

    def take(call: Call, s: Tensor) -> None:
        core = once(call.apply_ones(tape.x(call)))
        total.add_(double_dot(core.flatten(), s.sum_to_size(core.shape).flatten()))

    def seed(call: Call) -> Tensor:
        mine, g = v.get(call.weight.name), tape.g(call)
        return g.new_zeros(()).expand(call.x.shape) if mine is None else call.to_input(mine, g)

    tape.pull_back(seed, take)


def absolute_terms(tape: Tape, total: Tensor) -> None:
    """Add Σ (1 · |x_ℓ|) |s_ℓ|, with s_ℓ from seeds ε ∘ 1ᵀ |g_m| of random signs ε: the size of the terms of 1ᵀP1.

    Used where 1ᵀP1 itself is 0 or rounding, because g sums to 0 over the outputs or a normalisation maps equal seeds to
    0; random signs prevent both cancellations.
    """
    generator = torch.Generator().manual_seed(0)

    def take(call: Call, s: Tensor) -> None:
        total.add_((call.apply_ones(call.input().abs()) * s).abs().sum(dtype=total.dtype))

    def seed(call: Call) -> Tensor:
        sums = call.to_input_ones(tape.g(call).abs())
        signs = torch.randint(2, sums.shape, generator=generator, device="cpu").mul_(2).sub_(1)
        return sums * signs.to(sums.device, sums.dtype)

    tape.pull_back(seed, take)


def push(tape: Tape, v: VectorsByName, total: SynapseVector) -> None:
    """Add Pᵀ v; the seeds are V · x."""

    def seed(call: Call) -> Tensor | None:
        mine = v.get(call.weight.name)
        return None if mine is None else call.apply(tape.x(call), mine)

    _push(tape, seed, total)


def push_ones(tape: Tape, total: SynapseVector) -> None:
    """Add Pᵀ 1; the seeds are 1 · x."""
    _push(tape, lambda call: call.apply_ones(tape.x(call)), total)


def in_columns(product: Callable[[Tensor, Tensor], Tensor], columns: Tensor) -> Tensor:
    """The results (k, n) of a product with each of k vectors, the rows of ``columns`` (k, n).

    In a small network the calls of torch operations take most of the time, so ``torch.vmap`` sends several vectors
    through one sweep; where an operation cannot be batched, or in a large network, each vector takes its own sweep.

    Args:
        product: ``product(v, memory)`` writes the product with v to ``memory`` and returns it.
        columns: the vectors.
    """
    if len(columns) and columns.shape[1] <= FEW_WEIGHTS:
        with suppress(RuntimeError), ignoring("There is a performance drop"):  # an operation without a batching rule
            return torch.vmap(lambda v: product(v, torch.empty_like(v)), chunk_size=COLUMNS_PER_SWEEP)(
                columns.contiguous()
            )
    found = columns.new_empty(columns.shape)
    for v, memory in zip(columns, found, strict=True):
        product(v.contiguous(), memory)
    return found


def _add_outer(total: Sums, call: Call, x: Tensor, g: Tensor) -> None:
    weight, rule = call.weight, call.rule
    # Few weights may be under vmap, which cannot batch add_product.
    large = weight.is_whole and weight.parameter.numel() > FEW_WEIGHTS
    if not (large and x.dtype == g.dtype == total.dtype):
        total.add(weight.name, call.to_weight(x, g))
    elif (matrices := rule.matrices(x, g, call.weight_shape)) is not None:
        total.add_product(weight.name, *matrices)
    elif rule.is_one_product and relative_rank(rule, g, call.weight_shape) < LOW_RANK:
        total.add_product(weight.name, by_output(rule, g, g.ndim), input_factor(rule, x, call.weight_shape)[0].mT)
    else:
        total.add(weight.name, call.to_weight(x, g))


def taking_outer(tape: Tape, total: Sums) -> Callable[[Call, Tensor], None]:
    """The callback of a backward sweep that adds x ⊗ s for every call at whose output s arrives."""
    return lambda call, s: _add_outer(total, call, tape.x(call), s)


def _push(tape: Tape, seed: Callable[[Call], Tensor | None], total: SynapseVector) -> None:
    for call, t in zip(tape.calls, tape.push_forward(seed), strict=True):
        if t is not None:
            _add_outer(total, call, t, tape.g(call))


def ones_seed(tape: Tape, call: Call) -> Tensor:
    """The seed 1ᵀ g of a call: the sum of g over output neurons, or 0 where the sum is rounding error alone."""
    return bounded_ones_seed(tape, call)[0] if tape.signed else _written_out(call.to_input_ones(tape.g(call)))


def bounded_ones_seed(tape: Tape, call: Call) -> tuple[Tensor, Tensor]:
    """The signed seed 1ᵀ g of a call, and its largest absolute entry.

    Softmax with cross entropy, and every normalisation after the call, make the gradients at a layer's outputs sum to 0
    at every sample and position in exact arithmetic. The computed sum is then rounding error, and its value is 0.
    """
    g = tape.g(call)
    sums = call.to_input_ones(g)
    core, largest_sum = once(sums), once(call.to_input_ones(g.abs())).amax()
    epsilon = torch.finfo(g.dtype).eps
    tolerance = max(epsilon, min(epsilon**0.5, 1e-3))
    low, high = torch.aminmax(core)  # the maximum norm of torch.linalg takes ten times longer
    largest = torch.maximum(-low, high)
    is_more_than_rounding = largest > tolerance * largest_sum
    return _written_out((core * is_more_than_rounding).expand(sums.shape)), largest * is_more_than_rounding


def _written_out(t: Tensor) -> Tensor:
    """A tensor, copied if it is expanded along its last dimension, where stride 0 makes most operations slow."""
    return t.contiguous() if t.ndim and t.stride(-1) == 0 else t
