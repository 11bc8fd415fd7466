"""A lock for what all threads of a process share, which a thread can lend to others while it waits for data.

A pass of linegraph temporarily changes shared state: the mode of a model, flags of torch, the random generators of the
process. So only one thread at a time may run a pass; it *has the turn*. The other threads wait in a queue, first come,
first served. The lock is reentrant: a thread that has the turn may take it again, so that passes nest.

A plain lock would deadlock. Let thread A read batches from a loader whose code starts thread B and waits for it, and
let B make a coupling to compute the batch::

    A: with turn():                      # A has the turn
    A:     for batch in reading(loader): # the loader waits for B
    B:         with turn():              # B waits for A, and A for B: without a loan, forever

Therefore :func:`reading` *lends* the turn while the loader's code runs. B takes it once it has waited for ``PATIENCE``
seconds; A waits for the end of B's turn before it goes on with the batch. A wait of ``PATIENCE`` keeps threads that
merely happen to come meanwhile from interrupting every reading. :func:`hand_on` is a second kind of loan: a training
lets waiting passes run between two of its steps, at once, but no other training.

A turn is not lent while the thread has temporarily changed something (:class:`undoing`), so that no other thread finds
the change. Random generators that the lender has set (:func:`preserving`) are exchanged: the borrower finds them in the
states from before the lender's turn, and the lender gets its own states back.

``os.fork`` copies a process, but of its threads only the one that forks. In the child the turn is free, unless that
thread has it, and what the other threads had temporarily changed is put back (:func:`_begin_forked`).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any, TypeVar

__all__ = ["hand_on", "has_turn", "latest_change", "preserving", "reading", "turn", "undoing"]

T = TypeVar("T")
Restore = Callable[[], None]

PATIENCE = 1.0
"""Seconds that a thread waits before it takes a turn that is lent to read data."""


class _Turn:
    """The turn of one thread, from when it enters the queue to when it leaves its outermost ``with turn()``.

    Attributes:
        thread: the identifier of the thread.
        is_training: whether this is a training, which takes no turn that another training hands on.
        undo: functions that put back what the thread has temporarily changed, the latest last.
        preserved: for each :func:`preserving` that the thread is in, the function that notes the present states of its
            generators, and the one that restores the states from before.
        is_overtaken: whether a thread has taken a loan for reading data. From then on nobody waits for ``PATIENCE``:
            data that need another thread once mostly need it for every batch.
    """

    __slots__ = ("is_overtaken", "is_training", "preserved", "thread", "undo")

    def __init__(self, *, is_training: bool) -> None:
        self.thread = get_ident()
        self.is_training = is_training
        self.undo: list[Restore] = []
        self.preserved: list[tuple[Callable[[], Restore], Restore]] = []
        self.is_overtaken = False

    def put_back(self, undo: Restore | None = None) -> None:
        """Put back all changes since the one that ``undo`` puts back, and that one; without it, all changes.

        Later changes are still there if Ctrl-C interrupted the end of their context.
        """
        while self.undo and (undo is None or undo in self.undo):
            latest = self.undo[-1]
            latest()
            self.undo.pop()
            if latest is undo:
                break

    def come_back(self, restore: Restore | None = None) -> None:
        """Restore all random states preserved since those of ``restore``, and these; without it, all of them."""
        while self.preserved and (restore is None or any(one is restore for _, one in self.preserved)):
            _, latest = self.preserved[-1]
            latest()
            self.preserved.pop()
            if latest is restore:
                break


class _Loan:
    """A turn that its thread has lent: others may take the lock until the lender wants to go on.

    Attributes:
        turn: the turn of the lender.
        is_handed_on: whether a training hands it on between two steps, rather than lends it to read data.
        ends: the time, by ``time.monotonic``, from which another thread may take it.
        own: functions that restore the lender's random states, the outermost last; None until a thread has taken the
            loan.
    """

    __slots__ = ("ends", "is_handed_on", "own", "turn")

    def __init__(self, turn: _Turn, *, is_handed_on: bool) -> None:
        self.turn = turn
        self.is_handed_on = is_handed_on
        self.ends = time.monotonic() + (0.0 if turn.is_overtaken or is_handed_on else PATIENCE)
        self.own: list[Restore] | None = None

    def delay(self, *, starts_training: bool) -> float:
        """Seconds until another thread may take the turn; ∞ for a training if another training hands the turn on."""
        if self.is_handed_on:
            return math.inf if starts_training else 0.0
        return max(0.0, self.ends - time.monotonic())


class _Turns:
    """The lock of the process: which thread has the turn, which have lent it, and which wait for it.

    Attributes:
        lock: guards the attributes below; ``changed`` is notified whenever one of them changes.
        present: the turn of the thread that has it; None while it is free or lent.
        loans: the turns that are lent, the latest last: a borrower may lend in its turn.
        waiting: the turns of the threads that wait, in their order.
    """

    def __init__(self) -> None:
        # Code enters the lock itself rather than the Condition: Ctrl-C can interrupt the Python code of a Condition,
        # and leave it locked, but not the C code of a lock.
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.present: _Turn | None = None
        self.loans: list[_Loan] = []
        self.waiting: deque[_Turn] = deque()

    def mine(self) -> _Turn | None:
        """The turn of this thread if it has it now, else None."""
        present = self.present
        return present if present is not None and present.thread == get_ident() else None

    def take(self, turn: _Turn, *, first: bool = False) -> None:
        """Wait for the turn, to begin it or to go on with it after a loan.

        Args:
            turn: the turn of this thread.
            first: whether to wait at the head of the queue rather than at its end.
        """
        with self.lock:
            if self.present is not None or self.waiting or self.loans:
                self._wait(turn, first=first)
                self._put_aside(turn.thread)
            self.present = turn

    def release(self, turn: _Turn) -> None:
        """End a turn, whether the thread has it or was interrupted while it waited."""
        with self.lock:
            if self.present is turn:
                self.present = None
            self.changed.notify_all()

    def lend(self, loan: _Loan) -> None:
        """Make the present turn a loan, so that others may take it."""
        with self.lock:
            self.loans.append(loan)
            self.present = None
            self.changed.notify_all()

    def take_back(self, loan: _Loan, *, first: bool) -> None:
        """End a loan: wait for the turn, and restore the random states of the lender.

        An interruption (Ctrl-C) meanwhile is raised afterwards, when the thread has its turn again: the ``finally``
        clauses that it runs through change shared state.
        """
        if loan not in self.loans:
            return
        interruption: BaseException | None = None
        while self.present is not loan.turn:
            try:
                self.take(loan.turn, first=first)
            except BaseException as error:
                interruption = error
        try:
            for restore in reversed(loan.own or ()):
                restore()
        finally:
            with self.lock:
                self.loans.remove(loan)
        if interruption is not None:
            raise interruption

    def lends(self, thread: int) -> bool:
        """Whether a thread has lent its turn."""
        return any(loan.turn.thread == thread for loan in self.loans)

    def _wait(self, turn: _Turn, *, first: bool) -> None:
        # A thread that has lent its turn to read data, and whose data need a turn in this same thread, goes first: the
        # others in the queue wait for that reading to end.
        reads = any(loan.turn is not turn and loan.turn.thread == turn.thread for loan in self.loans)
        (self.waiting.appendleft if first or reads else self.waiting.append)(turn)
        try:
            while (delay := self._delay(turn)) or self._next() is not turn:
                self.changed.wait(delay if 0 < delay < math.inf else None)
        finally:
            self.waiting.remove(turn)
            self.changed.notify_all()

    def _delay(self, turn: _Turn) -> float:
        """Seconds until this turn may begin or go on; ∞ while another thread has the turn or does not lend it."""
        if self.present is not None:
            return math.inf
        starts = turn.is_training and all(loan.turn is not turn for loan in self.loans)
        others = (loan for loan in self.loans if loan.turn.thread != turn.thread)
        return max((loan.delay(starts_training=starts) for loan in others), default=0.0)

    def _next(self) -> _Turn | None:
        """The first in the queue that need not wait any longer."""
        return next((turn for turn in self.waiting if not self._delay(turn)), None)

    def _put_aside(self, thread: int) -> None:
        """Once a thread has the turn, note the random states of each lender, and restore those from before its turn."""
        for loan in reversed(self.loans):
            if loan.turn.thread == thread:
                continue
            loan.turn.is_overtaken |= not loan.is_handed_on
            if loan.own is None:
                loan.own = []
                for note, restore in reversed(loan.turn.preserved):
                    loan.own.append(note())
                    restore()


_turns = _Turns()


class turn:
    """A context in which this thread has the turn, so that no other one runs a pass.

    Args:
        training: whether this is a training, which may hand the turn on, but not to another training.
    """

    __slots__ = ("_begun", "_training")

    def __init__(self, *, training: bool = False) -> None:
        self._training = training
        self._begun: _Turn | None = None

    def __enter__(self) -> _Turn:
        if (mine := _turns.mine()) is not None:
            return mine
        begun = _Turn(is_training=self._training)
        try:
            _turns.take(begun)
        except BaseException:
            _turns.release(begun)
            raise
        self._begun = begun
        return begun

    def __exit__(self, *_: Any) -> None:
        if (begun := self._begun) is not None:
            if begun.undo or begun.preserved:
                _completed(begun.put_back)
                _completed(begun.come_back)
            _completed(lambda: _turns.release(begun))
            self._begun = None

    def __del__(self) -> None:
        if getattr(self, "_begun", None) is not None:  # Ctrl-C came between the body and __exit__
            self.__exit__()


def _completed(work: Callable[[], None]) -> None:
    """Do work that can be done twice; if Ctrl-C interrupts it, a second call completes what the first one began."""
    try:
        work()
    except BaseException:
        work()
        raise


def latest_change() -> Restore | None:
    """The function that undoes the latest change of this thread; None if there is none.

    It tells passes apart: each makes changes of its own, and so does a pass within a pass.
    """
    mine = _turns.mine()
    return mine.undo[-1] if mine is not None and mine.undo else None


def has_turn() -> bool:
    """Whether this thread has the turn, or has lent it."""
    return _turns.mine() is not None or _turns.lends(get_ident())


class undoing(turn):
    """A turn in which the body temporarily changes shared state; on leaving, ``undo`` puts it back.

    The turn is not lent meanwhile, so that no other thread finds the change.

    Args:
        undo: puts the state back. It is also called in a process that another thread forks meanwhile, and twice if it
            is interrupted, so it must work before the change, in the midst of it, and after it was put back.
    """

    __slots__ = ("_mine", "_undo")

    def __init__(self, undo: Restore) -> None:
        super().__init__()
        self._undo = undo

    def __enter__(self) -> _Turn:
        self._mine = super().__enter__()
        self._mine.undo.append(self._undo)
        return self._mine

    def __exit__(self, *_: Any) -> None:
        _completed(lambda: self._mine.put_back(self._undo))
        super().__exit__()


@contextmanager
def preserving(note: Callable[[], Restore]) -> Iterator[None]:
    """A turn in which random generators may be set; on leaving their states are restored.

    While the turn is lent, the generators are in the states from before it.

    Args:
        note: notes the present states of the generators, and returns a function that restores them.
    """
    with turn() as mine:
        restore = note()
        mine.preserved.append((note, restore))
        try:
            yield
        finally:
            _completed(lambda: mine.come_back(restore))


def reading(items: Iterable[T]) -> Iterator[T]:
    """Iterate over data, with the turn lent while the data's own code makes the next item.

    Lists and tuples run no code of the caller's, and nothing is lent for them.
    """
    if type(items) in (list, tuple):
        yield from items
        return
    end = object()
    with _lent(is_handed_on=False):
        iterator = iter(items)
    while True:
        with _lent(is_handed_on=False):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item


def hand_on() -> None:
    """Let all waiting passes run, for a training to call between two of its steps."""
    if _turns.waiting:
        with _lent(is_handed_on=True):
            pass


@contextmanager
def _lent(*, is_handed_on: bool) -> Iterator[None]:
    """A context in which the turn of this thread, if it has it and has no temporary change open, is lent."""
    mine = _turns.mine()
    if mine is None or mine.undo:
        yield
        return
    loan = _Loan(mine, is_handed_on=is_handed_on)
    try:
        _turns.lend(loan)
        yield
    finally:
        _turns.take_back(loan, first=not is_handed_on)


def _begin_forked() -> None:
    """Free the turn in a child process that ``os.fork`` has just made, whose only thread is the one that forked.

    What other threads had temporarily changed is put back, the latest change first. The random generators get the
    states from before the turn of the thread that was using them: the one that had the turn, or else the latest lender
    whose loan nobody had taken. The turn and the loans of the forking thread itself stay.
    """
    global _turns
    before, _turns = _turns, _Turns()
    present, me = before.present, get_ident()
    begun = [*(loan.turn for loan in before.loans), *([] if present is None else [present])]
    for gone in (one for one in reversed(begun) if one.thread != me):
        for undo in reversed(gone.undo):
            with suppress(Exception):
                undo()
    drawing = present or next((loan.turn for loan in reversed(before.loans) if loan.own is None), None)
    if drawing is not None and drawing.thread != me:
        for _, restore in reversed(drawing.preserved):
            restore()
    _turns.present = before.mine()
    _turns.loans = [loan for loan in before.loans if loan.turn.thread == me]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_forked)
