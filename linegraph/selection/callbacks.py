"""What the callbacks for training frameworks have in common: when to record, and what of that which is logged."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from linegraph.arguments import as_path, check_type
from linegraph.coupling.model.data import is_pair
from linegraph.coupling.model.losses import check_loss
from linegraph.coupling.model.parameters import Include
from linegraph.coupling.model.preserve import preserved
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.errors import DataError, DegenerateCapacitanceWarning, NonFiniteError, RecordWarning
from linegraph.processes import agreed, jointly
from linegraph.quiet import ignoring
from linegraph.selection.held_out import HELD_OUT
from linegraph.selection.scoring import OfLogits
from linegraph.selection.task_metrics import check_metric
from linegraph.selection.tracker import CapacitanceTracker

__all__ = ["EpochRecorder", "Metric"]

Metric = str | Callable[[nn.Module], float] | None
"""The name under which a metric is logged, a function of the model, or None for nan."""


class EpochRecorder:
    """Records a run epoch by epoch with a :class:`CapacitanceTracker`, made when the run starts.

    Args:
        data: as for the tracker; moved to the device of the model.
        loss_fn: as for the tracker; called with the ``logits`` of outputs that have some.
        metrics: by the names of their columns. With ``valid``, the held-out data fill "accuracy" and "valid_loss".
        kind: as for the tracker.
        include: as for the tracker.
        batch_weight: as for the tracker.
        network: name of the part of the model that maps inputs to outputs; empty for the model itself.
        file: as for the tracker.
        valid: as for the tracker; moved to the device of the model.
        metric: as for the tracker.
    """

    def __init__(
        self,
        data: Any,
        loss_fn: Callable[[Any, Any], Tensor],
        metrics: Mapping[str, Metric],
        *,
        kind: str | Iterable[str],
        include: Include,
        batch_weight: BatchWeight | None,
        network: str,
        file: str | Path | None,
        valid: Any = None,
        metric: Any = None,
    ) -> None:
        check_loss(loss_fn)
        check_metric(metric)
        check_type("network", network, str, "the name of a part of the model")
        for name, read in metrics.items():
            if not (read is None or isinstance(read, str) or callable(read)):
                check_type(name, read, str, "the name of a logged metric, a function of the model, or None")
        if valid is not None and metrics["accuracy"] is not None:
            raise DataError("accuracy= and valid= both fill the column 'accuracy'; pass one of them")
        self.file = as_path("file", file) if file is not None else None
        self._data, self._loss_fn, self._network = data, OfLogits(loss_fn), network
        self._options = {"kind": kind, "include": include, "batch_weight": batch_weight, "metric": metric}
        self._valid = valid
        of_valid = () if valid is None else HELD_OUT
        self._metrics = {column: read for column, read in metrics.items() if column not in of_valid}
        self._tracker: CapacitanceTracker | None = None
        self._model: nn.Module | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def history(self) -> pd.DataFrame:
        """The history of the tracker; before the run starts, the one that was loaded."""
        return pd.DataFrame((self._loaded or {}).get("rows")) if self._tracker is None else self._tracker.history

    @property
    def layers(self) -> pd.DataFrame:
        """The table of layers of the tracker; empty before the run starts."""
        return pd.DataFrame() if self._tracker is None else self._tracker.layers

    @property
    def logged(self) -> set[str]:
        """The names of the metrics that are read from what is logged."""
        return {metric for metric in self._metrics.values() if isinstance(metric, str)}

    def state_dict(self) -> dict[str, Any]:
        """The records, as numbers, strings, lists and dictionaries."""
        return (self._loaded or {}) if self._tracker is None else self._tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these records when the run starts."""
        self._tracker, self._loaded = None, state

    def start(self, model: nn.Module, epochs: int, *, writes: bool = True) -> bool:
        """Make the tracker, unless the run of this model goes on. All processes of a distributed run call this.

        Args:
            model: the model that is trained.
            epochs: number of epochs that it has been trained for.
            writes: whether this process reads and writes the file; the first process must.

        Returns:
            Whether there is no record of this moment yet.

        Raises:
            DataError: if the model has no part of the name ``network``, or the records are those of another model.
        """
        if self._tracker is None or self._model is not model:
            tracker = jointly(lambda: self._tracker_of(model, self.file if writes else None))
            tracker.load_state_dict(agreed(tracker.state_dict()))  # the first process may have read a file
            self._tracker, self._model, self._loaded = tracker, model, None
        history = self._tracker.history
        return epochs == 0 or history.empty or epochs not in set(history["epoch"])

    def record(self, epoch: int, logged: Mapping[str, Any]) -> None:
        """Add the record of an epoch; later ones are removed. All processes of a distributed run call this.

        Args:
            epoch: number of epochs that the model has been trained for.
            logged: the metrics logged in this epoch.

        Warns:
            RecordWarning: if the first epoch has no metric of the name given for the accuracy, whose value is nan then;
                or if there is no record, since weights or outputs are not finite.
        """
        assert self._tracker is not None
        if epoch == 1 and isinstance(name := self._metrics.get("accuracy"), str) and name not in logged:
            known = ", ".join(sorted(logged)) or "none"
            warnings.warn(
                f"no metric {name!r} was logged in the first epoch, so its accuracy is nan; logged are {known}; pass "
                "accuracy= with one of these names, or a function of the model",
                RecordWarning,
                stacklevel=2,
            )
        values = {column: self._value(metric, logged) for column, metric in self._metrics.items()}
        told = nullcontext() if self._tracker.history.empty else ignoring(category=DegenerateCapacitanceWarning)
        try:
            with told:
                self._tracker.record(epoch=epoch, **values)
        except NonFiniteError as error:  # the run is not stopped by what only observes it
            warnings.warn(f"epoch {epoch} is not recorded: {error}", RecordWarning, stacklevel=2)

    def _tracker_of(self, model: nn.Module, file: Path | None) -> CapacitanceTracker:
        part = self._part(model)
        place = next((p.device for p in part.parameters()), torch.device("cpu"))
        data, valid = _on(self._data, place), _on(self._valid, place)
        tracker = CapacitanceTracker(part, self._loss_fn, data, valid=valid, file=file, **self._options)
        return tracker.load_state_dict(self._loaded) if self._loaded else tracker

    def _part(self, model: nn.Module) -> nn.Module:
        try:
            return model.get_submodule(self._network)
        except AttributeError:
            parts = ", ".join(name for name, _ in model.named_children())
            raise DataError(f"the model has no part {self._network!r}; pass network= with one of {parts}") from None

    def _value(self, metric: Metric, logged: Mapping[str, Any]) -> float:
        if callable(metric):
            assert self._model is not None
            part = self._part(self._model)
            with preserved(part, training=False), torch.no_grad():  # which preserved() ends
                return float(metric(part))
        return float(logged.get(metric, math.nan)) if metric is not None else math.nan


class _Moved:
    """Batches of data that are moved to a device when they are read."""

    def __init__(self, data: Iterable[Any], place: torch.device) -> None:
        self._data, self._place = data, place

    def __iter__(self) -> Iterator[Any]:
        for batch in self._data:
            yield _moved(batch, self._place)


def _on(data: Any, place: torch.device) -> Any:
    """Data on a device; what cannot be read is left to the tracker, which refuses it."""
    if is_pair(data):
        return _moved(data, place)
    readable = isinstance(data, Iterable) and not isinstance(data, (Iterator, Mapping, Tensor))
    return _Moved(data, place) if readable else data


def _moved(batch: Any, place: torch.device) -> Any:
    return tree_map(lambda leaf: leaf.to(place) if hasattr(leaf, "to") else leaf, batch)
