"""Contexts in which some warnings are ignored, or raised as errors, without affecting those of other threads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["ignoring", "raising"]


@contextmanager
def ignoring(message: str = "", *, category: type[Warning] = Warning, module: str = "") -> Iterator[None]:
    """A context that ignores warnings of a category.

    It adds one filter and removes it. ``warnings.catch_warnings`` instead restores the whole list of filters: if two
    threads overlap in it, the filters of one can remain in force for good.

    Args:
        message: a regular expression for the beginning of the message.
        category: the class of the warnings.
        module: a regular expression for the beginning of the name of the module that warns.
    """
    with _filter("ignore", message, category, module):
        yield


@contextmanager
def raising(message: str, *, category: type[Warning]) -> Iterator[None]:
    """A context in which warnings are raised as errors, in all threads, so ``message`` must be specific.

    Args:
        message: a regular expression for the beginning of the message.
        category: the class of the warnings.
    """
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
