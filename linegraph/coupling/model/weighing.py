"""What a batch counts for in the mean over batches, and whether the loss is the mean that it is taken for."""

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
"""What torch's losses ignore in targets by default, and Hugging Face's models in labels."""


def check_batch_weight(batch_weight: Any, loss_fn: Any) -> None:
    """Refuse weights of batches that are no function, or that there is nothing to weight by.

    Raises:
        DataError: if it is no function of a batch.
        LossError: if the loss sums over samples.
    """
    if batch_weight is None:
        return
    if not callable(batch_weight):
        raise DataError(
            f"batch_weight must be a function batch_weight(inputs, targets) of a batch, got {batch_weight!r}; for "
            "batches that all count the same, lambda inputs, targets: 1"
        )
    if reduces_by_sum(loss_fn):
        raise LossError(
            f"the loss {name_of(loss_fn)} says that it sums over samples, so that batches add up, and batch_weight= "
            "weights the batches of a mean; leave out one of the two"
        )


class Weighing:
    """Weights of batches: stated, or known from the loss, or the number of samples where the loss shows nothing.

    A loss that shows nothing is taken for a mean over samples. Batches that are observed tell whether it is one.

    Args:
        loss_fn: ``loss_fn(outputs, targets)``.
        stated: the weight of a batch as the user states it, a function of inputs and targets.
        averages: whether there is anything to average over.

    Attributes:
        averages: whether batches are averaged; otherwise they are summed, each with weight 1.
        observes: whether :meth:`observe` has anything to look at.
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
        """What a batch counts for; 0 for one that is to be left out, without a sample or with nothing but ignored ones.

        Raises:
            DataError: if the number of samples is not certain, or the weight stated is no number ≥ 0.
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
        """Compare the loss of a batch with those of two parts of it, and count what it may ignore.

        Raises:
            DataError: if a loss of torch's own repeats targets that are smaller than the outputs.
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
        """Warn if batches of this loss do not add up; there is nothing more to observe."""
        self.observes = False
        if self._doubt is None and _differ(self._shares):
            self._doubt = (
                "targets hold different numbers of elements per sample in different batches (padding to other lengths, "
                f"other sizes, or more of them {IGNORED}), by which a mean over elements divides"
            )
        if self._doubt is not None:
            warnings.warn(
                f"the loss {name_of(self._loss_fn)} may be no mean over samples, and the batches are weighted by their "
                f"numbers of samples, so that P may not be that of the loss on all data: {self._doubt}. State what the "
                "loss of a batch counts for, as batch_weight=lambda inputs, targets: (targets != -100).sum(), or "
                "batch_weight=lambda inputs, targets: len(targets) if this is what is meant; losses of torch's own are "
                "known, if passed as they are or in a functools.partial",
                BatchWeightWarning,
                stacklevel=2,
            )

    def _compared(self, outputs: Any, targets: Any, samples: int, loss: Tensor) -> str | None:
        """What is wrong with the loss of a batch as the mean over its samples, if anything is."""
        cut = max(1, samples // 3)
        try:
            first, second, again = (
                self._again(outputs, targets, samples, piece) for piece in (slice(cut), slice(cut, None), slice(None))
            )
        except Exception:  # whatever a loss does that cannot be cut
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
                "the others; a loss that sums says so by an attribute, loss_fn.reduction = 'sum'"
            )
        return (
            f"on a batch of {samples} it is {whole:.6g}, where its first {cut} samples and the others give {mean:.6g} "
            "in the mean (samples that are ignored or weighted, a statistic of the batch)"
        )

    def _again(self, outputs: Any, targets: Any, samples: int, piece: slice) -> float:
        with torch.no_grad():
            return float(self._loss_fn(_cut(outputs, samples, piece), _cut(targets, samples, piece)))


def _checked(weight: Any) -> float:
    number = float(weight) if isinstance(weight, Real) or (isinstance(weight, Tensor) and weight.numel() == 1) else None
    if number is None or not 0 <= number < math.inf:
        raise DataError(
            f"batch_weight gives {weight!r} for a batch; a weight is one number, finite and not negative, as the "
            "number of samples, or of targets that are not ignored"
        )
    return number


def _check_not_repeated(loss_fn: Any, outputs: Any, targets: Tensor) -> None:
    if not isinstance(outputs, Tensor) or outputs.shape == targets.shape:
        return
    if outputs.ndim != targets.ndim or outputs.shape[0] != targets.shape[0]:
        raise DataError(
            f"the outputs {tuple(outputs.shape)} and the targets {tuple(targets.shape)} differ in shape, so that "
            f"{name_of(loss_fn)} repeats one of them, and batches do not add up; give both one shape, or state the "
            "weight of a batch by batch_weight="
        )


def _elements(inputs: Any, targets: Any) -> Tensor | int | None:
    """How many elements of the targets, or labels among the inputs, a mean may divide by: those not ignored."""
    if isinstance(targets, tuple | list) and targets and all(isinstance(item, Mapping) for item in targets):
        return None  # an item for each sample, of a size of its own
    labels = inputs["labels"] if isinstance(inputs, Mapping) and "labels" in inputs else inputs
    counts = [_not_ignored(t) for t in tensors_in(targets) or tensors_in(labels)]
    return sum(counts) if counts else None


def _not_ignored(t: Tensor) -> Tensor | int:
    may_be_ignored = not t.is_floating_point() and not t.is_complex() and t.dtype != torch.bool
    return (t != IGNORED).sum() if may_be_ignored else t.numel()


def _differ(shares: list[tuple[Tensor | int, int]]) -> bool:
    """Whether elements per sample differ between batches."""
    found = [(int(elements), samples) for elements, samples in shares]
    return any(a * n != b * m for (a, m), (b, n) in pairwise(found))


def _cut(part: Any, samples: int, piece: slice) -> Any:
    """Some of the samples of a part of a batch.

    Raises:
        ValueError: if a tensor in it has none.
    """
    if isinstance(part, Tensor):
        if part.ndim and len(part) == samples:
            return part[piece].detach().clone()
        raise ValueError("a tensor that is not of the samples")
    if isinstance(part, list | tuple) and part and all(isinstance(item, Mapping) for item in part):
        return part[piece]
    if type(part) in (list, tuple):
        return type(part)(_cut(item, samples, piece) for item in part)
    if type(part) is dict:
        return {key: _cut(item, samples, piece) for key, item in part.items()}
    if part is None or isinstance(part, str | Real):
        return part
    raise ValueError(f"a {type(part).__name__}")
