"""Numbers in files, which are read whole or refused."""

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
"""Digits of an integer that 64 bits hold."""


def is_number(text: str) -> bool:
    """Whether a text is a decimal number, or is written as one that is not finite."""
    return bool(NUMBER.fullmatch(text) or NOT_FINITE.fullmatch(text))


def claims_number(text: str) -> bool:
    """Whether a text is a number or begins as one: ``0,5``, ``1.5D+01``, ``1_000`` and ``12abc`` do."""
    return bool(CLAIM.match(text) or NOT_FINITE.fullmatch(text))


def numbers(texts: Sequence[str], what: Callable[[int], str], *, whole: bool = False) -> np.ndarray:
    """Texts as numbers in double precision, each of them a decimal number from end to end, or ``whole`` an integer.

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
    """A text as an integer that is not negative.

    Raises:
        DataError: if it is none, or one that 64 bits do not hold; begins with ``what``.
    """
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{what} is no number 0, 1, 2, ...: {_shown(text)}")
    if len(text) > LONGEST:
        raise DataError(f"{what} is too large: {_shown(text)}")
    return int(text)


def integers(texts: Sequence[str], what: Callable[[int], str]) -> np.ndarray:
    """Texts as integers that are not negative.

    Raises:
        DataError: if one is none; ``what(k)`` names the k-th of them.
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
