"""Segments: the ranges of consecutive nodes that belong to each of several graphs that are solved as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from linegraph.dynamics.system import largest

__all__ = ["Segments"]


class Segments:
    """Reductions of values (n,) or (n, k) over each segment of the nodes.

    The results are a few numbers a segment. They are NumPy arrays on the host, where an operation on them takes a
    fraction of the time that torch needs to call one.

    Args:
        sizes: number of nodes of each segment.
        device: that of the values.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes = list(sizes)
        self._rows = torch.tensor(self.sizes, device=device)
        self._nodes = sum(self.sizes)
        self._even = len(set(self.sizes)) == 1

    def __len__(self) -> int:
        return len(self.sizes)

    def largest(self, values: Tensor) -> np.ndarray:
        """max |values| in every segment, (segments,) or (segments, k); inf where one is not a number."""
        # One reduction a column: along many rows of two or three numbers it would be slow on a CPU.
        if len(self) == 1 and (values.ndim == 1 or values.device.type == "cpu"):
            return np.array([[largest(v) for v in values.unbind(1)] if values.ndim == 2 else largest(values)])
        if not self._even or not values.numel():
            found = torch.segment_reduce(values.abs(), "max", lengths=self._rows, axis=0, initial=0)
        elif values.ndim == 1:
            found = values.abs().view(len(self), -1).amax(1)
        else:
            return np.stack([self.largest(column) for column in values.unbind(1)], 1)
        return np.nan_to_num(found.cpu().double().numpy(), nan=np.inf, posinf=np.inf)

    def within(self, values: Tensor, bounds: Tensor) -> np.ndarray:
        """Whether no |value| exceeds its own bound in every segment, (segments,) or (segments, k)."""
        return self.largest(values.abs().sub_(bounds).clamp_min_(0)) == 0

    def spread(self, by_segment: np.ndarray, like: Tensor) -> Tensor:
        """For every node the entry of its segment: numbers in the precision of ``like``, or truth values."""
        numbers = torch.from_numpy(by_segment).to(like.device)
        numbers = numbers if numbers.dtype == torch.bool else numbers.to(like.dtype)
        if len(self) == 1:
            return numbers.expand(self._nodes, *numbers.shape[1:])
        return numbers.repeat_interleave(self._rows, 0, output_size=self._nodes)

    def multiply_(self, values: Tensor, by_segment: np.ndarray) -> Tensor:
        """Values (n, k), each times the number of its segment and column, in place."""
        if not self._even:
            return values.mul_(self.spread(by_segment, values))
        factors = torch.from_numpy(by_segment).to(values).unsqueeze(1)
        return values.view(len(self), -1, values.shape[1]).mul_(factors).view_as(values)
