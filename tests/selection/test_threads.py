"""Rankings on several threads, and within one another."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from tests.comparison import close
from tests.coupling.test_threads import process_wide
from tests.side_by_side import WAIT, Meeting, side_by_side, started


def net(width=6, before=lambda: None):
    def make():
        before()
        return nn.Sequential(nn.Linear(4, width), nn.Dropout(0.3), nn.ReLU(), nn.Linear(width, 3))

    return make


def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator)


def ranked(candidates=None, data=None, **options):
    """What a ranking finds, as numbers, candidates in the order of their names."""
    data = pair() if data is None else data
    table = lg.rank(candidates or {"a": net(), "b": net(9)}, data, data, epochs=2, **options)
    assert table["error"].isna().all(), table["error"].tolist()
    history = table.attrs["history"].sort_values(["name", "epoch"])
    return history[["loss", "accuracy", "beta_eff"]].to_numpy()


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def shuffled():
    return DataLoader(TensorDataset(*pair()), 10, shuffle=True)


@pytest.mark.parametrize("loader", [False, True])
@pytest.mark.parametrize("place", ["constructor", "step", "optimizer"])
def test_two_rankings_at_once(place, loader):
    """The second begins in the middle of a candidate of the first."""
    data = shuffled() if loader else None
    meeting = Meeting()

    def loss(outputs, targets):
        if place == "step":
            meeting()
        return F.cross_entropy(outputs, targets)

    def optimizer(model):
        if place == "optimizer":
            meeting()
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    candidates = {"a": net(before=meeting) if place == "constructor" else net(), "b": net(9)}
    torch.manual_seed(0)
    expected = ranked(data=data), ranked({"c": net(7)}, data)
    before = process_wide()
    first = lambda: ranked(candidates, data, loss_fn=loss, optimizer=optimizer)  # noqa: E731
    for found, right in zip(meeting.beside(first, lambda: ranked({"c": net(7)}, data)), expected, strict=True):
        same(found, right)
    assert process_wide() == before


def test_a_coupling_beside_a_ranking_does_not_wait_for_its_end():
    """It comes between two steps."""
    x, y = pair()
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    right = lg.NeuralCoupling(model, F.cross_entropy, (x, y)).in_strength()
    began, ended = threading.Event(), threading.Event()

    def couple():
        assert began.wait(WAIT)
        found = lg.NeuralCoupling(model, F.cross_entropy, (x, y)).in_strength()
        ended.set()
        return found

    def loss(outputs, targets):
        began.set()
        if ended.is_set():
            raise RuntimeError("the coupling is there")
        time.sleep(0.01)
        return F.cross_entropy(outputs, targets)

    _, result = started(couple)
    table = lg.rank({"a": net()}, (x, y), (x, y), epochs=200, batch_size=10, loss_fn=loss)
    assert "the coupling is there" in table["error"][0]
    close(result(), right, 1e-5)


def test_candidates_beside_couplings():
    """Both give what they give alone, random numbers and all."""
    x, y = pair()
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 5), nn.Linear(5, 3))
    P = lg.NeuralCoupling(model, F.cross_entropy, [(x[:20], y[:20]), (x[20:], y[20:])], training=True)
    v = torch.linspace(-1, 2, P.num_nodes)
    expected, right = ranked(), P @ v
    before = process_wide()
    first, second, found = side_by_side(ranked, ranked, lambda: [P @ v for _ in range(20)])
    same(first, expected)
    same(second, expected)
    for one in found:
        close(one, right)
    assert process_wide() == before


# rankings within rankings -------------------------------------------------------------------------------------


def within(place, rank):
    """A ranking whose constructor, loss or optimizer ranks, once."""
    done = []

    def once():
        if not done:
            done.append(None)
            done[0] = rank()

    def loss(outputs, targets):
        if place == "loss":
            once()
        return F.cross_entropy(outputs, targets)

    def optimizer(model):
        if place == "optimizer":
            once()
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    class Loader:
        def __iter__(self):
            if place == "data":
                once()
            yield pair()

    before = once if place == "constructor" else lambda: None
    data = Loader() if place == "data" else None
    return {"candidates": {"a": net(before=before)}, "data": data, "loss_fn": loss, "optimizer": optimizer}, done


@pytest.mark.parametrize("place", ["constructor", "loss", "optimizer", "data"])
@pytest.mark.parametrize("executor", [None, "same", "other"])
def test_a_ranking_within_a_ranking(place, executor):
    """On one thread, on the only worker of a pool, and on a pool of its own."""
    expected = ranked({"c": net(7)})
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(2) as other:
        inner = {None: None, "same": pool, "other": other}[executor]
        options, done = within(place, lambda: ranked({"c": net(7)}, executor=inner))
        _, result = started(lambda: ranked(executor=pool if executor else None, **options))
        assert np.isfinite(result()[1:]).all()  # epoch 0 has no training loss
    same(done[0], expected)


def test_a_loss_of_a_coupling_that_ranks_on_threads():
    x, y = pair()
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    right, expected, done = lg.NeuralCoupling(model, F.cross_entropy, (x, y)).in_strength(), ranked(), []
    with ThreadPoolExecutor(2) as pool:

        def loss(outputs, targets):
            if not done:
                done.append(None)
                done[0] = ranked(executor=pool)
            return F.cross_entropy(outputs, targets)

        _, result = started(lambda: lg.NeuralCoupling(model, loss, (x, y)).in_strength())
        close(result(), right, 1e-5)
    same(done[0], expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_pool_of_threads(workers):
    expected = ranked()
    with ThreadPoolExecutor(workers) as pool:
        same(ranked(executor=pool), expected)


def test_a_loader_whose_own_thread_ranks():
    class Prefetching:
        def __iter__(self):
            yield started(lambda: (found.append(ranked({"c": net(7)})), pair())[1])[1]()

    found, expected = [], ranked({"c": net(7)})
    x, y = pair()
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    right = lg.NeuralCoupling(model, F.cross_entropy, (x, y)).gradient()
    close(lg.NeuralCoupling(model, F.cross_entropy, Prefetching()).gradient(), right, 1e-5)
    for one in found:
        same(one, expected)
