"""Options that several commands share, in groups: a parameter of a command that is a group stands for its options.

Nothing here imports torch, so that the shell completes words, and ``--help`` answers, at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from typer import Argument, Option

from linegraph.cli.errors import reported

__all__ = [
    "Common",
    "DataOptions",
    "GraphFile",
    "Kinds",
    "ModelOptions",
    "NetworkOptions",
    "Out",
    "Samples",
    "with_groups",
]

Out = Annotated[Path | None, Option(help="Folder for tables (CSV) and figures (PNG).")]
FORMATS = "edge list, .graphml, .gexf, .gml, .net (Pajek), .graph (METIS), .sif, .mtx or .npz (SciPy)"
GraphFile = Annotated[
    Path | None, Argument(help=f"File of a graph, instead of --model: {FORMATS}.", show_default=False)
]

Kinds = Annotated[
    list[str] | None,
    Option(
        help="Kind of coupling of a network: magnitude (the default), energy, flow or signed; several by several "
        "--kind.",
        show_default=False,
    ),
]
Samples = Annotated[int, Option(min=1, help="Number of samples, the first to train on, of which P is formed.")]


@dataclass(frozen=True)
class Common:
    """What every command takes."""

    json: Annotated[bool, Option("--json", help="Print JSON to stdout instead of tables; nan becomes null.")] = False
    threads: Annotated[
        int | None,
        Option(
            min=1,
            help="Threads of torch and of BLAS. Default: OMP_NUM_THREADS if it is set, else one for small networks and "
            "graphs, and all cores for others.",
        ),
    ] = None
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False


@dataclass(frozen=True)
class ModelOptions:
    """The model of a command, and its loss."""

    model: Annotated[
        str | None,
        Option(
            help="module:function (or file.py:function) that returns a network, or module:network; the folder of a "
            "model of Hugging Face; hf:name; timm:name; digits:name, a built-in candidate.",
            show_default=False,
        ),
    ] = None
    weights: Annotated[
        Path | None, Option(help="File of the weights of the model: .safetensors, or a state_dict.", show_default=False)
    ] = None
    loss: Annotated[
        str, Option(help="Loss by its name in torch.nn.functional, or module:function of (outputs, targets).")
    ] = "cross_entropy"
    seed: Annotated[int, Option(min=0, help="Seed of initial weights.")] = 0


@dataclass(frozen=True)
class DataOptions:
    """The data of a command, and how they are read and split."""

    data: Annotated[
        str | None,
        Option(
            "--data",
            "--dataset",
            help="digits; a folder of images, one subfolder for each class; a .csv or .parquet file; .safetensors; or "
            "module:function that returns (train, valid) or one of them. Default: digits for its built-in networks.",
            show_default=False,
        ),
    ] = None
    target: Annotated[
        str | None, Option(help="Column of the targets in a table; default: label, target or y.", show_default=False)
    ] = None
    image_size: Annotated[
        int | None, Option(min=1, help="Height and width that images are resized to.", show_default=False)
    ] = None
    grey: Annotated[bool, Option("--grey", help="Read images as grey levels instead of colours.")] = False
    valid_fraction: Annotated[
        float, Option(min=0.0, max=0.9, help="Fraction of the samples that is held out, where data have one part.")
    ] = 0.25
    split_seed: Annotated[int, Option(min=0, help="Seed of this split.")] = 0


@dataclass(frozen=True)
class NetworkOptions:
    """How the file of a graph is read."""

    undirected: Annotated[bool, Option("--undirected", help="Edges of an edge list are undirected.")] = False
    weight: Annotated[
        str, Option(help="Edge attribute, or column of an edge list with a header, that holds the weights.")
    ] = "weight"
    unweighted: Annotated[bool, Option("--unweighted", help="All edges weigh 1.")] = False
    header: Annotated[
        bool | None,
        Option(
            "--header/--no-header", help="Whether the first line of an edge list names the columns; default: automatic."
        ),
    ] = None


PANELS = {
    Common: "Options of all commands",
    ModelOptions: "Model",
    DataOptions: "Data",
    NetworkOptions: "File of a graph",
}
"""Above the options of each group in the help of a command."""


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """A command with one option for each field of its parameters that are groups of options.

    Its errors are printed as :func:`~linegraph.cli.errors.reported` does.

    Args:
        function: the command; one of its parameters is a :class:`Common`.
    """
    signature = inspect.signature(function, eval_str=True)
    groups = {name: p.annotation for name, p in signature.parameters.items() if is_dataclass(p.annotation)}

    @functools.wraps(function)
    def run(**given: Any) -> None:
        with reported(given["debug"]):
            for name, group in groups.items():
                given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})  # type: ignore
            function(**given)

    options = []
    for name, p in signature.parameters.items():
        options += _of_group(groups[name]) if name in groups else [p.replace(kind=p.KEYWORD_ONLY)]
    run.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in options} | {"return": None}
    return run


def _of_group(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for f in fields(group):
        get_args(hints[f.name])[1].rich_help_panel = PANELS[group]
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(group)
    ]
