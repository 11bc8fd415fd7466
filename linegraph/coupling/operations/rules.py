"""What a rule is, and how a call of a torch function is matched with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Bound", "Rule", "Shape", "applied", "bind", "binds", "is_product", "names_its_input"]

Shape = tuple[int, ...]


class Rule(Protocol):
    """The three products of a bilinear operation, and its neurons."""

    @property
    def op(self) -> str:
        """Name of the operation, as shown to users."""
        ...

    @property
    def input_dim(self) -> int | None:
        """Dimension of x that counts input neurons; None where they are not laid out along one."""
        ...

    @property
    def output_dim(self) -> int:
        """Dimension of y that counts output neurons."""
        ...

    @property
    def weight_dims(self) -> tuple[int, int]:
        """Dimensions of W that count output and input neurons."""
        ...

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """V · x, in memory of its own."""
        ...

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        """V · x for V = 1."""
        ...

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        """Vᵀ g, of the shape of x."""
        ...

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        """Vᵀ g for V = 1."""
        ...

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """X ⊗ g, of the shape of the weight, whose entries do not matter."""
        ...

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Input and output neuron of every weight entry, broadcastable to the weight's shape."""
        ...

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Weights that leave each input neuron, and weights that enter each output neuron."""
        ...


@dataclass(frozen=True)
class Bound:
    """A call of a weighted operation, taken apart: y = W · x + bias, then ``finish(y)``."""

    rule: Rule
    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    finish: Callable[[Tensor], Tensor] | None = None
    known: Tensor | None = None
    """The tensor that the model has multiplied by, where that is made of the weight; it may differentiate by it."""


def applied(rule: Rule, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W · x + bias, by one operation of torch where it has one, so that it is rounded as it is in training."""
    if bias is None:
        return rule.apply(x, weight)
    if (with_bias := getattr(rule, "apply_with_bias", None)) is not None:
        return with_bias(x, weight, bias.to(x.dtype))
    return rule.apply(x, weight) + bias


Binder = Callable[..., Bound | None]

_BINDERS: dict[Callable[..., Any], list[Binder]] = {}


def binds(*functions: Callable[..., Any]) -> Callable[[Binder], Binder]:
    """Register a binder for torch functions: the one place where an operation becomes known.

    A function whose weight may stand in several places has a binder for each; one that does not apply to the
    arguments returns None.
    """

    def register(binder: Binder) -> Binder:
        for function in functions:
            _BINDERS.setdefault(function, []).append(binder)
        return binder

    return register


def names_its_input(function: Callable[..., Any]) -> bool:
    """Whether a weighted operation has one place for the input and one for the weight."""
    return len(_BINDERS.get(function, ())) == 1


def is_product(function: Callable[..., Any]) -> bool:
    """Whether the weight may stand on either side of a weighted operation."""
    return len(_BINDERS.get(function, ())) > 1


def bind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], is_weight: Callable[[Tensor], bool]
) -> Bound | None:
    """The call taken apart, if it is a weighted operation with such a weight; else None."""
    for binder in _BINDERS.get(function, ()):
        bound = binder(*args, **kwargs)
        if bound is not None and is_weight(bound.weight):
            return bound
    return None
