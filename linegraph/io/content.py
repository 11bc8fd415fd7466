"""The bytes of a file, and how much memory they may ask for."""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO
from pathlib import Path

from linegraph.errors import DataError

__all__ = ["as_text", "check_inflated", "check_nodes", "lines_of", "read_content"]

INFLATED_ANYWAY = 1 << 26
"""Bytes that a compressed file may hold, however small it is: 64 MiB."""
INFLATED_TIMES = 50
"""How many times its own size a compressed file may hold beyond that; networks are compressed 2 to 20 times."""
NODES_ANYWAY = 1 << 24
"""Nodes that a file may declare, however small it is; beyond that, as many as it has bytes."""


def read_content(path: Path) -> bytes:
    """The bytes of a file, inflated if they are gzip's, which their first two bytes say.

    Raises:
        DataError: if the compressed bytes are damaged, or hold more than their size allows.
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
    """Refuse a compressed file that holds so much more than its size that it may fill the memory.

    Raises:
        DataError: says the limit, and that a file which is not compressed has none.
    """
    if inflated > max(INFLATED_ANYWAY, INFLATED_TIMES * compressed):
        raise DataError(
            f"its {compressed:,} bytes inflate to {inflated:,} or more, and the limit is {INFLATED_ANYWAY:,} or "
            f"{INFLATED_TIMES} times the compressed size; if the file is to be trusted, save it without compression"
        )


def check_nodes(number: int, size: int) -> None:
    """Refuse a number of nodes that a file of ``size`` bytes declares and cannot mean.

    Raises:
        DataError: says the limit.
    """
    most = max(NODES_ANYWAY, size)
    if number > most:
        raise DataError(f"it declares {number:,} nodes; the limit for {size:,} bytes is {most:,}")


def as_text(content: bytes, *, names: bool = False) -> str:
    """The bytes as UTF-8; where no name is taken from the text, bytes in another encoding are kept as they are.

    Raises:
        DataError: if ``names`` are taken and the text is not UTF-8, or if it has NUL bytes.
    """
    try:
        text = content.decode("utf-8-sig", errors="strict" if names else "surrogateescape")
    except UnicodeDecodeError:
        raise DataError("it must be text in UTF-8, this file is not; save it in that encoding") from None
    if "\0" in text:
        raise DataError("it must be text, and holds NUL bytes, as binary files and UTF-16 do")
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text, which end as on any system."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
