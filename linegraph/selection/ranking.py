"""Candidates ranked by where their first epochs say they are heading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.arguments import check_number_of
from linegraph.coupling import kinds
from linegraph.coupling.model.data import is_at_hand
from linegraph.coupling.model.losses import check_loss
from linegraph.coupling.model.weighing import BatchWeight, check_batch_weight
from linegraph.errors import DataError
from linegraph.files import remove_stale
from linegraph.progress import counting, shown
from linegraph.randomness import preserved_randomness
from linegraph.selection.predictors import METHODS, predict_final
from linegraph.selection.scoring import check_data, check_labels, check_training_labels
from linegraph.selection.states import rewound
from linegraph.selection.stored import History
from linegraph.selection.training import Failure, Plan, attempt, check_directory, check_names, failed, sgd
from linegraph.turns import has_turn

__all__ = ["rank", "rank_correlations"]


def rank(
    candidates: Mapping[str, Callable[[], nn.Module]],
    train: Any,
    valid: Any,
    *,
    epochs: int = 5,
    methods: str | Iterable[str] = ("capacitance", "last_seen", "mean_seen"),
    executor: Executor | None = None,
    train_fully: int | None = None,
    kind: str = "magnitude",
    loss_fn: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    batch_size: int = 64,
    coupling_samples: int = 512,
    seed: int = 0,
    batch_weight: BatchWeight | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train each candidate for a few epochs and rank them by predicted final accuracy.

    Args:
        candidates: constructors by name; each is called with the random state of ``seed``, and its model goes to the
            device of the data. Of a model that is there already, ``lambda: copy.deepcopy(model)``. Outputs are scores
            (N, classes), or an object with such ``logits``, as Hugging Face's models return. Frozen weights stay as
            they are and are part of the paths between the others.
        train: a DataLoader or list of (inputs, targets) pairs, or one pair, which is cut into shuffled batches of
            ``batch_size``. Batches that are mappings, as those of Hugging Face, become pairs by
            ``[(batch, batch.pop("labels")) for batch in loader]``.
        valid: the like, on which the accuracy is taken after every epoch: the share of samples whose largest score is
            that of their class. Its targets are class indices (N,); those of ``train`` may be probabilities (N,
            classes), or what the loss ignores.
        epochs: how many epochs to look at.
        methods: predictors, or the name of one, see :func:`~linegraph.predict_final`; the first one orders the table.
        executor: a process pool runs candidates side by side and needs constructors that pickle; on threads they
            take turns, since torch has one random state for all threads. A ranking inside of another trains its
            candidates in the thread that it is called in. A candidate that kills its process ends those
            of the pool that are not finished: they come last, with that error.
        train_fully: train on to this many epochs, for the column ``final`` to hold the true final accuracy.
        kind: of coupling; "magnitude", since signed β_eff changes sign during training and is 0/0 with one
            hidden layer and cross entropy.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over samples; ``outputs`` are the logits where there are any.
            Where it is an object with a state, every candidate meets it as it was given, and it comes back so.
        optimizer: makes the optimizer from the model, as ``lambda model: torch.optim.Adam(model.parameters())``. A
            schedule of the rate may be stepped by a hook, ``register_step_post_hook``.
        batch_size: for data given as a pair.
        coupling_samples: P is formed on this many samples from the head of ``train``.
        seed: of initial weights and batch order.
        batch_weight: what the loss of a batch counts for, as for :class:`~linegraph.NeuralCoupling`.
        directory: keeps one file per candidate after every epoch, from which an interrupted ranking goes on, to the
            numbers of one that ran through. A file says, by content, of which data, loss, optimizer and network it is;
            it holds weights, and all states that training reads and that are numbers, tensors or random generators in
            attributes, closures or hooks. Where there are others, an unfinished candidate is trained anew.
        progress: show a bar over all epochs of all candidates.

    Returns:
        One row per candidate, best first: ``name``, one column per method, ``final`` where trained fully,
        ``beta_eff`` after the last epoch looked at. Failed candidates, also those that end by ``SystemExit`` or the
        like, come last, with what failed in ``error``; a method that cannot tell, as capacitance where β_eff is 0/0
        throughout, leaves nan, and says why there.
        ``table.attrs["history"]`` is a DataFrame of all epochs of all candidates.

    Raises:
        ValueError: if there are no candidates, fewer than 2 epochs, fewer than these in ``train_fully``, a number that
            is no positive integer, or an unknown method or kind.
        TypeError: if candidates are no constructors by name, or ``optimizer`` is the class of one.
        LossError: if ``loss_fn`` is no function.
        DataError: if ``train`` or ``valid`` is no data, empty, or not to be scored (regression, segmentation, several
            labels); if a name is no string, or none of a file in ``directory``; if a file there is damaged, of another
            candidate, or of other settings, data, loss or optimizer, before anything is trained. If no candidate
            could be trained and all for such a reason, as outputs that are not (N, classes), the first one is raised.

    Warns:
        ResumeWarning: if a stored run cannot be gone on with and is trained anew.

    Cost: per candidate, ``epochs`` of training and as many capacitances on ``coupling_samples`` samples.

    Example:
        >>> import torch, linegraph as lg
        >>> def mlp(width):
        ...     layers = torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)
        ...     return torch.nn.Sequential(*layers)
        >>> data = torch.randn(60, 4), torch.arange(60) % 3
        >>> table = lg.rank({"narrow": lambda: mlp(2), "wide": lambda: mlp(16)}, data, data, epochs=3)
        >>> sorted(table["name"])
        ['narrow', 'wide']
    """
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if not candidates or not methods:
        raise ValueError("rank needs at least one candidate and one method")
    check_number_of("epochs", epochs, least=2)
    if train_fully is not None:
        check_number_of("train_fully", train_fully, least=epochs)
    check_number_of("batch_size", batch_size)
    check_number_of("coupling_samples", coupling_samples)
    _check_arguments(candidates, loss_fn, optimizer, kind)
    check_batch_weight(batch_weight, loss_fn)
    plan = Plan(
        train=train,
        valid=valid,
        epochs=int(epochs),
        total_epochs=int(train_fully or epochs),
        kind=kind,
        loss_fn=loss_fn,
        optimizer=optimizer,
        batch_size=int(batch_size),
        coupling_samples=int(coupling_samples),
        seed=int(seed),
        # A candidate that changes the working directory does not move the files.
        directory=Path(directory).absolute() if directory else None,
        batch_weight=batch_weight,
    )
    check_names(candidates, plan.directory)
    _check_data(plan)
    if plan.directory:
        plan.directory.mkdir(parents=True, exist_ok=True)  # a place that cannot be written fails before any training
        remove_stale(plan.directory)
        check_directory(candidates, plan)
    outcomes = _train_all(candidates, plan, executor, progress)
    failures = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)}
    if len(failures) == len(outcomes) and all(failure.of_data for failure in failures.values()):
        name, failure = next(iter(failures.items()))
        raise DataError(f"no candidate could be trained; {name}: {failure.error.removeprefix('DataError: ')}")
    rows = [_row(name, outcome, plan, methods, train_fully) for name, outcome in outcomes.items()]
    columns = ["name", *methods, *(["final"] if train_fully else []), "beta_eff", "error"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.sort_values(methods[0], ascending=False, na_position="last", kind="stable", ignore_index=True)
    table.attrs["history"] = pd.DataFrame(
        [{"name": name, **row} for name, outcome in outcomes.items() if isinstance(outcome, list) for row in outcome]
    )
    return table


def rank_correlations(table: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """How well each method's column orders the candidates by true final accuracy.

    Columns ``method``, ``kendall_tau``, ``spearman_rho``, ``mean_abs_error``; over the candidates that did not fail.

    Raises:
        DataError: if the table has no column ``final``.
    """
    if "final" not in table:
        raise DataError("rank correlations need the true final accuracies; rank with train_fully=")
    rows = []
    for method in methods:
        both = table[[method, "final"]].dropna().astype(float)
        rows.append(
            {
                "method": method,
                "kendall_tau": both[method].corr(both["final"], method="kendall"),
                "spearman_rho": both[method].corr(both["final"], method="spearman"),
                "mean_abs_error": (both[method] - both["final"]).abs().mean(),
            }
        )
    return pd.DataFrame(rows)


def _check_arguments(candidates: Any, loss_fn: Any, optimizer: Any, kind: str) -> None:
    """Refuse what would fail for every candidate, before any is trained."""
    if not isinstance(candidates, Mapping):
        raise TypeError(f"candidates are constructors by name, a dict, got a {type(candidates).__name__}")
    for name, make in candidates.items():
        if isinstance(make, nn.Module) or not callable(make):
            raise TypeError(
                f"candidate {name!r} is a {type(make).__name__}, not a constructor; of a model that is there already, "
                "pass lambda: copy.deepcopy(model)"
            )
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        name = optimizer.__name__
        raise TypeError(f"optimizer= takes the model; pass lambda model: torch.optim.{name}(model.parameters())")
    check_loss(loss_fn)
    kinds.make(kind, probes=None, generator=None)


def _check_data(plan: Plan) -> None:
    """Refuse data that no candidate can be trained and scored on, and leave their states as they were."""
    # Data that are there draw nothing, and need not wait for what other threads draw.
    at_hand = is_at_hand(plan.train) and is_at_hand(plan.valid)
    with nullcontext() if at_hand else preserved_randomness(), rewound(plan.train, plan.valid):
        _, targets = check_data("train", plan.train)
        check_training_labels("train", targets, plan.loss_fn)
        _, targets = check_data("valid", plan.valid)
        check_labels("valid", targets)


def _train_all(
    candidates: Mapping[str, Callable[[], nn.Module]], plan: Plan, executor: Executor | None, progress: bool
) -> dict[str, History | Failure]:
    # Within a turn, as of a candidate that ranks others, workers on threads would wait for its end, and it for them.
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
    """A candidate under way; of a pool that has lost a worker already, one that has failed."""
    try:
        return executor.submit(attempt, name, make, plan)
    except BrokenExecutor as error:
        future: Future[History | Failure] = Future()
        future.set_exception(error)
        return future


def _outcome(future: Future[History | Failure]) -> History | Failure:
    """The history, or why there is none: that of a worker which died is not known, and it ends those beside it."""
    try:
        return future.result()
    except KeyboardInterrupt:
        raise
    except BrokenExecutor as error:
        found = failed(error)
        advice = "; a candidate killed its process; rank again, with directory= to keep what was done, or without it"
        return Failure(found.error + advice)
    except BaseException as error:  # a constructor that does not pickle
        return failed(error)


def _row(
    name: str, outcome: History | Failure, plan: Plan, methods: tuple[str, ...], train_fully: int | None
) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"name": name, "error": outcome.error}
    seen = pd.DataFrame(outcome[: plan.epochs])
    row: dict[str, Any] = {"name": name, "beta_eff": float(seen["beta_eff"].iloc[-1])}
    for method in methods:
        try:
            row[method] = predict_final(seen, method=method).mean
        except DataError as error:
            row["error"] = f"{type(error).__name__}: {error}"
    return row | ({"final": outcome[-1]["accuracy"]} if train_fully else {})
