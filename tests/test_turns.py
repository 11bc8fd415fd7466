"""Turns by themselves."""

import os
import random
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import linegraph as lg
from linegraph import turns
from linegraph.lazy import cached_property
from linegraph.quiet import ignoring
from linegraph.randomness import preserved_randomness, random_state, set_random_state
from linegraph.turns import hand_on, preserving, reading, turn, undoing
from tests.comparison import close
from tests.coupling.test_threads import Stopping, batch, flags, process_wide
from tests.side_by_side import WAIT, Meeting, side_by_side, started, until


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts():
    """Shells let the processes that they start in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def is_free():
    """Whether another thread gets the turn."""

    def take():
        with turn():
            return True

    thread, result = started(take)
    thread.join(0.05)
    return not thread.is_alive() and result()


# who has the turn -----------------------------------------------------------------------------------------


def test_one_thread_at_a_time():
    inside, most = [], []

    def work():
        for _ in range(50):
            with turn(), turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    side_by_side(*[work] * 4)
    assert len(most) == 200
    assert max(most) == 1


def test_in_the_order_in_which_they_came():
    came, went = [], []
    with turn():
        results = []
        for number in range(5):

            def work(number=number):
                came.append(number)
                with turn():
                    went.append(number)

            results.append(started(work)[1])
            until(lambda number=number: len(turns._turns.waiting) == number + 1)
    for result in results:
        result()
    assert went == came == [*range(5)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_turn_ends_with_an_error(error):
    changed = []
    with pytest.raises(error), turn(), undoing(lambda: changed.append(1)):
        raise error
    assert changed == [1]
    assert is_free()


@pytest.mark.skipif(os.name != "posix", reason="no process interrupts itself here")
def test_a_turn_that_was_interrupted_while_it_waited():
    """The interruption comes at once, and nobody waits for the one that left."""
    leave = threading.Event()

    def work():
        with turn():
            leave.wait(WAIT)

    _, result = started(work)
    until(lambda: turns._turns.present is not None)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), turn():
        pass
    leave.set()
    result()
    timer.join()
    assert not turns._turns.waiting
    assert is_free()


def test_what_is_interrupted_as_it_is_put_back_is_put_back():
    calls = []

    def undo():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    def note():
        return undo

    for context in (lambda: undoing(undo), lambda: preserving(note)):
        calls.clear()
        with pytest.raises(KeyboardInterrupt), context():
            pass
        assert len(calls) == 2
        assert is_free()


def test_contexts_that_are_never_left_end_with_the_turn():
    """The latest first; and nothing is put back a second time when they are left after all."""
    order, left = [], []
    with turn():
        for number in range(3):
            left.append(undoing(lambda number=number: order.append(number)))
            left[-1].__enter__()
        with undoing(lambda: order.append("within")):
            left.append(undoing(lambda: order.append("inner")))
            left[-1].__enter__()
        assert order == ["inner", "within"]
    assert order == ["inner", "within", 2, 1, 0]
    assert is_free()
    for context in left:
        context.__exit__(None, None, None)
    assert len(order) == 5


@pytest.mark.skipif(os.name != "posix", reason="no process interrupts itself here")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where it comes in a callback of others
def test_interruptions_at_any_moment():
    """A random moment of many; all is as it was, and the turn is free."""
    model, data = Stopping().double().train(), batch()
    right = lg.NeuralCoupling(model, F.cross_entropy, data).in_strength()
    before, everything = flags(model), process_wide()
    generator = random.Random(0)
    for _ in range(30):
        timer = threading.Timer(generator.uniform(0, 0.01), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while timer.is_alive():
                lg.NeuralCoupling(model, F.cross_entropy, data).in_strength()
            time.sleep(0.01)
        except KeyboardInterrupt:
            pass
        timer.join()
    assert flags(model) == before
    assert process_wide() == everything
    close(started(lambda: lg.NeuralCoupling(model, F.cross_entropy, data).in_strength())[1](), right)


# turns that are lent and handed on --------------------------------------------------------------------------


class Items:
    """Data whose code stops, once, until somebody else is through, and draws random numbers."""

    def __init__(self, meeting=lambda: None):
        self.meeting = meeting

    def __iter__(self):
        for _ in range(3):
            item = torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002
            self.meeting()
            yield item


def drawn(items, seed=0):
    with preserved_randomness():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        return [(*item, torch.rand(()).item()) for item in reading(items)]


def test_a_thread_that_needs_no_longer_wait_for_data():
    """Each has random numbers of its own, and the process has its own again."""
    expected, other = drawn(Items()), drawn(Items(), seed=1)
    before = process_wide()
    meeting = Meeting(WAIT)
    found = meeting.beside(lambda: drawn(Items(meeting)), lambda: drawn(Items(), seed=1))
    assert found == [expected, other]
    assert process_wide() == before


def test_data_that_take_the_turn_themselves():
    def items():
        for number in range(3):
            with turn():
                assert is_mine()
            yield number

    class Within:
        def __iter__(self):
            return items()

    with turn():
        assert [*reading(Within())] == [0, 1, 2]
    assert is_free()


def test_nobody_comes_while_something_is_changed():
    def work():
        with turn(), undoing(lambda: None):
            hand_on()
            return [*reading(Items(meeting))]

    meeting, order = Meeting(), []
    meeting.beside(lambda: (work(), order.append(1)), lambda: (is_turn(), order.append(2)))
    assert order == [1, 2]


def is_turn():
    with turn():
        pass


def is_mine():
    return turns._turns.mine() is not None


def test_a_training_hands_on_to_passes_but_not_to_trainings():
    order, reached = [], threading.Event()

    def training():
        with turn(training=True), preserved_randomness():
            torch.manual_seed(0)
            numbers = [torch.rand(()).item()]
            reached.set()
            until(lambda: len(turns._turns.waiting) == 2)
            hand_on()
            numbers.append(torch.rand(()).item())
            order.append("training")
        return numbers

    def other_training():
        reached.wait(WAIT)
        with turn(training=True):
            order.append("other training")

    def coupling():
        until(lambda: len(turns._turns.waiting) == 1)
        with preserved_randomness():
            order.append("pass")
            torch.manual_seed(1)

    torch.manual_seed(0)
    expected = [torch.rand(()).item() for _ in range(2)]
    state = torch.get_rng_state()
    found, *_ = [result() for _, result in [started(training), started(other_training), started(coupling)]]
    assert found == expected
    assert order == ["pass", "training", "other training"]
    assert torch.equal(torch.get_rng_state(), state)


def test_random_states_come_back():
    before = random_state()
    first = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    set_random_state(before)
    second = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(first[0], second[0])
    assert first[1:] == second[1:]


# warnings, attributes -----------------------------------------------------------------------------------------


def test_filters_of_warnings_come_and_go_by_themselves():
    """Also where two threads overlap, and end in the order in which they began."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before, meeting = list(warnings.filters), Meeting(WAIT)

        def first():
            with ignoring("of no use"):
                meeting()

        def second():
            with ignoring("of no use"), ignoring(category=FutureWarning):
                meeting.arrived.set()
                time.sleep(0.05)

        meeting.beside(first, second)
        assert warnings.filters == before
        with warnings.catch_warnings(record=True) as seen:
            with ignoring("of no use"):
                warnings.warn("Of no use: this", UserWarning, 1)
                warnings.warn("this is of no use", UserWarning, 1)
            warnings.warn("Of no use: this", UserWarning, 1)
        assert [str(one.message) for one in seen] == ["this is of no use", "Of no use: this"]


def test_an_attribute_that_two_threads_compute_is_one():
    barrier = threading.Barrier(2)

    class Both:
        @cached_property
        def made(self):
            barrier.wait(WAIT)
            return object()

    both = Both()
    first, second = side_by_side(lambda: both.made, lambda: both.made)
    assert first is second is both.made
    assert isinstance(Both.made, cached_property)
