"""Threads that are made to meet, and processes that are forked, in tests that end whatever happens."""

import multiprocessing
import pickle
import threading
import time
import traceback

import torch

WAIT = 60
"""Seconds after which something is taken to wait for ever; nothing takes as long otherwise."""


def started(work):
    """A thread on some work, and what gives its result or raises its error."""
    found = []

    def run():
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(WAIT)
        assert not thread.is_alive(), "a thread waits for ever"
        value, error = found[0]
        if error is not None:
            raise error
        return value

    return thread, result


def until(condition):
    """Wait for another thread to come so far."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.001)


def side_by_side(*works):
    """The results of functions that start at once, each on a thread of its own."""
    barrier = threading.Barrier(len(works))

    def after(work):
        barrier.wait(WAIT)
        return work()

    results = [started(lambda work=work: after(work))[1] for work in works]
    return [result() for result in results]


class Meeting:
    """A place in the caller's code where two threads meet: the first waits for another to come, and that for its end.

    So the other is in the middle of its work as the first one leaves, unless it has to wait for its turn. Then the
    first one goes on after a while.
    """

    def __init__(self, seconds=0.15):
        self.seconds = seconds
        self.reached, self.arrived, self.left = threading.Event(), threading.Event(), threading.Event()
        self.first = None

    def __call__(self, *_):
        if self.first is None:
            self.first = threading.get_ident()
            self.reached.set()
            self.arrived.wait(self.seconds)
        elif self.first != threading.get_ident() and not self.arrived.is_set():
            self.arrived.set()
            self.left.wait(self.seconds)

    def __deepcopy__(self, memo):
        return self

    def beside(self, first, *others):
        """The results of the first function and of others that start once it has come here."""

        def before():
            try:
                return first()
            finally:
                self.left.set()

        def after(work):
            assert self.reached.wait(WAIT), "the first one does not come to the meeting"
            try:
                return work()
            finally:
                self.arrived.set()

        results = [started(before)[1], *(started(lambda work=work: after(work))[1] for work in others)]
        return [result() for result in results]


def in_a_fork(work):
    """The result of a function in a process that is forked here and now."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def run():
        torch.set_num_threads(1)  # those of OpenMP are not in the fork
        try:
            found = pickle.dumps((work(), None))  # torch would send tensors through memory that ends with the process
        except BaseException:
            found = pickle.dumps((None, traceback.format_exc()))
        sending.send_bytes(found)

    process = context.Process(target=run, daemon=True)
    process.start()
    try:
        assert receiving.poll(WAIT), "a forked process waits for ever"
        value, error = pickle.loads(receiving.recv_bytes())
        assert error is None, error
        return value
    finally:
        process.kill()
        process.join()
