"""The scores of one candidate before it is trained, each with its time and, where there is none, the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from linegraph.coupling.model.data import call_model
from linegraph.errors import DataError
from linegraph.randomness import preserved_randomness
from linegraph.selection.constructed import checked, unchanged
from linegraph.selection.linear_probes import LastLinearInputs
from linegraph.selection.methods import Method, Score, evaluated
from linegraph.selection.probe import CapacitanceProbe

__all__ = ["initial_scores"]


def initial_scores(methods: Iterable[Method], model: nn.Module, loss_fn: Any, data: Any) -> dict[str, Score]:
    """The scores of a network as constructed, by the names of the methods.

    The network and the random generators are left as they were; methods that a user has registered must leave the
    parameters unchanged.

    Args:
        methods: methods of a network, its features or its source classes.
        model: the network.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: one (inputs, targets) pair, or an iterable of pairs.
    """
    arguments: dict[str, Callable[[], tuple[Any, ...]]] = {
        "model, loss_fn, data": lambda: (model, loss_fn, data),
        "features, labels": lambda: _features(model, data),
        "probabilities, labels": lambda: _source_classes(model, data),
    }
    with preserved_randomness():
        return {method.name: evaluated(method, arguments[method.arguments]) for method in methods}


def _features(model: nn.Module, data: Any) -> tuple[Tensor, Tensor]:
    """What enters the head of a probe, or else the last linear layer that a forward pass calls; and the labels."""
    if isinstance(model, CapacitanceProbe):
        return _read(model, data, lambda inputs: call_model(model.features, inputs))
    with LastLinearInputs(model) as last:

        def read(inputs: Any) -> Tensor:
            call_model(model, inputs)
            features = last.take()
            if features is None:
                raise DataError("the model calls no linear layer, so its features are not known; use CapacitanceProbe")
            return features

        return _read(model, data, read)


def _source_classes(model: nn.Module, data: Any) -> tuple[Tensor, Tensor]:
    """The probabilities of the source classes that the classifier of a pre-trained model gives; and the labels."""
    if not isinstance(model, CapacitanceProbe):
        raise DataError(
            f"a {type(model).__name__} has no classes of another task; LEEP and NCE read a CapacitanceProbe of a "
            "pre-trained model with its classifier"
        )
    scores, labels = _read(model, data, lambda inputs: call_model(model.source_scores, inputs))
    return scores.double().softmax(1), labels


def _read(model: nn.Module, data: Any, read: Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """What a function reads from each batch, and the targets, with the whole model in evaluation mode."""
    with _evaluating(model):
        found = [(read(inputs), targets) for inputs, targets in checked(data)]
    values, targets = zip(*found, strict=True)
    if not all(isinstance(part, Tensor) for part in targets):
        raise DataError(f"the targets are a {type(targets[0]).__name__}, not class indices (N,)")
    return torch.cat(values), torch.cat(targets)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    with unchanged(model), torch.no_grad():
        for module in model.modules():
            module.training = False
        yield
