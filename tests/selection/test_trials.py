"""Candidates on executors: the same table wherever they are trained, and rows for those that fail."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

import linegraph as lg
from linegraph.selection.plan import Plan
from tests.selection.runs import X, Y, check_same, net, two

VALID = X[:30], Y[:30]


class OfTwo(Exception):
    """An error that does not travel between processes."""

    def __init__(self, first, second):
        super().__init__(first)


def of_two():
    raise OfTwo(1, 2)


def of_a_dead_process():
    os._exit(3)


def spawned(workers):
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


@pytest.fixture(scope="module")
def processes():
    with spawned(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def client():
    """A cluster in this process."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def expected():
    """The tables of one thread, with and without halving."""
    return {halving: ranked(halving) for halving in (None, 2)}


def ranked(halving, **options):
    candidates = two() | {"c": partial(net, 3), "d": partial(net, 9)}
    return lg.rank(
        candidates, (X, Y), VALID, epochs=4, methods=("last_seen", "capacitance"), halving=halving, **options
    )


@pytest.mark.parametrize("halving", [None, 2])
def test_processes_find_the_table_of_one_thread(processes, expected, halving, tmp_path):
    check_same(ranked(halving, executor=processes, directory=tmp_path if halving else None), expected[halving])


@pytest.mark.parametrize("halving", [None, 2])
def test_threads_find_the_table_of_one_thread(expected, halving):
    with ThreadPoolExecutor(2) as executor:
        check_same(ranked(halving, executor=executor), expected[halving])


@pytest.mark.parametrize("halving", [None, 2])
def test_dask_finds_the_table_of_one_thread(client, expected, halving):
    check_same(ranked(halving, executor=client.get_executor()), expected[halving])


def test_dask_takes_lambdas(client):
    table = lg.rank({"a": lambda: net(4)}, (X, Y), VALID, epochs=2, executor=client.get_executor())
    check_same(table, lg.rank({"a": partial(net, 4)}, (X, Y), VALID, epochs=2))


def test_dask_gets_the_data_once_for_all_candidates(client, monkeypatch):
    pickled = []

    def state(plan):
        pickled.append(plan)
        return vars(plan)

    monkeypatch.setattr(Plan, "__getstate__", state, raising=False)
    counts = []
    for number in (1, 6):
        candidates = {str(width): partial(net, width) for width in range(2, 2 + number)}
        table = lg.rank(candidates, (X, Y), VALID, epochs=1, methods="last_seen", executor=client.get_executor())
        assert table["error"].isna().all()
        counts.append(len(pickled))
        pickled.clear()
    assert counts[0] == counts[1] > 0


def test_processes_share_the_memory_of_the_data(processes):
    x, y = X.clone(), Y.clone()
    table = lg.rank({"a": net}, (x, y), VALID, epochs=1, methods="last_seen", executor=processes)
    assert table["error"].isna().all()
    assert x.is_shared()
    assert y.is_shared()


@pytest.mark.slow
def test_a_candidate_that_ends_its_process_takes_no_other_with_it():
    candidates = {
        "first": partial(net, 4),
        "exits": partial(sys.exit, "bye"),
        "two": of_two,
        "lambda": lambda: net(3),
        "dies": of_a_dead_process,
        "after": partial(net, 5),
    }
    with spawned(1) as executor:
        table = lg.rank(candidates, (X, Y), VALID, epochs=2, executor=executor)
    good = {name: candidates[name] for name in ("first", "after")}
    check_same(table[:2].assign(error=float("nan")), lg.rank(good, (X, Y), VALID, epochs=2))
    errors = table.set_index("name")["error"]
    assert errors["exits"] == "SystemExit: bye"
    assert errors["two"] == "OfTwo: 1"
    assert "pickle" in errors["lambda"]
    assert "functools.partial" in errors["lambda"]
    assert errors["dies"].startswith("BrokenProcessPool: ")
    assert "the candidate ended its process" in errors["dies"]


def test_a_pool_that_was_shut_down_is_refused():
    with ThreadPoolExecutor(1) as executor:
        pass
    with pytest.raises(RuntimeError, match="shutdown"):
        lg.rank(two(), (X, Y), VALID, epochs=2, executor=executor)


@pytest.mark.slow
def test_a_candidate_that_ends_a_worker_of_dask_takes_no_other_with_it():
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    candidates = {"a": net, "dies": of_a_dead_process, "exits": partial(sys.exit, 3), "b": partial(net, 7)}
    settings = {"distributed.scheduler.allowed-failures": 0, "logging.distributed": "critical"}
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        table = lg.rank(candidates, (X, Y), VALID, epochs=2, executor=client.get_executor())
    good = {name: candidates[name] for name in ("a", "b")}
    check_same(table[:2].assign(error=float("nan")), lg.rank(good, (X, Y), VALID, epochs=2))
    errors = table.set_index("name")["error"]
    assert errors["dies"].startswith("KilledWorker: ")
    assert errors["exits"] == "SystemExit: 3"


class Bar:
    """What a bar is told."""

    def __init__(self, **options):
        self.total, self.count, self.texts = options["total"], 0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, n=1):
        self.count += n

    def set_description(self, text):
        self.texts.append(text)


def test_a_bar_names_candidate_and_epoch_and_counts_all_epochs(monkeypatch, tmp_path):
    bars = []
    monkeypatch.setattr(
        "linegraph.selection.trials.counting", lambda _, **options: bars.append(Bar(**options)) or bars[-1]
    )
    candidates = {"a": partial(net, 5), "bad": partial(sys.exit, 1)}
    lg.rank(candidates, (X, Y), VALID, epochs=2, directory=tmp_path)
    assert bars[0].texts[:3] == ["a", "a, epoch 1 of 2", "a, epoch 2 of 2"]
    assert (bars[0].count, bars[0].total) == (4, 4)
    lg.rank(candidates | {"b": partial(net, 6)}, (X, Y), VALID, epochs=2, train_fully=3, directory=tmp_path)
    assert (bars[1].count, bars[1].total) == (9, 9)  # though two epochs were stored
    with ThreadPoolExecutor(1) as executor:
        lg.rank(candidates, (X, Y), VALID, epochs=2, executor=executor)
    assert "a, epoch 2 of 2" in bars[2].texts
    assert (bars[2].count, bars[2].total) == (4, 4)


def test_a_bar_is_shown_where_it_is_seen_unless_the_caller_says_otherwise(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "linegraph.selection.trials.counting", lambda progress, **_: shown.append(progress) or Bar(total=1)
    )
    for seen in (True, False):
        monkeypatch.setattr("linegraph.selection.ranking.is_watched", lambda seen=seen: seen)
        for progress in (None, True, False):
            lg.rank({"a": net}, (X, Y), VALID, epochs=1, methods="last_seen", progress=progress)
    assert shown == [True, True, False, False, True, False]


def test_nothing_is_printed_in_a_pipe(capfd):
    lg.rank({"a": net}, (X, Y), VALID, epochs=1, methods="last_seen")
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
