"""The capacitance of a model over its training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from linegraph.arguments import as_path, check_choice, check_module, check_type
from linegraph.coupling.kinds import COUPLING_KINDS
from linegraph.coupling.model.parameters import Include
from linegraph.coupling.model.preserve import preserved
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import CoverageWarning, DataError
from linegraph.files import write_whole
from linegraph.quiet import ignoring
from linegraph.randomness import preserved_randomness
from linegraph.selection.held_out import HELD_OUT, held_out
from linegraph.selection.records import column_names, measured
from linegraph.selection.scoring import check_data, check_outputs
from linegraph.selection.task_metrics import Metric, check_metric
from linegraph.turns import turn

__all__ = ["CapacitanceTracker"]

HELD_OUT_BATCH = 512
"""Number of samples in a batch that is cut from held-out tensors."""


class CapacitanceTracker:
    """Records the capacitance of a model during training, together with metrics such as the accuracy.

    Args:
        model: the model that is trained, a module.
        loss_fn: ``loss_fn(outputs, targets)`` returning a scalar.
        data: one ``(inputs, targets)`` pair, or an iterable of pairs. Values are comparable only if the data stay the
            same throughout a run.
        kind: the kind of coupling, as for :class:`~linegraph.NeuralCoupling`, or several. The signed β_eff changes sign
            during training, and is 0/0 for a transformer.
        include: which weights are synapses, as for :class:`~linegraph.NeuralCoupling`.
        batch_weight: the weight of a batch in the mean over batches, as for :class:`~linegraph.NeuralCoupling`.
        valid: held-out data, of the form of ``data``. Every record then has the columns ``accuracy`` and
            ``valid_loss`` of these data, ``seen_accuracy`` and ``seen_loss`` of ``data``, and ``linear_probe`` and
            ``layer_probe``, the held-out accuracies of ridge regressions of the labels in ``data`` on what enters the
            last linear layer, and on what enters all layers with trained weights.
            In a ``torch.distributed`` group these columns are of what each process passes, so pass all of it in each.
        metric: what is recorded as ``accuracy``, as for :func:`~linegraph.rank`.
        file: a Parquet file that holds the records. It is written whole at every record. If it is there already, its
            records are read, so that an interrupted run goes on with them.

    Raises:
        ArgumentTypeError: if ``model`` is not a module. Other arguments are checked by :meth:`record`.
        DataError: if there is no such kind, or ``file`` is no file of a tracker, or one of other kinds or of another
            model.

    Cost: each record is one pass over ``data`` for the magnitude kind, one for all others together, and the products of
    their capacitances.

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
        kind: str | Iterable[str] = "magnitude",
        include: Include = None,
        batch_weight: BatchWeight | None = None,
        valid: Any = None,
        metric: Any = None,
        file: str | Path | None = None,
    ) -> None:
        check_module(model)
        check_metric(metric)
        check_type("kind", kind, Iterable, "a kind of coupling, or a list of kinds")
        self._kinds = (kind,) if isinstance(kind, str) else tuple(dict.fromkeys(kind))
        if not self._kinds:
            raise DataError(f"kind needs at least one of {', '.join(COUPLING_KINDS)}")
        for each in self._kinds:
            check_choice("kind", each, COUPLING_KINDS)
        options: dict[str, Any] = {"include": include, "batch_weight": batch_weight}
        self._couple: Callable[[str], NeuralCoupling] = lambda kind: NeuralCoupling(
            model, loss_fn, data, kind=kind, **options
        )
        self._held_out: Callable[[], dict[str, float]] | None = None
        if valid is not None:
            self._held_out = _HeldOut(model, loss_fn, data, valid, metric, batch_weight)
        self._names = [name for name, _ in model.named_parameters()]
        self._rows: list[dict[str, float]] = []
        self._layers: list[pd.DataFrame] = []
        self._file = as_path("file", file).absolute() if file is not None else None
        if self._file is not None and self._file.exists():
            self._read(self._file)

    def __repr__(self) -> str:
        kind = self._kinds[0] if len(self._kinds) == 1 else self._kinds
        return f"CapacitanceTracker(kind={kind!r}, records={len(self._rows)})"

    def record(self, **metrics: float | Tensor) -> dict[str, float]:
        """Compute the capacitance at the current weights, and add a row to the history.

        Args:
            metrics: numbers, or tensors of one number, by the names of their columns. ``epoch`` counts the records
                from 1 unless it is among them. If the history has rows of this epoch or later ones, as after a return
                to an earlier checkpoint, they are removed.

        Returns:
            The row: ``epoch``, the metrics, and the columns of :attr:`history`.

        Warns:
            CoverageWarning: in the first record, if weights are left out since there is no rule for their operation.
            DegenerateCapacitanceWarning: if β_eff is 0/0; its value is nan then.

        Raises:
            DataError: if a metric has the name of a column that the tracker fills, or no metric fits ``valid``, or it
                has no sample.

        Cost: a reading of the data for the gradient and the drive, one for each kind, and one more for the signed kind,
        of one to three training steps each; and a forward pass over the data and ``valid``, in which what enters each
        layer is kept for the samples of ``data`` (maps at 2 places a dimension). Of data that are one pair
        the forward pass is shared by all readings. Vectors (n,) are dropped before it returns.
        """
        own = column_names(self._kinds).union(HELD_OUT if self._held_out else ())
        if clash := sorted(own & metrics.keys()):
            raise DataError(f"{clash[0]!r} is a column of the tracker itself; record the metric under another name")
        told = ignoring(category=CoverageWarning) if self._rows else nullcontext()
        with told:  # which weights are left out
            couplings = self._couplings()
        found, layers = measured(couplings)
        del couplings  # frees the recorded passes before those of held-out data
        given = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        if self._held_out is not None:
            given |= self._held_out()
        with turn():
            number = self._rows[-1]["epoch"] + 1 if self._rows else 1
            row = {"epoch": number, **given, **found}
            kept = sum(old["epoch"] < row["epoch"] for old in self._rows)
            self._rows[kept:], self._layers[kept:] = [row], [layers]
            if self._file is not None:
                write_whole(self._file, self._write)
        return row

    @property
    def history(self) -> pd.DataFrame:
        """One row per record, in the order of epochs.

        Its columns are ``epoch``, the metrics given, those of the held-out data, the fields of
        :class:`~linegraph.Capacitance` of the first kind, those of every other kind with the kind and an underscore
        before their names, and sums and norms over synapses:
        ``num_synapses``, ``num_layers``, ``weight_norm`` ‖w‖, ``gradient_norm`` ‖∇C‖, ``drive_norm`` ‖b‖,
        ``coupled_norm`` ‖P w‖, ``saliency`` Σ|w ∘ ∇C|, ``flow`` Σ|w ∘ P w|, ``weight_gradient`` wᵀ∇C,
        ``weight_coupled`` wᵀP w, with the signed P; and how they are spread over layers: ``gradient_layers`` and
        ``flow_layers``, the exponential of the entropy of the layers' shares divided by the number of layers, and
        ``gradient_in_first`` and ``flow_in_first``, the shares of the first half of the layers. If one of the kinds is
        "signed", ``gradient_coupling`` is ∇CᵀP∇C/‖∇C‖².
        """
        return pd.DataFrame(self._rows)

    @property
    def layers(self) -> pd.DataFrame:
        """One row per record and layer, with the sums over the synapses of the layer.

        Its columns are ``epoch``, ``layer``, ``num_synapses``, ``weight_square`` Σw², ``gradient_square`` Σ(∇C)²,
        ``drive_square`` Σb², ``coupled_square`` Σ(P w)², ``saliency`` Σ|w ∘ ∇C|, ``flow`` Σ|w ∘ P w|,
        ``weight_gradient`` Σ w ∘ ∇C, ``weight_coupled`` Σ w ∘ P w, and for every kind the sums of the strengths
        ``<kind>_in_strength`` and ``<kind>_out_strength``.
        """
        if not self._layers:
            return pd.DataFrame()
        tables = [table.assign(epoch=row["epoch"]) for row, table in zip(self._rows, self._layers, strict=True)]
        found = pd.concat(tables, ignore_index=True)
        return found[["epoch", *found.columns.drop("epoch")]]

    def state_dict(self) -> dict[str, Any]:
        """The records as numbers, strings, lists and dictionaries, for a checkpoint.

        Returns:
            A dictionary for :meth:`load_state_dict`.
        """
        layers = [table.to_dict("records") for table in self._layers]
        return {"kinds": list(self._kinds), "parameters": self._names, "rows": self._rows.copy(), "layers": layers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> CapacitanceTracker:
        """Replace the records by those of :meth:`state_dict`.

        Args:
            state_dict: the records of a tracker of the same kinds and of a model with the same parameters.

        Returns:
            This tracker.

        Raises:
            DataError: if they are of other kinds, or of a model with other parameters.
        """
        self._agree("the state", state_dict)
        self._rows = list(state_dict["rows"])
        self._layers = [pd.DataFrame(part) for part in state_dict["layers"]]
        return self

    def _couplings(self) -> list[NeuralCoupling]:
        """A coupling of each kind; kinds that share their passes share one."""
        found: list[NeuralCoupling] = []
        for kind in self._kinds:
            sharing = next((P for P in found if P.shares_pass(kind)), None)
            found.append(self._couple(kind) if sharing is None else sharing.of_kind(kind))
        return found

    def _write(self, path: Path) -> None:
        table = self.history.assign(layers=[layers.to_dict("records") for layers in self._layers])
        table.attrs["linegraph"] = json.dumps({"kinds": self._kinds, "parameters": self._names})
        table.to_parquet(path, index=False)

    def _read(self, path: Path) -> None:
        try:
            table = pd.read_parquet(path)
            made = json.loads(table.attrs["linegraph"])
            layers = [pd.DataFrame(list(part)) for part in table.pop("layers")]
        except Exception as error:  # a damaged file can raise any error in the reader
            raise DataError(f"{path} is no file of a tracker, or damaged ({type(error).__name__}); remove it") from None
        self._agree(str(path), made)
        self._rows, self._layers = table.to_dict("records"), layers

    def _agree(self, what: str, made: dict[str, Any]) -> None:
        if made["kinds"] != list(self._kinds):
            raise DataError(f"{what} holds records of kind {made['kinds']}, not {list(self._kinds)}; name another file")
        if made["parameters"] != self._names:
            raise DataError(f"{what} holds records of a model with other parameters; name another file")


class _HeldOut:
    """The columns of held-out data, with the metric that the first outputs choose. The model stays unchanged."""

    def __init__(
        self, model: nn.Module, loss_fn: Any, data: Any, valid: Any, metric: Any, batch_weight: BatchWeight | None
    ) -> None:
        self._model, self._loss_fn, self._data, self._valid = model, loss_fn, data, valid
        self._wanted, self._batch_weight = metric, batch_weight
        self._metric: Metric | None = None

    def __call__(self) -> dict[str, float]:
        with turn(), preserved_randomness(), preserved(self._model, training=False):
            if self._metric is None:
                check_data("valid", self._valid)
                self._metric = check_outputs(
                    self._model, self._data, self._valid, self._loss_fn, HELD_OUT_BATCH, self._wanted
                )
            return held_out(
                self._model,
                self._loss_fn,
                self._data,
                self._valid,
                self._metric,
                size=HELD_OUT_BATCH,
                batch_weight=self._batch_weight,
            )
