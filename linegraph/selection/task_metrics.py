"""Metrics of held-out data in [0, 1], 1 is best. They accumulate over batches and do not average over them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from linegraph.coupling.model.losses import name_of
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.selection.tasks import Task, check_tensors, shown_tensor, task_of

__all__ = ["METRICS", "Accumulator", "Metric", "check_metric", "choose"]

METRICS: dict[str, frozenset[str]] = {
    "accuracy": frozenset({"classes", "binary", "labels"}),
    "balanced_accuracy": frozenset({"classes", "binary"}),
    "f1": frozenset({"classes", "binary", "labels"}),
    "mean_iou": frozenset({"classes", "binary"}),
    "average_precision": frozenset({"binary", "labels"}),
    "r2": frozenset({"values"}),
}
"""The metrics by name, with the kinds of :class:`~linegraph.selection.tasks.Task` for which they are defined."""

ROUNDING = 1e-6
"""By how much a metric of the user's in single precision may exceed 1."""

DEFAULTS = {"classes": "accuracy", "binary": "accuracy", "labels": "average_precision", "values": "r2"}
_IN_WORDS = {
    "classes": "class indices with scores of each class",
    "binary": "targets 0 and 1 with one output each",
    "labels": "several labels 0 and 1",
    "values": "numbers",
}


class Accumulator(Protocol):
    """A metric on its way through the batches; torchmetrics and torcheval have the same methods."""

    def update(self, outputs: Any, targets: Any, /) -> Any:
        """Add a batch."""

    def compute(self) -> Any:
        """The metric of all batches."""


@dataclass(frozen=True)
class Metric:
    """A metric chosen for a task.

    Attributes:
        name: for tables.
        begin: makes an accumulator without batches.
    """

    name: str
    begin: Callable[[], Accumulator]


def check_metric(metric: Any) -> None:
    """Check ``metric=`` of :func:`~linegraph.rank`: None, a name, a function or an object that accumulates.

    Raises:
        DataError: if it is another string.
        ArgumentTypeError: if it is anything else.
    """
    if isinstance(metric, str) and metric not in METRICS:
        raise DataError(f"unknown metric {metric!r}; there are {', '.join(METRICS)}, or pass a function")
    if isinstance(metric, type):
        raise ArgumentTypeError(f"metric is the class {metric.__name__}; pass an instance, {metric.__name__}()")
    if metric is not None and not isinstance(metric, str) and not callable(metric) and not _accumulates(metric):
        raise ArgumentTypeError(
            "metric must be None, the name of a metric, a function metric(outputs, targets), or an object with the "
            f"methods update(outputs, targets) and compute(), got an object of type {type(metric).__name__}"
        )


def choose(metric: Any, scores: Any, targets: Any, loss_fn: Any) -> Metric:
    """The metric for the first held-out outputs and targets.

    Args:
        metric: as of :func:`~linegraph.rank`, checked by :func:`check_metric`.
        scores: outputs of a model, logits where it returns an object.
        targets: their targets.
        loss_fn: the loss.

    Raises:
        DataError: if no metric fits, or not the one named; names shapes and dtypes, and says what to do.
    """
    if _accumulates(metric):
        return Metric(name_of(metric).rpartition(".")[2], partial(Foreign, metric))
    if callable(metric):
        check_tensors(scores, targets, "valid")
        return Metric(name_of(metric).rpartition(".")[2], partial(Together, metric))
    task = task_of(scores, targets, loss_fn, None if metric is None else METRICS[metric])
    name = DEFAULTS[task.kind] if metric is None else metric
    if task.kind not in METRICS[name]:
        defined = " or for ".join(_IN_WORDS[kind] for kind in sorted(METRICS[name]))
        fitting = ", ".join(repr(other) for other, kinds in METRICS.items() if task.kind in kinds)
        raise DataError(
            f"the metric {name!r} is for {defined}; the outputs {shown_tensor(scores)} and targets "
            f"{shown_tensor(targets)} with the loss {name_of(loss_fn)} are {_IN_WORDS[task.kind]}, with the metrics "
            f"{fitting}"
        )
    kinds: dict[str, Callable[[], Accumulator]] = {
        "average_precision": partial(AveragePrecision, task),
        "r2": partial(RSquared, task),
    }
    return Metric(name, kinds.get(name, partial(Counts, task, name)))


# classes --------------------------------------------------------------------------------------------------------------


