"""Progress bars, where they are asked for.

A bar of tqdm that is not shown starts a thread all the same, and takes a lock that is never released in a process which
another thread forks meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["Bar", "counting", "shown"]

T = TypeVar("T")


class Bar:
    """What counts steps and shows nothing: the part of a tqdm that is used."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> object:
        """So many steps are done."""

    def set_description(self, text: str) -> None:
        """What the next steps are about."""


def counting(progress: bool, **options: Any) -> Bar:
    """A bar whose steps are counted by ``update``."""
    return tqdm(**options) if progress else Bar()


def shown(items: Iterable[T], progress: bool, **options: Any) -> Iterable[T]:
    """Items under a bar."""
    return tqdm(items, **options) if progress else items
