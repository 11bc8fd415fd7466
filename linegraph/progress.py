"""Progress bars, made only if the user wants one.

Even a hidden bar of tqdm starts a thread, and takes a lock; in a process that is forked meanwhile it stays locked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["Bar", "counting", "shown"]

T = TypeVar("T")


class Bar:
    """A bar that shows nothing, with the methods of tqdm that linegraph uses."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> object:
        """Count ``n`` more steps."""

    def set_description(self, text: str) -> None:
        """Set the text before the bar."""


def counting(progress: bool, **options: Any) -> Bar:
    """A bar whose steps are counted by ``update``; it shows nothing unless ``progress``."""
    return tqdm(**options) if progress else Bar()


def shown(items: Iterable[T], progress: bool, **options: Any) -> Iterable[T]:
    """The items, with a bar that counts them if ``progress``."""
    return tqdm(items, **options) if progress else items
