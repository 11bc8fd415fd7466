"""Checks that accuracy is defined: scores (N, classes) and indices (N,) of the correct classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._pytree import tree_map

from linegraph.coupling.model.data import batches, call_model, is_pair
from linegraph.coupling.model.losses import name_of, reduces_by_sum
from linegraph.coupling.model.preserve import preserved
from linegraph.errors import DataError

__all__ = ["OfLogits", "check_data", "check_outputs", "check_scores", "copied", "head_of", "ignored_by", "logits"]

TAKES = "rank compares scores (N, classes) with class indices (N,), integers from 0 to classes - 1"


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


def check_labels(name: str, targets: Any) -> None:
    """Refuse targets that are not class indices.

    Raises:
        DataError: if they are refused; says what they are, and what is needed.
    """
    if not isinstance(targets, Tensor):
        advice = "; torch.as_tensor makes a tensor of them" if isinstance(targets, (np.ndarray, list)) else ""
        raise DataError(f"{name} has targets of type {type(targets).__name__}; {TAKES}{advice}")
    if targets.ndim != 1 or targets.dtype.is_floating_point or targets.dtype.is_complex or targets.dtype == torch.bool:
        advice = _advice(targets)
        raise DataError(f"{name} has targets {_kind(targets)}; {TAKES}{advice}")
    if len(targets) and int(targets.min()) < 0:
        raise DataError(f"{name} has the target {int(targets.min())}; {TAKES}")


def check_training_labels(name: str, targets: Any, loss_fn: Any) -> None:
    """Refuse training targets other than class indices, probabilities (N, classes), and indices that the loss ignores.

    Targets that are not tensors are left to the loss.

    Raises:
        DataError: as :func:`check_labels`.
    """
    if not isinstance(targets, (Tensor, np.ndarray)):
        return
    if isinstance(targets, Tensor) and targets.dtype.is_floating_point and targets.ndim == 2 and targets.shape[1] > 1:
        return
    known = isinstance(targets, Tensor) and targets.ndim == 1
    check_labels(name, targets[targets != ignored_by(loss_fn)] if known else targets)


def check_scores(outputs: Any, targets: Tensor, name: str = "valid") -> Tensor:
    """The scores in the outputs of a model; refuse those that have no accuracy for the class indices ``targets``.

    Raises:
        DataError: if they are refused; says what they are, and what is needed.
    """
    scores = logits(outputs)
    if not isinstance(scores, Tensor):
        raise DataError(f"on {name} the model returns a {type(scores).__name__}; {TAKES}")
    if scores.ndim != 2 or len(scores) != len(targets) or scores.shape[1] < 2:
        one = "; of one logit z, torch.stack([-z, z], 1) / 2" if scores.shape[1:] in ((), (1,)) else ""
        raise DataError(f"on {name} the model returns {_kind(scores)} for targets {_kind(targets)}; {TAKES}{one}")
    check_labels(name, targets)
    if len(targets) and int(targets.max()) >= scores.shape[1]:
        raise DataError(f"{name} has the target {int(targets.max())}, the model {scores.shape[1]} classes; {TAKES}")
    return scores


def check_outputs(model: nn.Module, train: Any, valid: Any, loss_fn: Any, samples: int) -> None:
    """Refuse a model whose outputs on the first samples of the data cannot be scored; the model stays unchanged.

    Raises:
        DataError: as :func:`check_scores`.
    """
    if any(isinstance(p, UninitializedTensorMixin) for p in (*model.parameters(), *model.buffers())):
        with torch.no_grad():  # lazy layers get their shapes from a first pass, before the optimizer sees them
            call_model(model.eval(), copied(head_of(train, samples)[0]))
        model.train()
    with torch.no_grad(), preserved(model, training=False):
        for name, data in (("valid", valid), ("train", train)):
            inputs, targets = head_of(data, samples)
            scores = logits(call_model(model, copied(inputs)))
            if name == "train" and isinstance(targets, Tensor):
                targets = torch.where(targets == ignored_by(loss_fn), 0, targets)
            if name == "valid" or (isinstance(targets, Tensor) and targets.ndim == 1):
                check_scores(scores, targets, name)


def head_of(data: Any, samples: int) -> tuple[Any, Any]:
    """The first samples of a pair of tensors, or the first batch of other data."""
    inputs, targets = next(batches(data))
    cut = is_pair(data) and isinstance(inputs, Tensor) and isinstance(targets, Tensor)
    return (inputs[:samples], targets[:samples]) if cut else (inputs, targets)


def copied(data: Any) -> Any:
    """A copy of the data, since a model may write into its inputs."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, data)


def ignored_by(loss_fn: Any) -> int:
    """The target index that a loss ignores."""
    if isinstance(loss_fn, partial):
        return int(loss_fn.keywords.get("ignore_index", ignored_by(loss_fn.func)))
    return int(getattr(loss_fn, "ignore_index", -100))


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _advice(targets: Tensor) -> str:
    if targets.ndim == 2 and targets.shape[1] == 1:
        return "; targets (N, 1) become (N,) by targets[:, 0].long()"
    if targets.ndim == 1 and (targets.dtype == torch.bool or bool((targets == targets.round()).all())):
        return "; of two classes, targets.long()"
    return ""
