"""What a function refers to: the variables of its closure, its default arguments, and the globals that it reads."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linegraph.packages import installed

__all__ = ["UsedModule", "cells", "global_variables", "home", "is_own", "narrowed", "variables"]


@dataclass(frozen=True)
class UsedModule:
    """A module of the user's own that a function refers to, and the names in it that the function may use."""

    module: types.ModuleType
    names: tuple[str, ...]


def cells(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    """Names and values of the variables in the closure of a function."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def global_variables(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    """Names and values of the globals that a function, or a function within it, reads."""
    there = function.__globals__
    read, named = _names(function.__code__)
    return [(name, narrowed(there[name], named)) for name in read if name in there]


def narrowed(value: Any, names: tuple[str, ...]) -> Any:
    """A global value; of a module of the user's own, only the names that the function refers to."""
    if isinstance(value, types.ModuleType) and installed(value.__name__) is None:
        return UsedModule(value, names)
    return value


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The global names that a code object reads, and all names in it, attributes too; both with its inner functions."""
    read = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    named = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner_read, inner_named = _names(constant)
            read, named = read | set(inner_read), named | set(inner_named)
    return tuple(sorted(read)), tuple(sorted(named))


def is_own(function: types.FunctionType) -> bool:
    """Whether a function is the user's own, not one of an installed package."""
    return installed(home(function)) is None


def variables(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    """Names and values of the default arguments, the closure and the globals of a function."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    yield from cells(function)
    yield from global_variables(function)


def home(function: types.FunctionType) -> str:
    """The module where a function was defined; ``functools.wraps`` changes ``__module__``, but not its globals."""
    return str(function.__globals__.get("__name__", ""))
