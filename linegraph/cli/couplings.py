"""The coupling that a command is about: that of a network and data, or the graph in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn

from linegraph.cli import data, models
from linegraph.cli.errors import chosen, note
from linegraph.cli.options import DataOptions, ModelOptions, NetworkOptions
from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.kinds import COUPLING_KINDS
from linegraph.coupling.model.data import call_model
from linegraph.coupling.model.preserve import preserved
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import DataError
from linegraph.io.networks import read_network
from linegraph.selection.plan import first_samples
from linegraph.selection.scoring import OfLogits, check_data, check_loss_takes, copied, logits

__all__ = ["Network", "Subject", "graph", "network", "subject"]


@dataclass(frozen=True)
class Network:
    """A network with its loss and data.

    Attributes:
        title: its name.
        model: the network.
        loss: of outputs and targets.
        sample: the data of P.
        description: of the data.
    """

    title: str
    model: nn.Module
    loss: Any
    sample: Any
    description: str

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def coupling(self, kind: str) -> NeuralCoupling:
        """The coupling of a kind."""
        return NeuralCoupling(self.model, self.loss, self.sample, kind=kind)


@dataclass(frozen=True)
class Subject:
    """What a command computes of: couplings of one or more kinds.

    Attributes:
        title: the name of the network or graph.
        size: the number of parameters, or of edges.
        couplings: by kind, functions that make them; a graph has the one kind "graph".
        settings: what the couplings depend on.
    """

    title: str
    size: int
    couplings: dict[str, Callable[[], Coupling]]
    settings: dict[str, Any]


def network(options: ModelOptions, of_data: DataOptions, samples: int) -> Network:
    """The network that options name, and the first samples of its data.

    Raises:
        DataError: if there is no such network, there are no such data, or the two or the loss do not belong together.
    """
    if options.model is None:
        raise typer.BadParameter("name a network, such as digits:cnn-8", param_hint="--model")
    loss_fn = models.loss(options.loss)
    model = models.model(options.model, options.weights, options.seed)
    whole = data.load(of_data, options.loss, [options.model])
    check_data("--data", whole.train)
    note(whole.description)
    sample = first_samples(whole.train, samples)
    _check(model, loss_fn, sample if isinstance(sample, tuple) else sample[0])
    return Network(options.model, model, OfLogits(loss_fn), sample, whole.description)


def _check(model: nn.Module, loss_fn: Any, batch: tuple[Any, Any]) -> None:
    """Refuse a network that does not take the data, or whose outputs the loss does not take."""
    inputs, targets = batch
    with torch.no_grad(), preserved(model, training=False):
        try:
            scores = logits(call_model(model, copied(inputs)))
        except Exception as error:
            shape = tuple(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
            raise DataError(
                f"the network does not take the inputs {shape} of --data: {type(error).__name__}: {error}"
            ) from error
        check_loss_takes(loss_fn, scores, targets, "--data")


def graph(path: Path, options: NetworkOptions) -> GraphCoupling:
    """The graph in a file."""
    return read_network(
        path,
        directed=False if options.undirected else None,
        header=options.header,
        weight=None if options.unweighted else options.weight,
    )


def subject(
    file: Path | None,
    read: NetworkOptions,
    options: ModelOptions,
    of_data: DataOptions,
    samples: int,
    kinds: list[str] | None,
) -> Subject:
    """The graph in a file, or the network that options name.

    Raises:
        BadParameter: if both or none of the two are named, or a kind is unknown.
    """
    for kind in kinds or ():
        chosen("kind", kind, COUPLING_KINDS, "--kind")
    if file is None:
        found = network(options, of_data, samples)
        settings = {
            "model": options.model,
            "weights": options.weights or f"initial, seed {options.seed}",
            "data": found.description,
            "samples": samples,
            "loss": options.loss,
        }
        made: dict[str, Callable[[], Coupling]] = {
            kind: partial(found.coupling, kind) for kind in dict.fromkeys(kinds or ["magnitude"])
        }
        return Subject(found.title, found.size, made, settings)
    if options.model is not None:
        raise typer.BadParameter("name a file of a graph, or a network, not both", param_hint="--model")
    if kinds:
        raise typer.BadParameter("kinds are those of networks; a graph has its weights", param_hint="--kind")
    explicit = graph(file, read)
    return Subject(file.name, explicit.num_edges, {"graph": lambda: explicit}, {"file": file.name})
