"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["cached_property"]

T = TypeVar("T")


class cached_property(Generic[T]):
    """A method as an attribute that is computed once, without a lock.

    ``functools.cached_property`` of Python 3.11 has one lock for all objects of a class. A thread that computes holds
    it while it waits for its turn, which another thread may have that asks for the same attribute; and in a process
    that is forked meanwhile it stays locked. Here two threads may both compute, and get what was stored first.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
        if instance is None:
            return self
        # Found here only the first time: what is stored among the object's attributes goes before.
        found: T = vars(instance).setdefault(self._name, self._compute(instance))
        return found
