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

__all__ = [
    "BatchedMatmul",
    "Bound",
    "Convolution",
    "Embedding",
    "Linear",
    "Matmul",
    "Offset",
    "Rule",
    "Scale",
    "TransposedConvolution",
    "bind",
    "binds",
    "constant_input",
    "scale",
]

Shape = tuple[int, ...]


class Rule(Protocol):
    """The three products of a bilinear operation, and its neurons."""

    @property
    def op(self) -> str:
        """Name of the operation, as shown to users."""
        ...

    @property
    def input_dim(self) -> int | None:
        """Dimension of x that counts input neurons; None where they are not laid out along one."""
        ...

    @property
    def output_dim(self) -> int:
        """Dimension of y that counts output neurons."""
        ...

    @property
    def weight_dims(self) -> tuple[int, int]:
        """Dimensions of W that count output and input neurons."""
        ...

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """V · x, in memory of its own."""
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
    weight_dims: tuple[int, int] = (0, 1)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x.sum(-1, keepdim=True).expand(*x.shape[:-1], weight_shape[0])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return g @ weight

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g.sum(-1, keepdim=True).expand(x_shape)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return torch.mm(*self.factors(x, g, weight_shape))

    def factors(self, x: Tensor, g: Tensor, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is X ⊗ g."""
        return g.reshape(-1, weight_shape[0]).mT, x.reshape(-1, weight_shape[1])

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
    weight_dims: tuple[int, int] = (1, 0)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return Linear().apply_ones(x, weight_shape[::-1])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return g @ weight.mT

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return Linear().to_input_ones(g, x_shape, weight_shape[::-1])

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return torch.mm(*self.factors(x, g, weight_shape))

    def factors(self, x: Tensor, g: Tensor, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is X ⊗ g."""
        return x.reshape(-1, weight_shape[0]).mT, g.reshape(-1, weight_shape[1])

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
    weight_dims: tuple[int, int] = (0, 1)

    @property
    def op(self) -> str:
        return f"conv{len(self.stride)}d"

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._convolve(x, weight, self.groups)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        # All outputs of a group are one and the same sum over its channels: convolve that sum once.
        pooled = self._pooled(x)
        kernel = self._one_kernel(x, weight_shape)
        y = pooled if self._is_pointwise(weight_shape) else self._convolve(pooled, kernel, self.groups)
        _, outputs = self._per_group(weight_shape)
        return y.unsqueeze(2).expand(-1, -1, outputs, *y.shape[2:]).flatten(1, 2)

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        # Of x only the shape is read; an expanded stand-in would be written out in full.
        return self._backward(g, g.new_empty(x_shape), weight, self.groups, (True, False, False))[0]

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        x = pooled = self._pooled(g)
        if not self._is_pointwise(weight_shape):
            like = g.new_empty((x_shape[0], self.groups, *x_shape[2:]))
            kernel = self._one_kernel(g, weight_shape)
            x = self._backward(pooled, like, kernel, self.groups, (True, False, False))[0]
        inputs, _ = self._per_group(weight_shape)
        return x.unsqueeze(2).expand(-1, -1, inputs, *x.shape[2:]).flatten(1, 2)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return self._backward(g, x, g.new_empty(weight_shape), self.groups, (False, True, False))[1]

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        outputs, channels, *kernel = weight_shape
        out = torch.arange(outputs).unsqueeze(1)
        group = out // (outputs // self.groups)
        into = group * channels + torch.arange(channels)
        spread = (...,) + (None,) * len(kernel)
        return into[spread], out[spread]

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        inputs, outputs = self._per_group(weight_shape)
        taps = prod(weight_shape[2:])
        return torch.full((inputs * self.groups,), outputs * taps), torch.full((outputs * self.groups,), inputs * taps)

    @property
    def _geometry(self) -> tuple[Shape, Shape, Shape, bool, Shape]:
        """Stride, padding, dilation, whether transposed, and output padding, as torch takes them."""
        return self.stride, self.padding, self.dilation, False, (0,) * len(self.stride)

    def _per_group(self, weight_shape: Shape) -> tuple[int, int]:
        """Input and output channels of one group."""
        return weight_shape[1], weight_shape[0] // self.groups

    def _convolve(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        return torch.convolution(x, weight, None, *self._geometry, groups)

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool, bool]) -> Any:
        return torch.ops.aten.convolution_backward(g, x, weight, None, *self._geometry, groups, wanted)

    def _pooled(self, x: Tensor) -> Tensor:
        """Sums over the channels of each group."""
        return x.sum(1, keepdim=True) if self.groups == 1 else x.unflatten(1, (self.groups, -1)).sum(2)

    def _is_pointwise(self, weight_shape: Shape) -> bool:
        """Whether every position meets itself alone."""
        stride, padding, _, _, _ = self._geometry
        return set(weight_shape[2:]) == set(stride) == {1} and set(padding) == {0}

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


