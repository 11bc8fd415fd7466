"""Random generators within data, models and losses, which are found and reset for every reading and every pass."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from inspect import isroutine
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from linegraph.turns import preserving

__all__ = ["Sources", "generators_of", "held", "with_own_workers"]

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random

MAX_OBJECTS = 10_000
MAX_ITEMS = 100
"""Limits of the search for generators: objects in all, and items of one container; longer ones hold samples."""

_ENDS = (Tensor, np.ndarray, str, bytes, int, float, complex, ModuleType, type(None))
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_LIBRARIES = ("builtins", "torch", "numpy", "collections", "abc", "typing", "functools", "random")


class Sources:
    """Random generators, with the states that they had when this object was made.

    Args:
        generators: as :func:`generators_of` finds them.
    """

    def __init__(self, generators: Iterable[Generator]) -> None:
        self._generators = list(generators)
        self._states = [_state(g) for g in self._generators]

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """A context with all generators in those states; their own states are restored on leaving."""
        if not self._generators:
            yield
            return
        with preserving(self._present):
            self._restore(self._states)
            yield

    def _present(self) -> Callable[[], None]:
        return partial(self._restore, [_state(g) for g in self._generators])

    def _restore(self, states: list[Any]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            _set_state(generator, state)


def generators_of(root: Any, *, code: bool = True) -> list[Generator]:
    """The random generators that an object holds, as :func:`held` finds them, except Python's SystemRandom."""
    found = held(root, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random), code=code)
    return [g for g in found if not isinstance(g, random.SystemRandom)]  # it has no state


def with_own_workers(data: Any) -> Any:
    """The data; of a loader with persistent workers, a copy that starts its own, since those go on drawing numbers."""
    if not (isinstance(data, DataLoader) and data.num_workers and data.persistent_workers):
        return data
    fresh = copy.copy(data)
    fresh._iterator = None
    return fresh


def _state(generator: Generator) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def held(root: Any, kinds: tuple[type, ...], *, code: bool = True) -> list[Any]:
    """All objects of some classes that are reachable from an object, the nearest first.

    Args:
        root: the object to start from.
        kinds: the classes to look for.
        code: whether to search functions and classes too, with closures, defaults and the globals that they name,
            rather than only attributes and items.
    """
    found: list[Any] = []
    seen: set[int] = set()
    waiting = deque([root])
    while waiting and len(seen) < MAX_OBJECTS:
        thing = waiting.popleft()
        cls: Any = type(thing)
        is_wanted = _is_subclass(cls, kinds)
        if (not is_wanted and _is_subclass(cls, _ENDS)) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if is_wanted:
            found.append(thing)
        else:
            if code:
                waiting.extend(_of_code(thing))
            if not isinstance(thing, FunctionType | type):
                waiting.extend(_of_instance(thing))
    return found


@lru_cache(maxsize=4096)  # a search asks for thousands of objects
def _is_subclass(cls: Any, kinds: tuple[type, ...]) -> bool:
    return issubclass(cls, kinds)


def _of_instance(thing: Any) -> Iterator[Any]:
    """The items and attributes of an object."""
    if isinstance(thing, dict | list | tuple | set | deque):
        items = thing.values() if isinstance(thing, dict) else thing
        yield from (item for _, item in zip(range(MAX_ITEMS), items, strict=False))
    if isinstance(thing, nn.Module):  # skips the attributes that every module has
        yield from thing._modules.values()
        yield from (value for name, value in vars(thing).items() if name not in _OF_EVERY_MODULE)
        return
    for part in type(thing).__mro__:
        yield from (getattr(thing, name, None) for name in _names(getattr(part, "__slots__", ())))
    yield from (getattr(thing, "__dict__", None) or {}).values()


def _of_code(thing: Any) -> Iterable[Any]:
    """The objects that the code of an object refers to, or of its class."""
    if isinstance(thing, FunctionType):
        return _of_function(thing)
    if isinstance(thing, type):
        return () if _of_library(thing) else [v for v in vars(thing).values() if not isinstance(v, type)]
    if isinstance(thing, partial):
        return thing.func, thing.args, thing.keywords
    if isroutine(thing):  # a method, also one of a generator written in C
        return getattr(thing, "__self__", None), getattr(thing, "__func__", None)
    return () if _of_library(type(thing)) else type(thing).__mro__


def _of_function(function: FunctionType) -> list[Any]:
    """The objects that a function refers to: closure, defaults, and globals that its code names."""
    if not function.__closure__ and _of_library(function):
        return []
    names = function.__globals__
    read = [names[name] for name in _global_names(function.__code__) if name in names]
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not assigned yet
            held.append(cell.cell_contents)
    return [*read, *held]


def _global_names(code: CodeType) -> Iterator[str]:
    """The global names in the code of a function and of the functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _of_library(thing: type | FunctionType) -> bool:
    return (thing.__module__ or "").partition(".")[0] in _LIBRARIES


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
