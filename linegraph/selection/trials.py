"""The candidates of a ranking, trained one after the other or by an executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future

from torch import nn

from linegraph.progress import counting, shown
from linegraph.selection.stored import History
from linegraph.selection.training import Failure, Plan, attempt, failed
from linegraph.turns import has_turn

__all__ = ["train_all"]


def train_all(
    candidates: Mapping[str, Callable[[], nn.Module]], plan: Plan, executor: Executor | None, progress: bool
) -> dict[str, History | Failure]:
    """The outcome of each candidate by name, in the order of the candidates."""
    # A candidate that ranks others holds the turn: workers on threads would wait for its end, and it for theirs.
    if executor is not None and not has_turn():
        futures = {name: _submitted(executor, name, make, plan) for name, make in candidates.items()}
        try:
            waiting = shown(futures.items(), progress, unit="candidate")
            return {name: _outcome(future) for name, future in waiting}
        finally:
            for future in futures.values():
                future.cancel()
    with counting(progress, total=len(candidates) * plan.total_epochs, unit="epoch") as bar:
        outcomes = {}
        for name, make in candidates.items():
            bar.set_description(name)
            outcomes[name] = attempt(name, make, plan, bar.update)
        return outcomes


def _submitted(executor: Executor, name: str, make: Callable[[], nn.Module], plan: Plan) -> Future[History | Failure]:
    """The future of a submitted candidate; a failed future if the pool has already lost a worker."""
    try:
        return executor.submit(attempt, name, make, plan)
    except BrokenExecutor as error:
        future: Future[History | Failure] = Future()
        future.set_exception(error)
        return future


def _outcome(future: Future[History | Failure]) -> History | Failure:
    """The history of a candidate, or its failure. A worker that dies fails all unfinished candidates of its pool."""
    try:
        return future.result()
    except KeyboardInterrupt:
        raise
    except BrokenExecutor as error:
        found = failed(error)
        advice = "; a candidate killed its process; rank again, with directory= to keep what was done, or without it"
        return Failure(found.error + advice)
    except BaseException as error:  # such as a constructor that cannot be pickled
        return failed(error)
