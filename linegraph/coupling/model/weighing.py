"""Weights of batches in the mean over batches, and a test of whether a loss is a mean over samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.model.data import batch_size, has_no_sample, tensors_in
from linegraph.coupling.model.losses import divides_elementwise, divisor, name_of, reduces_by_sum
from linegraph.errors import BatchWeightWarning, DataError, LossError

__all__ = ["BatchWeight", "Weighing", "check_batch_weight"]

BatchWeight = Callable[[Any, Any], float]

IGNORED = -100
"""The target class that torch's losses, and the models of Hugging Face, ignore by default."""


def check_batch_weight(batch_weight: Any, loss_fn: Any) -> None:
    """Check the user's ``batch_weight``.

    Raises:
        DataError: if it is not a function.
        LossError: if the loss sums over samples, so that there is no mean to weight.
    """
    if batch_weight is None:
        return
    if not callable(batch_weight):
        raise DataError(
            f"batch_weight must be a function batch_weight(inputs, targets) of a batch, got {batch_weight!r}; if all "
            "batches have the same weight, pass lambda inputs, targets: 1"
        )
    if reduces_by_sum(loss_fn):
        raise LossError(
            f"the loss {name_of(loss_fn)} says that it sums over samples (reduction = 'sum'), but batch_weight= is "
            "for a mean over batches; leave out one of the two"
        )


