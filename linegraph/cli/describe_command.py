"""``linegraph describe``."""

from __future__ import annotations

from typing import Annotated

from typer import BadParameter, Option

from linegraph.cli.options import Common, DataOptions, ModelOptions, Out
from linegraph.cli.output import Output, in_bytes

__all__ = ["describe"]

BYTES_PER_EDGE = 24


def describe(
    common: Common,
    options: ModelOptions,
    data: DataOptions,
    input_shape: Annotated[
        str | None,
        Option(help="Shape of a sample, such as 3x224x224: describe with random inputs, without data and loss."),
    ] = None,
    samples: Annotated[int, Option(min=1, help="Number of samples of the one pass through the network.")] = 8,
    out: Out = None,
) -> None:
    """Show what linegraph sees of a network, without computing P: the role of every parameter, and why; sizes.

    linegraph describe --model digits:resnet-batchnorm-16
    """
    import pandas as pd

    from linegraph.cli import models
    from linegraph.cli.couplings import Network, network
    from linegraph.cli.threads import limited
    from linegraph.errors import TooLargeError

    if input_shape is None:
        found = network(options, data, samples)
    elif options.model is None:
        raise BadParameter("name a network, such as digits:cnn-8", param_hint="--model")
    else:
        model = models.model(options.model, options.weights, options.seed)
        found = Network(options.model, model, _energy, _noise(input_shape, samples), f"noise {input_shape}")
    results = Output("describe", as_json=common.json, out=out)
    results.value("of", found.title)
    with limited(common.threads, found.size):
        P = found.coupling("signed")
        coverage = P.coverage()
        try:
            edges = P.num_edges
        except TooLargeError:
            edges = None
    layers = pd.DataFrame([{"layer": s.name, "op": s.op, "shape": s.shape, "nodes": s.numel} for s in P.synapses])
    sizes = {
        "network": type(found.model).__name__,
        "parameters": found.size,
        "nodes": P.num_nodes,
        "covered": P.covered,
        "edges": edges,
        "bytes_of_explicit_graph": None if edges is None else edges * BYTES_PER_EDGE,
    }
    results.table("layers", layers, "Layers whose weights are nodes of the line graph")
    results.table("coverage", coverage, "Every parameter, its role, and why")
    roles = coverage.groupby("role", sort=False)["numel"].agg(["count", "sum"]).reset_index()
    results.table("roles", roles.set_axis(["role", "parameters", "numbers"], axis=1), "Roles")
    shown = pd.DataFrame({"name": list(sizes), "value": [_in_words(name, value) for name, value in sizes.items()]})
    results.table("sizes", pd.Series(sizes, dtype=object), f"Sizes of {found.title}", shown=shown)
    results.finish()


def _in_words(name: str, value: object) -> str:
    if value is None:
        return "too many to count: different synapses share their neurons in too many ways"
    if name == "covered":
        return f"{value:.4%} of the trainable weights, biases aside"
    if name.startswith("bytes") and isinstance(value, int):
        return f"{in_bytes(value)}, about; the operator P needs none of it"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _noise(shape: str, samples: int) -> tuple[object, object]:
    import torch

    try:
        sizes = [int(size) for size in shape.lower().split("x")]
        if min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise BadParameter(f"{shape!r} is no shape such as 3x224x224", param_hint="--input-shape") from None
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, *sizes, generator=generator), torch.zeros(samples)


def _energy(outputs: object, targets: object) -> object:
    """A loss that depends on every output, for passes of which only the structure matters."""
    import torch
    from torch.utils._pytree import tree_leaves

    from linegraph.selection.scoring import logits

    scores = logits(outputs)
    leaves = [leaf for leaf in tree_leaves(scores) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
    return sum(leaf.square().mean() for leaf in leaves)
