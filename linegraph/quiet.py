"""Warnings that are of no use to the caller, or that are errors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["ignoring", "raising"]


@contextmanager
def ignoring(message: str = "", *, category: type[Warning] = Warning, module: str = "") -> Iterator[None]:
    """Without the warnings of this category whose message and module begin as these patterns say.

    One filter comes and goes. ``warnings.catch_warnings`` puts all filters back as they were, and where two threads
    overlap, as they were within the other thread: for good.
    """
    with _filter("ignore", message, category, module):
        yield


@contextmanager
def raising(message: str, *, category: type[Warning]) -> Iterator[None]:
    """With such warnings as errors, in all threads, so that they are to be named closely."""
    with _filter("error", message, category, ""):
        yield


@contextmanager
def _filter(action: str, message: str, category: type[Warning], module: str) -> Iterator[None]:
    entry = (action, re.compile(message, re.IGNORECASE), category, re.compile(module), 0)
    present: Any = warnings.filters
    present.insert(0, entry)
    try:
        yield
    finally:
        present = warnings.filters
        with suppress(ValueError):
            present.remove(entry)
