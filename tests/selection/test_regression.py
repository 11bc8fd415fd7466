import math

import numpy as np
import pandas as pd
import pytest

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection.regression import at_zero_capacitance, at_zero_signed_capacitance

HISTORY = pd.DataFrame(
    {
        "epoch": [0, 1, 2, 3, 4],
        "accuracy": [0.1, 0.5, 0.62, 0.7, 0.77],
        "beta_eff": [9.0, 0.5, 0.38, 0.31, 0.2],
        "signed_beta_eff": [9.0, -0.4, 0.3, 0.1, math.nan],
    }
)


def ridge(beta, accuracy, sweeps=5000):
    """The intercept of a Bayesian ridge regression, by the fixed point of its evidence."""
    x, y = (beta - beta.mean()) / beta.std(), accuracy - accuracy.mean()
    alpha, precision = 1 / y.var(), 1.0
    for _ in range(sweeps):
        variance = 1 / (precision + alpha * (x @ x))
        slope = variance * alpha * (x @ y)
        gamma = alpha * (x @ x) * variance
        precision = (gamma + 2e-6) / (slope**2 + 2e-6)
        alpha = (len(y) - gamma + 2e-6) / (((y - slope * x) ** 2).sum() + 2e-6)
    return accuracy.mean() - slope * beta.mean() / beta.std()


def test_the_intercept_is_that_of_the_largest_evidence():
    beta, accuracy = HISTORY["beta_eff"].to_numpy()[1:], HISTORY["accuracy"].to_numpy()[1:]
    mean, std = at_zero_capacitance(HISTORY)
    assert mean == pytest.approx(ridge(beta, accuracy), abs=1e-3)
    assert 0 < std < 0.1


def test_the_signed_kind_is_read_from_its_columns():
    signed = HISTORY[["accuracy", "signed_beta_eff"]][1:4].rename(columns={"signed_beta_eff": "beta_eff"})
    found = lg.predict_final(HISTORY, method="signed_capacitance")
    assert (found.mean, found.std) == pytest.approx(at_zero_capacitance(signed))
    with pytest.raises(DataError, match="no column 'signed_beta_eff'"):
        at_zero_signed_capacitance(HISTORY.drop(columns="signed_beta_eff"))


def test_a_constant_capacitance_has_the_accuracies_own_mean_and_deviation():
    found = at_zero_capacitance(HISTORY.assign(beta_eff=0.3))
    seen = [0.5, 0.62, 0.7, 0.77]
    assert found == pytest.approx((np.mean(seen), np.std(seen, ddof=1)))
