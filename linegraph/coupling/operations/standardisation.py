"""Statistics and norms of a weight, as weight standardisation computes them: NFNet, BiT, and (W − mean)/deviation.

A standardised weight is W ∘ factor + shift, with factor = gain / deviation and shift = −mean · factor, which depend on
W themselves. Both are written so that derivatives through them count, and that everything is linear in W: the mean is a
sum, and a deviation is written as its linear form at W, which has its value and its derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from linegraph.coupling.operations.decompositions import decomposes

__all__ = ["NORMS_OF_WEIGHTS"]

Function = Callable[..., Any]


def _slope(function: Function, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W, f(W) and the derivative of the sum of f(W) by W, as constants."""
    # No operation of the network: it is neither followed, nor are its tensors dropped where a pass keeps none.
    with torch._C.DisableTorchFunction(), torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
        w = input.detach().requires_grad_()
        value = function(w)
        (slope,) = torch.autograd.grad(value.sum(), w)
    return w.detach(), value.detach(), slope


def _itself(t: Tensor) -> Tensor:
    return t


def _linear_form(statistic: Function, input: Tensor, dims: Any) -> Tensor:
    """A statistic f(W) over some dimensions, as Σ d W + c with d = ∂f/∂W and c = f(W) − Σ d W held constant."""
    w, value, slope = _slope(statistic, input)
    keepdim = value.ndim == w.ndim
    return (input * slope).sum(dims, keepdim) + (value - (w * slope).sum(dims, keepdim))


# powers, as in penalties of the size of weights, and in norms that are written by hand ----------------


@decomposes("square", "pow")
def _power(input: Tensor, exponent: float | Tensor = 2) -> Tensor:
    if not isinstance(input, Tensor) or isinstance(exponent, Tensor):
        return torch.exp(exponent * torch.log(torch.as_tensor(input)))
    w, value, slope = _slope(lambda w: w**exponent, input)
    return input * slope + (value - w * slope)


@decomposes("abs", "absolute")
def _absolute(input: Tensor) -> Tensor:
    return input * torch.sign(input.detach())


# variances ----------------------------------------------------------------------------------------------


def _reduced_dims(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The argument ``dim`` of a variance; the first argument may be ``unbiased`` instead."""
    return kwargs.get("dim", args[0] if args and not isinstance(args[0], bool) else None)


@decomposes("var")
def _var(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _linear_form(lambda w: torch.var(w, *args, **kwargs), input, _reduced_dims(args, kwargs))


@decomposes("std")
def _std(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _linear_form(lambda w: torch.std(w, *args, **kwargs), input, _reduced_dims(args, kwargs))


@decomposes("var_mean")
def _var_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    return _with_mean(_var(input, *args, **kwargs), input, _reduced_dims(args, kwargs))


@decomposes("std_mean")
def _std_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    return _with_mean(_std(input, *args, **kwargs), input, _reduced_dims(args, kwargs))


def _with_mean(statistic: Tensor, input: Tensor, dims: Any) -> tuple[Tensor, Tensor]:
    return statistic, input.mean(dims, keepdim=statistic.ndim == input.ndim)


# norms, applied to a weight instead of an activation --------------------------------------------------


def _standardised(w: Tensor, dims: list[int], eps: float) -> Tensor:
    """(W − mean) / sqrt(variance + ε) over some dimensions."""

    def deviation(v: Tensor) -> Tensor:
        return (v.var(dims, correction=0, keepdim=True) + eps).sqrt()

    return (w - w.mean(dims, keepdim=True)) / _linear_form(deviation, w, dims)


def _with_gain(y: Tensor, gain: Tensor | None, bias: Tensor | None, dim: int | None = None) -> Tensor:
    """y ∘ gain + bias, which lie along dimension ``dim`` of y, or along its last dimensions."""
    shape = [-1 if d == dim else 1 for d in range(y.ndim)]
    gain, bias = (t if t is None or dim is None else t.reshape(shape) for t in (gain, bias))
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    shape = [-1 if d == 1 else 1 for d in range(input.ndim)]
    if training or running_mean is None or running_var is None:
        y = _standardised(input, [d for d in range(input.ndim) if d != 1], eps)
    else:
        y = (input - running_mean.view(shape)) / (running_var.view(shape) + eps).sqrt()
    return _with_gain(y, weight, bias, 1)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    y = _standardised(input.reshape(len(input), num_groups, -1), [2], eps).reshape(input.shape)
    return _with_gain(y, weight, bias, 1)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return _group_norm(input, input.shape[1], weight, bias, eps)


def _last(normalized_shape: list[int]) -> list[int]:
    return list(range(-len(normalized_shape), 0))


def _layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _with_gain(_standardised(input, _last(normalized_shape), eps), weight, bias)


def _rms_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dims, eps = _last(normalized_shape), torch.finfo(input.dtype).eps if eps is None else eps

    def size(v: Tensor) -> Tensor:
        return (v.square().mean(dims, keepdim=True) + eps).sqrt()

    return _with_gain(input / _linear_form(size, input, dims), weight, None)


NORMS_OF_WEIGHTS: dict[Function, Function] = {
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    **dict.fromkeys((F.group_norm, torch.group_norm), _group_norm),
    **dict.fromkeys((F.layer_norm, torch.layer_norm), _layer_norm),
    **dict.fromkeys((F.rms_norm, torch.rms_norm), _rms_norm),
}
"""Norms by the function that computes them for activations; each takes the same arguments, with a weight as input."""
