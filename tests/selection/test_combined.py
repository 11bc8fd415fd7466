import json
import math
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

import linegraph as lg
from linegraph.errors import DataError, IncompleteHistoryWarning
from linegraph.selection.combined import READ, bounded, coefficients, combined, spread
from linegraph.selection.history_features import FEATURES, features_of

EPOCHS = 5


def history(seed, epochs=EPOCHS):
    """A history with all columns, of numbers that are as large as recorded ones."""
    rng = np.random.default_rng(seed)
    rows = epochs + 1
    table = pd.DataFrame({"epoch": np.arange(rows)})
    accuracy = np.sort(rng.uniform(0.1, 0.9, rows))
    table["accuracy"], table["seen_accuracy"] = accuracy, np.minimum(accuracy + 0.05, 1)
    table["linear_probe"] = np.clip(accuracy + rng.normal(0, 0.05, rows), 0, 1)
    table["layer_probe"] = np.clip(accuracy + rng.normal(0, 0.05, rows), 0, 1)
    table["loss"] = table["valid_loss"] = table["seen_loss"] = np.linspace(2.3, rng.uniform(0.3, 2), rows)
    table.loc[0, "loss"] = math.nan
    table["num_synapses"], table["num_layers"] = int(rng.integers(100, 10_000)), 3
    return table


HISTORIES = {name: history(seed) for seed, name in enumerate("abcdefg")}


def test_alone_a_candidate_gets_its_accuracy_and_the_expected_gain():
    seen = HISTORIES["c"]
    gain = coefficients(EPOCHS)["gain"]
    features = features_of(seen, gain["features"])
    scaled = [
        min(max((features[name] - mean) / scale, -4), 4)
        for name, mean, scale in zip(gain["features"], gain["means"], gain["scales"], strict=True)
    ]
    last, more = seen["accuracy"].iloc[-1], gain["intercept"] + np.dot(scaled, gain["coefficients"])
    found = lg.predict_final(seen)
    assert found.mean == pytest.approx(bounded(last, more))
    low, high = found.interval
    error = coefficients(EPOCHS)["error"] * math.sqrt(1.05 - seen["accuracy"].iloc[-1])
    assert (low, high) == pytest.approx((found.mean - error, found.mean + error))
    assert combined({"c": seen})["c"] == pytest.approx((found.mean, found.std))


def test_together_the_accuracies_are_those_of_each_alone_in_the_order_of_the_standings():
    order = coefficients(EPOCHS)["order"]
    ranks = {}
    for name in order["features"]:
        values = np.array([features_of(seen, [name])[name] for seen in HISTORIES.values()])
        ranks[name] = norm.ppf((rankdata(values) - 0.5) / len(values))
    standing = sum(c * ranks[name] for c, name in zip(order["coefficients"], order["features"], strict=True))
    found = combined(HISTORIES)
    means = np.array([found[name][0] for name in HISTORIES])
    assert np.argsort(means).tolist() == np.argsort(standing).tolist()
    alone = sorted(lg.predict_final(seen).mean for seen in HISTORIES.values())
    assert sorted(means) == pytest.approx(alone)
    error = coefficients(EPOCHS)["error"]
    for name, (_, std) in found.items():
        assert std == pytest.approx(error / 1.96 * spread(HISTORIES[name]["accuracy"].iloc[-1]))


def test_the_order_of_the_candidates_does_not_matter():
    found, other = combined(HISTORIES), combined(dict(reversed(HISTORIES.items())))
    for name, value in found.items():
        assert other[name] == pytest.approx(value)


def test_the_coefficients_are_those_of_the_largest_number_of_epochs_seen():
    assert coefficients(4) is coefficients(3)
    assert coefficients(7) is coefficients(5)
    assert coefficients(40) is coefficients(10)
    assert coefficients(1) is not coefficients(2)
    for epochs in (1, 2, 4, 12):
        mean, std = combined({"a": history(0, epochs)})["a"]
        assert 0 <= mean <= 1
        assert std > 0


