import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linegraph as lg
from linegraph.errors import DataError


@given(slope=st.floats(-2, 2), intercept=st.floats(0, 1), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_noiseless_line_is_read_at_zero_whatever_the_unit_of_beta(slope, intercept, scale):
    beta = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    history = pd.DataFrame({"beta_eff": beta * scale, "accuracy": intercept + slope * beta})
    found = lg.predict_final(history, method="capacitance")
    assert found.mean == pytest.approx(intercept, abs=1e-3)
    low, high = found.interval
    assert low <= found.mean <= high


def test_baselines():
    history = pd.DataFrame({"accuracy": [0.2, 0.6, 0.7]})
    assert lg.predict_final(history, method="last_seen").mean == 0.7
    assert math.isnan(lg.predict_final(history, method="last_seen").std)
    mean = lg.predict_final(history, method="mean_seen")
    assert (mean.mean, mean.std) == (pytest.approx(0.5), pytest.approx(np.std([0.2, 0.6, 0.7], ddof=1)))


def test_epochs_without_capacitance_are_left_out():
    history = pd.DataFrame({"beta_eff": [math.nan, 0.2, 0.1], "accuracy": [0.0, 0.7, 0.8]})
    assert lg.predict_final(history, method="capacitance").mean == pytest.approx(
        lg.predict_final(history[1:], method="capacitance").mean
    )


def test_constant_capacitance_has_no_slope_to_read():
    history = pd.DataFrame({"beta_eff": [0.2, 0.2], "accuracy": [0.6, 0.8]})
    assert lg.predict_final(history, method="capacitance").mean == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("columns", "method", "error", "message"),
    [
        ({"accuracy": [0.1]}, "best", ValueError, "unknown method 'best'; there are .*capacitance"),
        ({"accuracy": [0.1, 0.2]}, "capacitance", DataError, "no column 'beta_eff'; it has accuracy"),
        ({"accuracy": [0.1], "beta_eff": [1.0]}, "capacitance", DataError, "two epochs.*found 1"),
        ({"accuracy": [math.nan] * 2, "beta_eff": [1.0, 2.0]}, "capacitance", DataError, "no epoch with finite"),
    ],
)
def test_bad_histories(columns, method, error, message):
    with pytest.raises(error, match=message):
        lg.predict_final(pd.DataFrame(columns), method=method)
