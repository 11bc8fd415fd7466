"""Error messages that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from linegraph.errors import DataError

__all__ = ["naming"]


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Prefix the message of a ``DataError`` raised within by ``what``, which names the file.

    Raises:
        DataError: the error raised within, of the same class.
    """
    try:
        yield
    except DataError as error:
        raise type(error)(f"{what}: {error}") from None
