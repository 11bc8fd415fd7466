"""A callback for the Trainer of Hugging Face that records the capacitance of a model in training.

Install it with ``pip install 'neural-linegraph[transformers]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from linegraph.coupling.model.data import is_pair
from linegraph.coupling.model.parameters import Include
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.selection.callbacks import EpochRecorder, Metric

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError(
        f"linegraph.transformers needs transformers ({error}); pip install 'neural-linegraph[transformers]'"
    ) from error

__all__ = ["CapacitanceCallback"]


class CapacitanceCallback(TrainerCallback):
    """Records the capacitance before training and after every epoch, with the loss and the accuracy.

    Args:
        data: the data on which P is formed: one (inputs, targets) pair, or an iterable of pairs; inputs may be a
            mapping, as tokenizers return. A mapping with ``labels``, as collators return, or an iterable of them, is
            taken too. A few hundred samples are enough. They are moved to the device of the model. Values are
            comparable only if the data stay the same throughout a run.
        accuracy: name under which the Trainer logs the metric on held-out data, in [0, 1], higher is better, which
            ``compute_metrics=`` returns without the ``eval_``; or a function of the model that returns it, called in
            evaluation mode and without gradients, also before training. By default "eval_accuracy", unless ``valid`` is
            given. The column is called ``accuracy`` whatever the metric.
        valid_loss: name under which the loss on held-out data is logged, a function of the model, or None. With
            ``valid`` it is not read.
        loss_fn: ``loss_fn(logits, targets)`` returning a scalar, with which P is formed.
        kind: the kind of coupling, or several, as for :class:`~linegraph.CapacitanceTracker`.
        include: which weights are synapses, as for :class:`~linegraph.NeuralCoupling`.
        batch_weight: the weight of a batch, as for :class:`~linegraph.NeuralCoupling`.
        valid: held-out data, of the form of ``data``. Every record, also that before training, then has the columns
            ``accuracy`` and ``valid_loss`` of these data, ``seen_accuracy`` and ``seen_loss`` of ``data``, and
            ``linear_probe`` and ``layer_probe``, as for :class:`~linegraph.CapacitanceTracker`, and nothing logged is
            read for them: all that :func:`~linegraph.predict_final` reads. In a run of several processes, pass all of
            it to each.
        metric: what is recorded as ``accuracy`` of ``valid``, as for :func:`~linegraph.rank`.
        file: the Parquet file that holds the records, written whole after every epoch; by default
            ``capacitance.parquet`` in the Trainer's ``output_dir``. A run resumed from a checkpoint goes on with the
            records of this file.

    The column ``loss`` is the mean of the training losses logged in the epoch, which is the mean over the epoch with
    ``logging_strategy="epoch"``. Metrics are those of the last evaluation in the epoch: ``eval_strategy="epoch"``
    evaluates at its end, and ``eval_on_start=True`` before training. Training is not changed: random states, modes,
    buffers and gradients are as before. P is formed in the precision of the weights, without autocast. In a run of
    several processes, all of them take part, as in every :class:`~linegraph.NeuralCoupling`; pass the same data to
    each, or to each its shard. The first one writes the file.

    Warns:
        RecordWarning: if no metric of the name ``accuracy`` is logged in the first epoch; or if an epoch is not
            recorded, since weights or outputs are not finite.

    Raises:
        ArgumentTypeError: if an argument has the wrong type.
        LossError: if ``loss_fn`` is not a function.
        DataError: if ``accuracy`` and ``valid`` are both given, or there is no such metric; when training starts, if
            the data cannot be read, there is no such kind, no metric fits ``valid``, or ``file`` holds the records of
            another model.

    Cost: each record costs as much as a few training steps on ``data``, see
    :meth:`CapacitanceTracker.record <linegraph.CapacitanceTracker.record>`.

    Example:
        >>> import tempfile, torch, linegraph.transformers
        >>> from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        >>> model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes))
        >>> x, y = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
        >>> images = [{"pixel_values": image, "labels": label} for image, label in zip(x, y)]
        >>> right = lambda model: (model(x).logits.argmax(1) == y).float().mean()
        >>> callback = linegraph.transformers.CapacitanceCallback(({"pixel_values": x}, y), accuracy=right)
        >>> options = dict(num_train_epochs=2, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = TrainingArguments(folder, logging_strategy="no", **options)
        ...     _ = Trainer(model, args, train_dataset=images, callbacks=[callback]).train()  # doctest: +ELLIPSIS
        {...}
        >>> callback.history["epoch"].tolist()
        [0, 1, 2]
    """

    def __init__(
        self,
        data: Any,
        accuracy: Metric = None,
        *,
        valid_loss: Metric = "eval_loss",
        loss_fn: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
        kind: str | Iterable[str] = "magnitude",
        include: Include = None,
        batch_weight: BatchWeight | None = None,
        valid: Any = None,
        metric: Any = None,
        file: str | Path | None = None,
    ) -> None:
        accuracy = "eval_accuracy" if accuracy is None and valid is None else accuracy
        self._recorder = EpochRecorder(
            _pairs(data),
            loss_fn,
            {"loss": "loss", "accuracy": accuracy, "valid_loss": valid_loss},
            kind=kind,
            include=include,
            batch_weight=batch_weight,
            network="",
            file=file,
            valid=_pairs(valid),
            metric=metric,
        )
        self._epochs = 0
        self._since = -1.0
        self._is_due = False

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch, 0 before training.

        Its columns are ``epoch``, ``loss``, ``accuracy``, ``valid_loss``, and those that
        :attr:`CapacitanceTracker.history <linegraph.CapacitanceTracker.history>` describes.
        """
        return self._recorder.history

    @property
    def layers(self) -> pd.DataFrame:
        """One row per epoch and layer, see :attr:`CapacitanceTracker.layers <linegraph.CapacitanceTracker.layers>`."""
        return self._recorder.layers

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the state before training, or after a checkpoint that holds no record of it."""
        if self._recorder.file is None:
            self._recorder.file = Path(args.output_dir or "") / "capacitance.parquet"
        passed = state.epoch or 0.0
        self._epochs = int(passed + 1e-6)
        between_epochs = abs(passed - self._epochs) < 1e-6
        self._since = _start_of(self._epochs, state.log_history)
        is_new = self._recorder.start(kwargs["model"], self._epochs, writes=state.is_world_process_zero)
        self._is_due = is_new and between_epochs
        if not args.eval_on_start:
            self._record(state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the last epoch, if that is still to be done."""
        self._record(state)
        self._since = state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the epoch, at once if nothing is logged at its end."""
        self._epochs += 1
        self._is_due = True
        if not control.should_evaluate and not control.should_log:
            self._record(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record the epoch once all metrics are logged, before the best model is loaded at the end of training."""
        if "train_loss" in state.log_history[-1] or self._recorder.logged <= self._logged(state).keys():
            self._record(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record the epoch that a checkpoint ends."""
        self._record(state)

    def _record(self, state: TrainerState) -> None:
        if self._is_due:
            self._is_due = False
            self._recorder.record(self._epochs, self._logged(state))

    def _logged(self, state: TrainerState) -> dict[str, Any]:
        """What was logged since the epoch began: the mean of the training losses, and the last of other numbers."""
        found: dict[str, Any] = {}
        losses: list[tuple[float, float]] = []  # with the number of steps that each is the mean of
        before = 0.0
        for entry in state.log_history:
            step = entry["step"]
            if step > self._since:
                found |= entry
                if "loss" in entry:
                    losses.append((step - max(before, self._since), entry["loss"]))
            before = step if "loss" in entry else before
        if steps := sum(n for n, _ in losses):
            found["loss"] = sum(n * loss for n, loss in losses) / steps
        return found


def _start_of(epoch: int, log_history: Iterable[Mapping[str, Any]]) -> float:
    """The step after which an epoch began, as far as the log tells; what is logged before training has step 0."""
    if epoch == 0:
        return -1
    return max((entry["step"] for entry in log_history if entry.get("epoch", 0.0) < epoch - 1 + 1e-6), default=0)


class _Pairs:
    """Batches as pairs."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return map(_pair, self._batches)


def _pairs(data: Any) -> Any:
    """Data whose batches may be mappings, as pairs; what cannot be read is left to the tracker, which refuses it."""
    if isinstance(data, Mapping):
        return _pair(data)
    readable = isinstance(data, Iterable) and not isinstance(data, (Iterator, Tensor))
    return _Pairs(data) if readable and not is_pair(data) else data


def _pair(batch: Any) -> Any:
    name = next((name for name in ("labels", "label") if isinstance(batch, Mapping) and name in batch), None)
    return batch if name is None else ({key: value for key, value in batch.items() if key != name}, batch[name])
