"""The file of one candidate: its identity, history and states, without pickles, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from linegraph.errors import DataError
from linegraph.files import write_whole
from linegraph.identity import Settings, agree, digest

__all__ = ["History", "Stored", "read", "write"]

History = list[dict[str, float]]


class Stored(NamedTuple):
    """What a file holds; ``states`` is JSON, None where they could not be written down."""

    name: str
    settings: Settings
    history: History
    states: Any
    tensors: dict[str, Tensor]


def read(path: Path, name: str) -> Stored | None:
    """The file of the candidate ``name``; None where there is none.

    Raises:
        DataError: if the file is damaged, or of another candidate; names it.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        settings, history, states = (json.loads(metadata[part]) for part in ("settings", "history", "states"))
        found = Stored(metadata["name"], settings, history, states, tensors)
        whole = metadata["checksum"] == _checksum(found)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except Exception as error:  # whatever a reader of bytes says to bytes that it does not know
        why = f"no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise _damaged(path, why) from None
    if not whole:
        raise _damaged(path, "its contents do not have the checksum that was written with them")
    if found.name != name:
        raise DataError(
            f"{path} is the file of the candidate {found.name!r}, not of {name!r}; remove it, and {name!r} is trained "
            "anew, or give the file its own name"
        )
    return found


def write(path: Path, content: Stored) -> None:
    """Put a file in place of an older one of the same settings.

    Raises:
        DataError: if another run has written a file with other settings since.
    """
    if (present := _settings(path)) is not None:
        agree(path, present, content.settings)
    parts = {"settings": content.settings, "history": content.history, "states": content.states}
    metadata = {"name": content.name, "checksum": _checksum(content)} | {k: json.dumps(v) for k, v in parts.items()}
    write_whole(path, lambda temporary: save_file(content.tensors, temporary, metadata))


def _settings(path: Path) -> Settings | None:
    """The settings of a file that can be read; None of all others, which may be overwritten."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads(file.metadata()["settings"])
    except Exception:
        return None
    return found if isinstance(found, dict) else None


def _checksum(content: Stored) -> str:
    parts = (content.settings, content.history, content.states)
    return digest(content.name, *(json.dumps(part) for part in parts), sorted(content.tensors.items()))


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged ({why}), or of another version of linegraph; remove it, and its candidate is trained anew"
    )
