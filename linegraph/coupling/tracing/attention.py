"""Attention as separate operations, which can be differentiated twice, in place of fused kernels, which cannot.

torch's own switch of kernels acts on all threads, so the functions are replaced instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.model.modes import Mode
from linegraph.coupling.model.precision import autocast_dtype, without_autocast
from linegraph.coupling.operations.decompositions import opened

__all__ = ["UNFUSED", "Unfused", "drops_out", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention``, computed by separate operations."""
    biases: Any = sys.modules.get("torch.nn.attention.bias")  # importing it here would import the compiler
    if biases is not None and isinstance(attn_mask, biases.CausalBias):
        attn_mask = attn_mask._materialize(query.device)
    if (dtype := autocast_dtype(query.device)) is not None:
        query, key, value = (_cast(t, dtype) for t in (query, key, value))
        attn_mask = attn_mask if attn_mask is None else _cast(attn_mask, dtype)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
    with without_autocast():
        return torch._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]


def drops_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *_: Any,
    **__: Any,
) -> bool:
    """Whether a call of attention with these arguments drops out scores; fused kernels draw other random numbers."""
    return dropout_p > 0


def _cast(t: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in autocast's number type; autocast converts single and half precision only."""
    return t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t


UNFUSED: dict[Any, Callable[..., Any]] = dict.fromkeys(
    (
        F.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention.default,
    ),
    scaled_dot_product_attention,
)
"""The functions that replace operations with fused kernels; they have the same name."""


class Unfused(Mode):
    """A mode for forward passes without a tape, which replaces fused attention by separate operations."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.is_of_another_pass():
            return function(*args, **kwargs)
        if function is F.multi_head_attention_forward:
            with self:
                return opened(function)(*args, **kwargs)  # type: ignore[misc]
        return UNFUSED.get(function, function)(*args, **kwargs)
