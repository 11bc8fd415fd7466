"""The settings of a ranking."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linegraph.coupling.model.data import batch_size, batches, is_pair, num_batches
from linegraph.coupling.model.weighing import BatchWeight, Weighing
from linegraph.identity import Settings, describe, digest
from linegraph.lazy import cached_property
from linegraph.randomness import preserved_randomness, seed_generators
from linegraph.selection import states
from linegraph.selection.methods import Method
from linegraph.selection.scoring import OfLogits

__all__ = ["Plan", "first_samples", "sgd"]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum: learning rate 0.05, momentum 0.9."""
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@dataclass(frozen=True)
class Plan:
    """The settings of one ranking, common to all candidates."""

    train: Any
    valid: Any
    epochs: int
    kind: str | list[str] = "magnitude"
    loss_fn: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd
    batch_size: int = 64
    coupling_samples: int = 512
    seed: int = 0
    directory: Path | None = None
    batch_weight: BatchWeight | None = None
    metric: Any = None
    initial_methods: tuple[Method, ...] = ()

    def weight(self, inputs: Any, targets: Any) -> float:
        """The weight of a batch in the mean loss over batches."""
        return Weighing(self.loss_fn, self.batch_weight).weight(inputs, targets)

    @cached_property
    def of_logits(self) -> OfLogits:
        """The loss as a function of the output of a model."""
        return OfLogits(self.loss_fn)

    @cached_property
    def settings(self) -> Settings:
        """The settings with which a stored run must agree to be resumed; the total number of epochs may differ."""
        return {
            "torch": torch.__version__,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            **{name: getattr(self, name) for name in ("kind", "batch_size", "coupling_samples", "seed", "epochs")},
            "loss_fn": describe(self.loss_fn),
            "batch_weight": describe(self.batch_weight),
            "metric": describe(self.metric),
            "optimizer": describe(self.optimizer),
            "train": self._described(self.train),
            "valid": self._described(self.valid),
        }

    @cached_property
    def steps(self) -> tuple[float, float]:
        """Numbers of training steps that an epoch and a pass over the ``coupling_samples`` cost; nan if not known."""
        if is_pair(self.train):
            samples = batch_size(*self.train)
            return math.ceil(samples / self.batch_size), min(samples, self.coupling_samples) / self.batch_size
        with preserved_randomness(), states.rewound(self.train):
            head = len(first_samples(self.train, self.coupling_samples))
        return num_batches(self.train) or math.nan, head

    def _described(self, data: Any) -> str:
        """A description of the data object, with a digest of its first samples as they are read."""
        held = describe(data)
        if is_pair(data):
            return held
        with preserved_randomness(), states.rewound(data):
            seed_generators(self.seed)
            return f"{held} {digest(first_samples(data, self.coupling_samples))[:12]}"


def first_samples(data: Any, samples: int) -> Any:
    """The first samples of the data, on which P is formed after every epoch."""
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
