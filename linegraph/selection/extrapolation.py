"""Learning curves fitted to the accuracies seen and read at a later epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from linegraph.errors import DataError
from linegraph.selection.histories import epochs_with
from linegraph.selection.methods import register_method

__all__ = ["exponential", "power_law"]

Array = NDArray[np.float64]
Decay = Callable[[Any, float], Any]

HORIZON = 5.0
"""The curve is read at this multiple of the last epoch seen: the asymptote of a curve of few points is not determined
by them, and lies at the bound 1 for most."""

RATES = (0.05, 5.0)
LARGEST_STD = 0.5
"""No variable with values in [0, 1] has a larger standard deviation."""


def power_law(history: pd.DataFrame, *, horizon: float = HORIZON) -> tuple[float, float]:
    """The accuracy at a later epoch by the power law a(t) = c − b t^(−α), with 0 ≤ c ≤ 1, 0 ≤ b ≤ 1.

    Args:
        history: one row per epoch with the column ``accuracy``, fractions in [0, 1].
        horizon: the curve is read at this multiple of the last epoch.

    Returns:
        Mean and standard deviation. The mean is in [0, 1]. With two epochs α is 1; with one, or a curve that falls, b
        is 0. The standard deviation is that of a least-squares fit, with the scatter of a single epoch; it is nan where
        there are no more epochs than parameters.

    Raises:
        DataError: if there is no finite accuracy, or one is outside [0, 1].
    """
    return _extrapolated(history, lambda t, rate: t ** (-rate), horizon)


def exponential(history: pd.DataFrame, *, horizon: float = HORIZON) -> tuple[float, float]:
    """As :func:`power_law`, by the exponential a(t) = c − b e^(−k (t − 1)); with two epochs k is 1."""
    return _extrapolated(history, lambda t, rate: np.exp(-rate * (t - 1)), horizon)


def _extrapolated(history: pd.DataFrame, decay: Decay, horizon: float) -> tuple[float, float]:
    seen = epochs_with(history, "accuracy")["accuracy"]
    accuracy = seen.to_numpy()
    if accuracy.min() < 0 or accuracy.max() > 1:
        raise DataError("a curve is extrapolated within [0, 1], but the history has accuracies outside it")
    epochs = (history.loc[seen.index, "epoch"] if "epoch" in history else pd.Series(range(1, len(seen) + 1))).to_numpy(
        float
    )
    last = horizon * float(epochs.max())
    if len(accuracy) == 1:
        return float(accuracy[0]), math.nan
    free = 2 if len(accuracy) == 2 else 3
    fitted = _fitted(epochs, accuracy, decay, free)

    def read(parameters: Array) -> float:
        return float(_curve(parameters, np.array([last]), decay)[0])

    mean = float(np.clip(read(fitted), 0, 1))
    if len(accuracy) <= free:
        return mean, math.nan
    return mean, _std(fitted, epochs, accuracy, decay, read)


def _curve(parameters: Array, epochs: Array, decay: Decay) -> Array:
    c, b, rate = parameters if len(parameters) == 3 else (*parameters, 1.0)
    values: Array = c - b * decay(epochs, rate)
    return values


def _fitted(epochs: Array, accuracy: Array, decay: Decay, free: int) -> Array:
    """The parameters of the best of several bounded least-squares fits from different rates."""
    from scipy.optimize import least_squares

    bounds = np.array([(0.0, 1.0), (0.0, 1.0), RATES])[:free].T
    starts = [np.array([min(accuracy.max() + 0.01, 0.99), 0.3, rate])[:free] for rate in (0.2, 1.0, 3.0)]
    fits = [
        least_squares(lambda p: _curve(p, epochs, decay) - accuracy, start, bounds=bounds)
        for start in starts[: 1 if free == 2 else None]
    ]
    best: Array = min(fits, key=lambda fit: float(fit.cost)).x
    return best


def _std(fitted: Array, epochs: Array, accuracy: Array, decay: Decay, read: Callable[[Array], float]) -> float:
    """The standard deviation of what the curve predicts, from the curvature of the squared error."""
    step = 1e-6
    moved = [fitted + step * np.eye(len(fitted))[i] for i in range(len(fitted))]
    base = _curve(fitted, epochs, decay)
    jacobian = np.stack([(_curve(p, epochs, decay) - base) / step for p in moved], axis=1)
    slope = np.array([(read(p) - read(fitted)) / step for p in moved])
    scatter = float(((base - accuracy) ** 2).sum()) / (len(accuracy) - len(fitted))
    variance = scatter * (1 + float(slope @ np.linalg.pinv(jacobian.T @ jacobian) @ slope))
    return min(math.sqrt(max(variance, 0.0)), LARGEST_STD)


register_method(
    "power_law",
    power_law,
    needs=["accuracy"],
    gives="accuracy and std",
    formula="a(5T) of a(t) = c − b t^(−α), 0 ≤ b, c ≤ 1",
    source="Domhan, Springenberg, Hutter, IJCAI 2015 (curve pow3)",
)
register_method(
    "exponential",
    exponential,
    needs=["accuracy"],
    gives="accuracy and std",
    formula="a(5T) of a(t) = c − b e^(−k (t − 1)), 0 ≤ b, c ≤ 1",
    source="Domhan, Springenberg, Hutter, IJCAI 2015 (exponential curves)",
)