@dataclass(frozen=True)
class TransposedConvolution(Convolution):
    """The adjoint of a convolution in x: weights are (in-channels, out-channels of a group, *kernel)."""

    weight_dims: tuple[int, int] = (1, 0)
    output_padding: Shape = ()

    @property
    def op(self) -> str:
        return f"conv_transpose{len(self.stride)}d"

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        inputs, channels, *kernel = weight_shape
        into = torch.arange(inputs).unsqueeze(1)
        group = into // (inputs // self.groups)
        out = group * channels + torch.arange(channels)
        spread = (...,) + (None,) * len(kernel)
        return into[spread], out[spread]

    @property
    def _geometry(self) -> tuple[Shape, Shape, Shape, bool, Shape]:
        return self.stride, self.padding, self.dilation, True, self.output_padding

    def _per_group(self, weight_shape: Shape) -> tuple[int, int]:
        return weight_shape[0] // self.groups, weight_shape[1]


@binds(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def _transposed_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Shape = 1,
    padding: int | Shape = 0,
    output_padding: int | Shape = 0,
    groups: int = 1,
    dilation: int | Shape = 1,
) -> Bound:
    dims = weight.ndim - 2
    stride, padding, output_padding, dilation = (_tuple(v, dims) for v in (stride, padding, output_padding, dilation))
    rule = TransposedConvolution(stride, padding, dilation, groups, output_padding=output_padding)
    if bias is not None:
        bias = bias.view(-1, *(1,) * dims)
    if input.ndim == dims + 1:
        return Bound(rule, input.unsqueeze(0), weight, bias, lambda y: y.squeeze(0))
    return Bound(rule, input, weight, bias)


# Products with a matrix per batch entry -----------------------------------------------------------------


@dataclass(frozen=True)
class BatchedMatmul:
    """y[..., b, p, i] = Σ_j x[..., b, p, j] W[b, j, i]: a matrix per b; neurons are the features j and i."""

    op: str = "bmm"
    input_dim: int = -1
    output_dim: int = -1
    weight_dims: tuple[int, int] = (-1, -2)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        y = x.sum(-1, keepdim=True)
        batch = torch.broadcast_shapes(y.shape[:-2], weight_shape[:-2])
        return y.expand(*batch, y.shape[-2], weight_shape[-1])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return (g @ weight.mT).sum_to_size(x_shape)

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        total = g.sum(-1, keepdim=True)
        return total.expand(*total.shape[:-1], weight_shape[-2]).sum_to_size(x_shape)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return (x.mT @ g).sum_to_size(weight_shape)

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        inputs, outputs = weight_shape[-2:]
        return torch.arange(inputs).unsqueeze(1), torch.arange(outputs)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        *batch, inputs, outputs = weight_shape
        return torch.full((inputs,), prod(batch) * outputs), torch.full((outputs,), prod(batch) * inputs)


@binds(*_MATMULS, torch.bmm, Tensor.bmm)
def _batched_weight_on_the_right(input: Tensor, other: Tensor) -> Bound | None:
    return Bound(BatchedMatmul(), input, other) if other.ndim > 2 and input.ndim > 1 else None


@binds(*_MATMULS, torch.bmm, Tensor.bmm)
def _batched_weight_on_the_left(input: Tensor, other: Tensor) -> Bound | None:
    if input.ndim < 3 or other.ndim < 2:
        return None
    return Bound(_LeftMatmul(), other.mT, input, None, _transposed)


@dataclass(frozen=True)
class _LeftMatmul(BatchedMatmul):
    """y[..., b, p, i] = Σ_j x[..., b, p, j] W[b, i, j]."""

    weight_dims: tuple[int, int] = (-2, -1)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return super().apply(x, weight.mT)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return super().apply_ones(x, _swapped(weight_shape))

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return super().to_input(weight.mT, g, x_shape)

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return super().to_input_ones(g, x_shape, _swapped(weight_shape))

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return super().to_weight(x, g, _swapped(weight_shape)).mT

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        into, out = super().neurons(_swapped(weight_shape))
        return into.mT, out.unsqueeze(1)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return super().degrees(_swapped(weight_shape))


