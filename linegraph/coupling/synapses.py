"""One rule per weighted operation.

A weighted operation is bilinear: y = W · x. Everything that P needs of it follows from the
trilinear form ⟨g, V · x⟩ of an input x, a weight-shaped V and an output gradient g:

=====================  ==========  ===========================================
``apply(x, V)``        V · x       derivative of the form by g
``to_input(V, g)``     Vᵀ g        derivative by x
``to_weight(x, g)``    x ⊗ g       derivative by V, summed over samples and positions
=====================  ==========  ===========================================

``apply_ones`` and ``to_input_ones`` are the first two for V = 1, which are sums over channels and
far cheaper. A rule also says which *neurons* its weights join.

To teach linegraph another weighted operation, write its rule and a binder: a function with the
signature of the torch function, decorated with ``@binds(function, ...)``, that says which argument
is the input and which the weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Bound", "Convolution", "Linear", "Matmul", "Rule", "bind", "binds"]

Shape = tuple[int, ...]


class Rule(Protocol):
    """The three products of a bilinear operation, and its neurons."""

    @property
    def op(self) -> str:
        """Name of the operation, as shown to users."""
        ...

    @property
    def input_dim(self) -> int:
        """Dimension of x that counts input neurons."""
        ...

    @property
    def output_dim(self) -> int:
        """Dimension of y that counts output neurons."""
        ...

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """V · x."""
        ...

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        """V · x for V = 1."""
        ...

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        """Vᵀ g, of the shape of x."""
        ...

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        """Vᵀ g for V = 1."""
        ...

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        """X ⊗ g, of the shape of the weight."""
        ...

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Input and output neuron of every weight entry, broadcastable to the weight's shape."""
        ...

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Weights that leave each input neuron, and weights that enter each output neuron."""
        ...


@dataclass(frozen=True)
class Bound:
    """A call of a weighted operation, taken apart: y = W · x + bias, then ``finish(y)``."""

    rule: Rule
    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    finish: Callable[[Tensor], Tensor] | None = None


Binder = Callable[..., Bound | None]

_BINDERS: dict[Callable[..., Any], list[Binder]] = {}


def binds(*functions: Callable[..., Any]) -> Callable[[Binder], Binder]:
    """Register a binder for torch functions: the one place where an operation becomes known.

    A function whose weight may stand in several places has a binder for each; one that does not apply to the
    arguments returns None.
    """

    def register(binder: Binder) -> Binder:
        for function in functions:
            _BINDERS.setdefault(function, []).append(binder)
        return binder

    return register


def bind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], is_weight: Callable[[Tensor], bool]
) -> Bound | None:
    """The call taken apart, if it is a weighted operation with such a weight; else None."""
    for binder in _BINDERS.get(function, ()):
        bound = binder(*args, **kwargs)
        if bound is not None and is_weight(bound.weight):
            return bound
    return None


# Linear maps -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """y[..., i] = Σ_j W[i, j] x[..., j]."""

    op: str = "linear"
    input_dim: int = -1
    output_dim: int = -1

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x.sum(-1, keepdim=True).expand(*x.shape[:-1], weight_shape[0])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return g @ weight

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g.sum(-1, keepdim=True).expand(x_shape)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return g.reshape(-1, weight_shape[0]).mT @ x.reshape(-1, weight_shape[1])

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        outputs, inputs = weight_shape
        return torch.arange(inputs), torch.arange(outputs).unsqueeze(1)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        outputs, inputs = weight_shape
        return torch.full((inputs,), outputs), torch.full((outputs,), inputs)


@binds(F.linear)
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Bound:
    if weight.ndim == 1:  # torch allows a single output neuron without a dimension of its own
        return Bound(Linear(), input, weight.unsqueeze(0), bias, lambda y: y.squeeze(-1))
    return Bound(Linear(), input, weight, bias)


@dataclass(frozen=True)
class Matmul:
    """y[..., i] = Σ_j x[..., j] W[j, i]."""

    op: str = "matmul"
    input_dim: int = -1
    output_dim: int = -1

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return Linear().apply_ones(x, weight_shape[::-1])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return g @ weight.mT

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return Linear().to_input_ones(g, x_shape, weight_shape[::-1])

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return x.reshape(-1, weight_shape[0]).mT @ g.reshape(-1, weight_shape[1])

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        inputs, outputs = weight_shape
        return torch.arange(inputs).unsqueeze(1), torch.arange(outputs)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return Linear().degrees(weight_shape[::-1])


_MATMULS = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__, Tensor.__rmatmul__)


@binds(*_MATMULS)
def _weight_on_the_right(input: Tensor, other: Tensor) -> Bound | None:
    return Bound(Matmul(), input, other) if other.ndim == 2 else None


@binds(*_MATMULS)
def _weight_on_the_left(input: Tensor, other: Tensor) -> Bound | None:
    if input.ndim != 2:
        return None
    return Bound(Linear(), other, input) if other.ndim == 1 else Bound(Linear(), other.mT, input, None, _transposed)


def _transposed(y: Tensor) -> Tensor:
    return y.mT


# Convolutions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convolution:
    """y[n, i, p] = Σ_{c, q} W[i, c, q] x[n, c, stride·p + dilation·q − padding]; neurons are channels."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    input_dim: int = 1
    output_dim: int = 1

    @property
    def op(self) -> str:
        return f"conv{len(self.stride)}d"

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._convolve(x, weight, self.groups)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        # All outputs of a group are one and the same sum over its channels: convolve that sum once.
        pooled = x.unflatten(1, (self.groups, -1)).sum(2)
        y = self._convolve(pooled, self._one_kernel(x, weight_shape), self.groups)
        return y.unsqueeze(2).expand(-1, -1, weight_shape[0] // self.groups, *y.shape[2:]).flatten(1, 2)

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return self._backward(g, g.new_empty(1).expand(x_shape), weight, self.groups, (True, False, False))[0]

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        pooled = g.unflatten(1, (self.groups, -1)).sum(2)
        shape = (x_shape[0], self.groups, *x_shape[2:])
        kernel = self._one_kernel(g, weight_shape)
        x = self._backward(pooled, g.new_empty(1).expand(shape), kernel, self.groups, (True, False, False))[0]
        return x.unsqueeze(2).expand(-1, -1, weight_shape[1], *x.shape[2:]).flatten(1, 2)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return self._backward(g, x, g.new_empty(1).expand(weight_shape), self.groups, (False, True, False))[1]

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        outputs, channels, *kernel = weight_shape
        out = torch.arange(outputs).unsqueeze(1)
        group = out // (outputs // self.groups)
        into = group * channels + torch.arange(channels)
        spread = (...,) + (None,) * len(kernel)
        return into[spread], out[spread]

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        outputs, channels, *kernel = weight_shape
        taps = prod(kernel)
        leaving = torch.full((channels * self.groups,), outputs // self.groups * taps)
        return leaving, torch.full((outputs,), channels * taps)

    def _convolve(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        none = (0,) * len(self.stride)
        return torch.convolution(x, weight, None, self.stride, self.padding, self.dilation, False, none, groups)

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool, bool]) -> Any:
        none = (0,) * len(self.stride)
        return torch.ops.aten.convolution_backward(
            g, x, weight, None, self.stride, self.padding, self.dilation, False, none, groups, wanted
        )

    def _one_kernel(self, like: Tensor, weight_shape: Shape) -> Tensor:
        return like.new_ones((self.groups, 1, *weight_shape[2:]))


def _tuple(value: int | tuple[int, ...], length: int) -> Shape:
    return (value,) * length if isinstance(value, int) else tuple(value) * (length // len(value))


@binds(F.conv1d, F.conv2d, F.conv3d)
def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Shape = 1,
    padding: int | Shape | str = 0,
    dilation: int | Shape = 1,
    groups: int = 1,
) -> Bound:
    dims = weight.ndim - 2
    dilation = _tuple(dilation, dims)
    if isinstance(padding, str):
        input, padding = _resolve_padding(input, padding, weight.shape[2:], dilation)
    rule = Convolution(_tuple(stride, dims), _tuple(padding, dims), dilation, groups)
    if bias is not None:
        bias = bias.view(-1, *(1,) * dims)
    if input.ndim == dims + 1:  # a single sample without a batch dimension
        return Bound(rule, input.unsqueeze(0), weight, bias, lambda y: y.squeeze(0))
    return Bound(rule, input, weight, bias)


def _resolve_padding(x: Tensor, padding: str, kernel: Shape, dilation: Shape) -> tuple[Tensor, Shape]:
    """The input, zero-padded by what is asymmetric in "same", and the symmetric remainder."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    extra = [amount for total in reversed(totals) for amount in (0, total % 2)]
    return (F.pad(x, extra) if any(extra) else x), tuple(total // 2 for total in totals)