class Weighing:
    """Weights of batches: as the user states them, or known for a loss of torch's, or else the numbers of samples.

    Numbers of samples are right if the loss is a mean over samples. Whether it is one is tested on batches that
    :meth:`observe` is given.

    Args:
        loss_fn: ``loss_fn(outputs, targets)``.
        stated: the weight of a batch as the user states it, a function of inputs and targets.
        averages: whether there may be more than one batch.

    Attributes:
        averages: whether batches are averaged; otherwise they are summed, each with weight 1.
        observes: whether batches are to be given to :meth:`observe`.
    """

    def __init__(self, loss_fn: Any, stated: BatchWeight | None = None, *, averages: bool = True) -> None:
        check_batch_weight(stated, loss_fn)
        self._loss_fn = loss_fn
        self._stated = stated
        self.averages = averages and not reduces_by_sum(loss_fn)
        self.observes = self.averages and stated is None
        self._doubt: str | None = None
        self._shares: list[tuple[Tensor | int, int]] = []

    def weight(self, inputs: Any, targets: Any) -> float:
        """The weight of a batch; 0 for one to be left out, which has no sample or only ignored targets.

        Raises:
            DataError: if the number of samples is not certain, or the user's weight is not a finite number ≥ 0.
        """
        if has_no_sample(inputs, targets):
            return 0.0
        if not self.averages:
            return 1.0
        if self._stated is not None:
            return _checked(self._stated(inputs, targets))
        with torch.no_grad():
            own = divisor(self._loss_fn, targets)
        return float(batch_size(inputs, targets) if own is None else own)

    # is it a mean over samples? ------------------------------------------------------------------------

    def observe(self, inputs: Any, targets: Any, outputs: Any, loss: Tensor) -> None:
        """Compare the loss of a batch with the losses of two parts of it, and count the targets that it may ignore.

        Raises:
            DataError: if a loss of torch's own broadcasts targets that are smaller than the outputs.
        """
        if divisor(self._loss_fn, targets) is not None:
            if divides_elementwise(self._loss_fn):
                _check_not_repeated(self._loss_fn, outputs, targets)
            return
        samples = batch_size(inputs, targets)
        if (share := _elements(inputs, targets)) is not None:
            self._shares.append((share, samples))
        if self._doubt is None and samples > 1:
            self._doubt = self._compared(outputs, targets, samples, loss)

    def conclude(self) -> None:
        """Warn if the loss has proved not to be a mean over samples; no more batches are observed."""
        self.observes = False
        if self._doubt is None and _differ(self._shares):
            self._doubt = (
                "targets hold different numbers of elements per sample in different batches (padding to other lengths, "
                f"other sizes, or more of them {IGNORED}), by which a mean over elements divides"
            )
        if self._doubt is not None:
            warnings.warn(
                f"the loss {name_of(self._loss_fn)} may not be a mean over samples, but batches are weighted by their "
                f"numbers of samples, so that P may not be that of the loss on all data: {self._doubt}. Pass the "
                "weight of a batch, such as batch_weight=lambda inputs, targets: (targets != -100).sum(), or "
                "batch_weight=lambda inputs, targets: len(targets) if the number of samples is right. The weights "
                "for torch's own losses are known, passed as they are or in a functools.partial",
                BatchWeightWarning,
                stacklevel=2,
            )

    def _compared(self, outputs: Any, targets: Any, samples: int, loss: Tensor) -> str | None:
        """Why the loss of a batch is not the mean over its samples, in words; None if it may be."""
        cut = max(1, samples // 3)
        try:
            first, second, again = (
                self._again(outputs, targets, samples, piece) for piece in (slice(cut), slice(cut, None), slice(None))
            )
        except Exception:  # the loss does not take parts of this batch
            return None
        whole, share = float(loss.detach()), cut / samples
        mean = share * first + (1 - share) * second
        rounding = torch.finfo(loss.dtype).eps ** 0.5 * (share * abs(first) + (1 - share) * abs(second))
        draws = abs(whole - again) > rounding
        if draws or not math.isfinite(whole + mean) or abs(whole - mean) <= rounding:
            return None
        if abs(whole - first - second) <= rounding:
            return (
                f"on a batch of {samples} it is {whole:.4g}, the sum of the losses of its first {cut} samples and of "
                "the others; if the loss sums, state it by the attribute loss_fn.reduction = 'sum'"
            )
        return (
            f"on a batch of {samples} it is {whole:.6g}, but its first {cut} samples and the others give {mean:.6g} "
            "in the mean (samples may be ignored or weighted, or the loss may use a statistic of the batch)"
        )

    def _again(self, outputs: Any, targets: Any, samples: int, piece: slice) -> float:
        with torch.no_grad():
            return float(self._loss_fn(_cut(outputs, samples, piece), _cut(targets, samples, piece)))


def _checked(weight: Any) -> float:
    number = float(weight) if isinstance(weight, Real) or (isinstance(weight, Tensor) and weight.numel() == 1) else None
    if number is None or not 0 <= number < math.inf:
        raise DataError(
            f"batch_weight gives {weight!r} for a batch; a weight is one finite number ≥ 0, such as the number of "
            "samples, or of targets that are not ignored"
        )
    return number


def _check_not_repeated(loss_fn: Any, outputs: Any, targets: Tensor) -> None:
    if not isinstance(outputs, Tensor) or outputs.shape == targets.shape:
        return
    if outputs.ndim != targets.ndim or outputs.shape[0] != targets.shape[0]:
        raise DataError(
            f"the outputs {tuple(outputs.shape)} and the targets {tuple(targets.shape)} differ in shape, so that "
            f"{name_of(loss_fn)} broadcasts one of them, and the weight of a batch is not known; give both the same "
            "shape, or pass batch_weight="
        )


def _elements(inputs: Any, targets: Any) -> Tensor | int | None:
    """Number of elements, not ignored, of the targets or of labels among the inputs, which a mean may divide by."""
    if isinstance(targets, tuple | list) and targets and all(isinstance(item, Mapping) for item in targets):
        return None  # one item for each sample, such as boxes in images
    labels = inputs["labels"] if isinstance(inputs, Mapping) and "labels" in inputs else inputs
    counts = [_not_ignored(t) for t in tensors_in(targets) or tensors_in(labels)]
    return sum(counts) if counts else None


def _not_ignored(t: Tensor) -> Tensor | int:
    may_be_ignored = not t.is_floating_point() and not t.is_complex() and t.dtype != torch.bool
    return (t != IGNORED).sum() if may_be_ignored else t.numel()


def _differ(shares: list[tuple[Tensor | int, int]]) -> bool:
    """Whether the number of elements per sample differs between batches."""
    found = [(int(elements), samples) for elements, samples in shares]
    return any(a * n != b * m for (a, m), (b, n) in pairwise(found))


def _cut(part: Any, samples: int, piece: slice) -> Any:
    """Some samples of the outputs or targets of a batch.

    Raises:
        ValueError: if a part of them does not consist of samples.
    """
    if isinstance(part, Tensor):
        if part.ndim and len(part) == samples:
            return part[piece].detach().clone()
        raise ValueError("the first dimension of a tensor is not that of the samples")
    if isinstance(part, list | tuple) and part and all(isinstance(item, Mapping) for item in part):
        return part[piece]
    if type(part) in (list, tuple):
        return type(part)(_cut(item, samples, piece) for item in part)
    if type(part) is dict:
        return {key: _cut(item, samples, piece) for key, item in part.items()}
    if part is None or isinstance(part, str | Real):
        return part
    raise ValueError(f"a {type(part).__name__}")
