"""The predictor that is learnt from recorded training runs, on features that exist for every network and task.

Its coefficients are in ``combined.json`` beside this module, with their provenance; ``python -m benchmarks.selection
fit`` makes them of the recorded runs in ``datasets/selection``.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from linegraph.errors import DataError, IncompleteHistoryWarning
from linegraph.selection.histories import epochs_with
from linegraph.selection.history_features import features_of, standings
from linegraph.selection.methods import register_method

__all__ = ["bounded", "coefficients", "combined", "gain_features", "spread"]

READ = (
    "epoch",
    "loss",
    "valid_loss",
    "seen_accuracy",
    "seen_loss",
    "linear_probe",
    "layer_probe",
    "num_synapses",
)
"""Columns whose presence shows that a history was recorded with held-out data."""

PROBES = ("linear_probe", "layer_probe")
"""Columns of READ that are not read after every number of epochs; features have the same names."""

LEAST_MISSING = 1e-3
"""The missing part of an accuracy of 1."""

HIGHEST = 1.05
"""An accuracy a little above 1, so that a prediction for an accuracy near 1 has an interval too."""


def combined(histories: Mapping[str, pd.DataFrame]) -> dict[str, tuple[float, float]]:
    """Final accuracies of candidates that are ranked together, predicted from what other networks and tasks taught.

    For each candidate the gain from the last accuracy seen to the final one is predicted by a ridge regression on
    features of its history. If there are several candidates, a second ridge regression predicts their order from the
    standings of all features among them, and the predicted accuracies are handed out in this order: the candidate with
    the j-th highest predicted standing gets the j-th highest accuracy.

    **What it has learnt from.** Runs of 15 to 18 epochs, with the optimizer and learning rate of the benchmark for
    every network, of 300 to 120,000 weights on 8×8 images; see ``datasets/README.md``. It predicts the accuracy that
    such a run ends with, however long training goes on: what a network gains after the eighteenth epoch, as slow
    starters do, or by a learning rate that falls at the end, is not foreseen.

    Args:
        histories: by the names of the candidates, one row per epoch, all of the same number of epochs.

    Returns:
        By name, the mean, in [0, 1], and the standard deviation: 1/1.96 of the error that 95 % of the predictions for
        tasks and families left out did not exceed, in units of √(1.05 − a) for the last accuracy a seen. Intervals of
        1.96 standard deviations held 99 % of the final accuracies of pre-trained networks and 87 % of those of networks
        trained from scratch, fewer on tasks on which learning starts late.

    Raises:
        DataError: if a history has no accuracy, or one outside [0, 1].

    Warns:
        IncompleteHistoryWarning: if a column that the features read is missing; the means of the recorded runs replace
            what is computed of it.
    """
    for history in histories.values():
        _check(history)
    epochs = max(_epochs(history) for history in histories.values())
    learnt = coefficients(epochs)
    _tell_what_is_missing(histories, learnt)
    names = list(histories)
    means = np.array([_expected(histories[name], learnt["gain"]) for name in names])
    if len(names) > 1:
        order = learnt["order"]
        features = {name: features_of(histories[name], order["features"]) for name in names}
        standing = standings(features, order["features"]) @ np.array(order["coefficients"])
        placed = np.empty(len(names))
        placed[np.argsort(standing, kind="stable")] = np.sort(means)
        means = placed
    return {
        name: (float(mean), learnt["error"] / 1.96 * spread(_last(histories[name])))
        for name, mean in zip(names, means, strict=True)
    }


def coefficients(epochs: int) -> dict[str, Any]:
    """The coefficients learnt for a number of epochs: those of the largest number that is not larger."""
    known = _learnt()["epochs"]
    number = max((int(n) for n in known if int(n) <= epochs), default=min(map(int, known)))
    found: dict[str, Any] = known[str(number)]
    return found


def gain_features(history: pd.DataFrame, gain: Mapping[str, Any]) -> NDArray[np.float64]:
    """The features of a history in units of their spread over the recorded runs, cut at ±4; 0, the mean, if missing."""
    values = features_of(history, gain["features"])
    scaled = (np.array(list(values.values())) - np.array(gain["means"])) / np.array(gain["scales"])
    known: NDArray[np.float64] = np.nan_to_num(np.clip(scaled, -4, 4), nan=0.0)
    return known


def spread(seen: float) -> float:
    """The unit of errors, √(1.05 − a): the more accuracy a is missing, the more may come, or not."""
    return math.sqrt(HIGHEST - seen)


def _expected(history: pd.DataFrame, gain: Mapping[str, Any]) -> float:
    gained = gain["intercept"] + float(gain_features(history, gain) @ np.array(gain["coefficients"]))
    return bounded(_last(history), gained)


def bounded(seen: float, gain: float) -> float:
    """The accuracy after a gain, within [0, 1]: the missing part 1 − a shrinks by e^(−gain / (1 − a)).

    For a small gain that is a + gain. It increases with the gain, so that good candidates do not tie at 1.
    """
    missing = max(1 - seen, LEAST_MISSING)
    return max(seen + gain, 0.0) if gain <= 0 else min(seen + missing * -math.expm1(-gain / missing), 1.0)


def _last(history: pd.DataFrame) -> float:
    return float(epochs_with(history, "accuracy")["accuracy"].iloc[-1])


def _check(history: pd.DataFrame) -> None:
    seen = epochs_with(history, "accuracy")["accuracy"]
    if seen.min() < 0 or seen.max() > 1:
        raise DataError("combined reads accuracies in [0, 1], but the history has others; divide percent by 100")


def _tell_what_is_missing(histories: Mapping[str, pd.DataFrame], learnt: Mapping[str, Any]) -> None:
    present = set.intersection(*(set(history.columns) for history in histories.values()))
    unread = set(PROBES).difference(learnt["order"]["features"])
    missing = [column for column in READ if column not in present | unread]
    if "epoch" not in missing and any(0 not in set(history["epoch"]) for history in histories.values()):
        missing.append("epoch 0, recorded before training")
    if missing:
        warnings.warn(
            f"the history has no {', '.join(missing)}; the predictor uses means over its recorded runs instead. "
            "CapacitanceTracker(valid=...) records all columns, and tracker.record(epoch=0) the start",
            IncompleteHistoryWarning,
            stacklevel=4,
        )


def _epochs(history: pd.DataFrame) -> int:
    return int(history["epoch"].max()) if "epoch" in history else len(history)


@cache
def _learnt() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("combined.json").read_text())
    return found


register_method(
    "combined",
    combined,
    needs=["other candidates"],
    gives="accuracy and std",
    formula="ridge regressions of the gain and of the order among candidates, learnt from runs of 15 to 18 epochs",
    source="this package; datasets/selection, benchmarks/selection",
    cost=0.3,  # a forward pass over the samples, for the probes
)
