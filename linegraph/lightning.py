"""A callback of Lightning that records the capacitance of a model in training.

Install it with ``pip install 'neural-linegraph[lightning]'``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.coupling.model.parameters import Include
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.processes import summed
from linegraph.selection.callbacks import EpochRecorder, Metric

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        f"linegraph.lightning needs lightning ({error}); pip install 'neural-linegraph[lightning]'"
    ) from error

__all__ = ["CapacitanceCallback"]


class CapacitanceCallback(Callback):
    """Records the capacitance before training and after every epoch, with the loss and the accuracy.

    Args:
        data: the data on which P is formed: one (inputs, targets) pair, or an iterable of pairs; a few hundred samples
            are enough. They are moved to the device of the model. Values are comparable only if the data stay the same
            throughout a run.
        accuracy: name under which the module logs its metric on held-out data, in [0, 1], higher is better; or a
            function of the network that returns it, called in evaluation mode and without gradients, also before
            training. By default "val_acc", unless ``valid`` is given. The column is called ``accuracy`` whatever the
            metric.
        valid_loss: name under which the loss on held-out data is logged, a function of the network, or None. With
            ``valid`` it is not read.
        loss: name under which the mean training loss of an epoch is logged, or a function of the network. None: the
            mean of the losses of the training steps.
        loss_fn: ``loss_fn(outputs, targets)`` returning a scalar, with which P is formed; ``outputs`` are the logits if
            the network returns an object with logits.
        kind: the kind of coupling, or several, as for :class:`~linegraph.CapacitanceTracker`.
        include: which weights are synapses, as for :class:`~linegraph.NeuralCoupling`.
        batch_weight: the weight of a batch, as for :class:`~linegraph.NeuralCoupling`.
        valid: held-out data, of the form of ``data``. Every record, also that before training, then has the columns
            ``accuracy`` and ``valid_loss`` of these data, ``seen_accuracy`` and ``seen_loss`` of ``data``, and
            ``linear_probe`` and ``layer_probe``, as for :class:`~linegraph.CapacitanceTracker`, and nothing logged is
            read for them: all that :func:`~linegraph.predict_final` reads. In a run of several processes, pass all of
            it to each.
        metric: what is recorded as ``accuracy`` of ``valid``, as for :func:`~linegraph.rank`.
        network: name of the part of the LightningModule that maps inputs to outputs, such as ``"net"``; by default the
            module itself, by its ``forward``.
        file: a Parquet file that holds the records too, written whole after every epoch.

    Training is not changed: random states, modes, buffers and gradients are as before. P is formed in the precision of
    the weights, without autocast. In a run of several processes, all of them take part, as in every
    :class:`~linegraph.NeuralCoupling`; pass the same data to each, or to each its shard. The first one writes the file.
    The records are part of Lightning's checkpoints, and a run resumed from one goes on with them.

    Warns:
        RecordWarning: if no metric of the name ``accuracy`` is logged in the first epoch; or if an epoch is not
            recorded, since weights or outputs are not finite.

    Raises:
        ArgumentTypeError: if an argument has the wrong type.
        LossError: if ``loss_fn`` is not a function.
        DataError: if ``accuracy`` and ``valid`` are both given, or there is no such metric; when training starts, if
            the data cannot be read, or there is no such kind or ``network``, or no metric fits ``valid``.

    Cost: each record costs as much as a few training steps on ``data``, see
    :meth:`CapacitanceTracker.record <linegraph.CapacitanceTracker.record>`.

    Example:
        >>> import lightning, torch, linegraph.lightning
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> class Classifier(lightning.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        ...     def forward(self, x):
        ...         return self.net(x)
        ...     def training_step(self, batch, index):
        ...         return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), 0.1)
        >>> x, y = torch.randn(12, 4), torch.arange(12) % 3
        >>> right = lambda net: (net(x).argmax(1) == y).float().mean()
        >>> callback = linegraph.lightning.CapacitanceCallback((x, y), accuracy=right, valid_loss=None)
        >>> quiet = ["enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger"]
        >>> trainer = lightning.Trainer(max_epochs=2, callbacks=callback, **dict.fromkeys(quiet, False))
        >>> trainer.fit(Classifier(), DataLoader(TensorDataset(x, y), 6))
        >>> callback.history["epoch"].tolist()
        [0, 1, 2]
    """

    def __init__(
        self,
        data: Any,
        accuracy: Metric = None,
        *,
        valid_loss: Metric = "val_loss",
        loss: Metric = None,
        loss_fn: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
        kind: str | Iterable[str] = "magnitude",
        include: Include = None,
        batch_weight: BatchWeight | None = None,
        valid: Any = None,
        metric: Any = None,
        network: str = "",
        file: str | Path | None = None,
    ) -> None:
        self._of_steps = loss is None
        accuracy = "val_acc" if accuracy is None and valid is None else accuracy
        self._recorder = EpochRecorder(
            data,
            loss_fn,
            {"loss": _OF_STEPS if loss is None else loss, "accuracy": accuracy, "valid_loss": valid_loss},
            kind=kind,
            include=include,
            batch_weight=batch_weight,
            network=network,
            file=file,
            valid=valid,
            metric=metric,
        )
        self._losses: list[Tensor] = []

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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the state before training, or after a checkpoint that holds no record of it."""
        epochs = trainer.current_epoch
        is_new = self._recorder.start(pl_module, epochs, writes=trainer.is_global_zero)
        between_epochs = trainer.global_step == 0 or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if is_new and between_epochs:
            self._recorder.record(epochs, {})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss of the step."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self._of_steps and isinstance(loss, Tensor):
            self._losses.append(loss.detach() * trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch."""
        losses, self._losses = self._losses, []
        total = torch.tensor([sum(map(float, losses)), len(losses)], device=pl_module.device)
        loss, steps = summed(total).tolist()
        logged = {**trainer.callback_metrics, _OF_STEPS: loss / steps if steps else math.nan}
        self._recorder.record(trainer.current_epoch + 1, logged)

    def state_dict(self) -> dict[str, Any]:
        """The records, for Lightning's checkpoints."""
        return self._recorder.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the records of a checkpoint."""
        self._recorder.load_state_dict(state_dict)


_OF_STEPS = "the mean loss of the training steps"
