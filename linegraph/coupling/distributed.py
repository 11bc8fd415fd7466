"""P over several processes: each holds its shard of the data, and sums over samples are sums over processes.

Everything here does nothing unless ``torch.distributed`` is initialised with more than one process. Then these are
collective calls: every process of the default group makes them, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from linegraph.errors import UnsupportedOperationError

__all__ = ["agreed", "gathered", "is_distributed", "refuse_sharded", "summed", "summed_number"]

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


def summed(tensor: Tensor) -> Tensor:
    """The sum over processes of a tensor that has the same shape in all of them, in place."""
    if is_distributed():
        dist.all_reduce(tensor)
    return tensor


def summed_number(number: int, device: torch.device) -> int:
    """The sum of an integer over processes."""
    return int(summed(torch.tensor(number, device=device))) if is_distributed() else number


def refuse_sharded(parameters: Mapping[str, nn.Parameter]) -> None:
    """P multiplies whole weights, and parameters of which each process holds a part are not.

    Raises:
        UnsupportedOperationError: naming the first such parameter.
    """
    for name, p in parameters.items():
        if type(p.data).__name__ == "DTensor" or type(p).__name__ == "FlatParameter":
            raise UnsupportedOperationError(
                f"{name!r} is sharded over processes ({type(p).__name__}), and P needs whole weights; make the "
                "coupling of an unsharded copy (a full state dict loaded into a plain model) in every process, each "
                "with its shard of the data, and its sums are reduced over processes"
            )
