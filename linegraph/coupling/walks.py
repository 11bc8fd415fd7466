"""1ᵀP1 and 1ᵀPP1 on one pass, without P1 where it is larger than what it is made of.

The in-strengths V of a call are x ⊗ s, and what they make of g is Vᵀ g = Σ_b x[b] (s[b] · g), b running over samples
and positions: the Gram matrix of s and g, times x. With few of them that is less work than forming V and multiplying
with it, and V is never written to memory.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from linegraph.coupling.lowered import by_output, incoming, is_one_product, relative_rank
from linegraph.coupling.products import once, ones_seed
from linegraph.coupling.reductions import double_dot
from linegraph.coupling.synapses import Matmul
from linegraph.coupling.tape import Call, Tape

__all__ = ["Walker"]


class Walker:
    """Walks of one and two steps on a tape, in one sweep each; the second needs the first.

    Args:
        tape: the pass.
        dtype: that of P.
    """

    def __init__(self, tape: Tape, dtype: torch.dtype) -> None:
        self._tape = tape
        self._dtype = dtype
        self._zero = torch.zeros((), dtype=torch.float64, device=tape.loss.device)
        reached = (call for call in tape.calls if tape.gradients[call.index] is not None)
        self._meetings = Counter(call.weight.name for call in reached)
        self._sums: dict[int, Tensor] = {}  # 1 · x by call
        self._factors: dict[int, Tensor] = {}  # s by call
        self._strengths: dict[str, Tensor] = {}  # x ⊗ s by weight, where it is smaller than its factors

    def one(self) -> tuple[Tensor, Tensor, Tensor]:
        """1ᵀP1, the sum of the absolute values of its terms (1 · x_ℓ) s_ℓ, and of these with the largest seed for s.

        The last tells an s that is rounding.
        """
        total, size, reach, largest = (self._zero.clone() for _ in range(4))

        def take(call: Call, s: Tensor) -> None:
            x = self._sums[call.index] = once(call.apply_ones(self._tape.x(call)))
            total.add_(_meet(x, s))
            if self._tape.signed:
                absolute = x.abs()
                size.add_(_meet(absolute, s.abs()))
                reach.add_(absolute.sum(), alpha=s.numel() / x.numel())
            self._keep(call, s)

        def seed(call: Call) -> Tensor:
            sums = ones_seed(self._tape, call)
            torch.maximum(largest, once(sums).abs().amax(), out=largest)
            return sums

        self._tape.pull_back(seed, take)
        return total, size if self._tape.signed else total, reach.mul_(largest)

    def two(self) -> Tensor:
        """1ᵀPP1."""
        total = self._zero.clone()

        def take(call: Call, s: Tensor) -> None:
            total.add_(_meet(self._sums[call.index], s))

        self._tape.pull_back(self._seed, take)
        return total

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


def _meet(sums: Tensor, s: Tensor) -> Tensor:
    """Σ (1 · x) s."""
    return double_dot(sums.flatten(), s.sum_to_size(sums.shape).flatten())
