"""Objects told apart by what they are made of: one digest in every process, another one for anything else.

What decides a result is read down to its numbers (:mod:`linegraph.anatomy`): functions by their code, constants,
defaults, closures and the globals that they refer to; classes by their methods; objects by their attributes; tensors,
arrays and random generators by what they hold. Installed packages are taken at their word: a function or class of
theirs is its name and the package's version.

Not part of an identity: addresses, the order of sets, names and places of functions, docstrings of classes,
annotations, devices, gradients in ``.grad``. What keeps its state where Python does not reach is its class alone.
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

from linegraph.anatomy import ATOMS, Anatomy, anatomy, is_own, variables
from linegraph.errors import DataError

__all__ = ["Settings", "agree", "describe", "digest", "shown"]

Settings = dict[str, Any]
"""What a stored result depends on: readable, by names, as it stands in its file."""

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_BY_VALUE = (*ATOMS, complex, Tensor, np.ndarray, np.generic)


def digest(*things: Any) -> str:
    """Hexadecimal digest (32 characters) of what decides how the things act; equal in every process.

    Whether an object is met twice or is equal to another one counts for objects with attributes, such as tied weights;
    not for numbers, strings and plain containers. Cycles end where they close.

    Cost: one pass over all that is reachable, tensors at some hundred MB to GB per second.

    Example:
        >>> from linegraph.identity import digest
        >>> digest(lambda x: x + 1) == digest(lambda x: x + 1), digest(lambda x: x + 1) == digest(lambda x: x + 2)
        (True, False)
    """
    return _read(things, frozenset())


def _read(things: Sequence[Any], sets: frozenset[int]) -> str:
    """The digest of things within some sets, whose members are in an order once they have digests of their own."""
    found = hashlib.sha256()
    met: dict[int, tuple[int, Any]] = {}  # with the objects, so that no id is used again
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
    """A readable line that tells the thing from others: what :func:`shown` says, and the head of its digest."""
    return f"{shown(thing)} #{digest(thing)[:12]}"


def shown(thing: Any) -> str:
    """The name of a function or of an object's class, with the plain numbers and strings that it holds."""
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
    """Refuse a file of other settings than the present ones.

    Raises:
        DataError: names the file and each setting that differs, with both values.
    """
    if differing := [key for key in present if stored.get(key) != present[key]]:
        what = ", ".join(f"{key} ({stored.get(key)}, now {present[key]})" for key in differing)
        raise DataError(f"{path} was made with other settings: {what}; take another directory or remove it")


class _End(NamedTuple):
    """Where the parts of a container end."""

    container: Any


def _write(found: Any, read: Anatomy) -> None:
    """One node: lengths before contents, so that no two trees are written alike."""
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
