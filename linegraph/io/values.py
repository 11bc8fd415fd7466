"""Numbers in files. A text is read as a number only if the whole text is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from linegraph.errors import DataError, NonFiniteWeightError

__all__ = ["LONGEST", "claims_number", "integer", "integers", "is_number", "numbers"]

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"[+-]?[0-9]+")
NOT_FINITE = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
CLAIM = re.compile(r"[+-]?[.,]?[0-9]")
LONGEST = 18
"""Largest number of digits of integers that are read: all such integers fit in 64 bits."""


def is_number(text: str) -> bool:
    """Whether a text is a decimal number, or a word for infinity or NaN."""
    return bool(NUMBER.fullmatch(text) or NOT_FINITE.fullmatch(text))


def claims_number(text: str) -> bool:
    """Whether a text is a number or begins like one, such as ``0,5``, ``1.5D+01``, ``1_000`` and ``12abc``."""
    return bool(CLAIM.match(text) or NOT_FINITE.fullmatch(text))


def numbers(texts: Sequence[str], what: Callable[[int], str], *, whole: bool = False) -> np.ndarray:
    """Texts as numbers in double precision. Each text must be a decimal number, or with ``whole`` an integer.

    Raises:
        DataError: if one is not; ``what(k)`` names the k-th of them.
        NonFiniteWeightError: if one is NaN, infinite or too large.
    """
    form = WHOLE if whole else NUMBER
    wrong = next((k for k, text in enumerate(texts) if not form.fullmatch(text)), None)
    if wrong is not None:
        text = texts[wrong]
        kind = NonFiniteWeightError if NOT_FINITE.fullmatch(text) else DataError
        wanted = "integer" if whole else "finite number"
        raise kind(f"{what(wrong)} is no {wanted}: {_shown(text)}{_advice(text)}")
    found = np.fromiter(map(float, texts), dtype=np.float64, count=len(texts))
    if len(large := np.flatnonzero(~np.isfinite(found))):
        k = int(large[0])
        raise NonFiniteWeightError(f"{what(k)} is no finite number in double precision: {_shown(texts[k])}")
    return found


def integer(text: str, what: str) -> int:
    """A text as an integer ≥ 0.

    Raises:
        DataError: if it is not one, or exceeds 64 bits; the message begins with ``what``.
    """
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{what} is no number 0, 1, 2, ...: {_shown(text)}")
    if len(text) > LONGEST:
        raise DataError(f"{what} is too large: {_shown(text)}")
    return int(text)


def integers(texts: Sequence[str], what: Callable[[int], str]) -> np.ndarray:
    """Texts as integers ≥ 0.

    Raises:
        DataError: if one is not; ``what(k)`` names the k-th of them.
    """
    for k, text in enumerate(texts):
        if len(text) > LONGEST or not (text.isascii() and text.isdigit()):
            integer(text, what(k))
    return np.fromiter(map(int, texts), dtype=np.int64, count=len(texts))


def _advice(text: str) -> str:
    if re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text):
        return "; numbers have a decimal point, not a comma"
    if re.fullmatch(r"[+-]?[0-9.]+[dD][+-]?[0-9]+", text):
        return "; write an exponent with E"
    return ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
