"""Files that are whole or not there."""

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
"""Bytes of a name that, with an ending and the mark of a temporary file, every common file system takes."""

_A_DAY = 86_400.0


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in place at once; nothing is left after a failure.

    What a killed process leaves is marked as its own, for :func:`remove_stale`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f".linegraph-{_host()}-{os.getpid()}-"
    temporary = path.with_name(f"{mark}{secrets.token_hex(8)}{path.suffix}")
    try:
        # As open() does it: the system heeds the umask, which to ask for is to change it, for all threads.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_stale(folder: Path) -> None:
    """Remove the temporary files of :func:`write_whole` whose process is no more; those of another host after a day."""
    for path in folder.glob(".linegraph-*-*-*"):
        if (mark := re.fullmatch(r"\.linegraph-([0-9a-f]{8})-(\d+)-.*", path.name)) is None:
            continue
        host, process = mark[1], int(mark[2])
        if not _alive(process) if host == _host() else _age(path) > _A_DAY:
            path.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """A file name for any string: letters, digits, dots and dashes stay, all else is written as its code."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"_{ord(match.group()):x}_", name).replace("..", "_2e.") or "_"


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _age(path: Path) -> float:
    """Seconds since the last write; 0 where the file has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _alive(process: int) -> bool:
    """Whether a process of this host runs; where that cannot be asked without harm, it is taken to."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
