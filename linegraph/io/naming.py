"""Errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from linegraph.errors import DataError

__all__ = ["naming"]


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors in the data begin with ``what``, which names the file.

    Raises:
        DataError: what is raised within, in the class that it has.
    """
    try:
        yield
    except DataError as error:
        raise type(error)(f"{what}: {error}") from None
