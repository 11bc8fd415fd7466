"""Roots of a function of one variable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

__all__ = ["Scalar"]


Scalar = Callable[[np.ndarray], np.ndarray]


def _all_roots(function: Scalar, slope: Scalar, x: np.ndarray) -> list[float]:
    """Roots of a function on the points and between them, those that only touch 0 too, rising."""
    # With its extremes among the points, no two roots can hide between neighbours, however near a fold.
    extremes = np.array(_roots(slope, x))
    x = np.unique(np.r_[x, extremes])
    values = function(x).copy()
    at = np.searchsorted(x, extremes)
    values[at[_vanishes(function, extremes, x[0], x[-1])]] = 0
    return _distinct([*x[values == 0], *_roots(function, x, values)])


def _vanishes(function: Scalar, x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Where a function is 0 beside its values within 1 % of x."""
    nearby = np.abs(function(np.clip(np.r_[x * 0.99, x * 1.01], low, high))).reshape(2, -1).max(0)
    return np.abs(function(x)) <= 1e-9 * nearby


def _roots(function: Scalar, x: np.ndarray, values: np.ndarray | None = None) -> list[float]:
    """Roots where the sign changes, between neighbouring points or over points of value 0."""
    values = function(x) if values is None else values
    set_ = np.flatnonzero(values != 0)
    signs = np.where(np.isfinite(values[set_]), np.sign(values[set_]), 0)
    found = []
    for k in np.flatnonzero(signs[:-1] * signs[1:] < 0):
        i, j = set_[k], set_[k + 1]
        if j > i + 1:
            found.append(float(x[(i + j) // 2]))
        else:
            found.append(
                brentq(lambda z: float(function(np.array([z]))[0]), x[i], x[j], xtol=1e-300, rtol=8.9e-16, maxiter=5000)
            )  # a thousand halvings lie between 0 and its neighbour
    return found


def _distinct(roots: list[float]) -> list[float]:
    kept: list[float] = []
    for root in sorted(float(r) for r in roots):
        if not kept or root - kept[-1] > 1e-7 * max(1e-3, abs(root)):
            kept.append(root)
    return kept
