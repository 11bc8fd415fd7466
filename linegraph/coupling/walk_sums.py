"""Sums over walks of one and two steps, 1ᵀP1 and 1ᵀPP1, for one recorded pass.

1ᵀP1 needs no in-strengths P1: it is Σ (1 · x_ℓ) s_ℓ over calls, samples and positions. 1ᵀPP1 needs the seeds Vᵀ g of a
second sweep, where V = x ⊗ s are the in-strengths of a call. They are Vᵀ g = Σ_b x[b] (s[b] · g), with b over samples
and positions: the Gram matrix of s and g, times x. With few samples and positions this is less work than forming V, and
V is never written to memory.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from linegraph.coupling.operations.factors import by_output, input_factor, relative_rank
from linegraph.coupling.products import Sums, bounded_ones_seed, ones_seed, taking_outer
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.numerics import double_dot, once

__all__ = ["TotalTerms", "WalkSums", "add_in_strength", "add_terms"]


class TotalTerms:
    """The terms (1 · x_ℓ) s_ℓ of 1ᵀP1, collected by ``seed`` and ``take`` in the sweep that forms P 1.

    Attributes:
        inputs: 1 · x of every call with a term, by the index of the call.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._sums: list[Tensor] = []
        self._sizes: list[Tensor] = []
        self._input_sizes: list[Tensor] = []
        self._seed_maxima: list[Tensor] = []
        self.inputs: dict[int, Tensor] = {}

    def seed(self, call: Call) -> Tensor:
        """The seed 1ᵀ g of a call."""
        if not self._tape.signed:
            return ones_seed(self._tape, call)
        seed, largest = bounded_ones_seed(self._tape, call)
        self._seed_maxima.append(largest)
        return seed

    def take(self, call: Call, s: Tensor) -> None:
        """Add the terms of a call at whose output s arrives."""
        self.add(call, self._tape.x(call), s)

    def add(self, call: Call, x: Tensor, s: Tensor) -> None:
        """Add the terms of a call with the input x, at whose output s arrives."""
        sums = self.inputs[call.index] = once(call.apply_ones(x))
        self._sums.append(_weighted_sum(sums, s))
        if self._tape.signed:
            absolute = sums.abs()
            self._sizes.append(_weighted_sum(absolute, s.abs()))
            self._input_sizes.append(absolute.sum(dtype=torch.float64) * (s.numel() / sums.numel()))

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """1ᵀP1, its size and its reach.

        Returns:
            1ᵀP1; its size Σ |1 · x_ℓ| |s_ℓ| over its terms; and its reach, the same sum with the largest absolute seed
            in place of |s_ℓ|. A size that is tiny beside the reach means that every s is rounding error.
        """
        total = _summed(self._tape, self._sums)
        if not self._tape.signed:
            return total, total, torch.zeros_like(total)
        size, input_size = (_summed(self._tape, terms) for terms in (self._sizes, self._input_sizes))
        largest = torch.stack(self._seed_maxima).amax() if self._seed_maxima else 0.0
        return total, size, input_size * largest


def add_terms(tape: Tape, terms: Tensor) -> None:
    """Add the three numbers of :meth:`TotalTerms.sums` to ``terms`` (3,)."""
    found = TotalTerms(tape)
    tape.pull_back(found.seed, found.take)
    terms += torch.stack(found.sums())


def add_in_strength(tape: Tape, strengths: Sums, terms: Tensor) -> None:
    """Add P 1 to ``strengths`` and, in the same sweep, the numbers of :meth:`TotalTerms.sums` to ``terms`` (3,)."""
    found, add_outer = TotalTerms(tape), taking_outer(tape, strengths)

    def take(call: Call, s: Tensor) -> None:
        found.take(call, s)
        add_outer(call, s)

    tape.pull_back(found.seed, take)
    terms += torch.stack(found.sums())


class WalkSums:
    """Sums over the walks of one step, then of two, in one sweep each; ``two_steps`` needs ``one_step`` before it.

    Args:
        tape: the recorded pass.
        dtype: the number type of P.
    """

    def __init__(self, tape: Tape, dtype: torch.dtype) -> None:
        self._tape = tape
        self._dtype = dtype
        reached = (call for call in tape.calls if tape.gradients[call.index] is not None)
        self._num_calls = Counter(call.weight.name for call in reached)
        self._sums: dict[int, Tensor] = {}  # 1 · x by call
        self._factors: dict[int, Tensor] = {}  # s by call
        self._strengths: dict[str, Tensor] = {}  # x ⊗ s by weight, where forming it is less work than the Gram matrix

    def one_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """1ᵀP1, its size and its reach, as :meth:`TotalTerms.sums` returns them."""
        terms = TotalTerms(self._tape)

        def take(call: Call, s: Tensor) -> None:
            x = self._tape.x(call)
            terms.add(call, x, s)
            self._keep(call, x, s)

        self._tape.pull_back(terms.seed, take)
        self._sums = terms.inputs
        return terms.sums()

    def two_steps(self) -> Tensor:
        """1ᵀPP1."""
        terms: list[Tensor] = []
        self._tape.pull_back(self._seed, lambda call, s: terms.append(_weighted_sum(self._sums[call.index], s)))
        return _summed(self._tape, terms)

    def _keep(self, call: Call, x: Tensor, s: Tensor) -> None:
        name = call.weight.name
        if self._num_calls[name] == 1 and _is_smaller_as_factors(call, s):
            self._factors[call.index] = s
        elif name in self._strengths:
            self._strengths[name].add_(call.to_weight(x, s))
        else:
            self._strengths[name] = call.to_weight(x, s).to(self._dtype)

    def _seed(self, call: Call) -> Tensor:
        g = self._tape.g(call)
        if (s := self._factors.get(call.index)) is not None:
            return _through_factors(call, self._tape.x(call), s, g)
        if (strengths := self._strengths.get(call.weight.name)) is not None:
            return call.to_input(strengths, g)
        return g.new_zeros(()).expand(call.x.shape)


def _can_be_factors(call: Call, s: Tensor) -> bool:
    """Whether Vᵀ g can be formed by one Gram matrix: the call uses the whole weight, and x ⊗ s is one product."""
    return call.weight.is_whole and call.rule.is_one_product


def _is_smaller_as_factors(call: Call, s: Tensor) -> bool:
    """Whether forming Vᵀ g by the Gram matrix is less work than forming V."""
    return _can_be_factors(call, s) and relative_rank(call.rule, s, call.weight_shape) < 1


def _through_factors(call: Call, x: Tensor, s: Tensor, g: Tensor) -> Tensor:
    """Vᵀ g for V = x ⊗ s: the call's own Wᵀ g, with x as weight, the Gram matrix as g, and b as output neurons."""
    rule, dim = call.rule, call.rule.output_dim
    (columns,) = input_factor(rule, x, call.weight_shape)
    gram = (g.movedim(dim, -1) @ by_output(rule, s, s.ndim)).movedim(-1, dim).contiguous()
    weight = columns if rule.is_inputs_first else columns.mT.reshape(-1, *call.weight_shape[1:])
    return rule.to_input(weight, gram, x.shape)


def _zero(tape: Tape) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=tape.loss.device)


def _summed(tape: Tape, terms: list[Tensor]) -> Tensor:
    return torch.stack([_zero(tape), *terms]).sum()


def _weighted_sum(sums: Tensor, s: Tensor) -> Tensor:
    """Σ (1 · x) s, from 1 · x without its repetitions."""
    return double_dot(sums.flatten(), s.sum_to_size(sums.shape).flatten())
