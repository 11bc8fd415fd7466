"""Accuracies and losses of the epochs seen, taken as they are: the baselines of every other method."""

from __future__ import annotations

import math

import pandas as pd

from linegraph.selection.histories import epochs_with
from linegraph.selection.methods import register_method

__all__ = [
    "best_seen",
    "last_layer_probe",
    "last_linear_probe",
    "last_loss",
    "last_seen",
    "last_valid_loss",
    "mean_seen",
    "sum_of_losses",
]

RU = "Ru et al., NeurIPS 2021, arXiv 2006.04492"


def last_seen(history: pd.DataFrame) -> tuple[float, float]:
    """The accuracy after the last epoch seen, with nan for its standard deviation, which is not estimated."""
    return float(epochs_with(history, "accuracy")["accuracy"].iloc[-1]), math.nan


def best_seen(history: pd.DataFrame) -> tuple[float, float]:
    """The highest accuracy seen, with nan for its standard deviation."""
    return float(epochs_with(history, "accuracy")["accuracy"].max()), math.nan


def mean_seen(history: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy over the epochs seen; the latter is nan for one epoch."""
    accuracy = epochs_with(history, "accuracy")["accuracy"]
    return float(accuracy.mean()), float(accuracy.std())


def last_loss(history: pd.DataFrame) -> float:
    """The mean training loss of the last epoch seen; lower is better."""
    return float(epochs_with(history, "loss")["loss"].iloc[-1])


def last_valid_loss(history: pd.DataFrame) -> float:
    """The loss on held-out data after the last epoch seen; lower is better."""
    return float(epochs_with(history, "valid_loss")["valid_loss"].iloc[-1])


def last_linear_probe(history: pd.DataFrame) -> float:
    """The held-out accuracy of a linear classifier of the network's features after the last epoch seen.

    The column ``linear_probe`` of a history, see :class:`~linegraph.CapacitanceTracker`: the classifier is fitted to
    the features of the samples of P.
    """
    return float(epochs_with(history, "linear_probe")["linear_probe"].iloc[-1])


def last_layer_probe(history: pd.DataFrame) -> float:
    """The held-out accuracy of a linear classifier of what enters all trained layers, after the last epoch seen.

    The column ``layer_probe`` of a history, see :class:`~linegraph.CapacitanceTracker`: the classifier is fitted to
    the samples of P.
    """
    return float(epochs_with(history, "layer_probe")["layer_probe"].iloc[-1])


def sum_of_losses(history: pd.DataFrame) -> float:
    """The sum of the training losses of all epochs seen (SoTL); lower is better.

    The sum over epochs of the mean loss of an epoch is the published sum over steps, divided by the number of steps of
    an epoch. Histories of different numbers of epochs are not comparable.
    """
    return float(epochs_with(history, "loss")["loss"].sum())


register_method("last_seen", last_seen, needs=["accuracy"], gives="accuracy", formula="a_T, the accuracy after epoch T")
register_method("best_seen", best_seen, needs=["accuracy"], gives="accuracy", formula="max_t a_t")
register_method("mean_seen", mean_seen, needs=["accuracy"], gives="accuracy and std", formula="(1/T) Σ_t a_t")
register_method(
    "last_loss",
    last_loss,
    needs=["loss"],
    higher_is_better=False,
    formula="ℓ_T, the mean training loss of epoch T",
    source=RU,
)
register_method(
    "last_valid_loss",
    last_valid_loss,
    needs=["loss"],
    higher_is_better=False,
    formula="the loss on held-out data after epoch T",
)
register_method(
    "sum_of_losses", sum_of_losses, needs=["loss"], higher_is_better=False, formula="Σ_t ℓ_t (SoTL)", source=RU
)
register_method(
    "linear_probe",
    last_linear_probe,
    needs=["accuracy"],
    formula="held-out accuracy of a ridge regression of the labels on what enters the last linear layer, after epoch T",
    source="G. Alain, Y. Bengio, arXiv 1610.01644, for linear probes",
)
register_method(
    "layer_probe",
    last_layer_probe,
    needs=["accuracy"],
    formula="held-out accuracy of a ridge regression of the labels on what enters all trained layers, after epoch T",
    source="G. Alain, Y. Bengio, arXiv 1610.01644, for linear probes",
)
