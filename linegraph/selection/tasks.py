"""Tasks: how the outputs of a model are compared with targets. Shapes tell, and the loss where shapes do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.model.losses import ignored_index, name_of, torchs_function
from linegraph.errors import DataError

__all__ = ["Task", "class_axes", "has_one_output_each", "is_zero_or_one", "shown_tensor", "task_of"]

KNOWN = (
    "rank knows class indices (N, ...) with scores (N, classes, ...) or (N, ..., classes); targets 0 and 1 with one "
    "output each; and numbers with one output each. For others pass metric=, a function of outputs and targets"
)
LOGITS, PROBABILITIES, VALUES = "logits", "probabilities", "values"
_OUTPUTS_OF: dict[Callable[..., Any], str] = {
    F.binary_cross_entropy_with_logits: LOGITS,
    F.multilabel_soft_margin_loss: LOGITS,
    F.binary_cross_entropy: PROBABILITIES,
    F.mse_loss: VALUES,
    F.l1_loss: VALUES,
    F.smooth_l1_loss: VALUES,
    F.huber_loss: VALUES,
}
"""What the outputs are of which losses of torch's own compare one with each target."""


@dataclass(frozen=True)
class Task:
    """How outputs and targets are compared.

    Attributes:
        kind: "classes": scores of classes and class indices. "binary": one output for each target 0 or 1. "labels": the
            same for several labels, outputs and targets (N, labels). "values": one output for each number.
        axis: the dimension of the classes in the outputs.
        classes: their number.
        threshold: the output above which a label is 1: 0 for logits, 1/2 for probabilities.
        ignored: the class index that the loss ignores; its targets do not count.
    """

    kind: str
    axis: int = 1
    classes: int = 2
    threshold: float = 0.0
    ignored: int = -100

    def check(self, scores: Any, targets: Any, name: str = "valid") -> None:
        """Refuse outputs and targets of a batch that do not belong to this task.

        Raises:
            DataError: names shapes, dtypes or the value refused, and says what is needed.
        """
        check_tensors(scores, targets, name)
        if self.kind == "classes":
            if targets.is_floating_point() or self.axis not in class_axes(scores, targets):
                raise no_metric(scores, targets, name)
            if scores.shape[self.axis] != self.classes:
                raise DataError(
                    f"the model returns scores of {scores.shape[self.axis]} classes for a batch of {name}, and of "
                    f"{self.classes} for another"
                )
            check_classes(self.classes, targets, self.ignored, name)
        elif not has_one_output_each(scores, targets):
            raise no_metric(scores, targets, name)
        elif self.kind != "values" and not is_zero_or_one(targets):
            raise DataError(
                f"{name} has targets {shown_tensor(targets)} other than 0 and 1, but the outputs "
                f"{shown_tensor(scores)} are one for each of two classes; pass targets 0 and 1, scores of each class "
                "(N, classes) for more classes, or metric=, a function of outputs and targets"
            )
        elif self.kind == "values" and not bool(targets.isfinite().all()):
            raise DataError(f"{name} has targets {shown_tensor(targets)} that are NaN or infinite; leave them out")


def task_of(scores: Any, targets: Any, loss_fn: Any, wanted: frozenset[str] | None = None, name: str = "valid") -> Task:
    """The task that the first outputs and targets belong to.

    Args:
        scores: the first outputs of a model.
        targets: their targets.
        loss_fn: the loss; decides where shapes do not.
        wanted: the kinds for which a metric that the user names is defined; None if no metric is named.
        name: of the data, for messages.

    Raises:
        DataError: if there is no such task, or more than one; names shapes and dtypes, and says what to do.
    """
    check_tensors(scores, targets, name)
    axes = class_axes(scores, targets)
    if axes and not targets.is_floating_point():
        task = _of_classes(axes, scores, targets, loss_fn, name)
    elif has_one_output_each(scores, targets):
        task = _of_one_output_each(scores, targets, loss_fn, wanted, name)
    else:
        raise no_metric(scores, targets, name)
    task.check(scores, targets, name)
    return task


