"""Synapse calls: the weighted operations of a pass whose weight is a synapse weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from linegraph.coupling.operations.rules import Rule, applied
from linegraph.coupling.tracing.weights import Weight
from linegraph.errors import UnsupportedOperationError

__all__ = ["Call"]


@dataclass(eq=False)
class Call:
    """A synapse call: one operation y = W · x + bias of a pass whose weight W is a synapse weight.

    Attributes:
        index: its number in the pass, in the order of execution.
        rule: the rule of the operation.
        weight: the weight as the operation reads it.
        x: the input, detached.
        x_edge: where x is in the autograd graph; None where x depends on no synapse.
        version: the version of x's memory at the call; any later write changes it.
        bias: the bias, where it depends on no synapse.
    """

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
        """Shape of the weight as the operation reads it."""
        return tuple(self.weight.value.shape)

    @property
    def is_empty(self) -> bool:
        """Whether the input has no element, as where no token is sent to an expert."""
        return not self.x.numel()

    def input(self) -> Tensor:
        """The input x, detached.

        Raises:
            UnsupportedOperationError: if the model has written into x after the call.
        """
        if self.x._version != self.version:
            raise UnsupportedOperationError(
                f"the input of {self.rule.op} with '{self.weight.name}' is modified in place after the call; "
                "use the out-of-place form of that operation"
            )
        return self.x

    def output(self) -> Tensor:
        """The output y, computed again."""
        return applied(self.rule, self.x, self.weight.value.to(self.x.dtype), self.bias)

    def through_weight(self, g: Tensor) -> Tensor:
        """Wᵀ g, the gradient at the input x, for the output gradient g."""
        return self.rule.to_input(self.weight.value.to(g.dtype), g, self.x.shape)

    def to_input(self, v: Tensor, g: Tensor) -> Tensor:
        """Vᵀ g, of the shape of x, for V of the parameter's shape."""
        return self.rule.to_input(self.weight.as_read(v).to(g.dtype), g, self.x.shape)

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """V · x, of the shape of y, for V of the parameter's shape."""
        return self.rule.apply(x, self.weight.as_read(v).to(x.dtype))

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

    def to_weight_as_read(self, x: Tensor, g: Tensor) -> Tensor:
        """x ⊗ g, of the weight's shape as the operation reads it."""
        r, factor = self.rule.to_weight(x, g, self.weight.value), self.weight.factor
        return r if factor is None else r * factor

    def to_weight(self, x: Tensor, g: Tensor) -> Tensor:
        """x ⊗ g, of the parameter's shape."""
        return self.weight.to_parameter(self.rule.to_weight(x, g, self.weight.value))
