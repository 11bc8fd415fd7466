"""Softmax and normalisation: products with their Jacobians, and with the absolute values of these.

Every entry of the output depends on all entries along some dimensions, but the Jacobian is diagonal plus rank one,

    J = diag(d) − a bᵀ   with a, b ≥ 0 and a_i b_i = f_i d_i,   where Σ_i f_i ≤ 1

so that |J| v = a (bᵀ v) + d ⊙ (1 − 2 f) ⊙ v = a (bᵀ v) + (d − 2 a ⊙ b) ⊙ v costs O(n) for n entries, as J v does:

=====================================================  ========  ======  =========  =======
operation, y or x̂ the output                             d         a       b          f
=====================================================  ========  ======  =========  =======
softmax, y                                             y         y       y          y
log-softmax, y = exp of it                             1         1       y          y
centring, x − mean(x)                                  1         1       1/n        1/n
scaling, x̂ = x / r with r = sqrt(mean(x²) + ε)         1/r       |x̂|     |x̂|/(r n)  x̂²/n
=====================================================  ========  ======  =========  =======

RMS norm is scaling. Layer norm, group norm, instance norm and batch norm of a batch are centring, then scaling, and
their |J| is the product of the two. All formulas have a test against the dense Jacobians of autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "LOG_SOFTMAX",
    "SOFTMAX",
    "Normalisation",
    "absolute_log_softmax",
    "absolute_normalisation",
    "absolute_softmax",
    "normalisation",
    "through_normalisation",
    "written_out",
]

SOFTMAX = frozenset(("softmax", "special_softmax", "_softmax", "_safe_softmax"))
"""Names of the functions that are softmax along one dimension."""
LOG_SOFTMAX = frozenset(("log_softmax", "special_log_softmax", "_log_softmax"))
"""Names of the functions that are log-softmax along one dimension."""


# products with absolute Jacobians -------------------------------------------------------------------------


def absolute_softmax(g: Tensor, y: Tensor, dim: int) -> Tensor:
    """|J|ᵀ g for the softmax y along a dimension."""
    return _absolute(g, y, y, y, dim, lambda: (y, 0.0))


def absolute_log_softmax(g: Tensor, y: Tensor, dim: int) -> Tensor:
    """|J|ᵀ g for the log-softmax along a dimension, where y is its exponential."""
    one = y.new_ones(())
    return _absolute(g, one, y, one, dim, lambda: (y, 0.0))


def absolute_normalisation(g: Tensor, x: Tensor, eps: float, *, centred: bool) -> Tensor:
    """|J|ᵀ g for the normalisation of every row of x (..., n), without weight and bias."""
    n = x.shape[-1]
    x, inverse = _normalised(x, eps, centred=centred)
    a = x.abs()
    g = _absolute(g, inverse, a, a * (inverse / n), -1, lambda: (x.square() / n, eps * inverse.square()))
    return torch.add(g.mean(-1, keepdim=True), g, alpha=1 - 2 / n) if centred else g


def through_normalisation(g: Tensor, x: Tensor, eps: float, *, centred: bool) -> Tensor:
    """Jᵀ g for the normalisation of every row of x (..., n), without weight and bias."""
    x, inverse = _normalised(x, eps, centred=centred)
    g = g - x * (x * g).mean(-1, keepdim=True)
    return (g - g.mean(-1, keepdim=True) if centred else g) * inverse


def _normalised(x: Tensor, eps: float, *, centred: bool) -> tuple[Tensor, Tensor]:
    """The normalised rows x̂ = x / r, and 1/r."""
    if centred:
        x, _, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        return x, inverse
    inverse = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return x * inverse, inverse


def _absolute(
    v: Tensor, d: Tensor, a: Tensor, b: Tensor, dim: int, fractions: Callable[[], tuple[Tensor, Tensor | float]]
) -> Tensor:
    """a (bᵀ v) + (d − 2 a ⊙ b) ⊙ v along a dimension.

    Where one f exceeds 1/2, as in a softmax that has made up its mind, the two terms nearly cancel at this entry. It
    is then taken out of the sums, so that every term is non-negative for v ≥ 0 and none is rounded away. ``fractions``
    is called for this; it returns f, and what Σ f lacks of 1.
    """
    own = torch.addcmul(d, a, b, value=-2)
    dominant = own < 0
    if dominant.device.type == "cpu" and not dominant.any():  # a GPU would wait
        return torch.addcmul(own * v, a, (b * v).sum(dim, keepdim=True))
    f, lacking = fractions()
    rest = f.masked_fill(dominant, 0).sum(dim, keepdim=True) + lacking
    others = (b.masked_fill(dominant, 0) * v).sum(dim, keepdim=True)
    largest = (b.masked_fill(~dominant, 0) * v).sum(dim, keepdim=True)
    return torch.where(dominant, d * rest, own) * v + a * others + a.masked_fill(dominant, 0) * largest


# the norms of torch by their arguments --------------------------------------------------------------------


@dataclass(frozen=True)
class Normalisation:
    """The arguments of a norm by their roles: x̂ = (x − mean) / sqrt(var + ε) in every row, then x̂ ⊙ weight + bias.

    Attributes:
        x: the input.
        rows: brings a tensor of the input's shape into rows (..., n) of entries that are normalised together.
        back: the inverse of ``rows``.
        eps: ε.
        centred: whether the mean is subtracted.
        weight: the factor, in a shape that broadcasts to that of the input.
        bias: the shift, likewise.
    """

    x: Tensor
    rows: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    eps: float
    centred: bool = True
    weight: Tensor | None = None
    bias: Tensor | None = None


def normalisation(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Normalisation | None:
    """The arguments of the norm of this name by their roles; None for other functions and constant statistics."""
    return _NORMS[name](*args, **kwargs) if name in _NORMS else None


def written_out(norm: Normalisation) -> Tensor:
    """The output of a norm, with its weight and bias in operations of their own."""
    rows = norm.rows(norm.x)
    over = rows.shape[-1:]
    rows = F.layer_norm(rows, over, eps=norm.eps) if norm.centred else F.rms_norm(rows, over, eps=norm.eps)
    y = norm.back(rows)
    y = y if norm.weight is None else y * norm.weight
    return y if norm.bias is None else y + norm.bias


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Normalisation:
    return Normalisation(input, *_last(input, len(normalized_shape)), eps, True, weight, bias)


def _rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Normalisation:
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return Normalisation(input, *_last(input, len(normalized_shape)), eps, False, weight)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Normalisation:
    shape = input.shape

    def rows(t: Tensor) -> Tensor:
        return t.reshape(shape[0], num_groups, prod(shape[1:]) // num_groups)

    return Normalisation(input, rows, lambda t: t.reshape(shape), eps, True, *_by_channel(input, weight, bias))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Normalisation | None:
    """``torch.nn.functional.batch_norm``, whose rows are the channels, with all samples and positions."""
    if not training:
        return None
    swapped = (input.shape[1], input.shape[0], *input.shape[2:])

    def back(t: Tensor) -> Tensor:
        return t.reshape(swapped).transpose(0, 1)

    return Normalisation(
        input, lambda t: t.transpose(0, 1).reshape(swapped[0], -1), back, eps, True, *_by_channel(input, weight, bias)
    )


def _last(input: Tensor, count: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """``rows`` and ``back`` for norms over the last ``count`` dimensions."""
    shape = input.shape
    return lambda t: t.reshape(*shape[: len(shape) - count], prod(shape[len(shape) - count :])), lambda t: t.reshape(
        shape
    )


def _by_channel(input: Tensor, *parameters: Tensor | None) -> list[Tensor | None]:
    """Parameters with an entry for every channel, in shapes that broadcast to the input's."""
    return [None if p is None else p.view(-1, *(1,) * (input.ndim - 2)) for p in parameters]


_NORMS: dict[str, Callable[..., Normalisation | None]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
}
