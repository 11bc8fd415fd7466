"""Processes that are forked while other threads are at work. Run by ``test_forks.py`` in a process of its own.

There no device is simulated, and no GPU seen: of a process with devices torch runs no backward pass in a fork.
"""

import json
import multiprocessing
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import linegraph as lg
from linegraph import turns
from linegraph.lazy import cached_property
from tests.comparison import close
from tests.coupling.test_threads import Stopping, batch, flags, process_wide, vectors
from tests.side_by_side import WAIT, in_a_fork, side_by_side, started, until

FORK = multiprocessing.get_context("fork")
CASES = {}


def case(function):
    """Name a case after its function."""
    CASES[function.__name__] = function
    return function


@contextmanager
def another_thread_in_a_pass():
    """The network of the pass, its data, what is right of it, and how all was before."""
    model, data = Stopping().double().train(), batch()
    model.last.bias.requires_grad_(False)
    right = vectors(lg.NeuralCoupling(model, F.cross_entropy, data))
    before, everything = flags(model), process_wide()
    inside, leave = threading.Event(), threading.Event()

    def stop():
        inside.set()
        assert leave.wait(WAIT)

    model.meet = stop
    _, result = started(lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data)))
    assert inside.wait(WAIT)
    try:
        yield model, data, right, before, everything
    finally:
        leave.set()
    close(result(), right)
    assert flags(model) == before
    assert process_wide() == everything


@case
def in_the_middle_of_a_pass():
    """In the fork the model, torch and the random states are as they were before the pass, and the turn is free."""
    with another_thread_in_a_pass() as (model, data, right, before, everything):

        def work():
            found = process_wide()
            changed = [name for name in everything if found[name] != everything[name]]
            same, free = flags(model) == before, turns._turns.present is None
            model.meet = lambda: None
            return changed, same, free, vectors(lg.NeuralCoupling(model, F.cross_entropy, data))

        changed, same, free, found = in_a_fork(work)
    assert not changed, changed
    assert same
    assert free
    close(found, right)


@case
def in_the_middle_of_a_sweep():
    model, data = Stopping().double(), batch()
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    right, v = vectors(P), torch.linspace(-1, 2, P.num_nodes, dtype=P.dtype)
    inside, leave = threading.Event(), threading.Event()

    def stop():
        inside.set()
        assert leave.wait(WAIT)

    model.meet_back = stop
    _, result = started(lambda: P @ v)
    assert inside.wait(WAIT)
    model.meet_back = lambda: None
    try:
        close(in_a_fork(lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data))), right)
    finally:
        leave.set()
    close(result(), right[: P.num_nodes])


@case
def while_others_wait():
    other = Stopping().double()
    with another_thread_in_a_pass() as (_, data, _, _, _):
        _, result = started(lambda: vectors(lg.NeuralCoupling(other, F.cross_entropy, data)))
        until(lambda: turns._turns.waiting)
        found = in_a_fork(lambda: vectors(lg.NeuralCoupling(other, F.cross_entropy, data)))
    close(found, result())


@case
def while_another_thread_reads_data():
    """Which draws random numbers, and has lent its turn."""
    model, (x, y) = Stopping().double(), batch()
    right = vectors(lg.NeuralCoupling(model, F.cross_entropy, (x, y)))
    inside, leave = threading.Event(), threading.Event()
    state = torch.get_rng_state()

    class Loader:
        def __iter__(self):
            torch.rand(3)
            inside.set()
            assert leave.wait(WAIT)
            yield x, y

    _, result = started(lambda: lg.NeuralCoupling(model, F.cross_entropy, Loader()).in_strength())
    assert inside.wait(WAIT)

    def work():
        same = torch.equal(torch.get_rng_state(), state)
        return same, vectors(lg.NeuralCoupling(model, F.cross_entropy, (x, y)))

    same, found = in_a_fork(work)
    leave.set()
    result()
    assert same
    close(found, right)
    assert torch.equal(torch.get_rng_state(), state)


@case
def by_a_loss():
    """The fork is in the pass too, and may go on with it."""
    model, data = Stopping().double(), batch()
    right = vectors(lg.NeuralCoupling(model, F.cross_entropy, data))
    found = []

    def loss(outputs, targets):
        if not found:
            found.append(None)
            found[0] = in_a_fork(lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data)))
        return F.cross_entropy(outputs, targets)

    close(vectors(lg.NeuralCoupling(model, loss, data)), right)
    close(found[0], right)
    close(started(lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data)))[1](), right)


@case
def while_an_attribute_is_computed():
    begun, leave = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, wait):
            self.wait = wait

        @cached_property
        def number(self):
            if self.wait:
                begun.set()
                assert leave.wait(WAIT)
            return 7

    _, result = started(lambda: Slow(True).number)
    assert begun.wait(WAIT)
    assert in_a_fork(lambda: Slow(False).number) == 7
    assert Slow(False).number == 7
    leave.set()
    assert result() == 7


