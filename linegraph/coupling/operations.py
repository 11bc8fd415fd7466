"""What a torch function does to the dependence of its output on its inputs.

Paths between synapses are made of arbitrary differentiable operations. Three questions are asked of
each: does it act on every element by itself (then its Jacobian is diagonal), does it only move, copy,
sum or average elements (then its Jacobian has no negative entry), and which elements does it mix?
Functions are known by name, because torch offers the same operation as ``torch.relu``,
``Tensor.relu_``, ``torch.nn.functional.relu`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import resolve_name

__all__ = [
    "ACTIVATIONS",
    "ACTIVATIONS_OF_WEIGHTS",
    "DIFFERENCES",
    "ELEMENTWISE",
    "MOVEMENT",
    "MULTIPLICATIONS",
    "NOT_NEGATIVE",
    "POOLING",
    "PRODUCTS",
    "QUOTIENTS",
    "REDUCTIONS",
    "SCATTERS",
    "SELECTIONS",
    "SUMS",
    "VIEWS_OF_WEIGHTS",
    "describe",
    "is_in_place",
    "name_of",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    """
    abs acos acosh arctan asin asinh atan atanh celu ceil clamp clamp_max clamp_min clip cos cosh dropout
    dropout1d dropout2d dropout3d feature_dropout alpha_dropout elu erf erfc exp exp2 expm1 floor gelu
    hardshrink hardsigmoid hardswish hardtanh leaky_relu log log10 log1p log2 logsigmoid mish neg negative pow
    __neg__ __pow__ reciprocal relu relu6 rrelu rsqrt selu sigmoid sign silu sin sinh softplus softshrink
    softsign sqrt square tan tanh tanhshrink threshold float double half bfloat16 to type masked_fill
    nan_to_num
    """
)
"""One output element from one input element (and constants)."""

ACTIVATIONS = (
    ELEMENTWISE
    - _names(
        """
        dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout neg negative __neg__ float double half
        bfloat16 to type masked_fill nan_to_num
        """
    )
) | _names("softmax log_softmax glu prelu softmin")
"""What users call activation functions."""

MOVEMENT = _names(
    """
    T mT H mH t transpose permute view view_as reshape reshape_as flatten unflatten squeeze unsqueeze
    __getitem__ select narrow index_select gather diagonal chunk split tensor_split unbind swapaxes swapdims movedim
    moveaxis expand expand_as broadcast_to repeat repeat_interleave tile roll flip contiguous clone cat concat
    _pack_padded_sequence _pad_packed_sequence split_with_sizes
    concatenate stack hstack vstack pad pixel_shuffle pixel_unshuffle channel_shuffle unfold ravel alias
    adjoint
    """
)
"""Every output element is an input element or a constant."""

REDUCTIONS = _names(
    """
    sum mean
    """
)
"""Sums or averages over dimensions."""

POOLING = _names(
    """
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d boolean_dispatch _max_pool1d _max_pool2d
    _max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d _adaptive_max_pool1d _adaptive_max_pool2d _adaptive_max_pool3d
    interpolate upsample max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    """
)
"""Windows over the trailing dimensions, channel by channel, with weights that are not negative."""

SELECTIONS = _names("where maximum minimum")
"""Every output element is one of the input elements at its place."""

SCATTERS = _names("index_add scatter_add scatter_reduce index_reduce")
"""Sums, averages or extremes of the elements that an index sends to one place along a dimension."""

SUMS = _names(
    """
    add __add__ __radd__ __iadd__
    """
)
DIFFERENCES = _names(
    """
    sub subtract __sub__ __rsub__ __isub__ rsub
    """
)
MULTIPLICATIONS = _names("mul multiply __mul__ __rmul__")
QUOTIENTS = _names("div divide true_divide __truediv__")
PRODUCTS = MULTIPLICATIONS | QUOTIENTS | _names("__imul__ __itruediv__")

ACTIVATIONS_OF_WEIGHTS = (
    SUMS
    | DIFFERENCES
    | _names(
        """
        cat concat concatenate stack hstack vstack expand expand_as repeat where scaled_dot_product_attention
        """
    )
)
"""What makes an activation of a weight: added to others or set beside them (position codes, class tokens, learned
queries)."""

VIEWS_OF_WEIGHTS = _names(
    """
    T mT t transpose permute view view_as reshape reshape_as flatten unflatten squeeze unsqueeze __getitem__
    select narrow index_select diagonal chunk split tensor_split unbind swapaxes swapdims movedim moveaxis contiguous
    clone ravel float double half bfloat16 to
    """
)
"""Linear maps that only rearrange (or cast) one weight tensor: the weight goes on under another shape."""


NOT_NEGATIVE = MOVEMENT | POOLING | REDUCTIONS | SELECTIONS | SUMS
"""No entry of the Jacobian is negative."""


def name_of(function: Callable[..., Any]) -> str:
    """The bare name of a torch function, without trailing underscore: ``relu_`` is ``relu``."""
    name = getattr(function, "__name__", str(function))
    if name in ("__get__", "__set__"):  # a property of Tensor
        name = (resolve_name(function) or name).removesuffix("." + name).rsplit(".", 1)[-1]
    return name if name.endswith("__") else name.rstrip("_")


def is_in_place(function: Callable[..., Any]) -> bool:
    """Whether a function writes into its first argument: ``relu_``, ``__iadd__``, ``__setitem__``."""
    name = getattr(function, "__name__", "")
    if name.endswith("__"):
        return name in _AUGMENTED
    return name.endswith("_")


_AUGMENTED = _names(
    """
    __setitem__ __iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ifloordiv__ __imod__ __ipow__ __iand__ __ior__
    __ixor__ __ilshift__ __irshift__
    """
)


def describe(function: Callable[..., Any]) -> str:
    """The full name of a torch function, for messages."""
    return resolve_name(function) or getattr(function, "__qualname__", str(function))
