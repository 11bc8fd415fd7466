"""Numbers for nodes that a file identifies by name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from linegraph.io.values import is_number

__all__ = ["numbered_names"]


def numbered_names(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The number of each name, and the different names in the order of their numbers.

    Names are compared as texts, so 1 and 1.0 are two nodes. If all names are numbers, they are numbered in increasing
    order, and those of equal value alphabetically; otherwise all are numbered alphabetically.
    """
    known = set(names)
    by_value = all(is_number(name) and not math.isnan(float(name)) for name in known)
    order = sorted(known, key=(lambda name: (float(name), name)) if by_value else None)
    number = {name: i for i, name in enumerate(order)}
    return np.fromiter((number[name] for name in names), dtype=np.int64, count=len(names)), order
