"""Training of one candidate, which is stored after every epoch."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from linegraph.coupling.model.data import batches, call_model, is_pair
from linegraph.coupling.model.losses import is_torchs, reduces_by_sum
from linegraph.errors import CoverageWarning, DataError, DegenerateCapacitanceWarning, ResumeWarning
from linegraph.files import safe_name
from linegraph.identity import Settings, agree, describe, digest
from linegraph.quiet import ignoring
from linegraph.randomness import preserved_randomness, seed_generators
from linegraph.selection import states, stored
from linegraph.selection.held_out import held_out
from linegraph.selection.initial import initial_scores
from linegraph.selection.methods import Score
from linegraph.selection.plan import Plan, first_samples
from linegraph.selection.scoring import HeldOutLoss, check_outputs, copied, evaluate
from linegraph.selection.stored import History, Stored
from linegraph.selection.tracker import CapacitanceTracker
from linegraph.turns import hand_on, preserving, turn

__all__ = ["Failure", "History", "Trained", "attempt", "check_directory", "rows_up_to", "train_candidate"]


class Trained(NamedTuple):
    """A candidate that was trained: a row per epoch, its scores at initialisation by method, its metric by name."""

    history: History
    scores: dict[str, Score]
    metric: str


@dataclass(frozen=True)
class Failure:
    """Why a candidate has no history, as text, since not every exception can be pickled between processes."""

    error: str
    of_data: bool = False


def check_directory(names: Iterable[str], plan: Plan) -> None:
    """Refuse a directory with runs of other settings or damaged files, before anything is trained or overwritten.

    Raises:
        DataError: if there is such a file; names it and the settings that differ.
    """
    present = plan.settings  # before they travel to workers
    for name in names:
        path = _path(name, plan)
        if path is not None and (found := stored.read(path, name)) is not None:
            agree(path, found.settings, present)


def attempt(
    name: str,
    constructor: Callable[[], nn.Module],
    plan: Plan,
    epochs: int,
    on_epoch: Callable[[int], object] = lambda _: None,
) -> Trained | Failure:
    """Train a candidate for some epochs.

    Any error except ``KeyboardInterrupt`` is returned, so that the other candidates go on.
    """
    try:
        return train_candidate(name, constructor, plan, epochs, on_epoch)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failed(error)


def failed(error: BaseException) -> Failure:
    """The failure for an error, with the text for the table."""
    try:
        text = str(error)
    except Exception:
        text = "an error that cannot be printed"
    return Failure(f"{type(error).__name__}: {text}", isinstance(error, DataError))


def train_candidate(
    name: str,
    constructor: Callable[[], nn.Module],
    plan: Plan,
    epochs: int,
    on_epoch: Callable[[int], object] = lambda _: None,
) -> Trained:
    """Train one candidate for ``epochs`` epochs in all, of which a stored run may have had some.

    The history has one row per epoch, from 0, with the capacitance for the first ``plan.epochs``.

    Every epoch has its own seed, and data and loss start in the states in which the caller passed them. A resumed run
    therefore ends with the same numbers as an uninterrupted one.
    """
    # All threads share torch's random generator, so candidates on threads take turns; processes run in parallel.
    with turn(training=True), preserved_randomness(), _defaults_kept(), _shared_kept(plan) as rewind:
        run = _Run(name, constructor, plan)
        if not run.resume(epochs):
            rewind()
            scores, run = run.scores, _Run(name, constructor, plan)
            run.scores = scores
        for epoch in range(run.reached + 1, epochs + 1):
            seed_generators(plan.seed * 100_003 + epoch)
            run.train_epoch(epoch)
            _save(run)
            on_epoch(epoch)
    scores = {method.name: run.scores[method.name] for method in plan.initial_methods}
    return Trained(rows_up_to(epochs, run.history), scores, run.metric.name)


def rows_up_to(epochs: int, history: History) -> History:
    """The rows of a history up to an epoch, that of epoch 0 among them."""
    return [row for row in history if row["epoch"] <= epochs]


class _Run:
    """One candidate in training, with all states that its training reads and changes."""

    def __init__(self, name: str, constructor: Callable[[], nn.Module], plan: Plan) -> None:
        self.name, self.plan = name, plan
        self.history: History = []
        self.scores: dict[str, Score] = {}
        self.path = _path(name, plan)
        seed_generators(plan.seed)
        with states.rewound(plan.train):
            self.data = first_samples(plan.train, plan.coupling_samples)
        model = constructor()
        if not isinstance(model, nn.Module):
            raise TypeError(f"the constructor returns a {type(model).__name__}, not a torch.nn.Module")
        self.model = _beside(self.data, model)
        with states.rewound(plan.train, plan.valid), _loss_kept(plan):
            self.metric = check_outputs(self.model, plan.train, plan.valid, plan.loss_fn, plan.batch_size, plan.metric)
        self.optimizer = plan.optimizer(self.model)
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer= returns a {type(self.optimizer).__name__}, not a torch.optim.Optimizer")
        if self.path is not None:
            self.settings = plan.settings | self._own_settings()
            self._start = {path: digest(states.held(leaf)) for path, leaf in self._leaves()}

    @property
    def reached(self) -> int:
        """The last epoch in the history; −1 if there is none."""
        return int(self.history[-1]["epoch"]) if self.history else -1

    def train_epoch(self, epoch: int) -> None:
        """Train for one epoch, and add its row to the history. Epoch 0 is the network as constructed."""
        states.forget_workers(self.plan.train, self.plan.valid)
        loss = _train_epoch(self.model, self.optimizer, self.plan) if epoch else math.nan
        row: dict[str, float] = {"epoch": epoch, "loss": loss, **self._evaluated(epoch)}
        if epoch <= self.plan.epochs:
            told = ignoring(category=CoverageWarning) if self.history else nullcontext()
            with told:  # which weights are left out
                row = _with_capacitance(row, self.model, self.data, self.plan)
        self.history.append(row)

    def _evaluated(self, epoch: int) -> dict[str, float]:
        """The columns of held-out data, with those of the samples of P in the epochs that predict."""
        plan, size = self.plan, self.plan.batch_size
        with _loss_kept(plan):
            if epoch > plan.epochs:
                return evaluate(self.model, plan.valid, self.metric, HeldOutLoss(plan.loss_fn, plan.batch_weight), size)
            weight = plan.batch_weight
            return held_out(
                self.model, plan.loss_fn, self.data, plan.valid, self.metric, size=size, batch_weight=weight
            )

    def resume(self, epochs: int) -> bool:
        """Restore the run from its file, if there is one; returns False if it has to start anew to have ``epochs``.

        Raises:
            DataError: if the file is damaged or was made with other settings.
        """
        if self.path is None or (found := stored.read(self.path, self.name)) is None:
            self._score({})
            return True
        agree(self.path, found.settings, self.settings)
        self._score(found.scores)
        whole = found.states is not None and self._restore(found)
        if not whole and found.history[-1]["epoch"] < epochs:
            warnings.warn(
                f"{self.path} does not hold all states that the training of {self.name!r} reads, and it is trained "
                "anew; states that are numbers, tensors or random generators in attributes are kept",
                ResumeWarning,
                stacklevel=2,
            )
            return False
        self.history = found.history
        return True

    def _score(self, known: dict[str, Score]) -> None:
        """Score the candidate as it was constructed, by the methods whose scores are not known."""
        missing = [method for method in self.plan.initial_methods if method.name not in known]
        with _loss_kept(self.plan):
            self.scores = known | initial_scores(missing, self.model, self.plan.loss_fn, self.data)

    def content(self) -> Stored:
        """The content of the file after an epoch."""
        tensors: dict[str, Tensor] = {}
        try:
            written = {
                "model": states.encode(dict(self.model.state_dict()), tensors, "model"),
                "optimizer": states.encode(self.optimizer.state_dict(), tensors, "optimizer"),
                "leaves": [
                    [states.encode(path, {}, "path"), states.encode(states.held(leaf), tensors, f"state.{index}")]
                    for index, (path, leaf) in enumerate(self._leaves())
                    if self._start.get(path) != digest(states.held(leaf))
                ],
                "digest": self._digest(),
            }
        except states.UnstorableError:
            return Stored(self.name, self.settings, self.history, None, {}, self.scores)
        return Stored(self.name, self.settings, self.history, written, tensors, self.scores)

    def _restore(self, found: Stored) -> bool:
        """Restore all states; returns whether everything then is as it was when they were stored."""
        try:
            model = OrderedDict(states.decode(found.states["model"], found.tensors))
            model._metadata = self.model.state_dict()._metadata  # type: ignore[attr-defined]  # versions of layers
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(states.decode(found.states["optimizer"], found.tensors))
        except Exception:  # raised by the user's own load_state_dict
            return False
        weights = self.model.state_dict(keep_vars=True).values()
        place = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        for path, leaf in found.states["leaves"]:
            states.assign(self._roots, states.decode(path, {}), states.decode(leaf, found.tensors, place), weights)
        return bool(self._digest() == found.states["digest"])

    @property
    def _roots(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "loss": self.plan.loss_fn} | self._data

    @property
    def _data(self) -> dict[str, Any]:
        return {"train": self.plan.train, "valid": self.plan.valid}

    def _leaves(self) -> Iterator[tuple[states.Path, Any]]:
        """The states that are not in ``state_dict()``; tensors of the data are samples, and no states."""
        elsewhere = [*self.model.state_dict(keep_vars=True).values(), self.optimizer.state, self.optimizer.param_groups]
        roots = {name: root for name, root in self._roots.items() if name not in self._data}
        yield from states.leaves(roots, tensors=True, but=[*elsewhere, self.plan.train, self.plan.valid])
        yield from states.leaves(self._data, tensors=False)

    def _digest(self) -> str:
        """The digest of all on which the next epoch depends."""
        data = [(path, states.held(leaf)) for path, leaf in states.leaves(self._data, tensors=False)]
        return digest(self.model, self.optimizer, self.plan.loss_fn, data)

    def _own_settings(self) -> Settings:
        """The settings of this candidate: its network, its initial weights and the optimizer's hyperparameters."""
        tensors = [leaf for leaf in self.model.state_dict().values() if isinstance(leaf, Tensor)]
        groups = [
            {key: value if _is_plain(value) else describe(value) for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]
        return {
            "model": f"{describe(self.model)}, {sum(t.numel() for t in tensors):,} weights",
            "first weights": digest(tensors)[:12],
            "hyperparameters": f"{type(self.optimizer).__name__} {groups}",
        }


def _beside(data: Any, model: nn.Module) -> nn.Module:
    """The model, moved to the device of the data unless it is spread over several devices."""
    places = {t.device for t in (*model.parameters(), *model.buffers())}
    there = next((leaf.device for leaf in tree_leaves(data) if isinstance(leaf, Tensor)), None)
    return model if there is None or len(places) != 1 else model.to(there)


def _with_capacitance(row: dict[str, float], model: nn.Module, data: Any, plan: Plan) -> dict[str, float]:
    # The table has nan; a warning in every epoch of every candidate would be too much.
    with ignoring(category=DegenerateCapacitanceWarning), _loss_kept(plan):
        sums = reduces_by_sum(plan.loss_fn)
        weight = plan.batch_weight or (plan.weight if is_torchs(plan.loss_fn) and not sums else None)
        tracker = CapacitanceTracker(model, plan.of_logits, copied(data), kind=plan.kind, batch_weight=weight)
        return tracker.record(**row)


def _train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan) -> float:
    model.train()
    total = weights = 0.0
    for inputs, targets in _minibatches(plan.train, plan.batch_size):
        hand_on()
        optimizer.zero_grad(set_to_none=True)
        loss = plan.of_logits(call_model(model, copied(inputs)), targets)
        loss.backward()
        optimizer.step()
        if weight := plan.weight(inputs, targets):  # 0 if all targets are ignored and the loss is 0/0
            total, weights = total + float(loss.detach()) * weight, weights + weight
    if not math.isfinite(total):
        raise FloatingPointError("training diverged: the loss is not finite; lower the learning rate")
    return total / weights


