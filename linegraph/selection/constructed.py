"""Passes of a network as it was constructed, which leave the network and the random generators as they were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from linegraph.arguments import check_module
from linegraph.coupling.model.data import batches, call_model
from linegraph.coupling.model.losses import check_loss
from linegraph.coupling.model.plain_forward import in_the_open
from linegraph.coupling.model.preserve import preserved
from linegraph.coupling.model.weighing import Weighing
from linegraph.coupling.tracing.attention import Unfused
from linegraph.errors import DataError, NonFiniteError, NoSynapseError
from linegraph.selection.scoring import copied, logits

__all__ = ["Call", "batch_losses", "checked", "finite", "trainable_weights", "unchanged"]

Call = Callable[[Any], Any]


@contextmanager
def unchanged(model: nn.Module) -> Iterator[Call]:
    """A context that restores the model and the random generators; yields a function from inputs to scores.

    All modules are in evaluation mode, so that nothing is drawn at random, except batch norm, which uses the statistics
    of the batch, and recurrent layers, whose gradient cuDNN computes only in training mode. Modules that do not follow
    ``model.train()``, such as those of a frozen backbone, stay in evaluation mode.
    """
    check_module(model)
    with preserved(model, training=True) as unwritten, in_the_open(model), torch.enable_grad():
        for module in model.modules():
            if module.training and not isinstance(module, _BatchNorm | nn.RNNBase):
                module.training = False

        def call(inputs: Any) -> Any:
            with Unfused(), unwritten:  # fused attention has no second derivative, and its operations are not counted
                return logits(call_model(model, inputs))

        yield call


def checked(data: Any) -> list[tuple[Any, Any]]:
    """The batches of the data, copied, since a model may write into its inputs.

    Raises:
        DataError: if there is no sample, or the data cannot be read.
    """
    found = [(copied(inputs), targets) for inputs, targets in batches(data)]
    if not found:
        raise DataError("data has no sample")
    return found


def batch_losses(call: Call, loss_fn: Callable[[Any, Any], Tensor], data: Any) -> Iterator[tuple[Tensor, float]]:
    """The losses of the batches, and the share of each batch in the loss on all data."""
    check_loss(loss_fn)
    weighing, found = Weighing(loss_fn), checked(data)
    weights = [weighing.weight(inputs, targets) for inputs, targets in found]
    total = sum(weights) if weighing.averages else 1.0
    if not total:
        raise DataError("the loss ignores all targets of the data")
    for (inputs, targets), weight in zip(found, weights, strict=True):
        if weight:
            yield loss_fn(call(inputs), targets), weight / total


def trainable_weights(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters with two or more dimensions: no biases, and no scales of normalisations.

    Raises:
        NoSynapseError: if there is none.
    """
    found = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    if not found:
        raise NoSynapseError("the model has no trainable weight with two or more dimensions, so it has no such score")
    return found


def finite(name: str, value: Tensor | float) -> float:
    """A score as a float.

    Raises:
        NonFiniteError: if it is nan or infinite.
    """
    number = float(value)
    if not math.isfinite(number):
        raise NonFiniteError(f"{name} is {number}: the outputs, the loss or its derivatives are not finite")
    return number
