"""Readings of the data: each gives the same batches, or says which one differs."""

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
    """A batch, its place in the data, and what it counts for."""

    place: int
    inputs: Any
    targets: Any
    weight: float


class _Seen(NamedTuple):
    """What is remembered of a batch."""

    layout: tuple[str, ...]
    checksums: tuple[int, ...]
    weight: float


class Readings:
    """The data of one coupling, which every product reads.

    Whatever the data draw from (the global generators, those of loaders, samplers and datasets) is put back for every
    reading into the state of the making of this, and afterwards into that which it had. What differs all the same is
    noticed by a checksum.

    Args:
        data: a pair, or an iterable of pairs.
        weighing: what batches count for.

    Attributes:
        is_pair: whether the data are one pair.
        is_complete: whether they have been read to the end.
    """

    def __init__(self, data: Any, weighing: Weighing) -> None:
        self.data = data
        self.is_pair = is_pair(data)
        self.is_complete = False
        self._weighing = weighing
        self._draws = not is_at_hand(data)  # to put generators back costs more than to read a few batches
        self._sources = Sources(generators_of(data) if self._draws else ())
        self._random_state = random_state()
        self._seen: list[_Seen] = []

    def read(self, at_most: int | None = None) -> Generator[Batch]:
        """The batches that count, in order, or the first of them; to be closed where it is not read to the end.

        A batch is compared after it was worked with, so that a model may write into its inputs what it would write
        again.

        Raises:
            DataError: after the last batch, if one differs from what it was, or there are more or fewer of them.
        """
        if self.is_pair and self._seen:  # of its pass, which is kept, nothing is written any more
            self._compare(_seen([digest((*self.data,))], [self._seen[0].weight]), complete=True)
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

    @contextmanager
    def _rewound(self) -> Iterator[None]:
        """With all random generators in the states of the making of this, if the data may draw from them."""
        if not self._draws:
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
    "P is one operator, on one set of data. Random generators are put back for every reading where they are found, but "
    "not what is drawn from the system, the time or an iterator that goes on, and data may have been changed in place; "
    "read them once, as list(loader), and pass that, or make a new coupling of data that have changed"
)


def _seen(digests: list[Digest], weights: list[float]) -> list[_Seen]:
    """With checksums as integers, waiting once for each device."""
    checksums = [t for _, sums in digests for t in sums]
    numbers = {
        device: iter(torch.stack([t for t in checksums if t.device == device]).tolist())
        for device in {t.device for t in checksums}
    }
    return [
        _Seen(layout, tuple(next(numbers[t.device]) for t in sums), weight)
        for (layout, sums), weight in zip(digests, weights, strict=True)
    ]
