"""Classes of torch functions, by name: how the output of each depends on its inputs.

A path between two synapse calls consists of arbitrary differentiable operations. A class states one property of its
operations: they act on every element separately (the Jacobian is diagonal); they only move, copy, sum or average
elements (the Jacobian has no negative entry); or which elements they combine. A function is recognised by its name,
because torch offers one operation as ``torch.relu``, ``Tensor.relu_``, ``torch.nn.functional.relu``,
``torch.ops.aten.relu.default`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch._ops import OpOverload, OpOverloadPacket
from torch.overrides import resolve_name

__all__ = [
    "ACTIVATIONS",
    "ACTIVATIONS_OF_WEIGHTS",
    "CASTS",
    "DIFFERENCES",
    "ELEMENTWISE",
    "EXTREMES",
    "MOVEMENT",
    "MULTIPLICATIONS",
    "POOLING",
    "PRODUCTS",
    "QUOTIENTS",
    "REDUCTIONS",
    "REPETITIONS",
    "SCATTERS",
    "SELECTIONS",
    "SUMS",
    "VIEWS_OF_WEIGHTS",
    "describe",
    "is_in_place",
    "is_not_negative",
    "name_of",
    "terms",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    """
    __abs__ __neg__ __pow__ __rpow__ _threshold abs absolute acos acosh addcdiv addcmul alpha_dropout arccos arccosh
    arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh ceil celu clamp clamp_max clamp_min clip cos
    cosh deg2rad digamma dropout dropout1d dropout2d dropout3d elu erf erfc erfinv exp exp2 expm1
    feature_alpha_dropout feature_dropout float_power floor fmod frac gelu hardshrink hardsigmoid hardswish hardtanh
    hypot leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2 logit logsigmoid masked_fill
    mish nan_to_num neg negative pow positive rad2deg reciprocal relu relu6 remainder round rrelu rsqrt selu sigmoid
    sign silu sin sinc sinh softplus softshrink softsign special_entr special_erf special_erfc special_erfinv
    special_exp2 special_expit special_expm1 special_log1p special_logit special_sinc special_xlog1py special_xlogy
    sqrt square tan tanh tanhshrink threshold trunc xlogy
    """
)
"""Every output element depends on the elements at the same place of one or, with broadcasting, several inputs."""

CASTS = _names("bfloat16 double float half to type type_as")
"""Every output element is the input element at the same place, in another precision or on another device."""

ACTIVATIONS = (
    ELEMENTWISE
    - _names(
        """
        dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout neg negative __neg__
        positive masked_fill nan_to_num addcdiv addcmul lerp deg2rad rad2deg
        """
    )
) | _names("softmax log_softmax glu prelu softmin")
"""Activation functions in the usual sense of the word."""

MOVEMENT = _names(
    """
    H T __getitem__ __setitem__ _pack_padded_sequence _pad_packed_sequence adjoint alias atleast_1d atleast_2d
    atleast_3d broadcast_tensors broadcast_to cat channel_shuffle chunk clone column_stack concat concatenate
    contiguous copy diag diag_embed diagonal dsplit dstack expand expand_as flatten flip fliplr flipud gather hsplit
    hstack index_put index_select mH mT masked_scatter masked_select meshgrid moveaxis movedim narrow pad permute
    pixel_shuffle pixel_unshuffle ravel repeat repeat_interleave reshape reshape_as roll rot90 row_stack select split
    split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim tensor_split tile transpose tril triu
    unbind unflatten unfold unsqueeze view view_as vsplit vstack
    """
)
"""Every output element is an input element or a constant."""

REDUCTIONS = _names("sum mean")
"""Sums or averages over dimensions."""

EXTREMES = _names("amax amin max min")
"""Maxima and minima: over dimensions, or of two tensors element by element."""

ACCUMULATIONS = _names(
    """
    aminmax as_strided cummax cummin cumsum fold imag kthvalue logcumsumexp logsumexp median mode
    msort nanmean nanmedian nanquantile nansum quantile real sort topk trace view_as_complex view_as_real
    """
)
"""Other sums, order statistics and movement, whose Jacobians have no negative entry."""

POOLING = _names(
    """
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d boolean_dispatch _max_pool1d _max_pool2d
    _max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d _adaptive_max_pool1d _adaptive_max_pool2d _adaptive_max_pool3d
    interpolate upsample max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    """
)
"""Sums or maxima over windows of the trailing dimensions, channel by channel, without negative coefficients."""

SELECTIONS = _names("where maximum minimum fmax fmin")
"""Every output element is one of the input elements at the same place."""

SCATTERS = _names("index_add index_copy index_fill index_reduce scatter scatter_add scatter_reduce")
"""Along one dimension an index gives every element a target; a target gets the last of its elements, or their sum,
mean, maximum or minimum."""

SUMS = _names("add __add__ __radd__ __iadd__")
"""Sums of two terms, with broadcasting."""

DIFFERENCES = _names("sub subtract __sub__ __rsub__ __isub__ rsub")
"""Differences of two terms, with broadcasting."""

MULTIPLICATIONS = _names("mul multiply __mul__ __rmul__")
"""Elementwise products that return a new tensor."""

QUOTIENTS = _names("div divide true_divide __truediv__")
"""Elementwise quotients that return a new tensor."""

PRODUCTS = MULTIPLICATIONS | QUOTIENTS | _names("__imul__ __itruediv__")
"""Elementwise products and quotients, also in place."""

ACTIVATIONS_OF_WEIGHTS = (
    SUMS
    | DIFFERENCES
    | _names(
        """
        cat concat concatenate stack hstack vstack expand expand_as repeat where scaled_dot_product_attention
        sum mean interpolate upsample pad
        """
    )
)
"""Operations in which a weight acts as an activation: it is added to activations or set beside them (position codes,
class tokens, learned queries), summed, or interpolated."""

CONSTANTS_OF_WEIGHTS = _names("ceil floor heaviside round sgn sign trunc fix")
"""Step functions, whose derivative is 0: their value at a weight counts as constant, as in quantisation."""

REPETITIONS = _names("expand broadcast_to")
"""Repetitions along new dimensions, or along dimensions of one entry."""

VIEWS_OF_WEIGHTS = _names(
    """
    T mT t transpose permute view view_as reshape reshape_as flatten unflatten squeeze unsqueeze __getitem__
    select narrow index_select diagonal chunk split tensor_split unbind swapaxes swapdims movedim moveaxis contiguous
    clone ravel float double half bfloat16 to flip fliplr flipud roll rot90 repeat_interleave
    """
)
"""Linear maps that only rearrange or cast a weight tensor; the result is the same weight under another shape."""


_NOT_NEGATIVE = CASTS | MOVEMENT | POOLING | REDUCTIONS | EXTREMES | ACCUMULATIONS | SELECTIONS | SCATTERS | SUMS
_WITH_NEGATIVE_WEIGHTS = _names("bicubic lanczos")
_OF_PRODUCTS = _names("prod multiply")


def is_not_negative(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation with these arguments only moves, sums or averages: its Jacobian has no negative entry."""
    if name in SUMS | DIFFERENCES:
        return terms(name, args, kwargs)[2] >= 0
    if name in SCATTERS and kwargs.get("alpha", 1) < 0:
        return False
    modes = {leaf for leaf in (*args, *kwargs.values()) if isinstance(leaf, str)}
    return name in _NOT_NEGATIVE and not modes & (_WITH_NEGATIVE_WEIGHTS | _OF_PRODUCTS)


