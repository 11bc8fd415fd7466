"""Features of histories against values computed by hand, and their standings against SciPy's ranks."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from linegraph.selection.history_features import FEATURES, GROUPS, features_of, standings

START = {
    "epoch": 0,
    "loss": math.nan,
    "accuracy": 0.25,
    "valid_loss": 2.0,
    "seen_accuracy": 0.5,
    "seen_loss": 4.0,
    "linear_probe": 0.5,
    "layer_probe": 0.25,
    "beta_eff": 1.0,
    "mean_strength": 2.0,
    "heterogeneity": 1.0,
    "symmetry": -0.5,
    "signed_mean_strength": -1.0,
    "signed_symmetry": 0.25,
    "gradient_coupling": 0.5,
    "num_synapses": 16,
    "num_layers": 2,
    "weight_norm": 2.0,
    "gradient_norm": 1.0,
    "drive_norm": 0.5,
    "coupled_norm": 0.25,
    "saliency": 8.0,
    "flow": 2.0,
    "weight_gradient": -4.0,
    "weight_coupled": 1.0,
    "gradient_layers": 1.0,
    "flow_layers": 0.5,
    "gradient_in_first": 0.5,
    "flow_in_first": 0.0,
}
MIDDLE = START | {"epoch": 1, "loss": 3.0, "accuracy": 0.75, "valid_loss": 0.5}
END = START | {
    "epoch": 2,
    "loss": 1.0,
    "accuracy": 0.5,
    "valid_loss": 1.0,
    "seen_accuracy": 1.0,
    "seen_loss": 2.0,
    "layer_probe": 0.625,
    "gradient_norm": 4.0,
    "drive_norm": 1.0,
    "saliency": 4.0,
    "weight_coupled": -2.0,
    "symmetry": 0.5,
}
HISTORY = pd.DataFrame([START, MIDDLE, END])
LOG2 = math.log(2)
EXPECTED = {
    "accuracy": 0.5,
    "seen_accuracy": 1.0,
    "accuracy_gap": 0.5,
    "valid_loss": 0.0,
    "seen_loss": -LOG2,
    "loss_gap": -LOG2,
    "linear_probe": 0.5,
    "probe_gain": 0.0,
    "layer_probe": 0.625,
    "layer_probe_gain": 0.125,
    "layer_probe_over_linear": 0.125,
    "relative_gradient": 2 * LOG2,  # 4 · 2 / 2
    "speed": 3 * LOG2,  # 4² / 2
    "weight_scale": -2 * LOG2,  # 2² / 16
    "relative_saliency": LOG2,  # 4 / 2
    "growth_of_weights": 1.0,  # −(−4) / 4
    "gradient_layers": 1.0,
    "gradient_in_first": 0.5,
    "drive_share": -2 * LOG2,  # 1 / 4
    "coupled_share": -4 * LOG2,  # 0.25 / 4
    "flow_share": 0.5,  # 2 / 4
    "flow_direction": -1.0,  # −2 / 2
    "flow_layers": 0.5,
    "flow_in_first": 0.0,
    "symmetry": 0.5,
    "relative_heterogeneity": -LOG2,  # 1 / 2
    "capacitance": -3 * LOG2,  # 1 · 2² / (16 · 2)
    "mean_strength": -2 * LOG2,  # 2 · 2² / (16 · 2)
    "signed_share": -LOG2,  # |−1| / 2
    "signed_symmetry": 0.25,
    "gradient_coupling": 0.5,  # 0.5 / 1
}
CHANGES = {
    "accuracy": 0.25,
    "valid_loss": LOG2,
    "accuracy_gap": 0.25,
    "layer_probe": 0.375,
    "layer_probe_gain": 0.125,  # from 0.25 − 0.25
    "layer_probe_over_linear": 0.375,
    "relative_gradient": 3 * LOG2,  # 4 against 1 · 2 / 4
    "relative_saliency": 0.0,
    "flow_share": 0.25,
    "flow_direction": -1.5,
    "symmetry": 1.0,
    "drive_share": -LOG2,
    "signed_share": 0.0,
}
OF_ALL_ROWS = {
    "best_accuracy": 0.75,
    "mean_accuracy": 0.5,
    "last_step": -0.25,
    "best_valid_loss": LOG2,
    "loss": 0.0,
    "sum_of_losses": -LOG2,  # the mean of 3 and 1
    "num_synapses": 4 * LOG2,
    "num_layers": LOG2,
}


def test_features_have_the_values_of_their_formulas():
    found = features_of(HISTORY)
    expected = EXPECTED | {f"{name}_since_start": value for name, value in CHANGES.items()} | OF_ALL_ROWS
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) == set(EXPECTED) | {f"{name}_since_start" for name in EXPECTED} | set(OF_ALL_ROWS)
    assert list(found) == list(FEATURES)
    assert all(map(math.isfinite, found.values()))


def test_every_feature_is_in_one_group():
    names = [name for group in GROUPS.values() for name in group]
    assert len(set(names)) == len(names)
    assert tuple(names) == FEATURES


def test_features_are_given_in_the_order_asked_for():
    names = ["loss", "symmetry_since_start", "accuracy"]
    found = features_of(HISTORY, names)
    assert list(found) == names
    assert found == pytest.approx({"loss": 0.0, "symmetry_since_start": 1.0, "accuracy": 0.5})


def test_a_history_without_epoch_0_has_no_changes_since_then():
    for history in (HISTORY[1:], HISTORY[1:].drop(columns="epoch")):
        found = features_of(history)
        assert all(math.isnan(found[f"{name}_since_start"]) for name in EXPECTED)
        assert {name: found[name] for name in EXPECTED} == pytest.approx(EXPECTED)
        assert found["mean_accuracy"] == pytest.approx(0.625)


def test_features_of_missing_columns_are_nan_and_the_others_are_not():
    found = features_of(HISTORY[["epoch", "accuracy", "loss"]])
    known = {name for name, value in found.items() if not math.isnan(value)}
    assert known == {
        *("accuracy", "accuracy_since_start", "best_accuracy", "mean_accuracy", "last_step", "loss", "sum_of_losses")
    }


def test_values_without_a_feature_are_nan():
    last = END | {"seen_loss": 0.0, "gradient_norm": math.inf, "saliency": 0.0, "beta_eff": math.nan, "flow": None}
    found = features_of(pd.DataFrame([START, last]))
    for name in ("seen_loss", "relative_gradient", "speed", "relative_saliency", "growth_of_weights", "capacitance"):
        assert math.isnan(found[name]), name
        assert math.isnan(found[f"{name}_since_start"]), name
    assert math.isnan(found["flow_direction"])
    assert found["symmetry"] == pytest.approx(0.5)


def test_a_history_of_no_rows_has_no_features():
    assert all(math.isnan(value) for value in features_of(HISTORY[:0]).values())


def of_values(**columns):
    table = pd.DataFrame(columns, dtype=float)
    return {str(name): row.to_dict() for name, row in table.iterrows()}


def test_standings_are_normal_scores_of_the_ranks():
    a, b = [0.3, -2.0, 7.0, 0.3, 1.0], [5.0, 5.0, 5.0, 5.0, 5.0]
    found = standings(of_values(a=a, b=b), ["b", "a"])
    assert found.shape == (5, 2)
    assert found[:, 1] == pytest.approx(norm.ppf((rankdata(a) - 0.5) / 5))  # ties at their mean rank
    assert found[:, 0] == pytest.approx(np.zeros(5))


def test_candidates_without_a_value_stand_at_0_and_do_not_change_the_others():
    known = [0.3, -2.0, 7.0]
    found = standings(of_values(a=[0.3, math.nan, -2.0, math.inf, 7.0], b=[math.nan] * 5), ["a", "b"])
    assert found[[0, 2, 4], 0] == pytest.approx(norm.ppf((rankdata(known) - 0.5) / 3))
    assert found[[1, 3], 0] == pytest.approx([0, 0])
    assert found[:, 1] == pytest.approx(np.zeros(5))
    assert standings(of_values(a=[3.0]), ["a", "not there"]) == pytest.approx(np.zeros((1, 2)))


MAPS = {
    "linear": lambda x: 3 * x - 7,
    "cubic": lambda x: x**3,
    "exponential": lambda x: math.exp(x / 10),
}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=12), st.sampled_from(sorted(MAPS)))
def test_standings_do_not_change_with_units_or_increasing_maps(values, name):
    mapped = [MAPS[name](value) for value in values]
    first, second = (standings(of_values(a=given), ["a"]) for given in (values, mapped))
    assert second == pytest.approx(first)
    assert standings(of_values(a=[-value for value in values]), ["a"]) == pytest.approx(-first)
