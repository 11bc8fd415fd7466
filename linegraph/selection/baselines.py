"""Predictions of final accuracy that any method has to beat."""

from __future__ import annotations

import math

import pandas as pd

__all__ = ["last_seen", "mean_seen"]


def last_seen(history: pd.DataFrame) -> tuple[float, float]:
    """The accuracy after the last epoch seen; it states no spread (nan)."""
    return float(history["accuracy"].iloc[-1]), math.nan


def mean_seen(history: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation of the accuracies seen."""
    return float(history["accuracy"].mean()), float(history["accuracy"].std())
