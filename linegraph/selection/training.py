"""Training of one candidate, epoch by epoch, on disk after each."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from linegraph.coupling.data import batch_size, batches, call_model, is_pair
from linegraph.coupling.losses import is_torchs, name_of, reduces_by_sum
from linegraph.coupling.preserve import preserved_randomness
from linegraph.coupling.weighing import BatchWeight, Weighing
from linegraph.errors import DataError, DegenerateCapacitanceWarning
from linegraph.files import safe_name, write_whole
from linegraph.selection.tracker import CapacitanceTracker

__all__ = ["Plan", "check_directory", "train_candidate"]

History = list[dict[str, float]]
Settings = dict[str, Any]

# All threads share torch's generator, so candidates on threads take turns; processes run side by side.
_turn = threading.Lock()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum: learning rate 0.05, momentum 0.9."""
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def logits(outputs: Any) -> Any:
    """The scores among what a model returns: its ``logits`` where it has any, as Hugging Face's models do."""
    return getattr(outputs, "logits", outputs)


class OfLogits:
    """A loss of what a model returns, which goes by the name of the loss and reduces as it does."""

    def __init__(self, loss_fn: Callable[[Any, Any], Tensor]) -> None:
        self._loss_fn = loss_fn
        self.__qualname__ = name_of(loss_fn)
        self.reduction = "sum" if reduces_by_sum(loss_fn) else "mean"

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return self._loss_fn(logits(outputs), targets)


@dataclass(frozen=True)
class Plan:
    """What is the same for all candidates of one ranking."""

    train: Any
    valid: Any
    epochs: int
    total_epochs: int
    kind: str = "magnitude"
    loss_fn: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd
    batch_size: int = 64
    coupling_samples: int = 512
    seed: int = 0
    directory: Path | None = None
    batch_weight: BatchWeight | None = None

    def weight(self, inputs: Any, targets: Any) -> float:
        """What the loss of a batch counts for in the mean over batches."""
        return Weighing(self.loss_fn, self.batch_weight).weight(inputs, targets)

    @cached_property
    def of_logits(self) -> OfLogits:
        """The loss of what a model returns."""
        return OfLogits(self.loss_fn)

    @cached_property
    def settings(self) -> Settings:
        """What a stored run must agree on to be gone on with; the total number of epochs may grow."""
        return {
            **{name: getattr(self, name) for name in ("kind", "batch_size", "coupling_samples", "seed", "epochs")},
            "loss_fn": _described(self.loss_fn),
            "batch_weight": None if self.batch_weight is None else _described(self.batch_weight),
            "train": self._digest(self.train),
            "valid": self._digest(self.valid),
        }

    def _digest(self, data: Any) -> str:
        """Of all samples of a pair, of the first ones of a loader."""
        with preserved_randomness():
            torch.manual_seed(self.seed)
            kept = data if is_pair(data) else _head(data, self.coupling_samples)
        digest = hashlib.sha256()
        for leaf in tree_leaves(kept):
            if isinstance(leaf, Tensor):
                raw = leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode() + raw.numpy().tobytes())
        return digest.hexdigest()[:16]


def check_data(name: str, data: Any) -> None:
    """Refuse data that cannot be read, or have no sample, before anything is trained.

    Raises:
        DataError: naming the data.
    """
    try:
        with preserved_randomness():
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


def check_directory(names: Iterable[str], plan: Plan) -> None:
    """Refuse a directory of runs with other settings, before anything is trained or overwritten.

    Raises:
        DataError: naming the settings that differ.
    """
    for name in names:
        path = _path(name, plan)
        if path is not None and path.exists():
            with safe_open(path, "pt") as stored:
                _agree(path, json.loads(stored.metadata()["settings"]), plan.settings)


