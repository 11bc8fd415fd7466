"""Readings of the data: every reading yields the same batches, or raises an error that names the one that differs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from linegraph.coupling.model.checksums import Digest, digest
from linegraph.coupling.model.data import is_at_hand, is_pair, pairs
from linegraph.coupling.model.sources import Sources, generators_of, with_own_workers
from linegraph.coupling.model.weighing import Weighing
from linegraph.errors import DataError
from linegraph.randomness import preserved_randomness, random_state, set_random_state

__all__ = ["Batch", "Readings"]


class Batch(NamedTuple):
    """A batch, its index in the data, and its weight in the mean over batches."""

    place: int
    inputs: Any
    targets: Any
    weight: float


class _Seen(NamedTuple):
    """What is kept of a batch to compare it with later readings: layout, checksums and weight."""

    layout: tuple[str, ...]
    checksums: tuple[int, ...]
    weight: float


class Readings:
    """The data of one coupling, which every product reads.

    The random generators that the data draw from (global ones, and those of loaders, samplers and datasets) are set for
    each reading to the states that they had when this object was made; afterwards their own states are restored. A
    batch that differs nevertheless is found by its checksum.

    Args:
        data: a pair, or an iterable of pairs.
        weighing: gives the weights of batches.

    Attributes:
        is_pair: whether the data are one pair.
        is_complete: whether the data have been read to the end.
    """

    def __init__(self, data: Any, weighing: Weighing) -> None:
        self.data = data
        self.is_pair = is_pair(data)
        self.is_complete = False
        self._weighing = weighing
        self._draws = not is_at_hand(data)  # restoring generators takes longer than reading a few batches
        self._sources = Sources(generators_of(data) if self._draws else ())
        self._random_state = random_state() if self._draws else None
        self._seen: list[_Seen] = []

    def read(self, at_most: int | None = None) -> Generator[Batch]:
        """The batches of weight > 0, in order. Close the generator if it is not read to the end.

        A batch is compared after its pass: a model may write into its inputs, if it writes the same in every pass.

        Args:
            at_most: the number of batches to stop after.

        Raises:
            DataError: after the last batch, if one differs from that of an earlier reading, or their number does.
        """
        if self.is_pair and self._seen:
            self.weight_of_pair()
        digests: list[Digest] = []
        weights: list[float] = []
        given = 0
        with self._rewound():
            for place, (inputs, targets) in enumerate(pairs(with_own_workers(self.data))):
                known = place < len(self._seen)
                weights.append(self._seen[place].weight if known else self._weighing.weight(inputs, targets))
                if weights[-1]:
                    yield Batch(place, inputs, targets, weights[-1])
                    given += 1
                digests.append(digest((inputs, targets)))
                if given == at_most:
                    break
        self._compare(_seen(digests, weights), complete=given != at_most)

    def weight_of_pair(self) -> float:
        """The weight of data that are one pair, whose pass is kept.

        Raises:
            DataError: if the pair differs from what it was after that pass.
        """
        (before,) = self._seen
        self._compare(_seen([digest((*self.data,))], [before.weight]), complete=True)
        return before.weight

    @contextmanager
    def _rewound(self) -> Iterator[None]:
        """A context with all random generators that data may use in the states they had when this object was made."""
        if self._random_state is None:
            yield
            return
        with self._sources.rewound(), preserved_randomness():
            set_random_state(self._random_state)
            yield

    def _compare(self, seen: list[_Seen], complete: bool) -> None:
        for index, (now, before) in enumerate(zip(seen, self._seen, strict=False)):
            if now != before:
                raise DataError(f"batch {index} of the data is not what it was when this coupling read it; {_ADVICE}")
        if (self.is_complete and len(seen) > len(self._seen)) or (complete and len(seen) < len(self._seen)):
            least = "" if self.is_complete else "at least "
            raise DataError(f"the data had {least}{len(self._seen)} batches, and now have {len(seen)}; {_ADVICE}")
        self._seen += seen[len(self._seen) :]
        self.is_complete |= complete


_ADVICE = (
    "P is one operator on one set of data. Random generators are restored for every reading if they are found, but "
    "not data that depend on the system's randomness, the time, or an iterator that is not restarted; data may also "
    "have been changed in place. Read the data once and pass them as list(loader), or make a new coupling if they "
    "have changed"
)


def _seen(digests: list[Digest], weights: list[float]) -> list[_Seen]:
    """Digests and weights of batches, with checksums as integers; waits once for each device."""
    checksums = [t for _, sums in digests for t in sums]
    numbers = {
        device: iter(torch.stack([t for t in checksums if t.device == device]).tolist())
        for device in {t.device for t in checksums}
    }
    return [
        _Seen(layout, tuple(next(numbers[t.device]) for t in sums), weight)
        for (layout, sums), weight in zip(digests, weights, strict=True)
    ]
