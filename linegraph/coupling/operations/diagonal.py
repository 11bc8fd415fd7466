"""Operations with a diagonal Jacobian, y = σ(x), recorded by their slope σ'(x) instead of by torch.

Batch norm with constant statistics is one of them: its slope is one factor per channel. torch's own first and second
derivatives of it take far longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Diagonal", "fixed_batch_norm", "never", "once_differentiable"]


class Diagonal(torch.autograd.Function):
    """An operation with output y and diagonal Jacobian ``slope``; |slope| in sweeps where ``absolute()`` is true.

    y is passed in a list, so that autograd does not treat it as an input of the operation.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: list[Tensor], slope: Tensor, absolute: Callable[[], bool]) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(slope)
        ctx.absolute = absolute
        return y[0]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (slope,) = ctx.saved_tensors
        (g,) = grads
        if g is None:
            return None, None, None, None
        return g * (slope.abs() if ctx.absolute() else slope), None, None, None


def never() -> bool:
    """The answer of ``absolute`` for a slope that keeps its sign in every sweep."""
    return False


def once_differentiable(function: Callable[..., Tensor], input: Tensor, inplace: bool = False) -> Tensor:
    """The output of an elementwise function that torch can differentiate only once, recorded by its slope.

    Pᵀ differentiates the backward pass, which the slope allows.
    """
    with torch.enable_grad():
        leaf = input.detach().requires_grad_()
        y = function(leaf)
        (slope,) = torch.autograd.grad(y.sum(), leaf)
    y = Diagonal.apply(input, [y.detach()], slope, never)
    return input.copy_(y) if inplace else y


def fixed_batch_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor] | None:
    """The output and slope of ``torch.nn.functional.batch_norm``; None if the slope needs a gradient or the data."""
    others = (running_mean, running_var, weight, bias)
    if (
        training
        or running_mean is None
        or running_var is None
        or any(t is not None and t.requires_grad for t in others)
    ):
        return None
    with torch.no_grad():
        y = F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        scale = (running_var + eps).rsqrt()
        scale = scale if weight is None else scale * weight
    return y, scale.to(input.dtype).view(-1, *(1,) * (input.ndim - 2))
