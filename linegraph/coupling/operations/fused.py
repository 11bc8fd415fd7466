"""Fused operations of torch, written out as simpler ones: attention, and norms as exported networks call them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations.decompositions import decomposes

__all__: list[str] = []  # all that is here is found by ``decomposition``


# Attention ----------------------------------------------------------------------------------------------


@decomposes("_scaled_dot_product_attention_math")
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """softmax(Q Kᵀ · scale + mask) V, and the softmax; in grouped attention, heads share keys and values."""
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    if is_causal:
        scores = scores.masked_fill(
            torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1), -math.inf
        )
    if attn_mask is not None:
        scores = scores + attn_mask
    weights = torch._safe_softmax(scores, -1)
    if dropout_p:
        weights = torch.dropout(weights, dropout_p, True)
    return weights @ value, weights


# Normalisation ------------------------------------------------------------------------------------------


@decomposes("instance_norm")
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
    """Layer norm over the positions of every channel, or batch norm with constant statistics."""
    if not use_input_stats:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    y = F.layer_norm(input, input.shape[2:], None, None, eps)
    weight, bias = (t if t is None else t.view(-1, *(1,) * (input.ndim - 2)) for t in (weight, bias))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@decomposes("native_layer_norm")
def _native_layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    y = F.layer_norm(input, normalized_shape, weight, bias, eps)
    return y, *_statistics(torch.native_layer_norm, input, normalized_shape, None, None, eps)


@decomposes("_fused_rms_norm")
def _fused_rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, ...]:
    y = F.rms_norm(input, normalized_shape, weight, eps)
    return y, *_statistics(torch._fused_rms_norm, input, normalized_shape, None, eps)


@decomposes("native_group_norm")
def _native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Tensor, ...]:
    y = F.group_norm(input, group, weight, bias, eps)
    return y, *_statistics(torch.native_group_norm, input, None, None, N, C, HxW, group, eps)


_OF_BATCH_NORM = "running_mean", "running_var", "training", "momentum", "eps"


@decomposes("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
def _native_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *others: Any, **named: Any
) -> tuple[Tensor, ...]:
    """With or without running statistics; ``others`` are these, whether to train, the momentum and ε."""
    *given, momentum, eps = *others, *(named[name] for name in _OF_BATCH_NORM if name in named)
    training = given.pop() if given and isinstance(given[-1], bool) else False
    mean, var = given or (None, None)
    copies = [None if t is None else t.clone() for t in (mean, var)]  # since torch writes into them
    y = F.batch_norm(input, mean, var, weight, bias, training, momentum, eps)
    return y, *_statistics(torch.native_batch_norm, input, None, None, *copies, training, momentum, eps)


def _statistics(function: Callable[..., Any], input: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """What a norm returns besides its output; torch has no derivatives of it."""
    with torch.no_grad():
        return function(input.detach(), *others)[1:]


# Fourier transforms over several dimensions -----------------------------------------------------------------


Transform = Callable[..., Tensor]


def _transform(dims: Sequence[int] | None, each: Transform, end: Transform, *, is_end_first: bool = True) -> Transform:
    """A transform over several dimensions as transforms of one, of which ``end`` is that of the last dimension."""

    def run(
        input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] | None = dims, norm: str | None = None
    ) -> Tensor:
        over = range(-(input.ndim if s is None else len(s)), 0) if dim is None else dim
        sizes = [None if n == -1 else n for n in s or [-1] * len(over)]
        *steps, last = [(each, n, d) for n, d in zip(sizes, over, strict=True)]
        steps.insert(0 if is_end_first else len(steps), (end, *last[1:]))
        for function, n, d in steps:
            input = function(input, n, d, norm)
        return input

    return run


for _dims, _suffix in ((None, "n"), ((-2, -1), "2")):
    decomposes(f"fft_fft{_suffix}")(_transform(_dims, torch.fft.fft, torch.fft.fft))
    decomposes(f"fft_ifft{_suffix}")(_transform(_dims, torch.fft.ifft, torch.fft.ifft))
    decomposes(f"fft_rfft{_suffix}")(_transform(_dims, torch.fft.fft, torch.fft.rfft))
    decomposes(f"fft_irfft{_suffix}")(_transform(_dims, torch.fft.ifft, torch.fft.irfft, is_end_first=False))
