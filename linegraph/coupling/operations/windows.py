"""Convolutions with a kernel of ones: sums over windows, formed one dimension after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Window"]


@dataclass(frozen=True)
class Window:
    """The windows of a kernel along one dimension: output p reads inputs stride·p + dilation·tap − padding."""

    taps: int
    stride: int
    padding: int
    dilation: int

    def outputs(self, inputs: int) -> int:
        """Number of positions at which the window fits."""
        return (inputs + 2 * self.padding - self.dilation * (self.taps - 1) - 1) // self.stride + 1

    def inputs(self, outputs: int) -> int:
        """The smallest number of positions with this number of outputs."""
        return (outputs - 1) * self.stride - 2 * self.padding + self.dilation * (self.taps - 1) + 1

    def sums(self, x: Tensor, dim: int, outputs: int) -> Tensor:
        """Sums over the windows along a dimension."""
        if self.padding:
            x = F.pad(x, (*(0,) * 2 * (x.ndim - 1 - dim), self.padding, self.padding))
        met = self._met(x, dim, outputs)
        return sum(met[1:], met[0])

    def spread(self, y: Tensor, dim: int, inputs: int) -> Tensor:
        """The adjoint of ``sums``: every y is added to all positions of its window."""
        if self.taps == self.stride == 1 and not self.padding:
            return y
        x = y.new_zeros([inputs + 2 * self.padding if d == dim else n for d, n in enumerate(y.shape)])
        for met in self._met(x, dim, y.shape[dim]):
            met.add_(y)
        return x.narrow(dim, self.padding, inputs)

    def _met(self, x: Tensor, dim: int, outputs: int) -> list[Tensor]:
        """The elements of a padded x that every tap reads, as views."""
        extent, before = self.stride * (outputs - 1) + 1, (slice(None),) * dim
        starts = (self.dilation * tap for tap in range(self.taps))
        return [x[(*before, slice(first, first + extent, self.stride))] for first in starts]
