"""Held-out data after an epoch: metric, loss, and the accuracy of a linear classifier of the network's features."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from linegraph.coupling.model.weighing import BatchWeight
from linegraph.selection.scoring import OUT_OF_MEMORY, HeldOutLoss, evaluate
from linegraph.selection.task_metrics import Accumulator, Metric

__all__ = ["HELD_OUT", "LastLinearInputs", "LinearProbe", "held_out"]

HELD_OUT = ("accuracy", "valid_loss", "seen_accuracy", "seen_loss", "linear_probe")
"""The columns of :func:`held_out`."""

PENALTY = 0.01
"""The penalty of the linear classifier, in units of the mean square of its inputs."""


class LastLinearInputs:
    """A context that keeps what enters the last linear layer of each pass: the features that are classified."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        self._last: list[Tensor] = []

    def __enter__(self) -> LastLinearInputs:
        self._handles = [layer.register_forward_pre_hook(self._keep) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def take(self) -> Tensor | None:
        """The features (N, F) of the last pass, means over places or tokens; None if it called no linear layer."""
        if not self._last:
            return None
        states = self._last.pop()
        return states if states.ndim < 3 else states.flatten(1, -2).mean(1)

    def _keep(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._last[:] = inputs[:1]


class LinearProbe:
    """A ridge regression of one-hot labels on features, and its accuracy on other samples.

    Samples whose label is negative, which losses ignore, are left out of both.

    With features X (N, F + 1), whose last column is 1, and one-hot labels Y, W = (XᵀX + λ)⁻¹ XᵀY; λ is 1 % of the mean
    diagonal entry of XᵀX. The class of a sample is that of its largest entry in x W.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._weights: Tensor | None = None
        self._right = self._total = 0

    def add(self, features: Tensor | None, labels: Any) -> None:
        """Add samples to fit; they are left out if they are not features (N, F) with class indices (N,)."""
        if _are_classified(features, labels):
            assert features is not None
            self._seen.append(_of_classes(features, labels))

    def fit(self) -> None:
        """Fit the classifier to the samples that were added."""
        if not self._seen:
            return
        x, labels = (torch.cat(part) for part in zip(*self._seen, strict=True))
        self._seen = []
        if not len(x) or not x.isfinite().all():
            return
        one_hot = F.one_hot(labels).to(x.dtype)
        penalty = PENALTY * x.square().sum() / x.shape[1]
        if x.shape[1] > len(x):  # the smaller of two equal systems
            gram = x @ x.T
            self._weights = x.T @ torch.linalg.solve(gram + penalty * torch.eye(len(x)).to(x), one_hot)
        else:
            gram = x.T @ x
            self._weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(x), x.T @ one_hot)

    def test(self, features: Tensor | None, labels: Any) -> None:
        """Classify samples."""
        if self._weights is not None and _are_classified(features, labels):
            assert features is not None
            x, labels = _of_classes(features, labels)
            found = (x @ self._weights).argmax(1)
            self._right, self._total = self._right + int((found == labels).sum()), self._total + len(labels)

    @property
    def accuracy(self) -> float:
        """The fraction of tested samples that were classified as labelled; nan if there are none."""
        return self._right / self._total if self._total else math.nan


class _WhereDefined:
    """An accumulator of a metric on targets for training, which may have another form than it takes: nan then."""

    def __init__(self, scored: Accumulator) -> None:
        self._scored: Accumulator | None = scored

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch."""
        self._unless_refused(lambda scored: scored.update(outputs, targets))

    def compute(self) -> float:
        """The metric of all batches; nan if it refused one."""
        return math.nan if (found := self._unless_refused(lambda scored: scored.compute())) is None else float(found)

    def _unless_refused(self, step: Callable[[Accumulator], Any]) -> Any:
        try:
            return None if self._scored is None else step(self._scored)
        except OUT_OF_MEMORY:
            raise
        except Exception:  # whatever a metric of the user's raises for such targets
            self._scored = None
            return None


def held_out(
    model: nn.Module,
    loss_fn: Any,
    data: Any,
    valid: Any,
    metric: Metric,
    *,
    size: int,
    batch_weight: BatchWeight | None = None,
) -> dict[str, float]:
    """The metric and the loss on held-out data and on the samples of P, and the accuracy of a linear probe.

    Args:
        model: the model, which is left in evaluation mode.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: the training samples on which P is formed.
        valid: the held-out data.
        metric: makes an accumulator of the metric.
        size: number of samples in a batch that is cut from a pair of tensors.
        batch_weight: the weight of a batch.

    Returns:
        The columns :data:`HELD_OUT`: ``accuracy``, the metric, and ``valid_loss`` on held-out data; the same on the
        training samples, where the metric is nan if it is not defined for their targets; and ``linear_probe``, the
        accuracy on held-out data of a linear classifier that is fitted to the features of the training samples, see
        :class:`LinearProbe`; nan where there are no class indices, or no linear layer.

    Cost: a forward pass over both data, and O(N F min(N, F)) for N training samples with F features.
    """
    probe = LinearProbe()
    with LastLinearInputs(model) as features:
        loss = HeldOutLoss(loss_fn, batch_weight)
        of_seen = Metric(metric.name, lambda: _WhereDefined(metric.begin()))
        seen = evaluate(model, data, of_seen, loss, size, lambda targets: probe.add(features.take(), targets))
        probe.fit()
        loss = HeldOutLoss(loss_fn, batch_weight)
        found = evaluate(model, valid, metric, loss, size, lambda targets: probe.test(features.take(), targets))
    return {
        **found,
        "seen_accuracy": seen["accuracy"],
        "seen_loss": seen["valid_loss"],
        "linear_probe": probe.accuracy,
    }


def _of_classes(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The samples that have a class: their features with a constant, and their labels."""
    kept = labels >= 0
    return _with_constant(features[kept]), labels[kept].long()


def _with_constant(features: Tensor) -> Tensor:
    """The features in double precision (single where a device has no other), with a column of ones."""
    wide = features.to(torch.float32 if features.device.type == "mps" else torch.float64)
    return torch.cat([wide, wide.new_ones(len(wide), 1)], 1)


def _are_classified(features: Tensor | None, labels: Any) -> bool:
    return (
        features is not None
        and features.ndim == 2
        and isinstance(labels, Tensor)
        and labels.ndim == 1
        and len(labels) == len(features)
        and labels.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    )