def train_candidate(
    name: str, constructor: Callable[[], nn.Module], plan: Plan, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train one candidate; its history, one row per epoch, with the capacitance for the first ``plan.epochs``.

    Every epoch draws from its own seed, so a run that was interrupted ends with the numbers of one that was not.
    """
    with _turn, preserved_randomness():
        torch.manual_seed(plan.seed)
        data = _head(plan.train, plan.coupling_samples)
        model = _beside(data, constructor())
        optimizer = plan.optimizer(model)
        history = _load(name, model, optimizer, plan)
        for epoch in range(len(history) + 1, plan.total_epochs + 1):
            torch.manual_seed(plan.seed * 100_003 + epoch)
            loss = _train_epoch(model, optimizer, plan)
            row: dict[str, float] = {"epoch": epoch, "loss": loss, "accuracy": accuracy(model, plan.valid)}
            if epoch <= plan.epochs:
                row = _with_capacitance(row, model, data, plan)
            history.append(row)
            _save(name, model, optimizer, history, plan)
            on_epoch()
    return history


def _beside(data: Any, model: nn.Module) -> nn.Module:
    """The model on the device of the data; one that is spread over several stays where it is."""
    places = {t.device for t in (*model.parameters(), *model.buffers())}
    there = next((leaf.device for leaf in tree_leaves(data) if isinstance(leaf, Tensor)), None)
    return model if there is None or len(places) != 1 else model.to(there)


@torch.no_grad()
def accuracy(model: nn.Module, data: Any) -> float:
    """Share of samples whose largest output is the target's, in evaluation mode."""
    model.eval()
    right = total = 0
    for inputs, targets in batches(data):
        right += int((logits(call_model(model, inputs)).argmax(1) == targets).sum())
        total += batch_size(inputs, targets)
    return right / total


def _with_capacitance(row: dict[str, float], model: nn.Module, data: Any, plan: Plan) -> dict[str, float]:
    with warnings.catch_warnings():
        # A nan in the table says it; once per epoch and candidate is too often for a warning.
        warnings.simplefilter("ignore", DegenerateCapacitanceWarning)
        sums = reduces_by_sum(plan.loss_fn)
        weight = plan.batch_weight or (plan.weight if is_torchs(plan.loss_fn) and not sums else None)
        return CapacitanceTracker(model, plan.of_logits, data, kind=plan.kind, batch_weight=weight).record(**row)


def _train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan) -> float:
    model.train()
    total = weights = 0.0
    for inputs, targets in _minibatches(plan.train, plan.batch_size):
        optimizer.zero_grad(set_to_none=True)
        loss = plan.of_logits(call_model(model, inputs), targets)
        loss.backward()
        optimizer.step()
        if weight := plan.weight(inputs, targets):  # 0 where all targets are ignored, and the loss is 0/0
            total, weights = total + float(loss.detach()) * weight, weights + weight
    if not math.isfinite(total):
        raise FloatingPointError("training diverged: the loss is not finite; lower the learning rate")
    return total / weights


def _minibatches(data: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """Batches of a loader as it gives them, or of a pair of tensors in random order."""
    if not is_pair(data):
        yield from batches(data)
        return
    inputs, targets = data
    if not isinstance(inputs, Tensor):
        raise DataError("a pair with structured inputs cannot be cut into batches; pass a DataLoader")
    # Batch norm cannot train on one sample: a last batch of one joins the batch before it.
    order = torch.randperm(len(inputs))
    cuts = list(order.split(size))
    if len(cuts) > 1 and len(cuts[-1]) == 1:
        cuts[-2:] = [torch.cat(cuts[-2:])]
    for indices in cuts:
        yield inputs[indices], targets[indices]


def _head(data: Any, samples: int) -> Any:
    """The first samples of the data, the same at every epoch, to form P on."""
    if is_pair(data) and isinstance(data[0], Tensor):
        return data[0][:samples], data[1][:samples]
    kept, seen = [], 0
    with preserved_randomness():
        for inputs, targets in batches(data):
            kept.append((inputs, targets))
            seen += batch_size(inputs, targets)
            if seen >= samples:
                break
    return kept


# one file per candidate: weights and optimizer as tensors, history and settings as metadata -----------------


def _path(name: str, plan: Plan) -> Path | None:
    return plan.directory / f"{safe_name(name)}.safetensors" if plan.directory else None


def _save(name: str, model: nn.Module, optimizer: torch.optim.Optimizer, history: History, plan: Plan) -> None:
    if (path := _path(name, plan)) is None:
        return
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items() if value is not None
        }
    # Clones, since safetensors refuses tensors that share memory (tied weights).
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    settings = plan.settings | _own_settings(model, optimizer)
    metadata = {"name": name, "settings": json.dumps(settings), "history": json.dumps(history)}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def _load(name: str, model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan) -> History:
    path = _path(name, plan)
    if path is None or not path.exists():
        return []
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
        _agree(path, json.loads(metadata["settings"]), plan.settings | _own_settings(model, optimizer))
        history = json.loads(metadata["history"])
        if len(history) > plan.total_epochs:
            raise DataError(f"{path} has {len(history)} epochs already, more than the {plan.total_epochs} asked for")
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a mapping)
    model.load_state_dict({key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, field_name = key.split(".", 2)
            states.setdefault(int(index), {})[field_name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return history


def _own_settings(model: nn.Module, optimizer: torch.optim.Optimizer) -> Settings:
    """What is the candidate's own: its layers, and the optimizer with its hyperparameters."""
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.state_dict()["param_groups"]
    ]
    return {
        "model": hashlib.sha256(repr(model).encode()).hexdigest()[:16],
        "optimizer": f"{type(optimizer).__name__} {groups}",
    }


def _agree(path: Path, stored: Settings, present: Settings) -> None:
    """Compare the settings that present names."""
    if differing := [key for key in present if stored.get(key) != present[key]]:
        what = ", ".join(f"{key} ({stored.get(key)}, now {present[key]})" for key in differing)
        raise DataError(f"{path} was made with other settings: {what}; take another directory or remove it")


def _described(function: Callable[..., Any]) -> str:
    """The same in every process, unlike repr, which holds addresses. Functions of one name are taken for the same."""
    if isinstance(function, partial):
        return f"{_described(function.func)}{function.args}{function.keywords}"
    if isinstance(function, nn.Module):
        return repr(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