def _swapped(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


@binds(torch.mv, Tensor.mv)
def _matrix_times_vector(input: Tensor, vec: Tensor) -> Bound | None:
    return Bound(Linear(), vec, input)


@binds(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _added_weight_on_the_right(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Bound | None:
    bound = _weight_on_the_right(mat1, mat2) or _batched_weight_on_the_right(mat1, mat2)
    return bound and Bound(bound.rule, mat1, mat2, None, lambda y: input * beta + y * alpha)


@binds(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _added_weight_on_the_left(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Bound | None:
    bound = _weight_on_the_left(mat1, mat2) or _batched_weight_on_the_left(mat1, mat2)
    return bound and Bound(bound.rule, bound.x, mat1, None, lambda y: input * beta + y.mT * alpha)


# Look-ups ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Embedding:
    """y[..., i] = x[...] W[index[...], i]: a linear map of the one-hot vectors of ``index``, scaled by x."""

    index: Tensor
    op: str = "embedding"
    input_dim: None = None
    output_dim: int = -1
    weight_dims: tuple[int, int] = (1, 0)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight[self.index] * x.unsqueeze(-1)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x.unsqueeze(-1).expand(*x.shape, weight_shape[1])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return (weight[self.index] * g).sum(-1)

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g.sum(-1)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        rows = (g * x.unsqueeze(-1)).reshape(-1, weight_shape[1])
        return g.new_zeros(weight_shape).index_add(0, self.index.reshape(-1), rows)

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return Matmul().neurons(weight_shape)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return Matmul().degrees(weight_shape)


def _look_up(weight: Tensor, index: Tensor, padding: int | None, scale: Tensor | None = None) -> Bound:
    """Rows of a weight; those of the padding index do not learn, and so are constants."""
    rows = torch.ones((), dtype=weight.dtype, device=weight.device).expand(index.shape) if scale is None else scale
    if padding is None:
        return Bound(Embedding(index), rows, weight)
    fixed = index == padding % len(weight)
    constant = weight.detach()[index] * (rows * fixed).unsqueeze(-1)
    return Bound(Embedding(index), rows * ~fixed, weight, constant)


@binds(F.embedding)
def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Bound | None:
    if max_norm is not None or scale_grad_by_freq:  # neither is gradient descent on the weights as they are
        return None
    return _look_up(weight, input, padding_idx)


@binds(torch.embedding)
def _bare_embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Bound | None:
    return None if scale_grad_by_freq else _look_up(weight, indices, padding_idx if padding_idx >= 0 else None)


@binds(F.embedding_bag)
def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Bound | None:
    if max_norm is not None or scale_grad_by_freq:
        return None
    if input.ndim == 2:
        bags = len(input)
        bag = torch.arange(bags, device=input.device).repeat_interleave(input.shape[1])
    else:
        if offsets is None:
            raise ValueError("embedding_bag needs offsets for a one-dimensional input")
        starts = offsets[:-1] if include_last_offset else offsets
        bags = len(starts)
        bag = torch.searchsorted(starts, torch.arange(len(input), device=input.device), right=True) - 1
    index = input.reshape(-1)
    scale = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    if padding_idx is not None:  # into a bag of its own, which is left out
        bag = torch.where(index == padding_idx % len(weight), bags, bag)
    bound = _look_up(weight, index, None, scale)
    return Bound(bound.rule, bound.x, weight, None, lambda rows: _reduce_bags(rows, bag, bags, mode))


def _reduce_bags(rows: Tensor, bag: Tensor, bags: int, mode: str) -> Tensor:
    """Sum, mean or maximum of the rows of bags 0 to ``bags`` − 1; 0 where one is empty. Other rows are dropped."""
    into = torch.zeros((), dtype=rows.dtype, device=rows.device).expand(bags + 1, rows.shape[1])
    reduce = {"max": "amax"}.get(mode, mode)
    return into.scatter_reduce(0, bag.unsqueeze(1).expand_as(rows), rows, reduce, include_self=False)[:bags]


# Elementwise factors and offsets --------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """y = W ∘ x with broadcasting, W extended by ``trailing`` dimensions of size 1; a neuron is a feature."""

    feature: int
    """Dimension of x, counted from the end, along which the last non-trivial dimension of W lies."""
    trailing: int = 0
    op: str = "mul"

    @property
    def input_dim(self) -> int:
        return self.feature

    @property
    def output_dim(self) -> int:
        return self.feature

    @property
    def weight_dims(self) -> tuple[int, int]:
        return self.feature + self.trailing, self.feature + self.trailing

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * self._extended(weight)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, (*weight_shape, *(1,) * self.trailing)))

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return (g * self._extended(weight)).sum_to_size(x_shape)

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g.sum_to_size(x_shape)

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return (x * g).sum_to_size((*weight_shape, *(1,) * self.trailing)).reshape(weight_shape)

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        where = self.feature + self.trailing
        index = torch.arange(weight_shape[where]).view(-1, *(1,) * (-where - 1))
        return index, index

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        features = weight_shape[self.feature + self.trailing]
        degree = torch.full((features,), prod(weight_shape) // features)
        return degree, degree

    def _extended(self, weight: Tensor) -> Tensor:
        return weight.reshape(*weight.shape, *(1,) * self.trailing)


def _feature(shape: Shape) -> int:
    """The last dimension, from the end, that is more than 1; the last one if there is none."""
    return next((d for d in range(-1, -len(shape) - 1, -1) if shape[d] > 1), -1)


def scale(x: Tensor, weight: Tensor) -> Bound | None:
    """Y = W ∘ x, if the shapes say which dimension is the feature."""
    if not (isinstance(x, Tensor) and isinstance(weight, Tensor)) or weight.ndim == 0:
        return None
    feature = _feature(tuple(weight.shape))
    if x.ndim < -feature or x.shape[feature] != weight.shape[feature]:
        return None
    return Bound(Scale(feature), x, weight)


_MULTIPLICATIONS = (torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__)


@binds(*_MULTIPLICATIONS)
def _weight_as_second_factor(input: Tensor, other: Tensor) -> Bound | None:
    return scale(input, other)


@binds(*_MULTIPLICATIONS)
def _weight_as_first_factor(input: Tensor, other: Tensor) -> Bound | None:
    return scale(other, input)


@binds(F.layer_norm)
def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Bound | None:
    if weight is None:
        return None
    return Bound(Scale(-1, op="layer_norm"), F.layer_norm(input, normalized_shape, None, None, eps), weight, bias)


@binds(F.rms_norm)
def _rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Bound | None:
    if weight is None:
        return None
    return Bound(Scale(-1, op="rms_norm"), F.rms_norm(input, normalized_shape, None, eps), weight)


@binds(F.batch_norm)
def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Bound | None:
    if weight is None:
        return None
    x = F.batch_norm(input, running_mean, running_var, None, None, training, momentum, eps)
    return _channels("batch_norm", x, weight, bias)


@binds(F.group_norm)
def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Bound | None:
    return None if weight is None else _channels("group_norm", F.group_norm(input, num_groups, eps=eps), weight, bias)


def _channels(op: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Bound:
    """A weight per channel, on dimension 1 of x."""
    trailing = x.ndim - 2
    return Bound(
        Scale(-1 - trailing, trailing, op), x, weight, None if bias is None else bias.view(-1, *(1,) * trailing)
    )


@dataclass(frozen=True)
class Offset:
    """y = W ∘ x for a constant x = 1 of the shape of W: a weight that is itself an activation."""

    op: str = "offset"
    input_dim: int = -1
    output_dim: int = -1
    weight_dims: tuple[int, int] = (-1, -1)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * x

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return weight * g

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g

    def to_weight(self, x: Tensor, g: Tensor, weight_shape: Shape) -> Tensor:
        return x * g

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        positions = torch.arange(prod(weight_shape[:-1])).view(*weight_shape[:-1], 1)
        return positions, torch.arange(weight_shape[-1])

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        positions, features = prod(weight_shape[:-1]), weight_shape[-1]
        return torch.full((positions,), features), torch.full((features,), positions)


def constant_input(weight: Tensor) -> Bound:
    """A weight that enters as a summand or as a token: the activation W · 1."""
    return Bound(Offset(), torch.ones_like(weight, requires_grad=False), weight)
