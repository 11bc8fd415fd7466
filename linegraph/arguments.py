"""Checks of arguments that many functions take: types, numbers, tolerances, random generators and paths."""

from __future__ import annotations

import math
import sys
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linegraph.errors import ArgumentTypeError, DataError

__all__ = [
    "as_path",
    "as_real",
    "as_tensor",
    "check_choice",
    "check_executor",
    "check_generator",
    "check_limit",
    "check_module",
    "check_number_of",
    "check_seed",
    "check_tolerance",
    "check_type",
]

LARGEST = sys.float_info.max


def check_type(name: str, given: Any, wanted: type | tuple[type, ...], what: str) -> None:
    """Check that an argument is an instance of a class.

    Args:
        name: of the argument.
        given: its value.
        wanted: the class, or several.
        what: the class in words, for the message, and what to pass.

    Raises:
        ArgumentTypeError: if it is not; names the argument and the type of its value.
    """
    if not isinstance(given, wanted):
        raise ArgumentTypeError(f"{name} must be {what}, got {_in_words(given)}")


def check_choice(name: str, given: Any, choices: Any) -> None:
    """Check that an argument is one of some words.

    Raises:
        DataError: if it is not; names the argument and the words.
    """
    if not isinstance(given, str) or given not in choices:
        raise DataError(f"{name} must be one of {', '.join(map(repr, choices))}, got {_in_words(given)}")


def as_real(name: str, given: Any, low: float = -LARGEST, high: float = LARGEST) -> float:
    """A real number from ``low`` to ``high`` as a float; it may be given as an array or tensor of no dimension.

    Raises:
        DataError: if it is no such number; names the argument and the bounds.
    """
    number = given.item() if isinstance(given, torch.Tensor | np.ndarray) and given.ndim == 0 else given
    if isinstance(number, Real) and not isinstance(number, bool) and low <= float(number) <= high:
        return float(number)
    kind = "a number" if high == math.inf else "a finite number"
    if low > -LARGEST:
        kind += f" from {low:g} to {high:g}" if high < LARGEST else f" of at least {low:g}"
    raise DataError(f"{name} must be {kind}, got {_in_words(given)}")


def as_tensor(
    name: str, given: Any, what: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> torch.Tensor:
    """Numbers as a tensor without a graph of autograd.

    Args:
        name: of the argument.
        given: a number, a sequence of numbers, an array, a Series or a tensor.
        what: the required argument in words, for the message.
        dtype: of the tensor; by default that of the numbers.
        device: of the tensor; by default that of the numbers.

    Raises:
        DataError: if the argument does not consist of numbers; names it.
    """
    try:
        if hasattr(given, "__array__") and not isinstance(given, torch.Tensor):
            given = np.array(given)  # copied, since torch takes no read-only or reversed array
        return torch.as_tensor(given, dtype=dtype, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} must be {what}, got {_in_words(given)} ({error})") from None


def check_tolerance(tol: Any, name: str = "tol") -> None:
    """Check that a tolerance is a positive, finite number.

    Raises:
        DataError: if it is not; names the argument.
    """
    if not isinstance(tol, Real) or isinstance(tol, bool) or not 0 < float(tol) < math.inf:
        raise DataError(f"{name} must be positive and finite, got {_in_words(tol)}")


def check_number_of(what: str, number: Any, least: int = 1) -> None:
    """Check that a number is an integer of at least ``least``.

    Raises:
        DataError: names the argument and the number.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise DataError(f"{what} must be {least} or more, got {_in_words(number)}; pass such an integer")


def check_limit(name: str, limit: Any) -> None:
    """Check that a limit, such as ``max_edges``, is a number ≥ 0, which may be infinite.

    Raises:
        DataError: if it is not; names the argument.
    """
    as_real(name, limit, 0, math.inf)


def check_seed(seed: Any) -> None:
    """Check that a seed is an integer ≥ 0.

    Raises:
        DataError: if it is not.
    """
    check_number_of("seed", seed, least=0)


def check_module(model: Any, name: str = "model") -> None:
    """Check that a model is a module of torch, and not a class of modules.

    Raises:
        ArgumentTypeError: if it is not; names the argument.
    """
    check_type(name, model, torch.nn.Module, "a torch.nn.Module")


def check_generator(generator: Any) -> None:
    """Check that a random generator is one of torch's, or None.

    Raises:
        ArgumentTypeError: if it is not.
    """
    wanted = "a torch.Generator, such as torch.Generator().manual_seed(0), or None"
    check_type("generator", generator, (torch.Generator, type(None)), wanted)


def check_executor(executor: Any) -> None:
    """Check that an executor has a method ``submit``, as those of ``concurrent.futures`` have, or is None.

    Raises:
        ArgumentTypeError: if it has none.
    """
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ArgumentTypeError(
            "executor must be one of concurrent.futures, such as ProcessPoolExecutor(), or None, "
            f"got {_in_words(executor)}"
        )


def as_path(name: str, given: Any) -> Path:
    """The path of a file or folder.

    Raises:
        ArgumentTypeError: if the argument is no path; names it.
    """
    try:
        return Path(given)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be a path, a str or pathlib.Path, got {_in_words(given)}") from None


def _in_words(given: Any) -> str:
    """An argument in messages: numbers and words as they are, other objects by their type."""
    if given is None or isinstance(given, bool | int | float | complex | str | np.generic):
        return repr(given)
    return f"the class {given.__name__}" if isinstance(given, type) else f"an object of type {type(given).__name__}"
