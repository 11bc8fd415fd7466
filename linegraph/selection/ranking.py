"""Candidate networks ranked by the final accuracy predicted from their first epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.arguments import as_path, check_executor, check_number_of, check_seed, check_type
from linegraph.coupling import kinds
from linegraph.coupling.model.data import is_at_hand
from linegraph.coupling.model.losses import check_loss
from linegraph.coupling.model.weighing import BatchWeight, check_batch_weight
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.files import remove_stale
from linegraph.randomness import preserved_randomness
from linegraph.selection.constructors import check_names
from linegraph.selection.predictors import METHODS, predict_final
from linegraph.selection.scoring import check_data, check_labels, check_training_labels
from linegraph.selection.states import rewound
from linegraph.selection.stored import History
from linegraph.selection.training import Failure, Plan, check_directory, sgd
from linegraph.selection.trials import train_all

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
        candidates: constructors by name. Each is called with random generators seeded by ``seed``, and its model is
            moved to the device of the data. For an existing model pass ``lambda: copy.deepcopy(model)``. A model
            returns scores (N, classes), or an object with such ``logits``, as models of Hugging Face do. Frozen weights
            are not trained; they are part of the paths between the others.
        train: a DataLoader or list of (inputs, targets) pairs, or one pair, which is cut into shuffled batches of
            ``batch_size``. Batches that are mappings, as those of Hugging Face, become pairs by
            ``[(batch, batch.pop("labels")) for batch in loader]``.
        valid: data of the same form, on which the accuracy is computed after every epoch: the fraction of samples whose
            class has the largest score. Its targets are class indices (N,). Targets of ``train`` may also be
            probabilities (N, classes), or indices that the loss ignores.
        epochs: number of epochs from which the final accuracy is predicted, at least 2.
        methods: names of predictors, or one name, see :func:`~linegraph.predict_final`; the first one orders the table.
        executor: runs the candidates. A process pool trains them in parallel, and needs constructors that can be
            pickled. In a thread pool they train one after the other, since all threads share torch's random generator.
            A ranking within a candidate of another ranking ignores its executor. If a candidate kills its process,
            the unfinished candidates of the pool fail too.
        train_fully: train on to this total number of epochs, so that the column ``final`` has the true final accuracy.
        kind: kind of coupling. The signed β_eff changes sign during training, and is 0/0 with one hidden layer and
            cross entropy.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over samples; ``outputs`` are the logits if the model returns an
            object with logits. The state of a loss that is an object is restored after every candidate.
        optimizer: function that makes the optimizer of a model, such as
            ``lambda model: torch.optim.Adam(model.parameters())``. A learning-rate schedule can be stepped by a hook
            on the optimizer, ``register_step_post_hook``.
        batch_size: batch size for data given as a pair.
        coupling_samples: number of samples, the first of ``train``, on which P is formed.
        seed: seed of the initial weights and of the batch order.
        batch_weight: weight of the loss of a batch, as for :class:`~linegraph.NeuralCoupling`.
        directory: folder for one file per candidate, written after every epoch. An interrupted ranking resumes from
            these files and ends with the numbers of an uninterrupted one. A file identifies data, loss, optimizer and
            network by their contents. It stores weights, and every state that training reads, if it is a number, a
            tensor or a random generator in an attribute, a closure or a hook. If training reads another state, an
            unfinished candidate is trained anew.
        progress: show a progress bar over the epochs of all candidates.

    Returns:
        A DataFrame with one row per candidate, best first: ``name``; one column per method, the predicted accuracy in
        [0, 1]; ``final``, the true final accuracy, with ``train_fully``; ``beta_eff`` after epoch number ``epochs``;
        ``error``. Candidates that failed come last, with the reason in ``error``; ``SystemExit`` counts as a failure
        too. If a method cannot predict, as "capacitance" when β_eff is 0/0 in every epoch, its column is nan and
        ``error`` has the reason. ``table.attrs["history"]`` is a DataFrame with all epochs of all candidates.

    Raises:
        DataError: if there are no candidates, ``epochs`` is less than 2, ``train_fully`` is less than ``epochs``,
            another number is not a positive integer, or a method or kind is unknown.
        ArgumentTypeError: if ``candidates`` is not a dict of constructors, ``optimizer`` is a class of optimizers, or
            ``executor`` or ``directory`` is neither None nor what its name says.
        LossError: if ``loss_fn`` is not a function.
        DataError: before any training, if ``train`` or ``valid`` cannot be read, is empty, or is not a classification
            with one label per sample; if a name is not a string, or cannot be the name of a file in ``directory``; if
            a file there is damaged, or belongs to another candidate or to other settings, data, loss or optimizer.
            Also if every candidate fails with a DataError, such as outputs that are not (N, classes): the first one.

    Warns:
        ResumeWarning: if a stored run cannot be resumed, and is trained anew.

    Cost: per candidate, ``epochs`` epochs of training, and after each a capacitance on ``coupling_samples`` samples.

    Source: C. Jiang et al., arXiv 2201.04194, for the ranking by capacitance.

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
    check_type("methods", methods, Iterable, "the name of a method, or a list of names")
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    if unknown := [method for method in methods if not isinstance(method, str) or method not in METHODS]:
        raise DataError(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    check_type("candidates", candidates, Mapping, "a dict of constructors by name, such as {'mlp': lambda: MLP()}")
    if not candidates or not methods:
        raise DataError("rank needs at least one candidate and one method")
    check_number_of("epochs", epochs, least=2)
    if train_fully is not None:
        check_number_of("train_fully", train_fully, least=epochs)
    check_seed(seed)
    check_executor(executor)
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
        directory=as_path("directory", directory).absolute() if directory else None,
        batch_weight=batch_weight,
    )
    check_names(candidates, plan.directory)
    _check_data(plan)
    if plan.directory:
        plan.directory.mkdir(parents=True, exist_ok=True)  # a place that cannot be written fails before any training
        remove_stale(plan.directory)
        check_directory(candidates, plan)
    outcomes = train_all(candidates, plan, executor, progress)
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
    """Compare the predictions of each method with the true final accuracies.

    Args:
        table: what :func:`rank` returns with ``train_fully``.
        methods: names of columns of the table.

    Returns:
        A DataFrame with one row per method and the columns ``method``, ``kendall_tau``, ``spearman_rho`` and
        ``mean_abs_error``, over the candidates that did not fail.

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
    """Refuse arguments with which every candidate would fail, before any is trained."""
    for name, make in candidates.items():
        if isinstance(make, nn.Module) or not callable(make):
            raise ArgumentTypeError(
                f"candidate {name!r} is a {type(make).__name__}, not a constructor; of a model that is there already, "
                "pass lambda: copy.deepcopy(model)"
            )
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        name = optimizer.__name__
        raise ArgumentTypeError(
            f"optimizer= takes the model; pass lambda model: torch.optim.{name}(model.parameters())"
        )
    check_loss(loss_fn)
    kinds.make(kind, probes=None, generator=None)


def _check_data(plan: Plan) -> None:
    """Refuse data on which no candidate can be trained and scored; restore the states of the data."""
    # Data in memory draw no random numbers, so they need not wait for other threads that do.
    at_hand = is_at_hand(plan.train) and is_at_hand(plan.valid)
    with nullcontext() if at_hand else preserved_randomness(), rewound(plan.train, plan.valid):
        _, targets = check_data("train", plan.train)
        check_training_labels("train", targets, plan.loss_fn)
        _, targets = check_data("valid", plan.valid)
        check_labels("valid", targets)


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
