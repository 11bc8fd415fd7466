"""Rule of sums and means over dimensions of a weight, of which norms and standardisations of weights are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from linegraph.coupling.operations.rules import Bound, Rule, Shape, binds

__all__ = ["Reduction"]


@dataclass(frozen=True)
class Reduction(Rule):
    """y = Σ W ∘ x over some dimensions, which y has with size 1, for a constant input x of the shape of W.

    There is one input neuron, the constant. Output neurons are the entries of y along its first dimension of more than
    one entry.
    """

    dims: Shape
    kept: int
    name: str = "sum"
    input_dim: None = None

    @property
    def op(self) -> str:
        return f"{self.name} over {self.dims}"  # a weight may be summed in several ways

    @property
    def output_dim(self) -> int:
        return self.kept

    @property
    def weight_dims(self) -> tuple[int, int]:
        return self.kept, self.kept

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return (x * weight).sum(self.dims, keepdim=True)

    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        return x.sum(self.dims, keepdim=True)

    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        return weight * g

    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        return g.expand(x_shape)

    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        return x * g

    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        trailing = len(weight_shape) - self.kept - 1
        return torch.zeros((), dtype=torch.int64), torch.arange(self._outputs(weight_shape)).view(-1, *(1,) * trailing)

    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        size, outputs = prod(weight_shape), self._outputs(weight_shape)
        return torch.tensor([size]), torch.full((outputs,), size // outputs)

    def _outputs(self, weight_shape: Shape) -> int:
        return 1 if self.kept in self.dims else weight_shape[self.kept]


def _reduced(op: str, weight: Tensor, dim: int | Sequence[int] | None, keepdim: bool) -> Bound | None:
    """The sum or mean of a weight over dimensions, all of them for None and (); None for a weight without entries."""
    if not weight.ndim or not weight.numel():
        return None
    given = [dim] if isinstance(dim, int) else list(dim or range(weight.ndim))
    dims = tuple(sorted(d % weight.ndim for d in given))
    kept = [d for d in range(weight.ndim) if d not in dims]
    output = next((d for d in kept if weight.shape[d] > 1), kept[0] if kept else 0)
    scale = 1 / prod(weight.shape[d] for d in dims) if op == "mean" else 1.0
    x = torch.full((), scale, dtype=weight.dtype, device=weight.device).expand(weight.shape)
    shape = [weight.shape[d] for d in kept]
    return Bound(Reduction(dims, output, op), x, weight, None, None if keepdim else lambda y: y.reshape(shape))


@binds(torch.sum, Tensor.sum)
def _sum(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Bound | None:
    return _reduced("sum", input, dim, keepdim) if dtype is None else None


@binds(torch.mean, Tensor.mean)
def _mean(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Bound | None:
    return _reduced("mean", input, dim, keepdim) if dtype is None else None
