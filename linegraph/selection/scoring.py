"""Held-out data scored by a metric and the loss, and checks, before any training, that both are defined."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._pytree import tree_map

from linegraph.coupling.model.data import batches, call_model, is_pair
from linegraph.coupling.model.losses import (
    divides_elementwise,
    ignored_index,
    name_of,
    reduces_by_sum,
    torchs_function,
)
from linegraph.coupling.model.preserve import preserved
from linegraph.coupling.model.weighing import BatchWeight, Weighing
from linegraph.errors import DataError
from linegraph.selection.task_metrics import Metric, choose
from linegraph.selection.tasks import (
    check_classes,
    class_axes,
    has_one_output_each,
    is_zero_or_one,
    shown_tensor,
)

__all__ = ["HeldOutLoss", "OfLogits", "check_data", "check_loss_takes", "check_outputs", "copied", "evaluate", "logits"]

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)

_OF_CLASSES = (F.cross_entropy, F.nll_loss, F.multi_margin_loss)


def logits(outputs: Any) -> Any:
    """The scores in the output of a model: its attribute ``logits`` if it has one, as in Hugging Face, else itself."""
    return getattr(outputs, "logits", outputs)


class OfLogits:
    """A loss applied to the :func:`logits` of outputs, with the name and the reduction of the given loss."""

    def __init__(self, loss_fn: Callable[[Any, Any], Tensor]) -> None:
        self._loss_fn = loss_fn
        self.__qualname__ = name_of(loss_fn)
        self.reduction = "sum" if reduces_by_sum(loss_fn) else "mean"

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of the scores in the outputs."""
        return self._loss_fn(logits(outputs), targets)


# scoring --------------------------------------------------------------------------------------------------------------


class HeldOutLoss:
    """The mean loss over held-out batches, weighted as the batches of P and of training are.

    The loss is given the :func:`logits` of the outputs, or the outputs themselves if it takes only these. It is nan if
    it cannot be computed from the first batch, whose targets may have another form than those for training, such as
    indices of classes instead of a teacher's scores.

    Args:
        loss_fn: ``loss_fn(outputs, targets)``.
        batch_weight: the weight of a batch as the user states it.
    """

    def __init__(self, loss_fn: Callable[[Any, Any], Tensor], batch_weight: BatchWeight | None = None) -> None:
        self._losses: list[Callable[[Any, Any], Tensor]] = [OfLogits(loss_fn), loss_fn]
        self._weighing = Weighing(loss_fn, batch_weight)
        self._sum = self._weights = 0.0
        self._is_defined = False

    def update(self, inputs: Any, outputs: Any, targets: Any) -> None:
        """Add a batch."""
        loss = self._loss(outputs, targets)
        if loss is None:
            return
        if weight := self._weighing.weight(inputs, targets):  # 0 if all targets are ignored and the loss is 0/0
            self._sum, self._weights = self._sum + loss * weight, self._weights + weight

    def _loss(self, outputs: Any, targets: Any) -> float | None:
        """The loss of a batch in the first way that the first batch allows; None if there is none."""
        while self._losses:
            try:
                loss = float(self._losses[0](outputs, targets))
            except OUT_OF_MEMORY:
                raise
            except Exception:  # whatever a loss of the user's raises for targets of another form
                if self._is_defined:
                    raise
                del self._losses[0]
            else:
                self._is_defined = True
                return loss
        return None

    def compute(self) -> float:
        """The mean loss of all batches."""
        return self._sum / self._weights if self._weights else math.nan


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Any,
    metric: Metric,
    loss: HeldOutLoss,
    size: int,
    after: Callable[[Any], object] = lambda targets: None,
) -> dict[str, float]:
    """The metric of held-out data, as ``accuracy``, and the mean loss, as ``valid_loss``, in evaluation mode.

    Args:
        model: the model.
        data: the held-out data. A pair of tensors is cut into batches.
        metric: makes an accumulator of the metric.
        loss: an accumulator of the loss.
        size: number of samples in a batch that is cut.
        after: called with the targets of a batch after its pass.

    Raises:
        DataError: if the outputs or targets of a batch do not belong to the task of the metric.
    """
    model.eval()
    scored = metric.begin()
    for inputs, targets in _cut(data, size):
        outputs = call_model(model, copied(inputs))
        after(targets)
        scored.update(logits(outputs), targets)
        loss.update(inputs, outputs, targets)
    return {"accuracy": scored.compute(), "valid_loss": loss.compute()}


