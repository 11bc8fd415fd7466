"""Rules of linear maps and products of matrices: one weight matrix for all samples, or one for each batch entry."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations.rules import Bound, Rule, Shape, binds

__all__ = ["BatchedMatmul", "Linear", "Matmul"]


@dataclass(frozen=True)
class Linear(Rule):
    """y[..., i] = Σ_j W[i, j] x[..., j]."""

    is_autocast: ClassVar[bool] = True
    has_factors: ClassVar[bool] = True

    op: str = "linear"
    input_dim: int = -1
    output_dim: int = -1
    weight_dims: tuple[int, int] = (0, 1)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def apply_with_bias(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x, weight, bias.to(x.dtype))

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x.sum(-1, keepdim=True).expand(*x.shape[:-1], weight_shape[0])

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return g @ weight

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g.sum(-1, keepdim=True).expand(x_shape)

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return torch.mm(*self.matrices(x, g, tuple(weight.shape)))

    def matrices(self, x: Tensor, g: Tensor, weight_shape: Shape) -> tuple[Tensor, Tensor]:
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


@binds(torch.inner, Tensor.inner)
def _inner_with_the_weight_second(input: Tensor, other: Tensor) -> Bound | None:
    return Bound(Linear(), input, other) if other.ndim == 2 else None


@binds(torch.inner, Tensor.inner)
def _inner_with_the_weight_first(input: Tensor, other: Tensor) -> Bound | None:
    return Bound(Linear(), other, input, None, lambda y: y.movedim(-1, 0).contiguous()) if input.ndim == 2 else None


@dataclass(frozen=True)
class Matmul(Rule):
    """y[..., i] = Σ_j x[..., j] W[j, i]."""

    is_autocast: ClassVar[bool] = True
    has_factors: ClassVar[bool] = True

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

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return torch.mm(*self.matrices(x, g, tuple(weight.shape)))

    def matrices(self, x: Tensor, g: Tensor, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return x.reshape(-1, weight_shape[0]).mT, g.reshape(-1, weight_shape[1])

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        inputs, outputs = weight_shape
        return torch.arange(inputs).unsqueeze(1), torch.arange(outputs)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return Linear().degrees(weight_shape[::-1])


_MATMULS = (
    torch.matmul,
    torch.linalg.matmul,
    torch.mm,
    torch.sparse.mm,
    Tensor.matmul,
    Tensor.mm,
    Tensor.__matmul__,
)


@binds(*_MATMULS)
def _weight_on_the_right(input: Tensor, other: Tensor) -> Bound | None:
    return Bound(Matmul(), input, other) if other.ndim == 2 else None


@binds(*_MATMULS)
def _weight_on_the_left(input: Tensor, other: Tensor) -> Bound | None:
    if input.ndim != 2:
        return None
    return Bound(Linear(), other, input) if other.ndim == 1 else Bound(Linear(), other.mT, input, None, _transposed)


def _transposed(y: Tensor) -> Tensor:
    return y.mT.contiguous()  # contiguous as torch's own product is, since the model may call view() on it


@dataclass(frozen=True)
class BatchedMatmul(Rule):
    """y[..., b, p, i] = Σ_j x[..., b, p, j] W[b, j, i]: a matrix for every b; neurons are the features j and i."""

    is_autocast: ClassVar[bool] = True
    broadcasts: ClassVar[bool] = True

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

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return (x.mT @ g).sum_to_size(weight.shape)

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

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return super().to_weight(x, g, weight.mT).mT

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


@binds(torch.addmv, Tensor.addmv)
def _added_matrix_times_vector(
    input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1
) -> Bound | None:
    return Bound(Linear(), vec, mat, None, lambda y: input * beta + y * alpha)


_SUMS_WITH_MATMULS = (torch.addmm, Tensor.addmm, torch.sparse.addmm, torch.baddbmm, Tensor.baddbmm)


@binds(*_SUMS_WITH_MATMULS)
def _added_weight_on_the_right(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Bound | None:
    bound = _weight_on_the_right(mat1, mat2) or _batched_weight_on_the_right(mat1, mat2)
    return bound and Bound(bound.rule, mat1, mat2, None, lambda y: input * beta + y * alpha)


@binds(*_SUMS_WITH_MATMULS)
def _added_weight_on_the_left(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Bound | None:
    bound = _weight_on_the_left(mat1, mat2) or _batched_weight_on_the_left(mat1, mat2)
    return bound and Bound(bound.rule, bound.x, mat1, None, lambda y: input * beta + _transposed(y) * alpha)
