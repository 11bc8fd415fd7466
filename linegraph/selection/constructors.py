"""The candidates of a ranking as they are given: their names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from linegraph.errors import DataError
from linegraph.files import LONGEST_NAME, safe_name

__all__ = ["check_names"]


def check_names(names: Iterable[Any], directory: Path | None) -> None:
    """Refuse names that no file can have, before anything is trained.

    Raises:
        DataError: names the name.
    """
    folded: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"the name {name!r} of a candidate is a {type(name).__name__}; names are strings")
        if not name or not _is_text(name):
            raise DataError(f"{name!r} names no candidate; names are strings of one or more characters")
        if directory is None:
            continue
        if len(safe_name(name)) > LONGEST_NAME:
            raise DataError(
                f"the name {name[:40]!r}... of a candidate is too long for a file in {directory}: "
                f"{len(safe_name(name))} bytes, at most {LONGEST_NAME}; shorten it"
            )
        if (other := folded.setdefault(name.casefold(), name)) != name:
            raise DataError(
                f"the candidates {other!r} and {name!r} differ in case alone, and some file systems do not tell their "
                f"files in {directory} apart; rename one"
            )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name