def _cut(data: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """The batches of a loader, or those of a pair of tensors, which need not fit in memory at once."""
    for inputs, targets in batches(data):
        if is_pair(data) and isinstance(inputs, Tensor) and isinstance(targets, Tensor):
            yield from zip(inputs.split(size), targets.split(size), strict=True)
        else:
            yield inputs, targets


# checks before training -----------------------------------------------------------------------------------------------


def check_data(name: str, data: Any) -> tuple[Any, Any]:
    """Return the first batch; refuse data that cannot be read or have no sample.

    Raises:
        DataError: if the data are refused; names them.
    """
    try:
        first = next(batches(data), None)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if first is None:
        raise DataError(f"{name} has no sample")
    inputs, targets = first
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and inputs.shape[:1] != targets.shape[:1]:
        raise DataError(
            f"{name} has inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)}: one each a sample"
        )
    return first


def check_outputs(model: nn.Module, train: Any, valid: Any, loss_fn: Any, samples: int, metric: Any = None) -> Metric:
    """Choose the metric by the outputs of a model on the first samples of the data; the model stays unchanged.

    A metric of the user's is computed once of all held-out data, to see whether its value is one from 0 to 1.

    Raises:
        DataError: if a loss of torch's own does not take outputs and targets, or no metric, or not the one named, fits.
    """
    if any(isinstance(p, UninitializedTensorMixin) for p in (*model.parameters(), *model.buffers())):
        with torch.no_grad():  # lazy layers get their shapes from a first pass, before the optimizer sees them
            call_model(model.eval(), copied(head_of(train, samples)[0]))
        model.train()
    with torch.no_grad(), preserved(model, training=False):
        for name, data in (("train", train), ("valid", valid)):
            inputs, targets = head_of(data, samples)
            scores = logits(call_model(model, copied(inputs)))
            check_loss_takes(loss_fn, scores, targets, name)
        chosen = choose(metric, scores, targets, loss_fn)
        if metric is not None and not isinstance(metric, str):  # a value of the user's function may be of any kind
            evaluate(model, valid, chosen, HeldOutLoss(loss_fn), samples)
    return chosen


def head_of(data: Any, samples: int) -> tuple[Any, Any]:
    """The first samples of a pair of tensors, or the first batch of other data."""
    inputs, targets = next(batches(data))
    cut = is_pair(data) and isinstance(inputs, Tensor) and isinstance(targets, Tensor)
    return (inputs[:samples], targets[:samples]) if cut else (inputs, targets)


def copied(data: Any) -> Any:
    """A copy of the data, since a model may write into its inputs."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, data)


def check_loss_takes(loss_fn: Any, scores: Any, targets: Any, name: str) -> None:
    """Refuse outputs and targets that a loss of torch's own does not take, or takes for something else.

    Other losses are not checked, nor are outputs that are not tensors.

    Raises:
        DataError: says why, and which loss to pass.
    """
    function = torchs_function(loss_fn)
    if function is None or not isinstance(scores, Tensor):
        return
    if not isinstance(targets, Tensor):
        raise DataError(
            f"{name} has targets of type {type(targets).__name__}, and the loss {name_of(loss_fn)} takes tensors; "
            "torch.as_tensor makes one of an array or list"
        )
    why = _of_classes(loss_fn, scores, targets, name) if function in _OF_CLASSES else _misfit(loss_fn, scores, targets)
    if why is None:
        try:
            loss_fn(scores, targets)
        except OUT_OF_MEMORY:
            raise
        except Exception as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
    if why is not None:
        raise DataError(
            f"the loss {name_of(loss_fn)} does not take the outputs {shown_tensor(scores)} of the model with the "
            f"targets {shown_tensor(targets)} of {name}: {why}; {_advice(scores, targets)}"
        )


def _of_classes(loss_fn: Any, scores: Tensor, targets: Tensor, name: str) -> str | None:
    """Why a loss of scores of classes does not take outputs and targets; None if it seems to.

    Raises:
        DataError: if a target is no class of the model.
    """
    classes = scores.shape[1] if scores.ndim > 1 else 1
    if classes < 2:
        return "it compares scores of two classes or more, in dimension 1"
    if not targets.is_floating_point():
        if 1 in class_axes(scores, targets):
            check_classes(classes, targets, ignored_index(loss_fn), name)
        return None
    if targets.shape == scores.shape and not _are_probabilities(targets):
        return "float targets are probabilities of classes, but these are negative or do not add up to 1"
    return None


def _are_probabilities(targets: Tensor) -> bool:
    return bool((targets >= 0).all() and ((targets.double().sum(1) - 1).abs() < 0.02).all())


def _misfit(loss_fn: Any, scores: Tensor, targets: Tensor) -> str | None:
    """Why a loss of single outputs does not take outputs and targets; None if it seems to."""
    if divides_elementwise(loss_fn) and scores.shape != targets.shape:
        return "shapes differ, so that every output would be compared with every target"
    function = torchs_function(loss_fn)
    if function is F.binary_cross_entropy and not _within_0_and_1(scores):
        return "it takes probabilities, and outputs are below 0 or above 1"
    of_labels = function in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)
    if of_labels and not _within_0_and_1(targets):
        return "its targets are labels 0 and 1, and some are below 0 or above 1"
    return None


def _within_0_and_1(numbers: Tensor) -> bool:
    return not bool(((numbers < 0) | (numbers > 1)).any())


def _advice(scores: Tensor, targets: Tensor) -> str:
    """Which loss to pass, by the shapes of outputs and targets."""
    if has_one_output_each(scores, targets):
        shapes = "" if scores.shape == targets.shape else f", and targets.reshape({_shape(scores)})"
        if is_zero_or_one(targets):
            floats = "" if targets.is_floating_point() else ", and float targets"
            return (
                "for logits of labels 0 and 1 pass loss_fn=torch.nn.functional.binary_cross_entropy_with_logits"
                f"{floats}{shapes}"
            )
        return f"for a regression pass loss_fn=torch.nn.functional.mse_loss{shapes}"
    axes = [] if targets.is_floating_point() else class_axes(scores, targets)
    if axes and scores.ndim != targets.ndim + 1:
        return "class indices have no dimension of length 1: (N,) instead of (N, 1), by targets[:, 0].long()"
    if 1 in axes:
        return "for class indices (dtype int64) pass loss_fn=torch.nn.functional.cross_entropy"
    if axes:
        return (
            "for scores of classes in the last dimension pass loss_fn=lambda outputs, targets: "
            "torch.nn.functional.cross_entropy(outputs.movedim(-1, 1), targets)"
        )
    return "pass loss_fn=, a function of outputs and targets, that compares tensors of these shapes"


def _shape(tensor: Tensor) -> str:
    return ", ".join(["-1", *map(str, tensor.shape[1:])])
