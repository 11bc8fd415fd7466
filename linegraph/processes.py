"""P over several processes: each holds its shard of the data, and sums over samples are sums over processes.

Everything here does nothing unless ``torch.distributed`` is initialised with more than one process. Then these are
collective calls: every process of the default group makes them, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from linegraph import errors
from linegraph.errors import LinegraphError, UnsupportedOperationError

__all__ = ["agreed", "gathered_results", "is_distributed", "jointly", "refuse_sharded", "summed", "summed_result"]

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


def jointly(work: Callable[[], T]) -> T:
    """What some work gives in this process, unless it fails in any; then it fails in all of them.

    So no process waits in a later call for one that has left by an error.

    Raises:
        Exception: what the first process raised that failed, naming it.
    """
    found, error = _tried(work)
    if is_distributed() and any(gathered(error is not None)):
        _raise_in_all(error)
    return found


def gathered_results(work: Callable[[], T]) -> list[T]:
    """What some work gives in every process, in the order of ranks; as :func:`jointly`."""
    found, error = _tried(work)
    outcomes = gathered((found, error is not None))
    if any(failed for _, failed in outcomes):
        _raise_in_all(error)
    return [result for result, _ in outcomes]


def summed_result(work: Callable[[], float], device: torch.device) -> float:
    """The sum over processes of a number that some work gives; as :func:`jointly`, in one reduction."""
    number, error = _tried(work)
    if not is_distributed():
        return number
    failed = error is not None
    total, failures = summed(
        torch.tensor([0 if failed else number, failed], dtype=torch.float64, device=device)
    ).tolist()
    if failures:
        _raise_in_all(error)
    return total


def _tried(work: Callable[[], T]) -> tuple[T, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        if not is_distributed():
            raise
        nothing: Any = None
        return nothing, error


def _raise_in_all(error: Exception | None) -> NoReturn:
    """Raise what the first process has that failed; what this one has is its own, or None."""
    described = gathered(None if error is None else (type(error).__name__, str(error)))
    rank, kind, message = next((rank, *found) for rank, found in enumerate(described) if found)
    if rank == dist.get_rank() and error is not None and not isinstance(error, LinegraphError):
        raise error
    named = getattr(errors, kind, None)
    if named is None:
        named, message = RuntimeError, message if kind == "RuntimeError" else f"{kind}: {message}"
    raise named(f"in process {rank} of {dist.get_world_size()}: {message}") from error


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
