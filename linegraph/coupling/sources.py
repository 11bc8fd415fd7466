"""Where data come from that are drawn: the random generators that a loader reads, put back for every reading."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import ismethod, isroutine
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from linegraph.coupling.preserve import preserved_randomness, random_state, set_random_state

__all__ = ["Sources", "held", "with_own_workers"]

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random

OBJECTS = 10_000
ITEMS = 100
"""How far to look: objects in all, and items of one container, which are samples where there are many."""

_ENDS = (Tensor, np.ndarray, str, bytes, int, float, complex, ModuleType, type(None))
_LIBRARIES = ("builtins", "torch", "numpy", "collections", "abc", "typing", "functools", "random")


class Sources:
    """The random generators that reading the data may draw from, with their states at the making of this.

    These are the global ones of torch, NumPy and Python, and those that are found among the attributes of the data,
    its samplers, datasets and transforms, and in their functions.
    """

    def __init__(self, data: Any) -> None:
        found = held(data, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random))
        self._generators = [g for g in found if not isinstance(g, random.SystemRandom)]  # which has no state
        self._states = [_state(g) for g in self._generators]
        self._global = random_state()

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """With all of them in those states; on leaving they are as they were."""
        before = [_state(g) for g in self._generators]
        with preserved_randomness():
            set_random_state(self._global)
            try:
                for generator, state in zip(self._generators, self._states, strict=True):
                    _set_state(generator, state)
                yield
            finally:
                for generator, state in zip(self._generators, before, strict=True):
                    _set_state(generator, state)


def with_own_workers(data: Any) -> Any:
    """The data, or a loader like them that has workers of its own: those that persist go on drawing."""
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


def held(root: Any, kinds: tuple[type, ...]) -> list[Any]:
    """Objects of some classes that an object holds, itself or through what it holds: attributes, items, functions."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = deque([root])
    while waiting and len(seen) < OBJECTS:
        thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, kinds):
            found.append(thing)
        elif not isinstance(thing, _ENDS):
            waiting.extend(_parts(thing))
    return found


def _parts(thing: Any) -> Iterable[Any]:
    """What an object holds."""
    if isinstance(thing, FunctionType):
        return _of_function(thing)
    if isinstance(thing, type):
        return () if _of_library(thing) else [v for v in vars(thing).values() if not isinstance(v, type)]
    parts: list[Any] = [] if _of_library(type(thing)) else [*type(thing).__mro__]
    if isinstance(thing, partial):
        parts += [thing.func, thing.args, thing.keywords]
    if ismethod(thing):
        parts.append(thing.__func__)
    if isroutine(thing):
        parts.append(getattr(thing, "__self__", None))  # of a method, of generators in C too
    if isinstance(thing, dict | list | tuple | set | deque):
        items = thing.values() if isinstance(thing, dict) else thing
        parts += [item for _, item in zip(range(ITEMS), items, strict=False)]
    slots = (name for part in type(thing).__mro__ for name in _names(getattr(part, "__slots__", ())))
    parts += [value for name in slots if (value := getattr(thing, name, None)) is not None]
    parts += (getattr(thing, "__dict__", None) or {}).values()
    return parts


def _of_function(function: FunctionType) -> list[Any]:
    """What a function holds: its closure, its defaults, and the global names that it reads."""
    names = function.__globals__
    read = [names[name] for name in _global_names(function.__code__) if name in names]
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # what is not assigned yet
            held.append(cell.cell_contents)
    return [*read, *held]


def _global_names(code: CodeType) -> Iterator[str]:
    """The names that a function looks up outside of itself, or a function that it defines."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _of_library(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _LIBRARIES


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
