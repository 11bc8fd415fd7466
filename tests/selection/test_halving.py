"""Successive halving, compared with what follows from the histories of complete runs."""

import math
import sys
import tempfile
from functools import partial

import pandas as pd
import pytest

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection import training
from linegraph.selection.halving import rungs, survivors
from linegraph.selection.methods import METHODS
from tests.selection.runs import X, Y, check_same, net

CANDIDATES = {str(width): partial(net, width) for width in (2, 3, 5, 8, 12, 20)}
VALID = X[:40], Y[:40]


def ranked(**options):
    settings = {"candidates": CANDIDATES, "epochs": 7, "methods": "last_seen", "seed": 1}
    return lg.rank(train=(X, Y), valid=VALID, **settings | options)


@pytest.fixture(scope="module")
def complete():
    return ranked().attrs["history"]


RUNGS = {1.5: (3, 5), 2: (3, 6), 3: (3,), 100: (3,)}


def halved(history, halving, epochs=7):
    """The epochs of each candidate: the best n/halving by their last accuracy go on, earlier names first in a tie."""
    alive, given = list(CANDIDATES), {}
    for rung in RUNGS[halving]:
        given |= dict.fromkeys(alive, rung)
        accuracy = history[history["epoch"] == rung].set_index("name")["accuracy"]
        alive = sorted(alive, key=lambda name: (-accuracy[name], list(CANDIDATES).index(name)))
        alive = alive[: math.ceil(len(alive) / halving)]
    return given | dict.fromkeys(alive, epochs)


@pytest.mark.parametrize("halving", RUNGS)
def test_the_best_go_on(complete, halving):
    table = ranked(halving=halving)
    expected = halved(complete, halving)
    assert dict(zip(table["name"], table["epochs"], strict=True)) == expected
    assert table["epochs"].is_monotonic_decreasing
    for _, group in table.groupby("epochs"):
        assert group["last_seen"].is_monotonic_decreasing
    assert table["error"].isna().all()
    history = table.attrs["history"]
    kept = complete[
        [row.epoch <= expected[row.name_] for row in complete.rename(columns={"name": "name_"}).itertuples()]
    ]
    pd.testing.assert_frame_equal(history, kept.reset_index(drop=True), rtol=1e-5, atol=1e-8)


def count_epochs(monkeypatch):
    trained, train = [], training._train_epoch

    def counted(*arguments):
        trained.append(1)
        return train(*arguments)

    monkeypatch.setattr(training, "_train_epoch", counted)
    return trained


def test_no_epoch_is_trained_twice(monkeypatch):
    trained = count_epochs(monkeypatch)
    table = ranked(halving=2, train_fully=9)
    # Six candidates for three epochs, three for three more, two to the end.
    assert table["epochs"].tolist() == [7, 7, 6, 3, 3, 3]
    assert len(trained) == 6 * 3 + 3 * 3 + 2 * 3
    assert table["final"].notna().tolist() == [True, True, False, False, False, False]
    history = table.attrs["history"]
    assert history.groupby("name").size()[table["name"]].tolist() == [10, 10, 7, 4, 4, 4]  # with epoch 0


def test_an_interrupted_halving_goes_on_where_it_stopped(monkeypatch, tmp_path):
    expected, save, left = ranked(halving=2), training._save, [6 + 20]  # epoch 0 of all, and twenty more

    def dying(*arguments):
        save(*arguments)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "_save", dying)
        with pytest.raises(KeyboardInterrupt):
            ranked(halving=2, directory=tmp_path)
    trained = count_epochs(monkeypatch)
    check_same(ranked(halving=2, directory=tmp_path), expected)
    assert len(trained) == 6 * 3 + 3 * 3 + 2 - 20
    check_same(ranked(halving=2, directory=tmp_path), expected)
    assert len(trained) == 6 * 3 + 3 * 3 + 2 - 20


def test_those_that_fail_come_last_and_are_not_counted():
    table = ranked(candidates={"bad": partial(sys.exit, "bye")} | CANDIDATES, halving=2)
    assert table["name"].iloc[-1] == "bad"
    assert table["epochs"].tolist() == [7, 7, 6, 3, 3, 3, 0]
    assert table["error"].notna().tolist() == [False] * 6 + [True]


def test_all_that_fail_are_rows():
    bad = {name: partial(sys.exit, name) for name in ("a", "b")}
    table = ranked(candidates=bad, halving=2)
    assert table["error"].tolist() == ["SystemExit: a", "SystemExit: b"]


def test_a_method_that_cannot_predict_drops_nobody():
    def after_six(history):
        return float("nan") if history["epoch"].max() < 6 else float(history["accuracy"].iloc[-1])

    lg.register_method("after_six", after_six, needs=["accuracy"])
    try:
        table = ranked(halving=2, methods=("after_six", "last_seen"))
    finally:
        del METHODS["after_six"]
    assert table["epochs"].tolist() == [7, 7, 7, 6, 6, 6]


def test_one_candidate_is_left_as_it_is():
    one = ranked(candidates={"8": CANDIDATES["8"]}, halving=2)
    assert one["epochs"].tolist() == [7]


def test_runs_wait_in_a_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    during, save = [], training._save

    def watched(run):
        save(run)
        during.extend(tmp_path.iterdir())

    monkeypatch.setattr(training, "_save", watched)
    ranked(halving=2)
    assert during
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("halving", "says"),
    [
        (1, "above 1, got 1"),
        (0.5, "of at least 1"),
        (math.nan, "halving must be"),
        ("2", "got '2'"),
        (True, "got True"),
    ],
)
def test_factors_that_drop_nobody_are_refused(halving, says):
    with pytest.raises(DataError, match=says):
        ranked(halving=halving)


@pytest.mark.parametrize("epochs", [1, 3])
def test_too_few_epochs_are_refused_before_training(monkeypatch, epochs):
    trained = count_epochs(monkeypatch)
    with pytest.raises(DataError, match=f"after 3 epochs at the earliest, and with epochs={epochs} all"):
        ranked(halving=2, epochs=epochs)
    assert not trained


def test_rungs_cost_the_same():
    assert rungs(5, 5, 2) == [3, 5]
    assert rungs(6, 6, 2) == [3, 6]
    assert rungs(6, 20, 2) == [3, 6, 20]
    assert rungs(3, 20, 2) == [3, 20]
    assert rungs(2, 20, 2) == [20]
    assert rungs(30, 30, 3) == [3, 9, 27, 30]
    assert rungs(6, 6, 4 / 3) == [3, 4, 6]
    assert rungs(6, 20, 1.1)[:3] == [3, 4, 5]
    assert rungs(6, 20, None) == [20]
    assert rungs(5, 5, 2, first=1) == [1, 2, 4, 5]


@pytest.mark.parametrize("halving", [None, 1.2, 2, 4])
def test_survivors(halving):
    for n in range(1, 12):
        table = pd.DataFrame({"name": [f"n{i}" for i in range(n)], "score": [1.0 - i for i in range(n)]})
        kept = survivors(table, "score", halving)
        assert kept == [f"n{i}" for i in range(n) if halving is None or i * halving < n]
        assert survivors(table.assign(score=math.nan), "score", halving) == list(table["name"])
