"""The papers' predictor: the accuracy regressed on β_eff and read where β_eff is 0, which training approaches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from linegraph.errors import DataError
from linegraph.selection.histories import epochs_with
from linegraph.selection.methods import register_method

__all__ = ["at_zero_capacitance", "at_zero_signed_capacitance"]


def at_zero_capacitance(history: pd.DataFrame, column: str = "beta_eff") -> tuple[float, float]:
    """Mean and standard deviation of the accuracy at β_eff = 0 by Bayesian ridge regression.

    β_eff is divided by its standard deviation first, so that the prior on the slope does not depend on the unit of
    β_eff. If β_eff does not vary, there is no slope, and mean and standard deviation are those of the accuracy.

    Args:
        history: one row per epoch.
        column: the column of β_eff, "signed_beta_eff" for that of the signed coupling.

    Raises:
        DataError: if a column is missing, or fewer than two trained epochs have finite accuracy and β_eff.
    """
    from sklearn.linear_model import BayesianRidge

    seen = epochs_with(history, "accuracy", column)
    if len(seen) < 2:
        raise DataError(f"a regression on β_eff needs two epochs with finite accuracy and β_eff, found {len(seen)}")
    beta, accuracy = seen[column].to_numpy(), seen["accuracy"].to_numpy()
    spread = beta.std()
    if spread <= 1e-12 * np.abs(beta).max():
        return float(accuracy.mean()), float(accuracy.std(ddof=1))
    fit = BayesianRidge().fit((beta / spread)[:, None], accuracy)
    mean, std = fit.predict(np.zeros((1, 1)), return_std=True)
    return float(mean[0]), float(std[0])


def at_zero_signed_capacitance(history: pd.DataFrame) -> tuple[float, float]:
    """As :func:`at_zero_capacitance`, of the β_eff of the signed coupling, if the history has it."""
    return at_zero_capacitance(history, "signed_beta_eff")


for name, function, column, cost in (  # costs as measured on convolutional networks
    ("capacitance", at_zero_capacitance, "beta_eff", 3.5),
    ("signed_capacitance", at_zero_signed_capacitance, "signed_beta_eff", 4.0),
):
    register_method(
        name,
        function,
        needs=["accuracy", "capacitance"],
        gives="accuracy and std",
        formula=f"c₀ of a_t ≈ c₀ + c₁ β_t by Bayesian ridge, β_t the column {column}",
        source="Jiang et al., arXiv 2201.04194",
        cost=cost,
    )
