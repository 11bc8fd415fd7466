"""The bytes of a file, and limits on the memory that it may take."""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO
from pathlib import Path

from linegraph.errors import DataError

__all__ = ["as_text", "check_inflated", "check_nodes", "lines_of", "read_content"]

INFLATED_ANYWAY = 1 << 26
"""Bytes to which a compressed file of any size may inflate: 64 MiB."""
INFLATED_TIMES = 50
"""A larger file may inflate to this multiple of its size. Files of networks are compressed by factors of 2 to 20."""
NODES_ANYWAY = 1 << 24
"""Number of nodes that a file of any size may declare. A larger file may declare as many nodes as it has bytes."""


def read_content(path: Path) -> bytes:
    """The bytes of a file, decompressed if the first two bytes are those of gzip.

    Raises:
        DataError: if the compressed bytes are damaged, or inflate beyond the limit.
    """
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        if path.name.lower().endswith(".gz"):
            raise DataError("its name ends in .gz, and gzip did not compress it")
        return content
    most = max(INFLATED_ANYWAY, INFLATED_TIMES * len(content))
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as file:
            inflated = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"its compressed bytes are damaged or cut off ({error})") from None
    check_inflated(len(inflated), len(content))
    return inflated


def check_inflated(inflated: int, compressed: int) -> None:
    """Refuse a compressed file that inflates so much that it may fill the memory.

    Raises:
        DataError: if the limit is exceeded; names it. Files that are not compressed have no limit.
    """
    if inflated > max(INFLATED_ANYWAY, INFLATED_TIMES * compressed):
        raise DataError(
            f"its {compressed:,} bytes inflate to {inflated:,} or more, and the limit is {INFLATED_ANYWAY:,} or "
            f"{INFLATED_TIMES} times the compressed size; if the file is to be trusted, save it without compression"
        )


def check_nodes(number: int, size: int) -> None:
    """Refuse a declared number of nodes that is implausible for a file of ``size`` bytes.

    Raises:
        DataError: if the limit is exceeded; names it.
    """
    most = max(NODES_ANYWAY, size)
    if number > most:
        raise DataError(f"it declares {number:,} nodes; the limit for {size:,} bytes is {most:,}")


def as_text(content: bytes, *, names: bool = False) -> str:
    """The bytes decoded as UTF-8. Without ``names``, bytes in another encoding are kept, as no name is read from them.

    Raises:
        DataError: if ``names`` is True and the bytes are not UTF-8, or if there are NUL bytes.
    """
    try:
        text = content.decode("utf-8-sig", errors="strict" if names else "surrogateescape")
    except UnicodeDecodeError:
        raise DataError("it must be text in UTF-8, this file is not; save it in that encoding") from None
    if "\0" in text:
        raise DataError("it must be text, and holds NUL bytes, as binary files and UTF-16 do")
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text with the line ends of any operating system."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
