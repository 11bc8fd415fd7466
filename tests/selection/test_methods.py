import math
import pickle

import pandas as pd
import pytest

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.selection import methods
from linegraph.selection.held_out import HELD_OUT
from linegraph.selection.methods import (
    METHODS,
    evaluated,
    evaluated_together,
    find_method,
    register_method,
    selection_methods,
)
from linegraph.selection.records import column_names
from tests import selection_tables

OWN = {
    *("capacitance", "signed_capacitance", "last_seen", "best_seen", "mean_seen", "last_loss", "last_valid_loss"),
    *("sum_of_losses", "power_law", "exponential", "logme", "h_score", "leep", "nce", "grad_norm", "snip", "grasp"),
    *("fisher", "jacobian_covariance", "synflow", "num_parameters", "flops", "static_ranking"),
    *("combined", "linear_probe", "layer_probe"),
}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(METHODS))


def test_every_method_says_what_it_is():
    table = selection_methods()
    assert set(table.index) >= OWN
    for name in OWN:
        method = METHODS[name]
        assert method.name == name
        assert method.formula
        assert method.function.__doc__
        assert table.loc[name, "needs"] == ", ".join(sorted(method.needs))
    assert {name for name in OWN if not METHODS[name].higher_is_better} == {
        *("last_loss", "last_valid_loss", "sum_of_losses")
    }
    predictors = {*("capacitance", "signed_capacitance", "mean_seen", "power_law", "exponential", "combined")}
    assert {name for name in OWN if METHODS[name].gives == "accuracy and std"} == predictors
    assert {name for name in OWN if METHODS[name].gives == "accuracy"} == {"last_seen", "best_seen"}


def test_a_method_of_ones_own(registry):
    method = register_method("gain", lambda history: 0.5, needs=["accuracy", "loss"], formula="a", cost=2)
    assert find_method("gain") is method
    assert method.arguments == "history"
    assert not method.is_initial
    assert selection_methods().loc["gain", "cost"] == 2
    assert register_method("gain", max, needs="initialisation", higher_is_better=False).is_initial
    with pytest.raises(DataError, match="only orders candidates"):
        lg.predict_final(pd.DataFrame({"accuracy": [0.5]}), method="snip")


def test_methods_travel_to_other_processes():
    for name in OWN:
        assert pickle.loads(pickle.dumps(METHODS[name])) == METHODS[name]


def test_methods_of_the_package_stay():
    with pytest.raises(DataError, match="'snip' is a method of linegraph; choose another name"):
        register_method("snip", max, needs=["initialisation"])
    own = METHODS["snip"]
    assert own.function.__module__ == "linegraph.selection.saliency"


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"name": "final"}, DataError, "other columns"),
        ({"name": "own_std"}, DataError, "other columns"),
        ({"name": 3}, ArgumentTypeError, "name must be a string"),
        ({"function": None}, ArgumentTypeError, "function must be callable"),
        ({"needs": []}, DataError, "one kind of arguments"),
        ({"needs": ["accuracy", "features"]}, DataError, "one kind of arguments"),
        ({"needs": ["weights"]}, DataError, "each word of needs must be one of 'accuracy'"),
        ({"gives": "a number"}, DataError, "gives must be one of 'score'"),
        ({"cost": -1}, DataError, "cost must be"),
        ({"higher_is_better": 1}, ArgumentTypeError, "True or False"),
    ],
)
def test_wrong_methods(registry, wrong, error, says):
    with pytest.raises(error, match=says):
        register_method(**{"name": "own", "function": max, "needs": ["accuracy"], **wrong})


def test_values_that_do_not_exist_have_a_reason(registry):
    def fails():
        raise DataError("no value")

    for function, gives, error in (
        (lambda: math.inf, "score", "its value is inf"),
        (lambda: (math.nan, 0.1), "accuracy and std", "its value is nan"),
        (fails, "score", "DataError: no value"),
        (lambda: "a", "score", "ValueError: could not convert"),
    ):
        found = evaluated(register_method("own", function, needs=["loss"], gives=gives), tuple)
        assert math.isnan(found.value)
        assert math.isnan(found.std)
        assert found.error.startswith(error)
    found = evaluated(register_method("own", lambda: (0.5, 0.1), needs=["loss"], gives="accuracy and std"), tuple)
    assert found[:3] == (0.5, 0.1, "")
    assert found.seconds >= 0


def test_the_tables_in_the_docs_are_those_of_the_code():
    text = selection_tables.FILE.read_text(encoding="utf-8")
    assert text == selection_tables.written(text), "write docs/selection.md anew: python -m tests.selection_tables"
    columns = column_names(["magnitude"]).union(HELD_OUT, {"epoch", "loss", "signed_beta_eff"})
    assert {column for column in columns if f"`{column}`" not in text} == set()
    assert {name for name in OWN if f"`{name}`" not in text} == set()


HISTORIES = {"a": pd.DataFrame({"accuracy": [0.1, 0.4]}), "b": pd.DataFrame({"accuracy": [0.3, 0.2]})}


def of_the_best(histories):
    """How far each candidate is behind the best of all."""
    last = {name: float(history["accuracy"].iloc[-1]) for name, history in histories.items()}
    return {name: value - max(last.values()) for name, value in last.items()}


def together(function, gives="score", histories=HISTORIES):
    return evaluated_together(register_method("own", function, needs=["other candidates"], gives=gives), histories)


def test_a_method_of_all_histories_is_called_once_and_gives_each_candidate_its_value(registry):
    calls = []
    found = together(lambda histories: calls.append(list(histories)) or of_the_best(histories))
    assert calls == [["a", "b"]]
    assert {name: score.value for name, score in found.items()} == pytest.approx({"a": 0.0, "b": -0.2})
    assert all(score.error == "" and math.isnan(score.std) and score.seconds >= 0 for score in found.values())
    found = together(lambda histories: dict.fromkeys(histories, (0.5, 0.1)), gives="accuracy and std")
    assert [score[:3] for score in found.values()] == [(0.5, 0.1, "")] * 2
    assert together(of_the_best, histories={}) == {}


def test_reasons_of_a_method_of_all_histories(registry):
    def fails(histories):
        raise DataError("too few candidates")

    for function, errors in (
        (fails, ["DataError: too few candidates"] * 2),
        (lambda histories: {"a": 1.0}, ["", "DataError: the method 'own' gives no value for it"]),
        (lambda histories: {"a": 1.0, "b": math.nan}, ["", "its value is nan"]),
        (lambda histories: 0.5, ["DataError: the method 'own' must return a dict"] * 2),
    ):
        found = together(function)
        for score, error in zip(found.values(), errors, strict=True):
            assert score.error.startswith(error)
            assert bool(score.error) == bool(error) == math.isnan(score.value)


def test_a_predictor_of_all_histories_predicts_for_one_alone(registry):
    register_method("own", lambda h: dict.fromkeys(h, (0.5, 0.1)), needs=["other candidates"], gives="accuracy and std")
    found = lg.predict_final(HISTORIES["a"], method="own")
    assert (found.mean, found.std) == (0.5, 0.1)
