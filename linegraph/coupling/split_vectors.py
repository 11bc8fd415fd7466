"""Vectors over all synapses of which each process holds a part only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from linegraph.coupling.model.parameters import Synapse
from linegraph.processes import Exchanges, gathered_results, is_distributed, summed

__all__ = ["SplitVector"]


class SplitVector(Mapping[str, Tensor]):
    """A vector over all synapses, split over the processes weight by weight, to which the processes add.

    Tensors are added and read for whole weights, as gradients and weights are in a training step of a sharded model: a
    process holds its part of the vector, and the numbers of one weight at a time. Both are collective operations of
    ``exchanges``, within the work that the processes share.

    Args:
        synapses: the synapse weights.
        dtype: the type of its numbers.
        device: their device.
        exchanges: the collective operations of the processes.
    """

    def __init__(
        self, synapses: Sequence[Synapse], dtype: torch.dtype, device: torch.device, exchanges: Exchanges
    ) -> None:
        self.dtype = dtype
        self._world, self._rank = (dist.get_world_size(), dist.get_rank()) if is_distributed() else (1, 0)
        self._shapes = {s.name: torch.Size(s.shape) for s in synapses}
        self._parts = {s.name: torch.zeros(-(-s.numel // self._world), dtype=dtype, device=device) for s in synapses}
        self._exchanges = exchanges
        self._numbers: dict[tuple[str, str], int] = {}

    @contextmanager
    def shared(self) -> Iterator[SplitVector]:
        """A context in which processes add to the vector and read it; all of them enter it together."""
        names = list(self._parts)
        adding, reading = ([partial(work, name) for name in names] for work in (self._add, self._read))
        with self._exchanges.offering([*adding, *reading]) as numbers:
            keys = [(what, name) for what in ("add", "read") for name in names]
            self._numbers = dict(zip(keys, numbers, strict=True))
            yield self

    def add(self, name: str, values: Tensor) -> None:
        """Add a tensor of the weight's shape to the entries of the weight called ``name``."""
        self._exchanges.ask(self._numbers["add", name])
        self._add(name, values)

    def add_product(self, name: str, left: Tensor, right: Tensor) -> None:
        """Add the product of two matrices to the entries of the weight called ``name``."""
        self.add(name, left @ right)

    def __getitem__(self, name: str) -> Tensor:
        """The entries of a weight, in its shape."""
        shape = self._shapes[name]
        self._exchanges.ask(self._numbers["read", name])
        return self._read(name)[: shape.numel()].view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def largest(self) -> float:
        """The largest absolute value; a collective call."""
        return max(gathered_results(lambda: max(float(part.abs().max()) for part in self._parts.values())))

    def divide(self, number: float) -> None:
        """Divide the vector by a number, in place; every process does."""
        for part in self._parts.values():
            part.div_(number)

    def _add(self, name: str, values: Tensor | None = None) -> None:
        """Add the sum of what all processes add; those that did not ask for it add nothing."""
        part = self._parts[name]
        total = part.new_zeros(self._world * len(part))
        if values is not None:
            total[: values.numel()] = values.flatten()
        part.add_(summed(total)[self._rank * len(part) :][: len(part)])

    def _read(self, name: str) -> Tensor:
        part = self._parts[name]
        whole = part.new_empty(self._world, len(part))
        if self._world == 1:
            whole.copy_(part)
        else:
            dist.all_gather([*whole.unbind()], part)
        return whole.flatten()
