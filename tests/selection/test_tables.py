"""Tables of rankings by methods that read the histories of all candidates, and runs that have no row of epoch 0."""

import json
import math
from functools import partial

import pytest
from safetensors import safe_open

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection import stored, training
from linegraph.selection.methods import METHODS, register_method
from tests.selection.runs import X, Y, check_same, net

CANDIDATES = {str(width): partial(net, width) for width in (2, 3, 5, 8)}


def ranked(**options):
    settings = {"candidates": CANDIDATES, "epochs": 3, "methods": "behind", "seed": 1}
    return lg.rank(train=(X, Y), valid=(X[:40], Y[:40]), **settings | options)


@pytest.fixture
def asked():
    """A method that compares all candidates, and the names and last epochs with which it was called."""
    calls = []

    def behind(histories):
        calls.append({name: int(history["epoch"].iloc[-1]) for name, history in histories.items()})
        if len(histories) < 2:
            raise DataError("it compares two candidates or more")
        last = {name: float(history["accuracy"].iloc[-1]) for name, history in histories.items()}
        return {name: max(last.values()) - value for name, value in last.items()}

    register_method("behind", behind, needs=["other candidates"], higher_is_better=False)
    yield calls
    del METHODS["behind"]


def test_a_method_of_all_histories_orders_the_table(asked):
    table = ranked(methods=("behind", "last_seen"))
    assert asked == [dict.fromkeys(CANDIDATES, 3)]
    assert table["behind"].is_monotonic_increasing
    assert table["behind"].to_numpy() == pytest.approx((table["last_seen"].max() - table["last_seen"]).to_numpy())
    assert table["error"].isna().all()
    assert table.attrs["methods"].loc["behind", "seconds"] >= 0


def test_candidates_that_failed_are_not_compared(asked):
    def broken():
        raise RuntimeError("no such network")

    table = ranked(candidates=CANDIDATES | {"broken": broken}, epochs=1)
    assert asked == [dict.fromkeys(CANDIDATES, 1)]
    assert table["name"].iloc[-1] == "broken"
    assert math.isnan(table["behind"].iloc[-1])


def test_one_candidate_says_why_it_is_not_compared(asked):
    table = ranked(candidates={"only": net}, epochs=1)
    assert table["error"][0] == "behind: DataError: it compares two candidates or more"


def test_halving_compares_candidates_of_equal_numbers_of_epochs(asked):
    table = ranked(halving=2, epochs=4, methods=("behind", "last_seen"))
    assert table["epochs"].tolist() == [4, 4, 3, 3]
    assert all(len(set(call.values())) == 1 for call in asked)
    assert asked[0] == dict.fromkeys(CANDIDATES, 3)
    complete = ranked(methods="last_seen").attrs["history"]
    first = complete[complete["epoch"] == 3].set_index("name")["accuracy"]
    dropped = set(table["name"][2:])
    assert max(first[list(dropped)]) <= min(first[list(set(CANDIDATES) - dropped)])
    for _, group in table.groupby("epochs"):
        assert group["behind"].to_numpy() == pytest.approx((group["last_seen"].max() - group["last_seen"]).to_numpy())


def without_epoch_0(path, name):
    """Rewrite a file as if epoch 0 had not been recorded."""
    found = stored.read(path, name)
    path.unlink()
    stored.write(path, found._replace(history=[row for row in found.history if row["epoch"]]))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["history"])[0]["epoch"] == 1


def test_runs_that_were_stored_without_epoch_0_are_gone_on_with(tmp_path, monkeypatch):
    options = {"candidates": {"a": net}, "methods": "capacitance", "epochs": 2, "directory": tmp_path}
    expected = ranked(train_fully=3, **options | {"directory": None})
    ranked(**options)
    without_epoch_0(tmp_path / "a.safetensors", "a")
    trained, train = [], training._train_epoch
    monkeypatch.setattr(training, "_train_epoch", lambda *given: trained.append(1) or train(*given))
    table = ranked(train_fully=3, **options)
    assert len(trained) == 1
    history = expected.attrs["history"]
    expected.attrs["history"] = history[history["epoch"] > 0].reset_index(drop=True)
    check_same(table, expected)
