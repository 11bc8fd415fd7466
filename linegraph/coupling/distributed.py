"""P over several processes: each holds its shard of the data, and sums over samples are sums over processes.

Everything here does nothing unless ``torch.distributed`` is initialised with more than one process. Then these are
collective calls: every process of the default group makes them, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["agreed", "gathered", "is_distributed", "summed", "summed_number"]

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether there are other processes to reduce with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(value: T) -> list[T]:
    """What every process has, in the order of ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def agreed(value: T) -> T:
    """What the first process has."""
    return gathered(value)[0]


def summed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over processes of tensors that have the same names and shapes in all of them, in place."""
    if is_distributed():
        for tensor in tensors.values():
            dist.all_reduce(tensor)
    return dict(tensors)


def summed_number(number: int, device: torch.device) -> int:
    """The sum of an integer over processes."""
    return int(summed({"": torch.tensor(number, device=device)})[""]) if is_distributed() else number
