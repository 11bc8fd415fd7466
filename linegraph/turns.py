"""Turns of threads at what they share: models in another mode, sweeps over a tape, the random states of the process.

One thread at a time has the turn, others wait, in the order in which they came. Who has it gets it again at once, so
that passes nest. While something is changed for a time, a mode or a flag, nobody comes between. Else the turn is

- *lent* while the caller's code gives data, since that may wait for a thread of its own which needs the turn: a thread
  that has waited for ``PATIENCE`` takes it;
- *handed on* between the steps of a training, to passes that wait. Other trainings wait for its end.

Either way the next thread finds the random states as they were before the first one came, and the first gets its own
back. A process that is forked at any moment begins with the turn free, and with what other threads had changed put
back, since these threads are not in it to do so.
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

__all__ = ["depth", "hand_on", "has_turn", "preserving", "reading", "turn", "undoing"]

T = TypeVar("T")
Restore = Callable[[], None]

PATIENCE = 1.0
"""Seconds for which a thread waits for another one that reads data."""


class _Turn:
    """The turn of one thread."""

    __slots__ = ("depth", "is_overtaken", "is_training", "preserved", "thread", "undo")

    def __init__(self, *, is_training: bool) -> None:
        self.thread = get_ident()
        self.is_training = is_training
        self.depth = 1
        self.undo: list[Restore] = []
        """What puts back what is changed for a time."""
        self.preserved: list[tuple[Callable[[], Restore], Restore]] = []
        """What notes the present states of generators, and what puts back those to come back to."""
        self.is_overtaken = False
        """Whether another thread has waited long enough for data to be read."""


class _Loan:
    """A turn that others may take for a while."""

    __slots__ = ("ends", "is_handed_on", "own", "turn")

    def __init__(self, turn: _Turn, *, is_handed_on: bool) -> None:
        self.turn = turn
        self.is_handed_on = is_handed_on
        self.ends = time.monotonic() + (0.0 if turn.is_overtaken or is_handed_on else PATIENCE)
        self.own: list[Restore] | None = None
        """What puts back the states of the lender, the last first; once another thread has come."""

    def delay(self, *, starts_training: bool) -> float:
        """The seconds until another thread may take the turn, ∞ if not before the lender goes on."""
        if self.is_handed_on:
            return math.inf if starts_training else 0.0
        return max(0.0, self.ends - time.monotonic())


class _Turns:
    """Who has the turn, who has lent it, and who waits for it."""

    def __init__(self) -> None:
        # Entered as it is: an interruption may come within the methods of a Condition, never within those of a lock.
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.present: _Turn | None = None
        self.loans: list[_Loan] = []
        self.waiting: deque[_Turn] = deque()

    def mine(self) -> _Turn | None:
        """The turn of this thread, if it has it now."""
        present = self.present
        return present if present is not None and present.thread == get_ident() else None

    def take(self, turn: _Turn, *, first: bool = False) -> None:
        """Wait for the turn, to begin it, or to go on with it after a loan."""
        with self.lock:
            if self.present is not None or self.waiting or self.loans:
                self._wait(turn, first=first)
                self._put_aside(turn.thread)
            self.present = turn

    def release(self, turn: _Turn) -> None:
        """End a turn."""
        with self.lock:
            if self.present is turn:
                self.present = None
            self.changed.notify_all()

    def lend(self, loan: _Loan) -> None:
        """Let others take the turn."""
        with self.lock:
            self.loans.append(loan)
            self.present = None
            self.changed.notify_all()

    def take_back(self, loan: _Loan, *, first: bool) -> None:
        """Go on after a loan. An interruption has to wait too, since all that it would undo belongs to the turn."""
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
        # Who reads data and needs a turn for it goes before those that wait for the reading to end.
        reads = any(loan.turn is not turn and loan.turn.thread == turn.thread for loan in self.loans)
        (self.waiting.appendleft if first or reads else self.waiting.append)(turn)
        try:
            while (delay := self._delay(turn)) or self._next() is not turn:
                self.changed.wait(delay if 0 < delay < math.inf else None)
        finally:
            self.waiting.remove(turn)
            self.changed.notify_all()

    def _delay(self, turn: _Turn) -> float:
        """The seconds until this one may take the turn, ∞ if somebody else has to go on before."""
        if self.present is not None:
            return math.inf
        starts = turn.is_training and all(loan.turn is not turn for loan in self.loans)
        others = (loan for loan in self.loans if loan.turn.thread != turn.thread)
        return max((loan.delay(starts_training=starts) for loan in others), default=0.0)

    def _next(self) -> _Turn | None:
        return next((turn for turn in self.waiting if not self._delay(turn)), None)

    def _put_aside(self, thread: int) -> None:
        """Keep the random states of lenders, and go back to those from before they came."""
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
    """With the turn: alone with what threads share.

    Args:
        training: whether this is a training, which may hand the turn on, but not to another training.
    """

    __slots__ = ("_training", "_turn")

    def __init__(self, *, training: bool = False) -> None:
        self._training = training
        self._turn: _Turn | None = None

    def __enter__(self) -> _Turn:
        mine = _turns.mine()
        if mine is None:
            mine = _Turn(is_training=self._training)
            try:
                _turns.take(mine)
            except BaseException:
                _turns.release(mine)
                raise
        else:
            mine.depth += 1
        self._turn = mine
        return mine

    def __exit__(self, *_: Any) -> None:
        mine = self._turn
        assert mine is not None
        if mine.depth == 1:
            _turns.release(mine)
        mine.depth -= 1
        self._turn = None

    def __del__(self) -> None:
        if self._turn is not None:  # an interruption came just before the end
            self.__exit__()


def depth() -> int:
    """How many things this thread has changed for a time; more in a pass within a pass."""
    mine = _turns.mine()
    return 0 if mine is None else len(mine.undo)


def has_turn() -> bool:
    """Whether this thread has the turn, or has lent it: others may wait for it."""
    return _turns.mine() is not None or _turns.lends(get_ident())


class undoing(turn):
    """With something changed that is put back by ``undo`` on leaving; and nobody else comes between.

    ``undo`` is called too in a process that another thread forks meanwhile. It must not mind if nothing is changed yet,
    or being called twice.
    """

    __slots__ = ("_undo",)

    def __init__(self, undo: Callable[[], None]) -> None:
        super().__init__()
        self._undo = undo

    def __enter__(self) -> _Turn:
        mine = super().__enter__()
        mine.undo.append(self._undo)
        return mine

    def __exit__(self, *_: Any) -> None:
        try:
            self._undo()
        except BaseException:  # an interruption comes once
            self._undo()
            raise
        finally:
            if self._turn is not None:
                self._turn.undo.pop()
            super().__exit__()


@contextmanager
def preserving(note: Callable[[], Restore]) -> Iterator[None]:
    """Restore the states of generators on leaving; ``note`` notes them as they are and gives what puts them back.

    They are exchanged for those of another thread that comes between.
    """
    with turn() as mine:
        restore = note()
        mine.preserved.append((note, restore))
        try:
            yield
        finally:
            try:
                restore()
            except BaseException:  # an interruption comes once
                restore()
                raise
            finally:
                mine.preserved.pop()


def reading(items: Iterable[T]) -> Iterator[T]:
    """The items that the caller's data give, with the turn lent while their code works on the next."""
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
    """Let passes go first that wait for the turn; for a training between two of its steps."""
    if _turns.waiting:
        with _lent(is_handed_on=True):
            pass


@contextmanager
def _lent(*, is_handed_on: bool) -> Iterator[None]:
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
    """In a process that was just forked, which of all threads has the one that forked it."""
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