def test_errors_shrink_as_more_epochs_are_seen():
    errors = [coefficients(epochs)["error"] for epochs in (1, 3, 5, 10)]
    assert errors == sorted(errors, reverse=True)


def test_the_file_of_coefficients_says_where_they_come_from():
    made = json.loads(resources.files("linegraph.selection").joinpath("combined.json").read_text())
    assert {"what", "runs", "tasks", "penalty", "made", "epochs"} == set(made)
    assert sum(made["runs"].values()) > 1000
    for learnt in made["epochs"].values():
        assert set(learnt["order"]["features"]) | set(learnt["gain"]["features"]) <= set(FEATURES)
        assert len(learnt["order"]["features"]) == len(learnt["order"]["coefficients"])


@pytest.mark.slow
def test_the_coefficients_are_learnt_from_the_recorded_runs():
    from benchmarks.selection import evidence, learning

    root = Path(__file__).parents[2]
    recorded = evidence.read(root / "datasets" / "selection", ("scratch", "transfer", "frozen"))
    order, ranked = learning.fitted_order(recorded, learning.all_features(recorded, 1))
    assert list(ranked) == coefficients(1)["order"]["features"]
    assert order.coef_ == pytest.approx(coefficients(1)["order"]["coefficients"], rel=1e-3, abs=1e-4)


def test_what_a_history_does_not_have_is_told():
    short = pd.DataFrame({"accuracy": [0.2, 0.4, 0.5]})
    with pytest.warns(IncompleteHistoryWarning, match="the history has no epoch, loss, valid_loss"):
        found = lg.predict_final(short)
    assert 0.4 < found.mean < 1
    without_start = HISTORIES["a"][1:]
    with pytest.warns(IncompleteHistoryWarning, match="no epoch 0, recorded before training"):
        lg.predict_final(without_start)
    assert set(READ) <= set(HISTORIES["a"])
    with pytest.warns(IncompleteHistoryWarning, match="the history has no layer_probe;"):
        lg.predict_final(HISTORIES["a"].drop(columns="layer_probe"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the probe of layers is not read after ten epochs
        lg.predict_final(history(0, 10).drop(columns="layer_probe"))


def test_accuracies_in_percent_and_none_are_refused():
    with pytest.raises(DataError, match="divide percent by 100"):
        lg.predict_final(HISTORIES["a"].assign(accuracy=50.0))
    with pytest.raises(DataError, match="no column 'accuracy'"):
        lg.predict_final(HISTORIES["a"].drop(columns="accuracy"))
    with pytest.raises(DataError, match="no epoch with finite accuracy"):
        lg.predict_final(HISTORIES["a"].assign(accuracy=math.nan))


def test_constant_histories_and_equal_candidates_have_a_prediction():
    same = {name: HISTORIES["a"] for name in "xyz"}
    found = combined(same)
    assert len({round(mean, 9) for mean, _ in found.values()}) == 1
    flat = HISTORIES["a"].assign(accuracy=0.1, seen_accuracy=0.1, linear_probe=0.1)
    assert 0 <= combined({"flat": flat})["flat"][0] <= 1


@given(st.floats(0, 1), st.floats(-2, 5), st.floats(-2, 5))
def test_a_gain_stays_within_bounds_and_keeps_its_order(seen, gain, other):
    assert 0 <= bounded(seen, gain) <= 1
    if gain <= other:
        assert bounded(seen, gain) <= bounded(seen, other)
    assert bounded(seen, 0) == pytest.approx(seen)
    assert bounded(0.5, 1e-4) == pytest.approx(0.5001, abs=1e-7)


def test_the_history_of_a_tracker_is_all_that_is_needed():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    train, valid = ((torch.randn(n, 8), torch.randint(3, (n,))) for n in (60, 40))
    tracker = lg.CapacitanceTracker(model, torch.nn.functional.cross_entropy, train, valid=valid)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker.record(epoch=0)
    for _ in range(2):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(train[0]), train[1])
        loss.backward()
        optimizer.step()
        tracker.record(loss=loss)
        found = lg.predict_final(tracker.history)
        assert 0 <= found.mean <= 1
        assert found.std > 0
