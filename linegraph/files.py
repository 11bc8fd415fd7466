"""Atomic writes, so that a file is complete or absent, and file names for any string."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["LONGEST_NAME", "remove_stale", "safe_name", "write_whole"]

LONGEST_NAME = 200
"""Largest number of bytes in a file name, so that with a suffix and the prefix of a temporary file all common file
systems allow it."""

_A_DAY = 86_400.0


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: into a temporary file in the same folder, which then replaces ``path``.

    After an error the temporary file is removed, and ``path`` is as before. Its name holds the host and the process, so
    that :func:`remove_stale` can remove it if the process was killed.

    Args:
        path: the file; its folder is made.
        write: writes the contents to the path that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f".linegraph-{_host()}-{os.getpid()}-"
    temporary = path.with_name(f"{mark}{secrets.token_hex(8)}{path.suffix}")
    try:
        # The system applies the umask to mode 0o666. Python can read the umask only by changing it for all threads.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_stale(folder: Path) -> None:
    """Remove temporary files of :func:`write_whole` whose process has ended; those of other hosts after a day."""
    for path in folder.glob(".linegraph-*-*-*"):
        if (mark := re.fullmatch(r"\.linegraph-([0-9a-f]{8})-(\d+)-.*", path.name)) is None:
            continue
        host, process = mark[1], int(mark[2])
        if not _alive(process) if host == _host() else _age(path) > _A_DAY:
            path.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """A file name for any string: letters, digits, single dots and dashes stay, all else is replaced by its code."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"_{ord(match.group()):x}_", name).replace("..", "_2e.") or "_"


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _age(path: Path) -> float:
    """Seconds since the last write; 0 if the file no longer exists."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _alive(process: int) -> bool:
    """Whether a process of this host runs; True on systems where os.kill would end it instead of asking."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