def terms(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any, float]:
    """The operands and the factor (a, b, factor) of a sum or difference, written as a + factor · b."""
    given, rest = dict(kwargs), list(args)
    a, b, alpha = (rest.pop(0) if rest else given.pop(key, 1) for key in ("input", "other", "alpha"))
    if name in ("__rsub__", "rsub"):  # b − alpha · a
        a, b = b, a
    return a, b, -alpha if name in DIFFERENCES else alpha


@lru_cache(maxsize=4096)  # called for every operation of a pass
def name_of(function: Callable[..., Any]) -> str:
    """The bare name of a torch function, without overload and trailing underscore: ``relu_`` is ``relu``.

    Operations of other libraries keep the name of their namespace, ``torchvision.nms``.
    """
    if isinstance(function, OpOverload | OpOverloadPacket):
        namespace, name, *_ = str(function).split(".")
        name = name if namespace == "aten" else f"{namespace}.{name}"
    else:
        name = getattr(function, "__name__", str(function))
    if name in ("__get__", "__set__"):  # a property of Tensor
        name = (resolve_name(function) or name).removesuffix("." + name).rsplit(".", 1)[-1]
    return name if name.endswith("__") else name.rstrip("_")


@lru_cache(maxsize=4096)
def is_in_place(function: Callable[..., Any]) -> bool:
    """Whether a function writes into its first argument: ``relu_``, ``__iadd__``, ``__setitem__``, ``data =``."""
    name, _, _ = getattr(function, "__name__", "").partition(".")
    if name == "__set__":
        return name_of(function) == "data"
    if name.endswith("__"):
        return name in _AUGMENTED
    return name.endswith("_") and name not in _ONLY_MARKING


_AUGMENTED = _names(
    """
    __setitem__ __iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ifloordiv__ __imod__ __ipow__ __iand__ __ior__
    __ixor__ __ilshift__ __irshift__
    """
)


_ONLY_MARKING = _names("requires_grad_ detach_ share_memory_ rename_")
"""Functions whose names end in an underscore, but which leave the values as they are."""


def describe(function: Callable[..., Any]) -> str:
    """The full name of a torch function, for messages."""
    return resolve_name(function) or getattr(function, "__qualname__", str(function))