def _of_classes(axes: list[int], scores: Tensor, targets: Tensor, loss_fn: Any, name: str) -> Task:
    if len(axes) > 1 and torchs_function(loss_fn) in (F.cross_entropy, F.nll_loss):
        axes = [1]
    if len(axes) > 1:
        raise DataError(
            f"on {name} the model returns {shown_tensor(scores)} for targets {shown_tensor(targets)}, and the classes "
            f"may be dimension {axes[0]} or {axes[1]}; pass metric=, a function of outputs and targets, or rank on "
            "sequences of another length"
        )
    return Task("classes", axes[0], scores.shape[axes[0]], ignored=ignored_index(loss_fn))


def _of_one_output_each(
    scores: Tensor, targets: Tensor, loss_fn: Any, wanted: frozenset[str] | None, name: str
) -> Task:
    outputs = _outputs_of(loss_fn, scores, targets)
    of_labels = "labels" if targets.ndim == 2 and targets.shape[1] > 1 else "binary"
    if wanted is not None and outputs is None:  # the user's metric tells
        return Task("values" if wanted == {"values"} else of_labels)
    if outputs == VALUES:
        asked_for_labels = wanted is not None and "values" not in wanted and is_zero_or_one(targets)
        return Task(of_labels, threshold=0.5) if asked_for_labels else Task("values")
    if outputs is None:
        raise DataError(
            f"on {name} the model returns {shown_tensor(scores)} for targets {shown_tensor(targets)}, one output each, "
            f"and the loss {name_of(loss_fn)} does not tell what they are; pass metric='r2' for a regression, "
            "metric='accuracy' for logits of labels 0 and 1, or a function of outputs and targets. Of classes that "
            "exclude each other pass their indices, targets.argmax(1)"
        )
    return Task(of_labels, threshold=0.0 if outputs == LOGITS else 0.5)


# what the loss takes the outputs for ----------------------------------------------------------------------------------


def _outputs_of(loss_fn: Any, scores: Tensor, targets: Tensor) -> str | None:
    """Whether the loss takes outputs for logits, probabilities or values of the targets; None if that is not certain.

    It is known for losses of torch's own. Another loss is evaluated with outputs beside the targets: a regression
    pulls an output back to its target, from above and from below; a loss of logits pulls an output of 2 up if the
    target is 1, and an output of -1 down if it is 0; one of probabilities is not defined there, only between 0 and 1.
    """
    if (function := torchs_function(loss_fn)) is not None:
        return _OUTPUTS_OF.get(function)
    # On the CPU, since a loss of probabilities stops a CUDA device for good if an output is outside [0, 1].
    scores, targets = scores.detach().cpu(), targets.detach().cpu()
    of_scores = torch.float32 if scores.dtype in (torch.float16, torch.bfloat16) else scores.dtype
    right = targets.to(of_scores).reshape(scores.shape)
    above, below = (_pull(loss_fn, right + step, targets) for step in (1, -1))
    if above is not None and below is not None and bool((above < 0).all()) and bool((below > 0).all()):
        return VALUES
    if not is_zero_or_one(targets):
        return None
    away = 2 * right - 1
    beyond, within = (_pull(loss_fn, point, targets) for point in (right + away, 0.25 + 0.5 * right))
    pull, found = (within, PROBABILITIES) if beyond is None else (beyond, LOGITS)
    if pull is None or not bool((pull * away > 0).all()) or _exclude_each_other(pull):
        return None
    return found


def _pull(loss_fn: Any, outputs: Tensor, targets: Tensor) -> Tensor | None:
    """The negative gradient of the loss by the outputs; None if the loss cannot be computed there, or is not finite."""
    outputs = outputs.detach().requires_grad_()
    try:
        with torch.enable_grad():
            loss = loss_fn(outputs, targets)
            (gradient,) = torch.autograd.grad(loss, outputs)
    except Exception:
        return None
    return -gradient if bool(loss.isfinite().all()) and bool(gradient.isfinite().all()) else None


