"""One meeting of a synapse weight with an activation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from linegraph.coupling.operations import Rule, applied
from linegraph.coupling.tracing.weights import Weight
from linegraph.errors import UnsupportedOperationError

__all__ = ["Call"]


@dataclass(eq=False)
class Call:
    """One meeting of a synapse weight with an activation: y = W · x."""

    index: int
    rule: Rule
    weight: Weight
    x: Tensor
    x_edge: GradientEdge | None
    version: int
    bias: Tensor | None = None

    def __str__(self) -> str:
        return f"call {self.index} ({self.rule.op} with '{self.weight.name}')"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as the operation sees it."""
        return tuple(self.weight.value.shape)

    @property
    def is_empty(self) -> bool:
        """Whether nothing enters, as no token may enter an expert."""
        return not self.x.numel()

    def input(self) -> Tensor:
        """x, detached; an error if it was overwritten after the call read it."""
        if self.x._version != self.version:
            raise UnsupportedOperationError(
                f"the input of {self.rule.op} with '{self.weight.name}' is modified in place after the call; "
                "use the out-of-place form of that operation"
            )
        return self.x

    def output(self) -> Tensor:
        """y, formed again."""
        return applied(self.rule, self.x, self.weight.value.to(self.x.dtype), self.bias)

    def hand_on(self, g: Tensor) -> Tensor:
        """Wᵀ g."""
        return self.rule.to_input(self.weight.value.to(g.dtype), g, self.x.shape)

    def to_input(self, v: Tensor, g: Tensor) -> Tensor:
        """Vᵀ g, for V of the parameter's shape."""
        return self.rule.to_input(self.weight.seen(v).to(g.dtype), g, self.x.shape)

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """V · x, for V of the parameter's shape."""
        return self.rule.apply(x, self.weight.seen(v).to(x.dtype))

    def to_input_ones(self, g: Tensor) -> Tensor:
        """Vᵀ g for V = 1."""
        if self.weight.factor is not None:
            return self.to_input(torch.ones_like(self.weight.parameter), g)
        return self.rule.to_input_ones(g, self.x.shape, self.weight_shape)

    def apply_ones(self, x: Tensor) -> Tensor:
        """V · x for V = 1."""
        if self.weight.factor is not None:
            return self.apply(x, torch.ones_like(self.weight.parameter))
        return self.rule.apply_ones(x, self.weight_shape)

    def to_seen_weight(self, x: Tensor, g: Tensor) -> Tensor:
        """X ⊗ g, of the weight's shape as the operation sees it."""
        r, factor = self.rule.to_weight(x, g, self.weight.value), self.weight.factor
        return r if factor is None else r * factor

    def to_weight(self, x: Tensor, g: Tensor) -> Tensor:
        """X ⊗ g, of the parameter's shape."""
        return self.weight.back(self.rule.to_weight(x, g, self.weight.value))
