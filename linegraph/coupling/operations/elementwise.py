"""Rules of weights that multiply activations elementwise, and of weights that are activations themselves."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations.rules import Bound, Rule, Shape, binds

__all__ = ["Offset", "Scale", "constant_input", "scale"]


@dataclass(frozen=True)
class Scale(Rule):
    """y = W ∘ x with broadcasting, where W gets ``trailing`` more dimensions of size 1; a neuron is a feature."""

    broadcasts: ClassVar[bool] = True

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

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return (x * g).sum_to_size((*weight.shape, *(1,) * self.trailing)).reshape(weight.shape)

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
    """The last dimension of more than one entry, counted from the end; −1 if there is none."""
    return next((d for d in range(-1, -len(shape) - 1, -1) if shape[d] > 1), -1)


def scale(x: Tensor, weight: Tensor) -> Bound | None:
    """The call y = W ∘ x; None where the shapes do not tell which dimension counts features."""
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


@binds(F.layer_norm, torch.layer_norm)
def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Bound | None:
    if weight is None:
        return None
    return Bound(Scale(-1, op="layer_norm"), F.layer_norm(input, normalized_shape, None, None, eps), weight, bias)


@binds(F.rms_norm, torch.rms_norm)
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


@binds(F.group_norm, torch.group_norm)
def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Bound | None:
    return None if weight is None else _channels("group_norm", F.group_norm(input, num_groups, eps=eps), weight, bias)


def _channels(op: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Bound:
    """A call with one weight for every channel, which dimension 1 of x counts."""
    trailing = x.ndim - 2
    return Bound(
        Scale(-1 - trailing, trailing, op), x, weight, None if bias is None else bias.view(-1, *(1,) * trailing)
    )


@dataclass(frozen=True)
class Offset(Rule):
    """y = W ∘ x for a constant input x = 1 of the shape of W: a weight that the model uses as an activation.

    Output neurons are the features, along one dimension of W; input neurons are the positions along all others.
    """

    feature: int = -1
    """Dimension of W that counts features, counted from the end."""
    op: str = "offset"

    @property
    def input_dim(self) -> int:
        return self.feature

    @property
    def output_dim(self) -> int:
        return self.feature

    @property
    def weight_dims(self) -> tuple[int, int]:
        return self.feature, self.feature

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * x

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return weight * g

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return x * g

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        positions, features = self._sizes(weight_shape)
        others = [1 if d - len(weight_shape) == self.feature else size for d, size in enumerate(weight_shape)]
        return torch.arange(positions).view(others), torch.arange(features).view(-1, *(1,) * (-self.feature - 1))

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        positions, features = self._sizes(weight_shape)
        return torch.full((positions,), features), torch.full((features,), positions)

    def _sizes(self, weight_shape: Shape) -> tuple[int, int]:
        """The numbers of positions and of features."""
        features = weight_shape[self.feature]
        return prod(weight_shape) // features, features


def constant_input(weight: Tensor) -> Bound:
    """The call W ∘ 1, for a weight that is added to activations or set beside them (a position code, a token)."""
    feature = _feature(tuple(weight.shape))
    return Bound(Offset(feature), torch.ones_like(weight, requires_grad=False), weight)
