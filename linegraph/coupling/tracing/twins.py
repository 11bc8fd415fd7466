"""Twins of operations: autograd functions with the same output, which can send back absolute local Jacobians.

``absolute()`` says whether the current sweep uses absolute Jacobians; the backward of a twin asks it. Every backward is
linear in the gradient g and made of operations of torch, so that Pᵀ can differentiate it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.operations import Rule
from linegraph.coupling.operations.normalisation import (
    Normalisation,
    absolute_log_softmax,
    absolute_normalisation,
    absolute_softmax,
    through_normalisation,
)

__all__ = ["ElementwiseProduct", "Normalised", "Softmax", "Weighted"]

Absolute = Callable[[], bool]


class Weighted(torch.autograd.Function):
    """The twin of y = W · x for a weight that is not a synapse: a frozen parameter or an activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rule: Rule, absolute: Absolute) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.rule, ctx.absolute, ctx.shape = rule, absolute, x.shape
        x_wanted, weight_wanted, *_ = ctx.needs_input_grad
        ctx.x = x.detach() if weight_wanted else None
        ctx.weight = weight.detach()
        ctx.x_wanted = x_wanted
        return rule.apply(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        if g is None:
            return None, None, None, None
        x, weight = ctx.x, ctx.weight
        of_x = ctx.rule.to_input(_size(weight, ctx), g, ctx.shape) if ctx.x_wanted else None
        of_weight = None if x is None else ctx.rule.to_weight(_size(x, ctx), g, weight)
        return of_x, of_weight, None, None


class ElementwiseProduct(torch.autograd.Function):
    """The twin of y = a · b, elementwise with broadcasting."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, absolute: Absolute) -> Tensor:
        ctx.set_materialize_grads(False)
        a_wanted, b_wanted, _ = ctx.needs_input_grad
        ctx.save_for_backward(a.detach() if b_wanted else None, b.detach() if a_wanted else None)
        ctx.shapes, ctx.absolute = (a.shape, b.shape), absolute
        return a * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        (g,) = grads
        if g is None:
            return None, None, None
        of_a, of_b = ctx.shapes
        return (
            None if b is None else (g * _size(b, ctx)).sum_to_size(of_a),
            None if a is None else (g * _size(a, ctx)).sum_to_size(of_b),
            None,
        )


class Softmax(torch.autograd.Function):
    """The twin of softmax, or log-softmax, along a dimension. The output is passed in a list, as in ``Diagonal``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: list[Tensor], dim: int, is_log: bool, absolute: Absolute) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.dim, ctx.is_log, ctx.absolute, ctx.dtype = dim, is_log, absolute, x.dtype
        ctx.save_for_backward(y[0])
        return y[0]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (y,) = ctx.saved_tensors
        (g,) = grads
        if g is None:
            return None, None, None, None, None
        if ctx.absolute():
            y, g = _accurate(y.detach()), _accurate(g)
            g = absolute_log_softmax(g, y.exp(), ctx.dim) if ctx.is_log else absolute_softmax(g, y, ctx.dim)
        else:
            through = torch._log_softmax_backward_data if ctx.is_log else torch._softmax_backward_data
            g = through(g, y, ctx.dim, y.dtype)
        return g.to(ctx.dtype), None, None, None, None


class Normalised(torch.autograd.Function):
    """The twin of a norm. The output is passed in a list, as in ``Diagonal``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: list[Tensor], norm: Normalisation, absolute: Absolute) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.norm, ctx.absolute = norm, absolute
        ctx.save_for_backward(x.detach())
        return y[0]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), norm = ctx.saved_tensors, ctx.norm
        (g,) = grads
        if g is None:
            return None, None, None, None
        if norm.weight is not None:
            g = g * _size(norm.weight, ctx)
        through = absolute_normalisation if ctx.absolute() else through_normalisation
        g = through(_accurate(norm.rows(g)), _accurate(norm.rows(x)), norm.eps, centred=norm.centred)
        return norm.back(g).to(x.dtype), None, None, None


def _size(t: Tensor, ctx: Any) -> Tensor:
    """A factor of a twin's Jacobian; its absolute value in sweeps with absolute Jacobians."""
    return t.abs() if ctx.absolute() and t.dtype != torch.bool else t


def _accurate(t: Tensor) -> Tensor:
    """The tensor, of half precision in single precision, in which torch computes sums."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