def _exclude_each_other(pull: Tensor) -> bool:
    """Whether outputs of a sample are scores of classes that exclude each other: a softmax keeps the sum of pulls 0."""
    if pull.ndim < 2 or pull.shape[1] == 1:
        return False
    return bool((pull.sum(1).abs() <= 1e-3 * pull.abs().sum(1)).all())


# shapes and values ----------------------------------------------------------------------------------------------------


def class_axes(scores: Tensor, targets: Tensor) -> list[int]:
    """The dimensions of the outputs that may be two classes or more: the others are those of the targets."""
    shape = tuple(scores.shape)
    behind_the_first = {1, scores.ndim - 1} & set(range(1, scores.ndim))
    return [
        axis
        for axis in sorted(behind_the_first)
        if shape[axis] > 1 and _are_same(shape[:axis] + shape[axis + 1 :], targets.shape)
    ]


def has_one_output_each(scores: Tensor, targets: Tensor) -> bool:
    """Whether outputs and targets have the same shape, up to dimensions of length 1 as in (N, 1) and (N,)."""
    return _are_same(scores.shape, targets.shape)


def _are_same(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes agree up to dimensions of length 1 behind the first."""
    first, second = ([*shape[:1], *(size for size in shape[1:] if size != 1)] for shape in (one, other))
    return bool(first) and first == second


def is_zero_or_one(targets: Tensor) -> bool:
    """Whether all targets are 0 or 1."""
    return bool(((targets == 0) | (targets == 1)).all())


def check_tensors(scores: Any, targets: Any, name: str) -> None:
    """Refuse outputs and targets that are not tensors of real numbers.

    Raises:
        DataError: names the type.
    """
    check_targets(targets, name)
    if not isinstance(scores, Tensor):
        raise DataError(
            f"on {name} the model returns a {type(scores).__name__}; wrap it in a module that returns one tensor, or "
            "an object with logits"
        )
    if scores.is_complex():
        raise no_metric(scores, targets, name)


def check_targets(targets: Any, name: str) -> None:
    """Refuse targets that are not a tensor of real numbers, one item for each sample.

    Raises:
        DataError: names the type.
    """
    if not isinstance(targets, Tensor):
        advice = "torch.as_tensor makes a tensor of an array or list"
        raise DataError(
            f"{name} has targets of type {type(targets).__name__}; metrics take tensors, and {advice}; for targets of "
            "another form pass metric=, an object with the methods update(outputs, targets) and compute()"
        )
    if targets.is_complex() or targets.ndim == 0:
        raise DataError(f"{name} has targets {shown_tensor(targets)}; {KNOWN}")


def check_classes(classes: int, targets: Tensor, ignored: int, name: str) -> None:
    """Refuse indices that are neither those of classes nor ignored.

    Raises:
        DataError: names the index.
    """
    kept = targets[targets != ignored]
    for index in (int(kept.min()), int(kept.max())) if kept.numel() else ():
        if not 0 <= index < classes:
            raise DataError(
                f"{name} has the target {index}, the model {classes} classes; targets are class indices from 0 to "
                f"classes - 1, or {ignored}, which the loss ignores; if {index} marks targets to leave out, pass a "
                f"loss with ignore_index={index}"
            )


def no_metric(scores: Tensor, targets: Tensor, name: str) -> DataError:
    """The error for outputs and targets of which no metric is known."""
    of_classes = targets.is_floating_point() and class_axes(scores, targets)
    advice = "; float targets become class indices by targets.long()" if of_classes else ""
    return DataError(
        f"on {name} the model returns {shown_tensor(scores)} for targets {shown_tensor(targets)}{advice}; {KNOWN}"
    )


def shown_tensor(tensor: Tensor) -> str:
    """Shape and dtype, for messages."""
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
