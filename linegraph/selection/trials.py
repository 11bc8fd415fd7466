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
from linegraph.selection.stored import History
from linegraph.selection.training import Failure, Plan, attempt, failed
from linegraph.turns import has_turn

__all__ = ["Outcome", "Trials"]

Outcome = History | Failure


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
        # A candidate that ranks others holds the turn: workers on threads would wait for its end, and it for theirs.
        self._executor = None if has_turn() else executor
        self._progress = progress
        self._sent = plan if self._executor is None else _sent(plan, self._executor)

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
                    if isinstance(self._executor, ProcessPoolExecutor) and _is_lost(future):
                        lost.append(futures[future])
                        continue
                    yield futures[future], _outcome(future)
                    _Step(bar, futures[future], epochs, since).end()
                if isinstance(self._executor, ProcessPoolExecutor):
                    for name, outcome in self._each_alone(self._executor, lost, epochs):
                        yield name, outcome
                        _Step(bar, name, epochs, since).end()
        finally:
            for future in futures:
                future.cancel()

    def _each_alone(
        self, pool: ProcessPoolExecutor, names: Collection[str], epochs: int
    ) -> Iterator[tuple[str, Outcome]]:
        """Train candidates in one process each, as many at a time as the pool had.

        A process that ends breaks its pool, which does not tell whose process that was. The candidates that the pool
        has not finished are therefore trained apart, so that only the one that ends its process is lost.
        """
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


def _sent(plan: Plan, executor: Executor) -> Any:
    """The plan as the argument of tasks: for Dask the future of one copy, for all other executors the plan itself.

    Dask would put a copy of the data into each task. A process pool holds tensors in memory that its processes share.
    """
    if not type(executor).__module__.startswith("distributed."):
        return plan
    client: Any = executor._client  # type: ignore[attr-defined]
    with ignoring("Sending large graph"):  # it advises to send the data once, as is done here
        return client.submit(_itself, plan, pure=False)


def _itself(plan: Plan) -> Plan:
    return plan


def _is_lost(future: Future[Outcome]) -> bool:
    """Whether a candidate was not finished because a process of the pool ended."""
    return not future.cancelled() and isinstance(future.exception(), BrokenExecutor)


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
