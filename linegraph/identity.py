"""Digests of objects by their contents, equal in every process, which tell whether a stored result is still valid.

A digest covers everything that can decide a result (:mod:`linegraph.anatomy`): of a function its code, constants,
defaults, closure and the globals that it refers to; of a class its methods; of an object its attributes; of tensors,
arrays and random generators their numbers. A function or class of an installed package counts by its name and the
version of the package.

A digest does not cover addresses, the order of sets, names and places of functions, docstrings of classes, annotations,
devices, and gradients in ``.grad``. An object with state that Python cannot read counts by its class only.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from linegraph.anatomy import ATOMS, Anatomy, anatomy
from linegraph.errors import DataError
from linegraph.functions import is_own, variables

__all__ = ["Settings", "agree", "describe", "digest", "shown"]

Settings = dict[str, Any]
"""What a stored result depends on: readable values by name, as its file holds them."""

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_BY_VALUE = (*ATOMS, complex, Tensor, np.ndarray, np.generic)


def digest(*things: Any) -> str:
    """Hexadecimal digest (32 characters) of the contents of some objects; equal in every process.

    Objects with attributes that are the same object twice, such as tied weights, differ from two equal objects; for
    numbers, strings and plain containers there is no difference. Cycles are allowed.

    Cost: one pass over all reachable objects, with some hundred MB to GB of tensors per second.

    Example:
        >>> from linegraph.identity import digest
        >>> digest(lambda x: x + 1) == digest(lambda x: x + 1), digest(lambda x: x + 1) == digest(lambda x: x + 2)
        (True, False)
    """
    return _read(things, frozenset())


def _read(things: Sequence[Any], sets: frozenset[int]) -> str:
    """The digest of objects within some sets (by id); members of a set are sorted by their own digests."""
    found = hashlib.sha256()
    met: dict[int, tuple[int, Any]] = {}  # keeps the objects, so that no id is used again
    open_containers: dict[int, int] = {}
    stack: list[Any] = list(reversed(things))
    while stack:
        thing = stack.pop()
        if isinstance(thing, _End):
            del open_containers[id(thing.container)]
            continue
        key, plain = id(thing), isinstance(thing, _CONTAINERS)
        if plain and (key in open_containers or key in sets):
            _write(found, Anatomy(f"cycle {len(open_containers) - open_containers.get(key, 0)}"))
            continue
        if not plain and (isinstance(thing, nn.Parameter) or not isinstance(thing, _BY_VALUE)):
            if key in met:
                _write(found, Anatomy(f"object {met[key][0]}"))
                continue
            met[key] = len(met), thing
        read = anatomy(thing)
        if isinstance(thing, (set, frozenset)):
            members = sorted(read.parts, key=lambda part: _read(part[1:], sets | {key}))
            read = Anatomy(read.label, members, read.content)
        _write(found, read)
        if plain and read.parts:
            open_containers[key] = len(open_containers)
            stack.append(_End(thing))
        stack.extend(part for _, part in reversed(read.parts))
    return found.hexdigest()[:32]


def describe(thing: Any) -> str:
    """A readable line that identifies an object: the text of :func:`shown`, and the first digits of its digest."""
    return f"{shown(thing)} #{digest(thing)[:12]}"


def shown(thing: Any) -> str:
    """A readable line for an object: the name of the function or class, with its plain numbers and strings."""
    if type(thing) in ATOMS:
        return _short(repr(thing))
    if isinstance(thing, Tensor):
        return f"{str(thing.dtype).removeprefix('torch.')} {tuple(thing.shape)}"
    if type(thing) in (tuple, list) and len(thing) <= 4:
        return f"({', '.join(type(p).__name__ if isinstance(p, _CONTAINERS) else shown(p) for p in thing)})"
    if isinstance(thing, functools.partial):
        named = [f"{name}={shown(value)}" for name, value in sorted(thing.keywords.items())]
        return f"partial({', '.join([shown(thing.func), *map(shown, thing.args), *named])})"
    if isinstance(thing, types.MethodType):
        return f"{shown(thing.__self__)}.{thing.__name__}"
    if isinstance(thing, types.FunctionType) and is_own(thing):
        numbers = [shown(c) for c in thing.__code__.co_consts if type(c) in (int, float)]
        return _with(thing.__name__, numbers + _plain(variables(thing), int, float, bool))
    if hasattr(thing, "__qualname__"):
        return f"{thing.__module__ or ''}.{thing.__qualname__}".lstrip(".")
    return _with(type(thing).__name__, _plain(getattr(thing, "__dict__", {}).items(), *ATOMS))


def agree(path: Path, stored: Settings, present: Settings) -> None:
    """Check that a file was made with the present settings.

    Raises:
        DataError: names the file and each setting that differs, with both values.
    """
    if differing := [key for key in present if stored.get(key) != present[key]]:
        what = ", ".join(f"{key} ({stored.get(key)}, now {present[key]})" for key in differing)
        raise DataError(f"{path} was made with other settings: {what}; take another directory or remove it")


class _End(NamedTuple):
    """Marks on the stack the end of the parts of a container."""

    container: Any


def _write(found: Any, read: Anatomy) -> None:
    """Hash one object: lengths before contents, so that different trees of objects give different bytes."""
    steps = "".join(f"{kind} {name!r};" for (kind, name), _ in read.parts)
    found.update(f"{len(read.label)} {len(steps)} {len(read.parts)} {len(read.content)} ".encode())
    found.update((read.label + steps).encode("utf-8", "surrogatepass"))
    found.update(read.content)


def _plain(variables: Iterable[tuple[str, Any]], *kinds: type) -> list[str]:
    chosen = [(name, value) for name, value in variables if not name.startswith("_") and name != "training"]
    return [f"{name}={_short(repr(value))}" for name, value in chosen if type(value) in kinds and value is not None]


def _with(name: str, values: list[str]) -> str:
    return f"{name}({', '.join(values[:8])})" if values else name


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
