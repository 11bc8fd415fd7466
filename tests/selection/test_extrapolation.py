import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection.extrapolation import exponential, power_law

T = np.arange(1.0, 9.0)
CURVES = {
    "power_law": (power_law, lambda t, c, b, rate: c - b * t**-rate),
    "exponential": (exponential, lambda t, c, b, rate: c - b * np.exp(-rate * (t - 1))),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("parameters", [(0.9, 0.5, 0.7), (0.7, 0.6, 1.5), (0.99, 0.4, 0.4)])
def test_exact_curves_are_continued(name, parameters):
    function, curve = CURVES[name]
    mean, std = function(pd.DataFrame({"epoch": T, "accuracy": curve(T, *parameters)}))
    assert mean == pytest.approx(curve(5 * T[-1], *parameters), abs=1e-3)
    assert 0 <= std < 1e-2
    assert lg.predict_final(pd.DataFrame({"accuracy": curve(T, *parameters)}), method=name).mean == pytest.approx(mean)


@pytest.mark.parametrize("name", CURVES)
def test_mean_and_std_are_those_of_scipys_fit(name):
    function, curve = CURVES[name]
    accuracy = curve(T, 0.8, 0.4, 0.8) + 0.01 * np.random.default_rng(0).normal(size=8)
    mean, std = function(pd.DataFrame({"epoch": T, "accuracy": accuracy}))
    fitted, covariance = curve_fit(curve, T, accuracy, p0=(0.8, 0.4, 0.8))
    last = 5 * T[-1]
    slope = np.array([(curve(last, *(fitted + e)) - curve(last, *(fitted - e))) / 2e-5 for e in np.eye(3) * 1e-5])
    scatter = ((curve(T, *fitted) - accuracy) ** 2).sum() / 5
    assert mean == pytest.approx(curve(last, *fitted), abs=1e-3)
    assert std == pytest.approx(math.sqrt(slope @ covariance @ slope + scatter), rel=0.05)


SHORT = [[0.5], [0.2, 0.6], [0.6, 0.2], [0.1, 0.5, 0.9]]
LONG = [[0.5] * 4, [0.9, 0.5, 0.2, 0.1], [0.0, 1.0, 0.0, 1.0], [1.0] * 5, [0.0] * 4]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("accuracy", SHORT + LONG)
def test_short_falling_and_constant_curves_stay_in_the_unit_interval(name, accuracy):
    mean, std = CURVES[name][0](pd.DataFrame({"accuracy": accuracy}))
    assert 0 <= mean <= 1
    assert math.isnan(std) if len(accuracy) <= 3 else 0 <= std <= 0.5
    if len(accuracy) == 1 or len(set(accuracy)) == 1:
        assert mean == pytest.approx(accuracy[-1], abs=1e-3)
    if accuracy[0] > accuracy[-1]:
        assert mean == pytest.approx(np.mean(accuracy), abs=0.02)


def test_two_epochs_have_a_rate_of_one():
    assert power_law(pd.DataFrame({"accuracy": [0.2, 0.5]}))[0] == pytest.approx(0.8 - 0.6 / 10, abs=1e-4)


def test_epochs_that_were_not_recorded_are_counted():
    accuracy = 0.9 - 0.5 * T**-0.7
    some = pd.DataFrame({"epoch": T, "accuracy": accuracy}).iloc[[0, 2, 3, 5, 7]]
    assert power_law(some)[0] == pytest.approx(0.9 - 0.5 * 40**-0.7, abs=1e-3)


def test_accuracies_in_percent_are_refused():
    with pytest.raises(DataError, match=r"within \[0, 1\]"):
        power_law(pd.DataFrame({"accuracy": [10.0, 20.0, 30.0]}))
