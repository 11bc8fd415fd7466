"""The capacitance of a model over its training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pandas as pd
from torch import Tensor, nn

from linegraph.arguments import check_module
from linegraph.coupling.model.parameters import Include
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import CoverageWarning, DataError
from linegraph.metrics.neural_capacitance import capacitance
from linegraph.quiet import ignoring
from linegraph.turns import turn

__all__ = ["CapacitanceTracker"]


class CapacitanceTracker:
    """Records the capacitance of a model during training, together with metrics such as the accuracy.

    Args:
        model: the model that is trained, a module.
        loss_fn: ``loss_fn(outputs, targets)`` returning a scalar.
        data: one ``(inputs, targets)`` pair, or an iterable of pairs. Values are comparable only if the data stay the
            same throughout a run.
        kind: the kind of coupling, as for :class:`~linegraph.NeuralCoupling`. The signed β_eff changes sign during
            training, and is 0/0 for a transformer.
        include: which weights are synapses, as for :class:`~linegraph.NeuralCoupling`.
        batch_weight: the weight of a batch in the mean over batches, as for :class:`~linegraph.NeuralCoupling`.

    Raises:
        ArgumentTypeError: if ``model`` is not a module. Other arguments are checked by :meth:`record`.

    Cost: each record is one :func:`~linegraph.capacitance` of a new coupling on ``data``.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> data = torch.randn(16, 4), torch.randn(16, 2)
        >>> tracker = lg.CapacitanceTracker(model, torch.nn.functional.mse_loss, data)
        >>> _ = tracker.record(accuracy=0.5)
        >>> tracker.history.columns.tolist()[:3]
        ['epoch', 'accuracy', 'beta_eff']
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        data: Any,
        *,
        kind: str = "magnitude",
        include: Include = None,
        batch_weight: BatchWeight | None = None,
    ) -> None:
        check_module(model)
        options: dict[str, Any] = {"kind": kind, "include": include, "batch_weight": batch_weight}
        self._couple: Callable[[], NeuralCoupling] = lambda: NeuralCoupling(model, loss_fn, data, **options)
        self._kind = kind
        self._rows: list[dict[str, float]] = []

    def __repr__(self) -> str:
        return f"CapacitanceTracker(kind={self._kind!r}, records={len(self._rows)})"

    def record(self, **metrics: float | Tensor) -> dict[str, float]:
        """Compute the capacitance at the current weights, and add a row to the history.

        Args:
            metrics: numbers, or tensors of one number, by the names of their columns. ``epoch`` counts the records
                from 1 unless it is among them.

        Returns:
            The row: ``epoch``, the metrics and the fields of :class:`~linegraph.Capacitance`.

        Warns:
            CoverageWarning: in the first record, if weights are left out since there is no rule for their operation.
            DegenerateCapacitanceWarning: if β_eff is 0/0; its value is nan then.

        Raises:
            DataError: if a metric has the name of a capacitance column.

        Cost: that of a coupling and its capacitance, at most two training steps on the data.
        """
        told = ignoring(category=CoverageWarning) if self._rows else nullcontext()
        with told:  # which weights are left out
            P = self._couple()
        found = capacitance(P).as_dict()
        if clash := sorted(found.keys() & metrics.keys()):
            raise DataError(f"{clash[0]!r} is a column of the capacitance itself; record the metric under another name")
        given = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        with turn():
            row = {"epoch": len(self._rows) + 1, **given, **found}
            self._rows.append(row)
        return row

    @property
    def history(self) -> pd.DataFrame:
        """One row per record: ``epoch``, the metrics given, and the fields of :class:`~linegraph.Capacitance`."""
        return pd.DataFrame(self._rows)
