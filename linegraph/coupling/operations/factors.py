"""Synapse calls as products of matrices: what it takes to form all entries of a block of P at once.

Between a call ℓ and a later call m, P is a product of three factors over samples and positions b:

    P[(ℓ; o, f), (m; i, c)] = ± Σ_b  X[f, b] · R[o, b, c],      R[o, b, c] = Σ_b' J[(i, b'), (o, b)] · U[b', c]

X is what the weights f into an output neuron o are multiplied by (in a convolution the input, shifted by every
kernel tap), U the output gradient as the weights c that leave an input neuron i meet it; both depend on the rule
alone. Where every element of m's input depends on one element of ℓ's output only, J is a diagonal D and
R[o, b, c] = D[o, b] · U[b, c].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations import Convolution, Linear, Matmul, Rule, TransposedConvolution

__all__ = [
    "add_product",
    "by_output",
    "incoming",
    "is_lowered",
    "is_one_product",
    "leaving",
    "outgoing",
    "random_scales",
    "relative_rank",
]

Shape = tuple[int, ...]

AT_ONCE = 2**24
"""Elements of R in one product."""


def is_lowered(rule: Rule) -> bool:
    """Whether a rule has its factors here; any other works through its own products, column by column."""
    return isinstance(rule, Linear | Matmul | Convolution) and not isinstance(rule, TransposedConvolution)


def is_one_product(rule: Rule) -> bool:
    """Whether X ⊗ g is one product of matrices, of g by output neuron with X."""
    return is_lowered(rule) and getattr(rule, "groups", 1) == 1


def relative_rank(rule: Rule, y: Tensor, weight_shape: Shape) -> float:
    """Number of samples and positions in units of the harmonic mean of fan-in and fan-out."""
    size, outputs = prod(weight_shape), weight_shape[rule.weight_dims[0]]
    return y.numel() / outputs * (size / outputs + outputs) / (2 * size)


@singledispatch
def incoming(rule: Rule, x: Tensor, weight_shape: Shape) -> Tensor:
    """X, as (groups, weights f into an output neuron, b)."""
    raise NotImplementedError(rule.op)


@singledispatch
def outgoing(rule: Rule, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
    """U, as (groups, b, weights c that leave an input neuron)."""
    raise NotImplementedError(rule.op)


@singledispatch
def leaving(rule: Rule, weight_shape: Shape) -> Tensor:
    """The number c of every weight among those that leave its input neuron, broadcastable to the weight's shape."""
    raise NotImplementedError(rule.op)


@incoming.register(Linear)
@incoming.register(Matmul)
def _(rule: Linear | Matmul, x: Tensor, weight_shape: Shape) -> Tensor:
    return x.reshape(-1, x.shape[-1]).mT.unsqueeze(0)


@outgoing.register(Linear)
@outgoing.register(Matmul)
def _(rule: Linear | Matmul, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
    return g.reshape(-1, g.shape[-1]).unsqueeze(0)


@leaving.register(Linear)
@leaving.register(Matmul)
def _(rule: Linear | Matmul, weight_shape: Shape) -> Tensor:
    return rule.neurons(weight_shape)[1]


@incoming.register
def _(rule: Convolution, x: Tensor, weight_shape: Shape) -> Tensor:
    kernel = weight_shape[2:]
    windows = F.pad(x, [amount for p in reversed(rule.padding) for amount in (p, p)])
    for d, (k, stride, dilation) in enumerate(zip(kernel, rule.stride, rule.dilation, strict=True), 2):
        windows = windows.unfold(d, dilation * (k - 1) + 1, stride)[..., ::dilation]
    places = range(2, 2 + len(kernel))
    taps = range(2 + len(kernel), windows.ndim)
    return windows.permute(1, *taps, 0, *places).reshape(rule.groups, weight_shape[1] * prod(kernel), -1)


@outgoing.register
def _(rule: Convolution, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
    kernel, spread = weight_shape[2:], []
    padded = [n + 2 * p for n, p in zip(x_shape[2:], rule.padding, strict=True)]
    inside: tuple[Any, ...] = (..., *(slice(p, p + n) for n, p in zip(x_shape[2:], rule.padding, strict=True)))
    for tap in product(*map(range, kernel)):
        met = g.new_zeros(*g.shape[:2], *padded)
        starts = [d * q for d, q in zip(rule.dilation, tap, strict=True)]
        ends = [a + s * (n - 1) + 1 for a, s, n in zip(starts, rule.stride, g.shape[2:], strict=True)]
        where: tuple[Any, ...] = (..., *map(slice, starts, ends, rule.stride))
        met[where] = g
        spread.append(met[inside])
    taps_last = torch.stack(spread, -1).unflatten(1, (rule.groups, -1))  # samples, groups, outputs, *positions, taps
    places = range(3, taps_last.ndim - 1)
    return taps_last.permute(1, 0, *places, 2, -1).flatten(-2).flatten(1, -2)


@leaving.register
def _(rule: Convolution, weight_shape: Shape) -> Tensor:
    outputs, _, *kernel = weight_shape
    output = torch.arange(outputs).view(-1, 1, *(1,) * len(kernel)) % (outputs // rule.groups)
    return output * prod(kernel) + torch.arange(prod(kernel)).view(kernel)


def by_output(rule: Rule, values: Tensor, ndim: int) -> Tensor:
    """Values (*shape of y, ...) with ``ndim`` dimensions of y, as (output neurons, b, ...)."""
    if ndim == 1:  # a single sample without a batch dimension
        return values.unsqueeze(1)
    return values.movedim(rule.output_dim % ndim, 0).flatten(1, ndim - 1)


def add_product(rule: Rule, entries: Tensor, x: Tensor, right: Callable[[int, int], Tensor], shape: Shape) -> None:
    """Add Σ_b X[f, b] R[o, b, c] to ``entries`` (weights in their order, c), some outputs at a time.

    Args:
        rule: that of call ℓ.
        entries: a view whose first dimension counts the weights of ℓ.
        x: X.
        right: R of the outputs from a first to an end.
        shape: that of ℓ's weight.
    """
    if isinstance(rule, Matmul):
        rows = entries.unflatten(0, shape).transpose(0, 1)
    else:
        rows = entries.unflatten(0, (shape[0], -1))
    outputs, _, columns = rows.shape
    per_group = outputs // len(x)
    step = max(1, AT_ONCE // max(1, x.shape[2] * columns))
    for first in range(0, outputs, step):
        end = min(outputs, first + step)
        group = torch.arange(first, end, device=x.device) // per_group
        left = x.expand(end - first, -1, -1) if len(x) == 1 else x[group]
        rows[first:end].baddbmm_(left, right(first, end))


def random_scales(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random numbers ±2^e: multiplying by them is exact, so D r = D ∘ r to the last bit if D is diagonal."""
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(0, 16, shape, generator=generator, device="cpu")
    signs = torch.randint(0, 2, shape, generator=generator, device="cpu") * 2 - 1
    return (signs * 2**exponents).to(device, dtype)
