"""Rules of convolutions and transposed convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations.rules import Bound, Rule, Shape, binds
from linegraph.coupling.operations.windows import Window

__all__ = ["Convolution", "TransposedConvolution"]


@dataclass(frozen=True)
class Convolution(Rule):
    """y[n, i, p] = Σ_{c, q} W[i, c, q] x[n, c, stride·p + dilation·q − padding]; neurons are channels."""

    is_autocast: ClassVar[bool] = True
    has_factors: ClassVar[bool] = True

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

    @property
    def num_groups(self) -> int:
        return self.groups

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.convolution(x, weight, None, *self._geometry, self.groups)

    def apply_with_bias(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.convolution(x, weight, bias.to(x.dtype).reshape(-1), *self._geometry, self.groups)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        # With a weight of ones, all output channels of a group equal the sum over its input channels and the window.
        _, outputs = self._per_group(weight_shape)
        return _repeated(self._window_sums(self._pooled(x), weight_shape[2:]), outputs)

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        # torch reads the shape of x only, but would copy an expanded placeholder in full: pass uninitialised memory.
        x = g if g.shape == x_shape else g.new_empty(x_shape)
        return self._backward(g, x, weight, (True, False, False))[0]

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        inputs, _ = self._per_group(weight_shape)
        return _repeated(self._spread_sums(self._pooled(g), weight_shape[2:], x_shape[2:]), inputs)

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        # torch reads the shape of the weight only; the weight itself costs less than a newly allocated placeholder.
        return self._backward(g, x, weight.to(g.dtype), (False, True, False))[1]

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

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Any:
        return torch.ops.aten.convolution_backward(g, x, weight, None, *self._geometry, self.groups, wanted)

    def _pooled(self, x: Tensor) -> Tensor:
        """Sums over the channels of each group."""
        return x.sum(1, keepdim=True) if self.groups == 1 else x.unflatten(1, (self.groups, -1)).sum(2)

    def _windows(self, kernel: Shape) -> Iterator[Window]:
        """The window of the kernel along every spatial dimension."""
        for window in zip(kernel, self.stride, self.padding, self.dilation, strict=True):
            yield Window(*window)

    def _window_sums(self, x: Tensor, kernel: Shape) -> Tensor:
        """Convolution with a kernel of ones, channel by channel."""
        for d, window in enumerate(self._windows(kernel), 2):
            x = window.sums(x, d, window.outputs(x.shape[d]))
        return x

    def _spread_sums(self, g: Tensor, kernel: Shape, sizes: Shape) -> Tensor:
        """The adjoint of ``_window_sums``, with these spatial sizes."""
        for d, (window, size) in enumerate(zip(self._windows(kernel), sizes, strict=True), 2):
            g = window.spread(g, d, size)
        return g


def _repeated(sums: Tensor, channels: int) -> Tensor:
    """Sums (samples, groups, ...) repeated for every channel of a group: (samples, channels, ...)."""
    return sums.unsqueeze(2).expand(-1, -1, channels, *sums.shape[2:]).flatten(1, 2)


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
    """The input and the symmetric padding that replace a padding given as "valid" or "same".

    "same" may need one more zero at the end of a dimension than at its start; the input is padded by that zero.
    """
    if padding == "valid":
        return x, (0,) * len(kernel)
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    extra = [amount for total in reversed(totals) for amount in (0, total % 2)]
    return (F.pad(x, extra) if any(extra) else x), tuple(total // 2 for total in totals)


@dataclass(frozen=True)
class TransposedConvolution(Convolution):
    """The adjoint of a convolution in x: weights are (in-channels, out-channels of a group, *kernel)."""

    has_factors: ClassVar[bool] = False
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

    def _window_sums(self, x: Tensor, kernel: Shape) -> Tensor:
        for d, (window, more) in enumerate(zip(self._windows(kernel), self.output_padding, strict=True), 2):
            x = window.spread(x, d, window.inputs(x.shape[d]) + more)
        return x

    def _spread_sums(self, g: Tensor, kernel: Shape, sizes: Shape) -> Tensor:
        for d, (window, size) in enumerate(zip(self._windows(kernel), sizes, strict=True), 2):
            g = window.sums(g, d, size)
        return g


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


@binds(torch.convolution)
def _any_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Shape,
    padding: Shape,
    dilation: Shape,
    transposed: bool,
    output_padding: Shape,
    groups: int,
) -> Bound | None:
    if transposed:
        return _transposed_convolution(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return _convolution(input, weight, bias, stride, padding, dilation, groups)
