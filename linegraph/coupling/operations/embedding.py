"""Rule of look-ups: embeddings and bags of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations.linear import Matmul
from linegraph.coupling.operations.rules import Bound, Rule, Shape, binds

__all__ = ["Embedding"]


@dataclass(frozen=True, eq=False)
class Embedding(Rule):
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

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        rows = (g * x.unsqueeze(-1)).reshape(-1, weight.shape[1])
        return g.new_zeros(weight.shape).index_add(0, self.index.reshape(-1), rows)

    def selected_inputs(self) -> Tensor:
        return self.index

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return Matmul().neurons(weight_shape)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        return Matmul().degrees(weight_shape)


def _look_up(weight: Tensor, index: Tensor, padding: int | None, scale: Tensor | None = None) -> Bound:
    """A look-up of rows of a weight; rows of the padding index are not trained, so they enter as a constant bias."""
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
    if max_norm is not None or scale_grad_by_freq:  # training is then not gradient descent
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
    if padding_idx is not None:  # padding goes to one more bag, which _reduce_bags drops
        bag = torch.where(index == padding_idx % len(weight), bags, bag)
    bound = _look_up(weight, index, None, scale)
    return Bound(bound.rule, bound.x, weight, None, lambda rows: _reduce_bags(rows, bag, bags, mode))


def _reduce_bags(rows: Tensor, bag: Tensor, bags: int, mode: str) -> Tensor:
    """Sum, mean or maximum of the rows of every bag, 0 for an empty one; rows of the bag after the last are dropped."""
    into = torch.zeros((), dtype=rows.dtype, device=rows.device).expand(bags + 1, rows.shape[1])
    reduce = {"max": "amax"}.get(mode, mode)
    return into.scatter_reduce(0, bag.unsqueeze(1).expand_as(rows), rows, reduce, include_self=False)[:bags]
