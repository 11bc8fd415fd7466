"""The one door: a coupling of whatever graph a user hands in."""

from __future__ import annotations

from typing import Any

from linegraph.coupling.base import Coupling
from linegraph.io.convert import from_pyg, unexpected
from linegraph.pyg import is_data

__all__ = ["as_coupling"]


def as_coupling(P: Any) -> Coupling:
    """What a metric was given: a coupling as it is, a PyG ``Data`` such as a coarse graph as one.

    Raises:
        TypeError: for anything else; names the function that makes a coupling of it.
    """
    if isinstance(P, Coupling):
        return P
    if is_data(P):
        return from_pyg(P)
    raise unexpected(P, "a coupling or a PyG Data")