class Samples(Dataset):
    """Samples that workers make with a coupling of their own."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
        assert lg.NeuralCoupling(model, F.cross_entropy, (self.x, self.y)).in_strength().isfinite().all()
        return self.x[i], self.y[i]


@case
def workers_of_a_loader_beside_a_pass():
    x, y = batch()
    with another_thread_in_a_pass():
        loader = DataLoader(Samples(x, y), 4, num_workers=2, multiprocessing_context="fork", timeout=WAIT)
        assert sum(len(targets) for _, targets in loader) == len(y)


@case
def workers_of_the_loader_of_a_pass():
    model, (x, y) = Stopping().double(), batch()
    right = vectors(lg.NeuralCoupling(model, F.cross_entropy, (x, y)))
    loader = DataLoader(Samples(x, y), 4, num_workers=1, multiprocessing_context="fork", timeout=WAIT)
    P = lg.NeuralCoupling(model, F.cross_entropy, loader)
    v = torch.linspace(-1, 2, P.num_nodes, dtype=P.dtype)
    for found in side_by_side(lambda: P @ v, lambda: P @ v):
        close(found, right[: P.num_nodes])


def strength(seed):
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, data = Stopping().double(), batch()
    return float(lg.NeuralCoupling(model, F.cross_entropy, data).in_strength().square().sum())


@case
def a_pool_beside_a_pass():
    expected = [strength(seed) for seed in range(3)]
    with another_thread_in_a_pass(), ProcessPoolExecutor(2, mp_context=FORK) as pool:
        futures = [pool.submit(strength, seed) for seed in range(3)]
        found = [future.result(WAIT) for future in futures]
    close(torch.tensor(found), torch.tensor(expected))


# rankings -------------------------------------------------------------------------------------------------


def make():
    torch.set_num_threads(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def pair():
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(40) % 3


def ranked(candidates, **options):
    table = lg.rank(candidates, pair(), pair(), epochs=2, **options)
    assert table.get("error") is None or table["error"].isna().all(), table["error"].tolist()
    return table.set_index("name")["beta_eff"].sort_index().tolist()


@contextmanager
def another_thread_ranks(place):
    """In the middle of a constructor, a step or an optimizer of a ranking."""
    inside, leave = threading.Event(), threading.Event()

    def stop():
        if not inside.is_set():
            inside.set()
            assert leave.wait(WAIT)

    def stopping():
        if place == "constructor":
            stop()
        return make()

    def loss(outputs, targets):
        if place == "loss":
            stop()
        return F.cross_entropy(outputs, targets)

    def optimizer(model):
        if place == "optimizer":
            stop()
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    expected = ranked({"a": make})
    _, result = started(lambda: ranked({"a": stopping}, loss_fn=loss, optimizer=optimizer))
    assert inside.wait(WAIT)
    try:
        yield
    finally:
        leave.set()
    close(torch.tensor(result()), torch.tensor(expected))


def a_pool_ranks_beside(place):
    expected = ranked({"a": make, "b": make})
    with another_thread_ranks(place), ProcessPoolExecutor(2, mp_context=FORK) as pool:
        close(torch.tensor(ranked({"a": make, "b": make}, executor=pool)), torch.tensor(expected))


@case
def a_pool_that_ranks_beside_a_constructor():
    a_pool_ranks_beside("constructor")


@case
def a_pool_that_ranks_beside_a_step():
    a_pool_ranks_beside("loss")


@case
def a_pool_that_ranks_beside_an_optimizer():
    a_pool_ranks_beside("optimizer")


@case
def a_pool_that_spawns():
    expected = ranked({"a": make})
    with another_thread_ranks("constructor"), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        close(torch.tensor(ranked({"a": make}, executor=pool)), torch.tensor(expected))


@case
def workers_of_a_loader_that_is_trained_on():
    x, y = pair()
    with another_thread_ranks("constructor"):
        loader = DataLoader(TensorDataset(x, y), 20, num_workers=1, multiprocessing_context="fork", timeout=WAIT)

        def work():
            return lg.rank({"a": make}, loader, (x, y), epochs=2)["error"].isna().all()

        thread, result = started(work)
        thread.join(0.2)
        assert thread.is_alive(), "a training waits for the end of another one"
    assert result()


def main():
    """Run all cases, and print what went wrong."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
    found = {}
    for name, run in CASES.items():
        torch.manual_seed(0)
        began = time.monotonic()
        try:
            run()
            found[name] = None
        except BaseException:
            found[name] = traceback.format_exc()
        print(f"{name}: {time.monotonic() - began:.2f} s", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
