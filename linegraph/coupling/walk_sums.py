"""1ᵀP1 and 1ᵀPP1 on one pass, without P1 where it is larger than what it is made of.

The in-strengths V of a call are x ⊗ s, and what they make of g is Vᵀ g = Σ_b x[b] (s[b] · g), b running over samples
and positions: the Gram matrix of s and g, times x. With few of them that is less work than forming V and multiplying
with it, and V is never written to memory.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from linegraph.coupling.operations import Matmul
from linegraph.coupling.operations.factors import by_output, incoming, is_one_product, relative_rank
from linegraph.coupling.products import SynapseVector, ones_seed, taking_outer
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.tape import Tape
from linegraph.numerics import double_dot, once

__all__ = ["Terms", "Walker", "add_in_strength", "add_terms"]


class Terms:
    """The terms (1 · x_ℓ) s_ℓ whose sum is 1ᵀP1, from a sweep of P 1.

    Attributes:
        inputs: 1 · x of every call with a term, by its number.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._met: list[Tensor] = []
        self._sizes: list[Tensor] = []
        self._reached: list[Tensor] = []
        self._largest: list[Tensor] = []
        self.inputs: dict[int, Tensor] = {}

    def seed(self, call: Call) -> Tensor:
        """1ᵀ g."""
        sums = ones_seed(self._tape, call)
        self._largest.append(torch.linalg.vector_norm(once(sums), torch.inf, dtype=torch.float64))
        return sums

    def take(self, call: Call, s: Tensor) -> None:
        """Count the terms of a call."""
        x = self.inputs[call.index] = once(call.apply_ones(self._tape.x(call)))
        self._met.append(_meet(x, s))
        if self._tape.signed:
            absolute = x.abs()
            self._sizes.append(_meet(absolute, s.abs()))
            self._reached.append(absolute.sum(dtype=torch.float64) * (s.numel() / x.numel()))

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """1ᵀP1, the sum of the absolute values of its terms, and of these with the largest seed for s.

        The last tells an s that is rounding.
        """
        total, size, reach = (_summed(self._tape, terms) for terms in (self._met, self._sizes, self._reached))
        largest = torch.stack([_zero(self._tape), *self._largest]).amax()
        return total, size if self._tape.signed else total, reach * largest


def add_terms(tape: Tape, terms: Tensor) -> None:
    """Add what :meth:`Terms.sums` gives to ``terms`` (3,)."""
    found = Terms(tape)
    tape.pull_back(found.seed, found.take)
    terms += torch.stack(found.sums())


def add_in_strength(tape: Tape, strengths: SynapseVector, terms: Tensor) -> None:
    """Add P 1 to a vector, and in the same sweep what :func:`add_terms` adds."""
    found, add_outer = Terms(tape), taking_outer(tape, strengths)

    def take(call: Call, s: Tensor) -> None:
        found.take(call, s)
        add_outer(call, s)

    tape.pull_back(found.seed, take)
    terms += torch.stack(found.sums())


class Walker:
    """Walks of one and two steps on a tape, in one sweep each; the second needs the first.

    Args:
        tape: the pass.
        dtype: that of P.
    """

    def __init__(self, tape: Tape, dtype: torch.dtype) -> None:
        self._tape = tape
        self._dtype = dtype
        reached = (call for call in tape.calls if tape.gradients[call.index] is not None)
        self._meetings = Counter(call.weight.name for call in reached)
        self._sums: dict[int, Tensor] = {}  # 1 · x by call
        self._factors: dict[int, Tensor] = {}  # s by call
        self._strengths: dict[str, Tensor] = {}  # x ⊗ s by weight, where it is smaller than its factors

    def one(self) -> tuple[Tensor, Tensor, Tensor]:
        """1ᵀP1, the size of its terms and their reach, as :class:`Terms` has them."""
        terms = Terms(self._tape)

        def take(call: Call, s: Tensor) -> None:
            terms.take(call, s)
            self._keep(call, s)

        self._tape.pull_back(terms.seed, take)
        self._sums = terms.inputs
        return terms.sums()

    def two(self) -> Tensor:
        """1ᵀPP1."""
        terms: list[Tensor] = []
        self._tape.pull_back(self._seed, lambda call, s: terms.append(_meet(self._sums[call.index], s)))
        return _summed(self._tape, terms)

    def _keep(self, call: Call, s: Tensor) -> None:
        name = call.weight.name
        if self._meetings[name] == 1 and _is_smaller_as_factors(call, s):
            self._factors[call.index] = s
        elif name in self._strengths:
            self._strengths[name].add_(call.to_weight(self._tape.x(call), s))
        else:
            self._strengths[name] = call.to_weight(self._tape.x(call), s).to(self._dtype)

    def _seed(self, call: Call) -> Tensor:
        g = self._tape.g(call)
        if (s := self._factors.get(call.index)) is not None:
            return _through_factors(call, self._tape.x(call), s, g)
        if (strengths := self._strengths.get(call.weight.name)) is not None:
            return call.to_input(strengths, g)
        return g.new_zeros(()).expand(call.x.shape)


def _can_be_factors(call: Call, s: Tensor) -> bool:
    """Whether there is one Gram matrix that does for V: of one whole matrix or kernel."""
    return call.weight.is_whole and is_one_product(call.rule)


def _is_smaller_as_factors(call: Call, s: Tensor) -> bool:
    """Whether the Gram matrix is less work."""
    return _can_be_factors(call, s) and relative_rank(call.rule, s, call.weight_shape) < 1


def _through_factors(call: Call, x: Tensor, s: Tensor, g: Tensor) -> Tensor:
    """Vᵀ g for V = x ⊗ s: the b take the place of output neurons."""
    rule, dim = call.rule, call.rule.output_dim
    (met,) = incoming(rule, x, call.weight_shape)
    gram = (g.movedim(dim, -1) @ by_output(rule, s, s.ndim)).movedim(-1, dim).contiguous()
    weight = met if isinstance(rule, Matmul) else met.mT.reshape(-1, *call.weight_shape[1:])
    return rule.to_input(weight, gram, x.shape)


def _zero(tape: Tape) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=tape.loss.device)


def _summed(tape: Tape, terms: list[Tensor]) -> Tensor:
    return torch.stack([_zero(tape), *terms]).sum()


def _meet(sums: Tensor, s: Tensor) -> Tensor:
    """Σ (1 · x) s."""
    return double_dot(sums.flatten(), s.sum_to_size(sums.shape).flatten())
