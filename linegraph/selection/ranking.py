"""Candidate networks ranked by the final accuracy predicted from their first epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.arguments import as_path, check_executor, check_number_of, check_seed, check_type
from linegraph.coupling import kinds
from linegraph.coupling.model.data import is_at_hand
from linegraph.coupling.model.losses import check_loss, ignored_index
from linegraph.coupling.model.weighing import BatchWeight, check_batch_weight
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.files import remove_stale
from linegraph.progress import is_watched
from linegraph.randomness import preserved_randomness
from linegraph.selection.agreement import (
    bootstrap_interval,
    kendall,
    pairwise_accuracy,
    pearson,
    regret,
    spearman,
    weighted_tau,
)
from linegraph.selection.constructors import Candidate, check_names, constructors, named, number_of_classes
from linegraph.selection.halving import check_halving, rungs, survivors
from linegraph.selection.methods import METHODS, Method, find_method
from linegraph.selection.plan import Plan, sgd
from linegraph.selection.scoring import check_data
from linegraph.selection.states import rewound
from linegraph.selection.tables import of_one_metric, ranked
from linegraph.selection.task_metrics import check_metric
from linegraph.selection.training import Failure, check_directory
from linegraph.selection.trials import Outcome, Trials

__all__ = ["rank", "rank_correlations"]

MEASURES: dict[str, Callable[[Any, Any], float]] = {
    "spearman_rho": spearman,
    "kendall_tau": kendall,
    "weighted_tau": weighted_tau,
    "pearson_r": pearson,
    "regret": regret,
    "pairwise_accuracy": pairwise_accuracy,
}


def rank(
    candidates: Mapping[str, Candidate] | Sequence[str | Path],
    train: Any,
    valid: Any,
    *,
    epochs: int = 5,
    methods: str | Iterable[str] = ("combined", "last_seen", "capacitance"),
    executor: Executor | None = None,
    train_fully: int | None = None,
    halving: float | None = None,
    kind: str = "magnitude",
    other_tasks: pd.DataFrame | None = None,
    loss_fn: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
    metric: Any = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    batch_size: int = 64,
    coupling_samples: int = 512,
    seed: int = 0,
    batch_weight: BatchWeight | None = None,
    directory: str | Path | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Train each candidate for a few epochs and rank them by predicted final accuracy.

    Args:
        candidates: constructors by name, or pre-trained models, see below. Each constructor is called with random
            generators seeded by ``seed``, and its model is moved to the device of the data. For an existing model pass
            ``lambda: copy.deepcopy(model)``. A model returns a tensor, or an object with ``logits``, as models of
            Hugging Face do. Frozen weights are not trained; they are part of the paths between the others.
        train: a DataLoader or list of (inputs, targets) pairs, or one pair, which is cut into shuffled batches of
            ``batch_size``. Batches that are mappings, as those of Hugging Face, become pairs by
            ``[(batch, batch.pop("labels")) for batch in loader]``.
        valid: data of the same form, on which the metric and the loss are computed after every epoch. Targets of
            ``train`` may have another form that the loss takes, such as probabilities (N, classes).
        epochs: number of epochs from which the final accuracy is predicted. "capacitance" needs at least 2.
        methods: names out of :func:`~linegraph.selection_methods`, or one name; the first one orders the table, in its
            direction. "combined", the default, is learnt from recorded runs of other networks on other tasks, and
            orders networks that it has not seen better than any other method, see the README. Scores of a network are
            those of the candidate as constructed, on the ``coupling_samples``; they change no other number of the
            table.
        executor: runs the candidates: any of ``concurrent.futures``, or ``client.get_executor()`` of Dask. A process
            pool trains them in parallel, and needs constructors that can be pickled. In a thread pool they train one
            after the other, since all threads share torch's random generator. A ranking within a candidate of another
            ranking ignores its executor. If a candidate ends its process, a process pool is broken, and the candidates
            that it has not finished are trained in a process each, as many at a time.
        train_fully: train on to this total number of epochs, so that the column ``final`` has the true final accuracy.
            "combined" predicts the accuracy after 15 to 18 epochs, as long as the runs that it has learnt from: with
            more epochs than these, slow starters end higher than it predicts.
        halving: successive halving by this factor f above 1, such as 2: after 3, 3f, 3f², ... epochs (rounded up), as
            long as these are at most ``epochs``, only the best n/f (rounded up) of the n candidates that have not
            failed are trained further, in the order of the first method. If the method predicts for none of them,
            none is dropped. In between, runs are in ``directory``; without one, in a temporary folder, where workers
            on other machines do not find them and train from the start.
        kind: kind of coupling. The signed β_eff changes sign during training, and is 0/0 with one hidden layer and
            cross entropy.
        other_tasks: for "static_ranking", the final accuracies of candidates (rows, by name) on other tasks (columns).
        loss_fn: ``loss_fn(outputs, targets)``, a mean over samples; ``outputs`` are the logits if the model returns an
            object with logits. The state of a loss that is an object is restored after every candidate.
        metric: what is called accuracy in the history and predicted: a number from 0 to 1 of which 1 is best. None: see
            the table of tasks below. A name out of that table; or a function ``metric(outputs, targets)`` of all
            outputs and targets of ``valid``, joined along the first dimension on the CPU; or an object that accumulates
            them in bounded memory with the methods ``update(outputs, targets)`` of a batch and ``compute()``, as those
            of torchmetrics have, of which every epoch takes a copy.
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
        progress: show a progress bar over the epochs of all candidates. None: in notebooks, and if stderr is a terminal
            and the environment variable ``CI`` is not set.

    **Pre-trained models** are given as

    - ``"hf:google/vit-base-patch16-224"``, a model of transformers, or ``"timm:resnet18"``, one of timm; these packages
      download it if they have not done so before;
    - the path of a folder that ``model.save_pretrained`` of transformers has written, with its ``config.json`` and
      weights in ``.safetensors``;
    - ``(constructor, path)``, where the path is a file of the weights of the constructed model, ``.safetensors`` or
      what ``torch.save(model.state_dict(), path)`` writes. Nothing but tensors is unpickled.

    Each becomes a :class:`~linegraph.CapacitanceProbe` with a frozen backbone and as many classes as the targets of
    ``train`` have; to fine-tune it, pass ``lambda: lg.CapacitanceProbe(load(), None, 10, frozen=False)``. A list of
    such strings and paths is taken too, whose names are those of models and folders.

    **Tasks** are told by the first outputs and targets of ``valid`` and, where shapes do not tell, by the loss. If it
    is not one of torch's own, it is evaluated with outputs beside the targets to see which outputs it prefers.

    ============================  ============================================  ===================================
    targets                       outputs                                       metrics, the default first
    ============================  ============================================  ===================================
    class indices (N, ...)        scores (N, classes, ...), or those of tokens  accuracy, balanced_accuracy, f1,
                                  (N, T, classes)                               mean_iou
    0 and 1, (N,) or (N, 1, ...)  one logit each, or a probability if the loss  accuracy, balanced_accuracy, f1,
                                  takes those                                   mean_iou, average_precision
    0 and 1, (N, labels)          the same                                      average_precision, accuracy, f1
    numbers (N,) or (N, ...)      one output each                               r2
    ============================  ============================================  ===================================

    These are scikit-learn's, of all targets of ``valid`` together: samples, pixels or tokens that the loss does not
    ignore (its ``ignore_index``, -100 if it has none). The decision is the largest score, or a logit above 0, or a
    probability above 1/2. Balanced accuracy is the mean recall of classes, ``mean_iou`` their mean Jaccard index, and
    ``f1`` a mean over classes or labels, or that of class 1 if there is one output. For several labels the default is
    the mean average precision over labels that occur: the accuracy, the share of right labels, is high for a model that
    finds none if most labels are 0. ``r2`` is R², averaged over outputs, and 0 if it is negative. The metric is nan if
    an output is NaN.

    Returns:
        A DataFrame with one row per candidate, best first: ``name``; one column per method, a score or the predicted
        accuracy in [0, 1], followed by ``<method>_std`` if the method estimates a standard deviation; ``final``, the
        true final accuracy, with ``train_fully``; ``beta_eff`` after the last of these epochs; ``epochs``, the number
        of epochs from which its values are, less than the argument for candidates that ``halving`` dropped, which come
        after the others, and 0 for those that failed; ``error``. Candidates that failed come last, with the reason in
        ``error``; ``SystemExit`` counts as a failure too. If a method has no value, as "capacitance" when β_eff is 0/0
        in every epoch, its column is nan and ``error`` has the reason. ``table.attrs["history"]`` is a DataFrame with
        all epochs of all candidates: ``loss`` is the mean loss of training, ``accuracy`` the metric and ``valid_loss``
        the mean loss on ``valid`` (nan if a loss that is not torch's own does not take its targets).
        ``table.attrs["metric"]`` names the metric. ``table.attrs["methods"]`` is a DataFrame with a row per method:
        ``seconds``, the mean time of its evaluation for a candidate, without training, and ``training_steps``, what it
        costs in steps on a batch: the training and the records of P that it reads, and its own passes.

    Raises:
        DataError: if there are no candidates, two in a list have one name, or a file, folder or package of one is
            missing; if ``train_fully`` is less than ``epochs``, ``halving`` is not above 1 or there are too few
            epochs for it to drop a candidate, another number is not a positive integer, or a method or kind is unknown,
            or a method reads ``other_tasks`` and there are none.
        ArgumentTypeError: if ``candidates`` is neither a dict of what a candidate may be nor a list of models that have
            names, ``optimizer`` is a class of optimizers, or ``executor`` or ``directory`` is neither None nor what its
            name says.
        LossError: if ``loss_fn`` is not a function.
        DataError: before any training, if ``train`` or ``valid`` cannot be read or is empty; if a name is not a string,
            or cannot be the name of a file in ``directory``; if a file there is damaged, or belongs to another
            candidate or to other settings, data, loss or optimizer. Also if every candidate fails with a DataError: the
            first one. Before a candidate is trained, such an error says that no metric fits its outputs, or that a loss
            of torch's own does not, and which one to pass.

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
    chosen = _chosen(methods, other_tasks)
    given = named(candidates)
    check_number_of("epochs", epochs)
    if train_fully is not None:
        check_number_of("train_fully", train_fully, least=epochs)
    factor = check_halving(halving, int(epochs), int(train_fully or epochs))
    check_seed(seed)
    check_executor(executor)
    check_type("progress", progress, (bool, type(None)), "True, False or None")
    check_number_of("batch_size", batch_size)
    check_number_of("coupling_samples", coupling_samples)
    _check_arguments(loss_fn, optimizer, kind)
    check_batch_weight(batch_weight, loss_fn)
    check_metric(metric)
    with _folder(directory, factor) as folder:
        check_names(given, folder)
        plan = Plan(
            train=train,
            valid=valid,
            epochs=int(epochs),
            kind=_kinds(kind, chosen),
            loss_fn=loss_fn,
            optimizer=optimizer,
            batch_size=int(batch_size),
            coupling_samples=int(coupling_samples),
            seed=int(seed),
            directory=folder,
            batch_weight=batch_weight,
            metric=metric,
            initial_methods=tuple(method for method in chosen if method.is_initial),
        )
        _check_data(plan)
        made = constructors(given, lambda: _classes(plan))
        if folder:
            folder.mkdir(parents=True, exist_ok=True)  # a place that cannot be written fails before any training
            remove_stale(folder)
            check_directory(given, plan)
        trials = Trials(made, plan, executor, is_watched() if progress is None else progress)
        outcomes: dict[str, Outcome] = {}
        waiting, reached = list(given), 0
        for rung in rungs(plan.epochs, int(train_fully or epochs), factor):
            if not waiting:  # all have failed
                break
            outcomes = of_one_metric(outcomes | trials.train(waiting, rung, since=reached))
            table = ranked(outcomes, plan, chosen, train_fully, other_tasks)
            waiting, reached = survivors(table[table["epochs"] == rung], chosen[0].name, factor), rung
    failures = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)}
    if len(failures) == len(outcomes) and all(failure.of_data for failure in failures.values()):
        name, failure = next(iter(failures.items()))
        raise DataError(f"no candidate could be trained; {name}: {failure.error.removeprefix('DataError: ')}")
    return table


def rank_correlations(
    table: pd.DataFrame, methods: Iterable[str], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Compare the order of each method with that of the true final accuracies.

    Values of methods of which lower ones are better are negated first, so that a positive correlation means a right
    order, and a negative one a wrong order.

    Args:
        table: what :func:`rank` returns with ``train_fully``.
        methods: names of columns of the table.
        resamples: number of bootstrap resamples of candidates for the intervals.
        level: the probability that an interval covers.
        seed: seed of the resampling.

    Returns:
        A DataFrame with one row per method, over the candidates that have both values: ``method``; ``candidates``,
        their number; ``spearman_rho``, ``kendall_tau``, ``weighted_tau``, ``pearson_r``, ``regret`` and
        ``pairwise_accuracy``, see :mod:`linegraph.selection`, each followed by the ends of its interval, with ``_low``
        and ``_high`` after its name; ``mean_abs_error`` of the predicted accuracies, nan for scores.

    Raises:
        DataError: if the table has no column ``final`` or not those of the methods, or a number is out of its range.
        ArgumentTypeError: if the table is not a DataFrame.

    Cost: ``resamples`` evaluations of every measure; some tenths of a second per method.

    Source: see each measure.

    Example:
        >>> import pandas as pd
        >>> from linegraph.selection import rank_correlations
        >>> table = pd.DataFrame({"last_seen": [0.5, 0.7, 0.6], "final": [0.6, 0.9, 0.8]})
        >>> found = rank_correlations(table, ["last_seen"], resamples=100)
        >>> round(float(found["spearman_rho"][0]), 6)
        1.0
    """
    check_type("table", table, pd.DataFrame, "a pandas DataFrame, such as rank(...) returns")
    if "final" not in table:
        raise DataError("rank correlations need the true final accuracies; rank with train_fully=")
    check_type("methods", methods, Iterable, "the name of a method, or a list of names")
    rows = []
    for method in [methods] if isinstance(methods, str) else methods:
        if not isinstance(method, str) or method not in table:
            raise DataError(f"the table has no column {method!r}; rank with it in methods=")
        known = METHODS.get(method)
        both = table[[method, "final"]].dropna().astype(float)
        values, finals = both[method].to_numpy(), both["final"].to_numpy()
        scores = values if known is None or known.higher_is_better else -values
        row: dict[str, Any] = {"method": method, "candidates": len(both)}
        for name, measure in MEASURES.items():
            interval = bootstrap_interval(measure, scores, finals, level=level, resamples=resamples, seed=seed)
            row |= {name: measure(scores, finals)} | dict(zip((f"{name}_low", f"{name}_high"), interval, strict=True))
        predicts = known is None or known.predicts
        row["mean_abs_error"] = float((both[method] - both["final"]).abs().mean()) if predicts else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _check_arguments(loss_fn: Any, optimizer: Any, kind: str) -> None:
    """Refuse arguments with which every candidate would fail, before any is trained."""
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        name = optimizer.__name__
        raise ArgumentTypeError(
            f"optimizer= takes the model; pass lambda model: torch.optim.{name}(model.parameters())"
        )
    check_loss(loss_fn)
    kinds.make(kind, probes=None, generator=None)


