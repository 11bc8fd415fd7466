"""Held-out data after an epoch: metric, loss, and the accuracies of linear classifiers of the network's states."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from linegraph.coupling.model.weighing import BatchWeight
from linegraph.selection.linear_probes import LastLinearInputs, LayerInputs, LayerProbe, LinearProbe
from linegraph.selection.scoring import OUT_OF_MEMORY, HeldOutLoss, evaluate
from linegraph.selection.task_metrics import Accumulator, Metric

__all__ = ["HELD_OUT", "held_out"]

HELD_OUT = ("accuracy", "valid_loss", "seen_accuracy", "seen_loss", "linear_probe", "layer_probe")
"""The columns of :func:`held_out`."""


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
    """The metric and the loss on held-out data and on the samples of P, and the accuracies of linear probes.

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
        training samples, where the metric is nan if it is not defined for their targets; and the accuracies on held-out
        data of linear classifiers that are fitted to the training samples: ``linear_probe`` of what enters the last
        linear layer, see :class:`LinearProbe`, and ``layer_probe`` of what enters all trained layers, see
        :class:`LayerProbe`. These are nan where there are no class indices, or no such layer.

    Cost: a forward pass over both data, and O(N F min(N, F)) for N training samples with F features of the last layer,
    and O(N² F) with those of all layers.
    """
    linear, layers = LinearProbe(), LayerProbe()
    with LastLinearInputs(model) as last, LayerInputs(model) as entering:

        def add(targets: Any) -> None:
            linear.add(last.take(), targets)
            layers.add(_rows(entering, targets), targets)

        def test(targets: Any) -> None:
            linear.test(last.take(), targets)
            layers.test(_rows(entering, targets), targets)

        loss = HeldOutLoss(loss_fn, batch_weight)
        of_seen = Metric(metric.name, lambda: _WhereDefined(metric.begin()))
        seen = evaluate(model, data, of_seen, loss, size, add)
        linear.fit()
        layers.fit()
        loss = HeldOutLoss(loss_fn, batch_weight)
        found = evaluate(model, valid, metric, loss, size, test)
    return {
        **found,
        "seen_accuracy": seen["accuracy"],
        "seen_loss": seen["valid_loss"],
        "linear_probe": linear.accuracy,
        "layer_probe": layers.accuracy,
    }


def _rows(entering: LayerInputs, targets: Any) -> dict[str, Tensor]:
    """What entered the layers in the last pass, one row per target."""
    return entering.take(len(targets)) if isinstance(targets, Tensor) and targets.ndim else {}
