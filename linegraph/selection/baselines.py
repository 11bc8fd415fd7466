"""Baselines: simple predictions of the final accuracy, with which other methods are compared."""

from __future__ import annotations

import math

import pandas as pd

__all__ = ["last_seen", "mean_seen"]


def last_seen(history: pd.DataFrame) -> tuple[float, float]:
    """The accuracy after the last epoch seen, with nan for its standard deviation, which is not estimated."""
    return float(history["accuracy"].iloc[-1]), math.nan


def mean_seen(history: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy over the epochs seen."""
    return float(history["accuracy"].mean()), float(history["accuracy"].std())