class Counts:
    """Metrics of decisions, from three counts for each class: targets, decisions, and decisions that are right.

    With T targets, D decisions and R right ones of a class, of which there are N in all:

    - accuracy: Σ R / N; for labels the share of right labels, one minus the Hamming loss;
    - balanced accuracy: the mean recall R / T of the classes with targets;
    - F1: the mean of 2 R / (T + D) over the classes with T + D > 0; for binary tasks that of class 1, for labels that
      of each label, and 0 where T + D = 0;
    - mean IoU: the mean of R / (T + D - R), intersection over union, of the classes with T + D > 0.
    """

    def __init__(self, task: Task, name: str) -> None:
        self._task, self._name = task, name
        self._counts: Tensor | None = None
        self._total = 0
        self._has_nan = False

    def update(self, scores: Any, targets: Any) -> None:
        """Add a batch of outputs and targets."""
        self._task.check(scores, targets)
        counts, total, has_nan = (self._of_labels if self._task.kind == "labels" else self._of_classes)(scores, targets)
        self._counts = counts if self._counts is None else self._counts + counts
        self._total += total
        self._has_nan |= has_nan

    def _of_classes(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, int, bool]:
        if self._task.kind == "classes":
            largest, decided = scores.max(self._task.axis)  # NaN if one of the scores is
            targets = targets.reshape(decided.shape)
            kept = targets != self._task.ignored
            largest, decided, targets = largest[kept], decided[kept], targets[kept].long()
        else:
            largest = scores.flatten()
            decided, targets = (largest > self._task.threshold).long(), targets.flatten().long()
        counted = partial(torch.bincount, minlength=self._task.classes)
        counts = torch.stack([counted(targets), counted(decided), counted(targets[targets == decided])])
        return counts, len(targets), bool(largest.isnan().any())

    def _of_labels(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, int, bool]:
        decided, targets = scores > self._task.threshold, targets.bool()
        counts = torch.stack([targets.sum(0), decided.sum(0), (targets & decided).sum(0)])
        return counts, targets.numel(), bool(scores.isnan().any())

    def compute(self) -> float:
        """The metric; nan if an output is NaN.

        Raises:
            DataError: if the loss ignores all targets.
        """
        if self._counts is None or not self._total:
            raise DataError(f"valid has no target other than {self._task.ignored}, which the loss ignores")
        if self._has_nan:
            return math.nan
        targets, decided, right = self._counts.cpu().double()
        met = targets + decided
        if self._name == "accuracy":
            of_labels = self._task.kind == "labels"  # right are also the labels that are 0 and decided to be 0
            return float(1 - (met - 2 * right).sum() / self._total if of_labels else right.sum() / self._total)
        if self._name == "balanced_accuracy":
            return float((right / targets)[targets > 0].mean())
        if self._name == "mean_iou":
            return float((right / (met - right))[met > 0].mean())
        f1 = 2 * right / met.clamp(min=1)
        if self._task.kind == "binary":
            return float(f1[1])
        return float(f1.mean() if self._task.kind == "labels" else f1[met > 0].mean())


