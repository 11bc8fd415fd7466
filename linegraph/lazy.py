"""``cached_property`` without a lock: attributes that are computed when first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["cached_property"]

T = TypeVar("T")


class cached_property(Generic[T]):
    """A method as an attribute that is computed when first used, and kept.

    ``functools.cached_property`` of Python 3.11 has one lock for all objects of a class. A thread that computes the
    attribute would hold this lock while it waits for its turn (:mod:`linegraph.turns`); if the thread that has the turn
    then uses the same attribute of any object, both wait forever. In a process that is forked meanwhile the lock stays
    locked. Here there is no lock: two threads may both compute the attribute, and both get the value stored first.
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
        # Called only the first time: afterwards Python finds the stored value in the object's __dict__ before this.
        found: T = vars(instance).setdefault(self._name, self._compute(instance))
        return found
