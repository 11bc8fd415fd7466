"""Sums, decisions and errors that all processes of a ``torch.distributed`` group share.

Each process holds its shard of the data, and a sum over all samples is a sum over processes. These functions are
collective calls: every process of the default group must make them, in the same order. In a single process, or without
``torch.distributed``, they communicate nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from linegraph import errors
from linegraph.errors import LinegraphError

__all__ = ["Exchanges", "agreed", "gathered_results", "is_distributed", "jointly", "summed", "summed_result"]

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether ``torch.distributed`` is initialised with more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(value: T) -> list[T]:
    """The values of all processes, in the order of ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def agreed(value: T) -> T:
    """The value of the first process, in all processes."""
    return gathered(value)[0]


def summed(tensor: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place; its shape must be the same in all."""
    if is_distributed():
        dist.all_reduce(tensor)
    return tensor


def jointly(work: Callable[[], T]) -> T:
    """Return ``work()`` if it succeeds in all processes; if it fails in one, raise its error in all.

    Otherwise the other processes would wait forever, in their next collective call, for the one that failed.

    Raises:
        Exception: the error of the first process that failed, with its rank.
    """
    found, error = _tried(work)
    if is_distributed() and any(gathered(error is not None)):
        _raise_in_all(error)
    return found


def gathered_results(work: Callable[[], T]) -> list[T]:
    """The results of ``work()`` in all processes, in the order of ranks; errors are raised as in :func:`jointly`."""
    found, error = _tried(work)
    outcomes = gathered((found, error is not None))
    if any(failed for _, failed in outcomes):
        _raise_in_all(error)
    return [result for result, _ in outcomes]


def summed_result(work: Callable[[], float], device: torch.device) -> float:
    """The sum of ``work()`` over all processes, in one reduction; errors are raised as in :func:`jointly`."""
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
    """Raise the error of the first process that failed; ``error`` is that of this process, or None."""
    described = gathered(None if error is None else (_name(error), str(error)))
    rank, kind, message = next((rank, *found) for rank, found in enumerate(described) if found)
    if rank == dist.get_rank() and error is not None and not isinstance(error, LinegraphError):
        raise error
    named = getattr(errors, kind, None)
    if named is None:
        named, message = RuntimeError, message if kind == "RuntimeError" else f"{kind}: {message}"
    raise named(f"in process {rank} of {dist.get_world_size()}: {message}") from error


def _name(error: Exception) -> str:
    """The name of an error's class, or of the nearest of its base classes that is public."""
    names = [c.__name__ for c in type(error).__mro__ if getattr(errors, c.__name__, None) is c]
    return names[0] if names else type(error).__name__


class Exchanges:
    """Collective operations that each process asks for when it needs them.

    Processes may have different amounts of work, and one may fail in the midst of it. Therefore they agree before each
    operation on which one is next: the one that the first of them asks for, of those that ask. All others take part in
    it, and then ask again. A process whose work is over takes part until no process asks any more.

    Args:
        device: the device of the numbers by which processes agree.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._offers: list[Callable[[], Any]] = []

    def offer(self, operations: Iterable[Callable[[], Any]]) -> range:
        """Add operations, in all processes alike, and return their numbers.

        Args:
            operations: what a process does that takes part in an operation that it has not asked for.
        """
        first = len(self._offers)
        self._offers += operations
        return range(first, len(self._offers))

    @contextmanager
    def offering(self, operations: Iterable[Callable[[], Any]]) -> Iterator[range]:
        """A context with more operations, as for :meth:`offer`, which all processes enter and leave together."""
        numbers = self.offer(operations)
        try:
            yield numbers
        finally:
            del self._offers[numbers.start :]

    def ask(self, number: int) -> None:
        """Wait until the operation of this number is next; the caller then runs it, as all others do."""
        while (asked := self._next(number)) != number and asked is not None:
            self._offers[asked]()

    def end(self) -> None:
        """Take part in the operations that others ask for, until no process asks for any."""
        while (asked := self._next(None)) is not None:
            self._offers[asked]()

    def _next(self, number: int | None) -> int | None:
        """The number that the first process asks for, of those that ask for any."""
        if not is_distributed():
            return number
        numbers = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=self._device)
        numbers[dist.get_rank()] = 0 if number is None else number + 1
        return next((int(asked) - 1 for asked in summed(numbers).tolist() if asked), None)