class AveragePrecision:
    """The average precision of the outputs of a label, Σ (Rₙ - Rₙ₋₁) Pₙ over thresholds; its mean over labels.

    Labels without a target 1 are left out. All outputs are kept, which take as much memory as the targets.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._batches: list[tuple[Tensor, Tensor]] = []

    def update(self, scores: Any, targets: Any) -> None:
        """Add a batch of outputs and targets."""
        self._task.check(scores, targets)
        columns = targets.shape[1] if self._task.kind == "labels" else 1
        self._batches.append((scores.detach().double().cpu().reshape(-1, columns), targets.cpu().reshape(-1, columns)))

    def compute(self) -> float:
        """The mean average precision; nan if an output is NaN.

        Raises:
            DataError: if no target is 1.
        """
        from sklearn.metrics import average_precision_score

        scores, targets = (torch.cat(part).numpy() for part in zip(*self._batches, strict=True))
        if np.isnan(scores).any():
            return math.nan
        present = (targets == 1).any(0)
        if not present.any():
            raise DataError("valid has no target 1, without which there is no average precision")
        # Thresholds only depend on the order, and scikit-learn takes no infinite scores.
        order = [np.unique(scores[:, k], return_inverse=True)[1] for k in range(scores.shape[1])]
        each = [average_precision_score(targets[:, k] == 1, order[k]) for k in np.flatnonzero(present)]
        return float(np.mean(each))


# numbers --------------------------------------------------------------------------------------------------------------


class RSquared:
    """R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)² of each output, its mean over outputs, and 0 if that is negative.

    An output whose targets are all equal has R² = 1 if they are met exactly, and else 0, as in scikit-learn. Sums of
    squares are those of deviations, merged over batches in double precision (Chan, Golub and LeVeque, 1983).
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0
        self._origin = self._mean = self._total = self._residual = torch.zeros(())

    def update(self, scores: Any, targets: Any) -> None:
        """Add a batch of outputs and targets."""
        self._task.check(scores, targets)
        true = targets.detach().cpu().double().reshape(len(targets), -1)
        found = scores.detach().cpu().double().reshape(true.shape)
        if not self._count:
            self._origin = true[0]
            self._mean = self._total = self._residual = torch.zeros_like(true[0])
        if true.shape[1] != len(self._origin):
            raise DataError(
                f"valid has targets {tuple(targets.shape)} in a batch, of other sizes than in another; R² is a mean "
                "over outputs, whose number must be the same for all samples"
            )
        self._residual = self._residual + (true - found).square().sum(0)
        deviation = true - self._origin  # exactly 0 if all targets are equal
        mean, before, count = deviation.mean(0), self._count, self._count + len(true)
        between = (mean - self._mean).square() * (before * len(true) / count)
        self._total = self._total + (deviation - mean).square().sum(0) + between
        self._mean = self._mean + (mean - self._mean) * (len(true) / count)
        self._count = count

    def compute(self) -> float:
        """R², or 0 if it is negative; nan if an output is NaN."""
        constant = self._total == 0
        share = self._residual / torch.where(constant, 1.0, self._total)
        each = torch.where(constant, (self._residual == 0).double(), 1 - share)
        each = torch.where(self._residual.isnan(), math.nan, each)
        return float(each.mean().clamp(min=0))


# the user's -----------------------------------------------------------------------------------------------------------


class Together:
    """A function of all held-out outputs and targets, which are kept on the CPU."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        self._function = function
        self._batches: list[tuple[Tensor, Tensor]] = []

    def update(self, scores: Any, targets: Any) -> None:
        """Add a batch of outputs and targets."""
        check_tensors(scores, targets, "valid")
        if self._batches and any(
            a.shape[1:] != b.shape[1:] for a, b in zip(self._batches[0], (scores, targets), strict=True)
        ):
            raise DataError(
                f"the outputs {tuple(scores.shape)} or targets {tuple(targets.shape)} of a batch of valid have another "
                f"shape than before, and metric={name_of(self._function)} is a function of all of them together; pad "
                "them to one length, or pass an object with the methods update(outputs, targets) and compute()"
            )
        self._batches.append((scores.detach().cpu(), targets.detach().cpu()))

    def compute(self) -> float:
        """The metric of all batches, joined along the first dimension."""
        outputs, targets = (torch.cat(part) for part in zip(*self._batches, strict=True))
        return _checked(self._function(outputs, targets), self._function)


class Foreign:
    """A copy of an object of the user's that accumulates batches, such as those of torchmetrics."""

    def __init__(self, metric: Any) -> None:
        self._given, self._metric = metric, copy.deepcopy(metric)
        if callable(getattr(metric, "reset", None)):
            self._metric.reset()

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch of outputs, whatever the model returns, and targets."""
        if isinstance(self._metric, nn.Module) and isinstance(outputs, Tensor):
            self._metric = self._metric.to(outputs.device)
        self._metric.update(outputs, targets)

    def compute(self) -> float:
        """The metric of all batches."""
        return _checked(self._metric.compute(), self._given)


def _accumulates(metric: Any) -> bool:
    return all(callable(getattr(metric, name, None)) for name in ("update", "compute"))


def _checked(value: Any, metric: Any) -> float:
    """The value of the user's metric as a float in [0, 1], or nan."""
    value = value.item() if isinstance(value, (Tensor, np.ndarray, np.generic)) and np.prod(value.shape) == 1 else value
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if number is None or not (-ROUNDING <= number <= 1 + ROUNDING or math.isnan(number)):
        given = type(value).__name__ if number is None else f"{number:g}"
        raise DataError(
            f"metric={name_of(metric)} gives {given}; a metric is one number from 0 to 1, of which 1 is best: return "
            "for instance max(0, r2), 1 - error, or 1 / (1 + error)"
        )
    return number if math.isnan(number) else min(max(number, 0.0), 1.0)
