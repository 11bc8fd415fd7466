"""Factors of synapse calls: matrices whose product gives all entries of a block of P at once.

Between a call ℓ and a later call m, a block of P is a product of three factors, summed over samples and positions b:

    P[(ℓ; o, f), (m; i, c)] = ± Σ_b  X[f, b] · R[o, b, c],      R[o, b, c] = Σ_b' J[(i, b'), (o, b)] · U[b', c]

- o is an output neuron of ℓ, and f numbers the weights that enter it; i is an input neuron of m, and c numbers the
  weights that leave it.
- X[f, b] is the element of ℓ's input that weight f multiplies; in a convolution, the input shifted by every kernel tap.
- U[b', c] is the element of m's output gradient that weight c carries back.
- J is the path Jacobian from ℓ's output to m's input. Where every element of m's input depends on one element of ℓ's
  output only, J is a diagonal D and R[o, b, c] = D[o, b] · U[b, c].

X and U depend on the rule alone and are formed here, for the rules with ``has_factors``.
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

from linegraph.coupling.operations import Convolution, Linear, Matmul, Rule

__all__ = [
    "add_product",
    "by_output",
    "gradient_factor",
    "input_factor",
    "outgoing_numbers",
    "random_scales",
    "relative_rank",
]

Shape = tuple[int, ...]

MAX_ELEMENTS = 2**24
"""Number of elements of R that are held at once."""


def relative_rank(rule: Rule, y: Tensor, weight_shape: Shape) -> float:
    """Number of samples and positions of an output y, divided by the harmonic mean of fan-in and fan-out.

    Below 1, the factors of x ⊗ g have fewer elements than the weight.
    """
    size, outputs = prod(weight_shape), weight_shape[rule.weight_dims[0]]
    return y.numel() / outputs * (size / outputs + outputs) / (2 * size)


@singledispatch
def input_factor(rule: Rule, x: Tensor, weight_shape: Shape) -> Tensor:
    """X of a call with input x: (groups, weights f that enter an output neuron, b)."""
    raise NotImplementedError(rule.op)


@singledispatch
def gradient_factor(rule: Rule, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
    """U of a call with output gradient g: (groups, b, weights c that leave an input neuron)."""
    raise NotImplementedError(rule.op)


@singledispatch
def outgoing_numbers(rule: Rule, weight_shape: Shape) -> Tensor:
    """The number c of every weight among those that leave its input neuron, broadcastable to the weight's shape."""
    raise NotImplementedError(rule.op)


@input_factor.register(Linear)
@input_factor.register(Matmul)
def _(rule: Linear | Matmul, x: Tensor, weight_shape: Shape) -> Tensor:
    return x.reshape(-1, x.shape[-1]).mT.unsqueeze(0)


@gradient_factor.register(Linear)
@gradient_factor.register(Matmul)
def _(rule: Linear | Matmul, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
    return g.reshape(-1, g.shape[-1]).unsqueeze(0)


@outgoing_numbers.register(Linear)
@outgoing_numbers.register(Matmul)
def _(rule: Linear | Matmul, weight_shape: Shape) -> Tensor:
    return rule.neurons(weight_shape)[1]


@input_factor.register
def _(rule: Convolution, x: Tensor, weight_shape: Shape) -> Tensor:
    kernel = weight_shape[2:]
    windows = F.pad(x, [amount for p in reversed(rule.padding) for amount in (p, p)])
    for d, (k, stride, dilation) in enumerate(zip(kernel, rule.stride, rule.dilation, strict=True), 2):
        windows = windows.unfold(d, dilation * (k - 1) + 1, stride)[..., ::dilation]
    places = range(2, 2 + len(kernel))
    taps = range(2 + len(kernel), windows.ndim)
    return windows.permute(1, *taps, 0, *places).reshape(rule.groups, weight_shape[1] * prod(kernel), -1)


@gradient_factor.register
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


@outgoing_numbers.register
def _(rule: Convolution, weight_shape: Shape) -> Tensor:
    outputs, _, *kernel = weight_shape
    output = torch.arange(outputs).view(-1, 1, *(1,) * len(kernel)) % (outputs // rule.groups)
    return output * prod(kernel) + torch.arange(prod(kernel)).view(kernel)


def by_output(rule: Rule, values: Tensor, ndim: int) -> Tensor:
    """Values (*shape of y, ...) rearranged as (output neurons, b, ...); y has ``ndim`` dimensions."""
    if ndim == 1:  # a single sample without a batch dimension
        return values.unsqueeze(1)
    return values.movedim(rule.output_dim % ndim, 0).flatten(1, ndim - 1)


def add_product(rule: Rule, entries: Tensor, x: Tensor, right: Callable[[int, int], Tensor], shape: Shape) -> None:
    """Add Σ_b X[f, b] R[o, b, c] to a block of entries of P, in place, for some output neurons o at a time.

    Args:
        rule: the rule of call ℓ.
        entries: the block, (weights of ℓ in their order, c).
        x: X of call ℓ.
        right: ``right(first, end)`` is R of the output neurons first, ..., end − 1.
        shape: the shape of ℓ's weight.
    """
    rows = entries.unflatten(0, shape if rule.is_inputs_first else (shape[0], -1))
    if rule.is_inputs_first:
        rows = rows.transpose(0, 1)
    outputs, _, columns = rows.shape
    per_group = outputs // len(x)
    step = max(1, MAX_ELEMENTS // max(1, x.shape[2] * columns))
    for first in range(0, outputs, step):
        end = min(outputs, first + step)
        group = torch.arange(first, end, device=x.device) // per_group
        left = x.expand(end - first, -1, -1) if len(x) == 1 else x[group]
        rows[first:end].baddbmm_(left, right(first, end))


def random_scales(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random numbers r = ±2^e. Multiplying by them is exact, so that J r equals (J 1) ∘ r exactly if J is diagonal."""
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(0, 16, shape, generator=generator, device="cpu")
    signs = torch.randint(0, 2, shape, generator=generator, device="cpu") * 2 - 1
    return (signs * 2**exponents).to(device, dtype)