def _minibatches(data: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """The batches of a loader, or random batches of a pair of tensors."""
    if not is_pair(data):
        yield from batches(data)
        return
    inputs, targets = data
    if not isinstance(inputs, Tensor):
        raise DataError("a pair with structured inputs cannot be cut into batches; pass a DataLoader")
    # Batch norm cannot train on one sample: a last batch of one sample is joined to the one before.
    order = torch.randperm(len(inputs))
    cuts = list(order.split(size))
    if len(cuts) > 1 and len(cuts[-1]) == 1:
        cuts[-2:] = [torch.cat(cuts[-2:])]
    for indices in cuts:
        yield inputs[indices], targets[indices]


@contextmanager
def _defaults_kept() -> Iterator[None]:
    """Restore global settings that a constructor may change: default dtype and device, gradient mode, determinism."""
    device = torch.get_default_device()
    with torch.enable_grad(), preserving(_defaults):
        try:
            yield
        finally:
            if torch.get_default_device() != device:  # a setting of each thread
                torch.set_default_device(device)


def _defaults() -> Callable[[], None]:
    """A function that restores the default settings that all threads share."""
    dtype, deterministic = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()

    def restore() -> None:
        torch.set_default_dtype(dtype)
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)

    return restore


@contextmanager
def _shared_kept(plan: Plan) -> Iterator[Callable[[], None]]:
    """Restore the states of data and loss, which candidates share, on exit; yields a function that does so at once."""
    with states.rewound(plan.train, plan.valid) as rewind_data, _loss_kept(plan) as rewind_loss:
        yield lambda: (rewind_data(), rewind_loss())[0]


def _loss_kept(plan: Plan) -> AbstractContextManager[Callable[[], None]]:
    """Restore the state of a loss that is an object. Variables that a plain function refers to are left as they are."""
    roots = () if isinstance(plan.loss_fn, FunctionType) else (plan.loss_fn,)
    return states.rewound(*roots, tensors=True)


def _path(name: str, plan: Plan) -> Path | None:
    return plan.directory / f"{safe_name(name)}.safetensors" if plan.directory else None


def _save(run: _Run) -> None:
    if run.path is not None:
        stored.write(run.path, run.content())


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
