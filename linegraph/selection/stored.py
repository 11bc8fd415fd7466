"""The file of one candidate, with its settings, history and states. It holds no pickles and is written atomically."""

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
from linegraph.selection.methods import Score

__all__ = ["History", "Stored", "read", "write"]

History = list[dict[str, float]]


class Stored(NamedTuple):
    """The content of a file.

    ``states`` is JSON, or None if a state could not be stored; ``scores`` are those at initialisation.
    """

    name: str
    settings: Settings
    history: History
    states: Any
    tensors: dict[str, Tensor]
    scores: dict[str, Score] = {}  # noqa: RUF012 (never changed)


def read(path: Path, name: str) -> Stored | None:
    """Read the file of the candidate ``name``; None if there is no file.

    Raises:
        DataError: if the file is damaged, or belongs to another candidate; names the file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        settings, history, states = (json.loads(metadata[part]) for part in ("settings", "history", "states"))
        scores = {each: Score(*score) for each, score in json.loads(metadata["scores"]).items()}
        found = Stored(metadata["name"], settings, history, states, tensors, scores)
        whole = metadata["checksum"] == _checksum(found)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can raise any error in the reader
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
    """Write the file, or replace one with the same settings.

    Raises:
        DataError: if another run has meanwhile written a file with other settings.
    """
    if (present := _settings(path)) is not None:
        agree(path, present, content.settings)
    parts = {"settings": content.settings, "history": content.history, "states": content.states}
    parts["scores"] = content.scores
    metadata = {"name": content.name, "checksum": _checksum(content)} | {k: json.dumps(v) for k, v in parts.items()}
    write_whole(path, lambda temporary: save_file(content.tensors, temporary, metadata))


def _settings(path: Path) -> Settings | None:
    """The settings in a file; None if it cannot be read, so that it may be overwritten."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads(file.metadata()["settings"])
    except Exception:
        return None
    return found if isinstance(found, dict) else None


def _checksum(content: Stored) -> str:
    parts = (content.settings, content.history, content.states, content.scores)
    return digest(content.name, *(json.dumps(part) for part in parts), sorted(content.tensors.items()))


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged ({why}), or of another version of linegraph; remove it, and its candidate is trained anew"
    )
