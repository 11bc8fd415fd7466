"""Disjoint parts of a network, whose nodes follow one another part by part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Parts"]

SMALL = 4096
"""Nodes up to which calls of operations cost more than arithmetic."""


class Parts:
    """Numbers of nodes by part, and what is asked of values of nodes (n,) or (n, k) by part.

    Args:
        sizes: number of nodes of each part.
        device: that of the values.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes = list(sizes)
        self._rows = torch.tensor(self.sizes, device=device)
        self._nodes = sum(self.sizes)
        self._even = len(set(self.sizes)) == 1

    def __len__(self) -> int:
        return len(self.sizes)

    def slice(self, part: int) -> slice:
        """The nodes of a part."""
        first = sum(self.sizes[:part])
        return slice(first, first + self.sizes[part])

    def largest(self, values: Tensor) -> Tensor:
        """Max |values| in every part, (parts,) or (parts, k)."""
        if len(self) == 1 and 0 < self._nodes <= SMALL and values.numel():
            return torch.linalg.vector_norm(values, torch.inf, dim=0).unsqueeze(0)  # a single operation
        if len(self) == 1 and self._nodes and values.ndim == 1:
            return values.abs().max().unsqueeze(0)
        if not self._even or not self._nodes or not values.numel():
            return torch.segment_reduce(values.abs(), "max", lengths=self._rows, axis=0, initial=0)
        if values.ndim == 1:
            return values.abs().view(len(self), -1).amax(1)
        # One reduction a column: along many rows of two or three numbers it would be slow.
        columns = [self.largest(column) for column in values.unbind(1)]
        return torch.stack(columns, 1) if len(columns) > 1 else columns[0].unsqueeze(1)

    def within(self, values: Tensor, bounds: Tensor) -> Tensor:
        """Whether no |value| exceeds its own bound in every part, (parts,) or (parts, k)."""
        return self.largest((values.abs() - bounds).clamp_min(0)) == 0

    def spread(self, by_part: Tensor) -> Tensor:
        """For every node the entry of its part."""
        if len(self) == 1:
            return by_part.expand(self._nodes, *by_part.shape[1:])
        return by_part.repeat_interleave(self._rows, 0, output_size=self._nodes)

    def times(self, values: Tensor, by_part: Tensor) -> Tensor:
        """Values (n, k), each times the number of its part and column."""
        if self._even:
            return (values.view(len(self), -1, values.shape[1]) * by_part.unsqueeze(1)).view_as(values)
        return values * self.spread(by_part)
