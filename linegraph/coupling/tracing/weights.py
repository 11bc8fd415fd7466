"""Synapse weights as operations read them: whole, as views, multiplied by constants, and in sums and products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from typing import Any

import torch
from torch import Tensor

from linegraph.numerics import once

__all__ = ["Affine", "Weight", "part_of", "scaled", "shifted"]


@dataclass(frozen=True)
class Weight:
    """A synapse parameter as an operation reads it: itself, a view of it (transposed, sliced), or a constant multiple.

    Attributes:
        name: the name of the parameter.
        parameter: the parameter.
        value: the tensor that the operation reads, detached.
        lift: the linear map from tensors of the parameter's shape to the view; None for the identity.
        view: how the view was made, in text; views of one text have the same elements in the same order.
        factor: a constant tensor that multiplies the view, as a pruning mask does; None for 1.
        version: the version of ``value``'s memory when the weight was registered; any write changes it.
    """

    name: str
    parameter: Tensor
    value: Tensor
    lift: Callable[[Tensor], Tensor] | None = None
    view: str = ""
    factor: Tensor | None = None
    version: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the operation reads the parameter itself."""
        return self.lift is None and self.factor is None

    def times(self, factor: Tensor, multiple: Tensor) -> Weight:
        """The same weight multiplied by a constant factor; ``multiple`` is the product."""
        value, view = multiple.detach(), f"{self.view}.mul(constant)"
        return replace(self, value=value, factor=factor.detach(), view=view, version=value._version)

    def rearranged(self, v: Tensor) -> Tensor:
        """A tensor v of the parameter's shape, rearranged as the view is."""
        return v if self.lift is None else self.lift(v)

    def as_read(self, v: Tensor) -> Tensor:
        """A tensor v of the parameter's shape, rearranged and multiplied as the parameter is for the operation."""
        v = self.rearranged(v)
        return v if self.factor is None else v * self.factor.to(v.dtype)

    def to_parameter(self, r: Tensor) -> Tensor:
        """The adjoint of :meth:`as_read`: from the shape that the operation reads to the parameter's shape."""
        if self.factor is not None:
            r = (r * self.factor).to(r.dtype)
        if self.lift is None:
            return r
        with torch.enable_grad():
            z = r.new_zeros(self.parameter.shape, requires_grad=True)
            return torch.autograd.grad(self.lift(z), z, r)[0]


@dataclass(frozen=True)
class Affine:
    """A tensor W ∘ factor + shift of the shape of a weight W, as masks, norms, quantisation or added weights make it.

    It may be repeated along leading dimensions, as for a product with one matrix for each entry of a batch. The next
    operation decides what it is. As a weight it gives (W ∘ factor) · x + shift · x; anywhere else it is an activation.

    Attributes:
        weight: the weight W.
        tensor: the tensor of W in the model.
        factor: the factor, or None for 1.
        shift: the shift, or None for 0.
        result: the tensor W ∘ factor + shift in the model, or its repetition.
        memory: the tensors that share the values of ``result``, each with the version of its memory at that time.
    """

    weight: Weight
    tensor: Tensor
    factor: Tensor | None
    shift: Tensor | None
    result: Tensor
    memory: list[tuple[Tensor, int]] = field(default_factory=list)

    def holds(self, t: Tensor) -> Tensor:
        """Note a tensor with the values of ``result``, so that a later write into it is noticed; returns the tensor."""
        self.memory.append((t.detach(), t._version))
        return t

    @property
    def is_repeated(self) -> bool:
        """Whether ``result`` is a repetition."""
        return self.result.shape != self.tensor.shape

    def is_repeated_in(self, t: Tensor) -> bool:
        """Whether a tensor repeats a matrix, or a stack of them, along leading dimensions only."""
        own = list(dropwhile(lambda size: size == 1, self.tensor.shape))
        return len(own) > 1 and list(t.shape[-len(own) :]) == own

    @property
    def is_written(self) -> bool:
        """Whether the model has written into ``result`` or a view of it."""
        return any(t._version != version for t, version in self.memory)


def part_of(parts: Any, i: int) -> Any:
    """Part i of a sequence of tensors; a single tensor, or None, stands for all parts."""
    return parts if parts is None or isinstance(parts, Tensor) else parts[i]


def scaled(affine: Affine, a: Any, b: Any, *, divides: bool) -> Affine | None:
    """The product or quotient a · b, a / b with an affine weight; None where it is not affine or of another shape."""
    other = operand(affine, b if a is affine.result else a)
    if other is None or (divides and a is not affine.result):
        return None
    other = other.reciprocal() if divides else other
    factor, shift = (None if t is None else t * other for t in (affine.factor, affine.shift))
    return replace(affine, factor=other if factor is None else factor, shift=shift)


def shifted(affine: Affine, a: Any, b: Any, alpha: float) -> Affine | None:
    """The sum a + alpha · b with an affine weight; None where the sum has another shape."""
    other = operand(affine, b if a is affine.result else a)
    if other is None:
        return None
    if a is affine.result:
        other = other * alpha
    elif alpha != 1:
        affine = scaled(affine, affine.result, alpha, divides=False) or affine
    return replace(affine, shift=other if affine.shift is None else affine.shift + other)


def operand(affine: Affine, other: Any) -> Tensor | None:
    """The other operand of a sum or product with an affine weight, without its repetitions.

    None where the result would not keep the weight's shape.
    """
    tensor = affine.tensor
    if not isinstance(other, Tensor):
        return torch.full((), other, dtype=tensor.dtype, device=tensor.device)
    if len(other.shape) > tensor.ndim or torch.broadcast_shapes(other.shape, tensor.shape) != tensor.shape:
        return None
    # A normalisation expands the norms of rows, for example. A mask may be boolean.
    return once(other) if other.is_floating_point() else once(other).to(tensor.dtype)