def _check_data(plan: Plan) -> None:
    """Refuse data that cannot be read; restore their states."""
    # Data in memory draw no random numbers, so they need not wait for other threads that do.
    at_hand = is_at_hand(plan.train) and is_at_hand(plan.valid)
    with nullcontext() if at_hand else preserved_randomness(), rewound(plan.train, plan.valid):
        check_data("train", plan.train)
        check_data("valid", plan.valid)


def _classes(plan: Plan) -> int:
    """The number of classes of the training data, whose states are restored."""
    with preserved_randomness(), rewound(plan.train):
        return number_of_classes(plan.train, ignored_index(plan.loss_fn))


@contextmanager
def _folder(directory: Any, halving: float | None) -> Iterator[Path | None]:
    """The folder of the runs: that of the user, or a temporary one if runs wait to be trained further."""
    if directory:
        # A candidate that changes the working directory does not move the files.
        yield as_path("directory", directory).absolute()
    elif halving is None:
        yield None
    else:
        with TemporaryDirectory(prefix="linegraph-") as temporary:
            yield Path(temporary)


def _chosen(methods: Any, other_tasks: Any) -> tuple[Method, ...]:
    """The methods of some names."""
    check_type("methods", methods, Iterable, "the name of a method, or a list of names")
    chosen = tuple(dict.fromkeys(map(find_method, [methods] if isinstance(methods, str) else methods)))
    if not chosen:
        raise DataError("rank needs at least one method")
    check_type("other_tasks", other_tasks, (pd.DataFrame, type(None)), "a DataFrame of final accuracies, or None")
    if other_tasks is None and (reading := [m.name for m in chosen if m.arguments == "name, results"]):
        raise DataError(
            f"the method {reading[0]!r} reads results on other tasks; pass them as other_tasks=, a DataFrame with the "
            "names of the candidates as its index and a column per task"
        )
    return chosen


def _kinds(kind: str, chosen: tuple[Method, ...]) -> str | list[str]:
    """The kinds of coupling that are recorded: the signed one too if a method reads it."""
    signed = kind != "signed" and any(method.name == "signed_capacitance" for method in chosen)
    return [kind, "signed"] if signed else kind
