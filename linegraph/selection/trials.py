"""The candidates of a ranking, trained up to some epoch, one after the other or by an executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from typing import Any

from torch import nn

from linegraph.progress import Bar, counting
from linegraph.quiet import ignoring
from linegraph.selection.plan import Plan
from linegraph.selection.training import Failure, Trained, attempt, failed
from linegraph.turns import has_turn

__all__ = ["Outcome", "Trials"]

Outcome = Trained | Failure


class Trials:
    """Trains candidates of one ranking; a failure is an outcome as a history is.

    Args:
        constructors: the constructors by name.
        plan: the settings.
        executor: what runs the candidates; None for this thread.
        progress: whether to show a bar.
    """

    def __init__(
        self, constructors: Mapping[str, Callable[[], nn.Module]], plan: Plan, executor: Executor | None, progress: bool
    ) -> None:
        self._constructors = constructors
        self._plan = plan
        self._progress = progress
        self._executor: Executor | None = None
        self._sent: Any = plan
        # A candidate that ranks others holds the turn: workers on threads would wait for its end, and it for theirs.
        if executor is not None and not has_turn():
            is_of_dask = type(executor).__module__.startswith("distributed.")
            self._executor, self._sent = _for_dask(executor, plan) if is_of_dask else (executor, plan)

    def train(self, names: Collection[str], epochs: int, *, since: int = 0) -> dict[str, Outcome]:
        """The outcomes of some candidates, each trained until it has had ``epochs`` epochs.

        Args:
            names: the candidates; the outcomes are in this order.
            epochs: the number of epochs.
            since: the number of epochs that they have had before, for the progress bar.
        """
        run = self._here if self._executor is None else self._elsewhere
        found = dict(run(names, epochs, since))
        return {name: found[name] for name in names}

    def _here(self, names: Collection[str], epochs: int, since: int) -> Iterator[tuple[str, Outcome]]:
        with self._bar(names, epochs, since) as bar:
            for name in names:
                bar.set_description(name)
                step = _Step(bar, name, epochs, since)
                yield name, attempt(name, self._constructors[name], self._plan, epochs, step)
                step.end()

    def _elsewhere(self, names: Collection[str], epochs: int, since: int) -> Iterator[tuple[str, Outcome]]:
        assert self._executor is not None
        # Submitted before there is a bar: a process that is forked while the bar writes would have its lock.
        futures = {self._submitted(self._executor, name, epochs): name for name in names}
        lost = []
        try:
            with self._bar(names, epochs, since) as bar:
                bar.set_description(f"{len(names)} candidates")
                for future in as_completed(futures):
                    if _is_lost(future):
                        lost.append(futures[future])
                    else:
                        yield futures[future], _outcome(future)
                        _Step(bar, futures[future], epochs, since).end()
                for name, outcome in self._apart(self._executor, lost, epochs):
                    yield name, outcome
                    _Step(bar, name, epochs, since).end()
        finally:
            for future in futures:
                future.cancel()

    def _apart(self, executor: Executor, names: Collection[str], epochs: int) -> Iterator[tuple[str, Outcome]]:
        """Train candidates that were lost with a process, apart from each other.

        A candidate that ends its process takes those with it that are beside it, and nobody knows whose fault it was.
        A second time, it is lost alone.
        """
        if isinstance(executor, ProcessPoolExecutor):  # which is broken
            yield from self._each_alone(executor, names, epochs)
        else:
            for name in names:
                yield name, _outcome(self._submitted(executor, name, epochs))

    def _each_alone(
        self, pool: ProcessPoolExecutor, names: Collection[str], epochs: int
    ) -> Iterator[tuple[str, Outcome]]:
        """Train candidates in one process each, as many at a time as the pool had."""
        waiting = deque(names)
        running: dict[Future[Outcome], tuple[str, Executor]] = {}
        settings: dict[str, Any] = {
            "mp_context": pool._mp_context,  # type: ignore[attr-defined]
            "initializer": pool._initializer,  # type: ignore[attr-defined]
            "initargs": pool._initargs,  # type: ignore[attr-defined]
        }
        try:
            while waiting or running:
                while waiting and len(running) < pool._max_workers:  # type: ignore[attr-defined]
                    name, own = waiting.popleft(), ProcessPoolExecutor(1, **settings)
                    running[self._submitted(own, name, epochs)] = name, own
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name, ended = running.pop(future)
                    ended.shutdown()
                    yield name, _outcome(future)
        finally:
            for _, started in running.values():
                started.shutdown(wait=False, cancel_futures=True)

    def _submitted(self, executor: Executor, name: str, epochs: int) -> Future[Outcome]:
        """The future of a submitted candidate; a failed future if the executor cannot take it."""
        try:
            return executor.submit(attempt, name, self._constructors[name], self._sent, epochs)
        except Exception as error:
            if isinstance(error, RuntimeError) and not isinstance(error, (BrokenExecutor, RecursionError)):
                raise  # the executor was shut down
            future: Future[Outcome] = Future()
            future.set_exception(error)
            return future

    def _bar(self, names: Collection[str], epochs: int, since: int) -> Bar:
        return counting(self._progress, total=len(names) * (epochs - since), unit="epoch")


class _Step:
    """Counts the epochs of one candidate in a bar that it shares with others.

    Epochs that a stored run has had before, or that a failure leaves out, are counted at the end.
    """

    def __init__(self, bar: Bar, name: str, epochs: int, since: int) -> None:
        self._bar, self._name, self._epochs, self._reached = bar, name, epochs, since

    def __call__(self, epoch: int) -> None:
        """Count up to an epoch."""
        if epoch > self._reached:
            self._bar.set_description(f"{self._name}, epoch {epoch} of {self._epochs}")
            self._bar.update(epoch - self._reached)
            self._reached = epoch

    def end(self) -> None:
        """Count up to the last epoch."""
        self(self._epochs)


def _for_dask(executor: Any, plan: Plan) -> tuple[Executor, Any]:
    """An executor of Dask that computes each task anew, and the future of the plan, an argument of its tasks.

    Otherwise Dask would put a copy of the data into each task. A process pool needs no such future: it holds tensors in
    memory that its processes share.
    """
    client = executor._client
    with ignoring("Sending large graph"):  # it advises to send the data once, as is done here
        sent = client.submit(_itself, plan, pure=False)
    return client.get_executor(**executor._kwargs | {"pure": False}), sent


def _itself(plan: Plan) -> Plan:
    return plan


def _is_lost(future: Future[Outcome]) -> bool:
    """Whether a candidate was not finished because a process ended, not necessarily its own."""
    error = None if future.cancelled() else future.exception()
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"  # of Dask


def _outcome(future: Future[Outcome]) -> Outcome:
    """The history of a candidate, or its failure."""
    try:
        return future.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Failure(failed(error).error + _advice(error))


def _advice(error: BaseException) -> str:
    if isinstance(error, BrokenExecutor):
        return "; the candidate ended its process, as one does that needs more memory than there is"
    if "pickle" in f"{type(error).__name__} {error}".lower():
        return (
            "; what is sent to another process, constructors and optimizer= too, must be functions of a module, or "
            "functools.partial of one"
        )
    return ""
