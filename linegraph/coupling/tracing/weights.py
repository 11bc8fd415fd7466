"""Weights as operations meet them: whole, as views, and as parts of what a network makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from linegraph.numerics import once

__all__ = ["Affine", "Weight", "part_of", "scaled", "shifted"]


@dataclass(frozen=True)
class Weight:
    """A synapse parameter as an operation meets it: possibly a transposed or sliced view of it, or a multiple."""

    name: str
    parameter: Tensor
    value: Tensor
    lift: Callable[[Tensor], Tensor] | None = None
    view: str = ""
    factor: Tensor | None = None
    """A constant, as a pruning mask is, by which the view is multiplied."""
    version: int = 0
    """That of ``value`` when the weight became known; any write into its memory makes it another."""

    @property
    def is_whole(self) -> bool:
        """Whether the operation meets the parameter as it is."""
        return self.lift is None and self.factor is None

    def times(self, factor: Tensor, multiple: Tensor) -> Weight:
        """The same seen through a constant factor."""
        value, view = multiple.detach(), f"{self.view}.mul(constant)"
        return replace(self, value=value, factor=factor.detach(), view=view, version=value._version)

    def rearranged(self, v: Tensor) -> Tensor:
        """A vector of the parameter's shape, every number at the place where the operation meets it."""
        return v if self.lift is None else self.lift(v)

    def seen(self, v: Tensor) -> Tensor:
        """A vector of the parameter's shape as the operation sees the parameter."""
        v = self.rearranged(v)
        return v if self.factor is None else v * self.factor.to(v.dtype)

    def back(self, r: Tensor) -> Tensor:
        """The adjoint of :meth:`seen`: from the operation's shape to the parameter's."""
        if self.factor is not None:
            r = (r * self.factor).to(r.dtype)
        if self.lift is None:
            return r
        with torch.enable_grad():
            z = r.new_zeros(self.parameter.shape, requires_grad=True)
            return torch.autograd.grad(self.lift(z), z, r)[0]


@dataclass(frozen=True)
class Affine:
    """W ∘ factor + shift, of the shape of W, as masks, norms, quantisation and fixed other weights make it.

    It may yet be a weight, with W x · factor + shift x, or an activation; which of them shows when it is used.
    """

    weight: Weight
    tensor: Tensor
    factor: Tensor | None
    shift: Tensor | None
    result: Tensor
    memory: list[tuple[Tensor, int]] = field(default_factory=list)
    """What stands for the result, and its version when it was made; any write into its memory makes it another."""

    def holds(self, t: Tensor) -> Tensor:
        """Let a tensor stand for the result."""
        self.memory.append((t.detach(), t._version))
        return t

    @property
    def is_written(self) -> bool:
        """Whether the model has written into the result, or into a view of it."""
        return any(t._version != version for t, version in self.memory)


def part_of(parts: Any, i: int) -> Any:
    """One of what a view falls into, which may be one tensor for all of it."""
    return parts if parts is None or isinstance(parts, Tensor) else parts[i]


def scaled(affine: Affine, a: Any, b: Any, *, divides: bool) -> Affine | None:
    """A multiple of what is made of a weight; None where it is not, or not of the weight's shape."""
    other = operand(affine, b if a is affine.result else a)
    if other is None or (divides and a is not affine.result):
        return None
    other = other.reciprocal() if divides else other
    factor, shift = (None if t is None else t * other for t in (affine.factor, affine.shift))
    return replace(affine, factor=other if factor is None else factor, shift=shift)


def shifted(affine: Affine, a: Any, b: Any, alpha: float) -> Affine | None:
    """The sum a + alpha · b of what is made of a weight and another; None where that is not of the weight's shape."""
    other = operand(affine, b if a is affine.result else a)
    if other is None:
        return None
    if a is affine.result:
        other = other * alpha
    elif alpha != 1:
        affine = scaled(affine, affine.result, alpha, divides=False) or affine
    return replace(affine, shift=other if affine.shift is None else affine.shift + other)


def operand(affine: Affine, other: Any) -> Tensor | None:
    """What is added to a weight or multiplies it, without repetitions; None if it does not keep the weight's shape."""
    tensor = affine.tensor
    if not isinstance(other, Tensor):
        return torch.full((), other, dtype=tensor.dtype, device=tensor.device)
    if len(other.shape) > tensor.ndim or torch.broadcast_shapes(other.shape, tensor.shape) != tensor.shape:
        return None
    # As the norms of rows are expanded by a normalisation. Masks may be of truth values.
    return once(other) if other.is_floating_point() else once(other).to(tensor.dtype)
