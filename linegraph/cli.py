"""The command line: ``linegraph rank``, ``linegraph resilience``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from linegraph import __version__, datasets, dynamics, plot
from linegraph.coupling.kinds import COUPLING_KINDS
from linegraph.dynamics.resilience import LOSSES
from linegraph.errors import DataError, LinegraphError
from linegraph.files import remove_stale, write_whole
from linegraph.io.networks import read_network
from linegraph.metrics.neural_capacitance import capacitance
from linegraph.selection.candidates import digits_candidates
from linegraph.selection.ranking import rank, rank_correlations

__all__ = ["app", "main"]

PRINTED_METHODS = ("combined", "last_seen", "capacitance")
MODELS = {
    "mutualistic": dynamics.Mutualistic(),
    "regulatory": dynamics.Regulatory(),
    "sis": dynamics.SIS(),
    "neuronal": dynamics.Neuronal(),
}
DATASETS = {"digits": (datasets.digits, digits_candidates)}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"linegraph {__version__}")
        raise typer.Exit


@app.callback()
def linegraph(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Neural capacitance: the training of a neural network as a network-science problem."""


@app.command("rank")
def rank_command(
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and stored runs to resume.")],
    dataset: Annotated[str, typer.Option(help="Data set to train on: digits, images of 8x8 pixels.")] = "digits",
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs to predict the final accuracy from.")] = 5,
    train_fully: Annotated[
        bool, typer.Option("--train-fully", help="Train on to --final-epochs, for the true final accuracy.")
    ] = False,
    final_epochs: Annotated[int, typer.Option(min=1, help="Epochs of full training, with --train-fully.")] = 30,
    kind: Annotated[str, typer.Option(help="Kind of coupling: magnitude, energy, flow or signed.")] = "magnitude",
    seed: Annotated[int, typer.Option(help="Seed of weights and batch order.")] = 0,
) -> None:
    """Rank candidate networks by the final accuracy predicted from their first epochs.

    To resume after an interruption, run the same command again.
    """
    if dataset not in DATASETS:
        raise typer.BadParameter(
            f"unknown data set {dataset!r}; there are {', '.join(DATASETS)}", param_hint="--dataset"
        )
    if kind not in COUPLING_KINDS:
        raise typer.BadParameter(f"unknown kind {kind!r}; there are {', '.join(COUPLING_KINDS)}", param_hint="--kind")
    if train_fully and final_epochs < epochs:
        raise typer.BadParameter(f"must be at least --epochs ({epochs})", param_hint="--final-epochs")
    load, candidates = DATASETS[dataset]
    train, valid = load()
    try:
        table = rank(
            candidates(),
            train,
            valid,
            epochs=epochs,
            methods=PRINTED_METHODS,
            train_fully=final_epochs if train_fully else None,
            kind=kind,
            seed=seed,
            directory=out / "candidates",
            progress=True,
        )
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; run the same command again to go on where it stopped", err=True)
        raise typer.Exit(130) from None
    _report(table, out, epochs, final_epochs if train_fully else None)


@app.command("resilience")
def resilience_command(
    network: Annotated[
        Path,
        typer.Argument(
            help="Edge list, .graphml, .gexf, .gml, .net (Pajek), .graph (METIS), .sif, .mtx or .npz (SciPy) file."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and stored repeats to resume.")],
    model: Annotated[str, typer.Option(help="Dynamics: mutualistic, regulatory, sis or neuronal.")] = "mutualistic",
    perturb: Annotated[str, typer.Option(help="What is lost: nodes, links or weights.")] = "nodes",
    steps: Annotated[int, typer.Option(min=2, help="Number of fractions, evenly spaced from 0 to --most.")] = 20,
    most: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest fraction lost.")] = 0.95,
    repeats: Annotated[int, typer.Option(min=1, help="Number of repeats, each with its own random losses.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    component: Annotated[
        str | None,
        typer.Option(help="After each loss, keep only the largest component: weak, or strong, as for gene networks."),
    ] = None,
    undirected: Annotated[bool, typer.Option("--undirected", help="Edges of an edge list are undirected.")] = False,
    weight: Annotated[
        str, typer.Option(help="Edge attribute, or column of an edge list with a header, that holds the weights.")
    ] = "weight",
    unweighted: Annotated[bool, typer.Option("--unweighted", help="All edges weigh 1.")] = False,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="Whether the first line of an edge list names the columns; default: automatic."
        ),
    ] = None,
) -> None:
    """Compute the state of a network that loses nodes, links or weight, and compare it with the one-dimensional theory.

    To resume after an interruption, run the same command again.
    """
    if model not in MODELS:
        raise typer.BadParameter(f"unknown model {model!r}; there are {', '.join(MODELS)}", param_hint="--model")
    if perturb not in LOSSES:
        known = ", ".join(LOSSES)
        raise typer.BadParameter(f"unknown perturbation {perturb!r}; there are {known}", param_hint="--perturb")
    if component not in (None, "weak", "strong"):
        raise typer.BadParameter(f"unknown component {component!r}; there are weak, strong", param_hint="--component")
    graph = read_network(
        network, directed=False if undirected else None, header=header, weight=None if unweighted else weight
    )
    chosen = MODELS[model]
    beta = capacitance(graph)
    typer.echo(
        f"{network.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges, β_eff = {beta.beta_eff:.6g} "
        f"(mean strength {beta.mean_strength:.4g}, heterogeneity {beta.heterogeneity:.4g}, "
        f"symmetry {beta.symmetry:.3g})"
    )
    critical = ", ".join(f"{b:.4g}" for b in dynamics.tipping_points(chosen)) or "none"
    typer.echo(f"Tipping points of the one-dimensional theory, {model}: β = {critical}")
    fractions = [most * step / (steps - 1) for step in range(steps)]
    try:
        curve = dynamics.resilience_curve(
            graph,
            chosen,
            perturb,
            fractions,
            repeats,
            seed=seed,
            component=component,
            directory=out / "repeats",
            progress=True,
        )
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; run the same command again to go on where it stopped", err=True)
        raise typer.Exit(130) from None
    shown = curve.groupby(["start", "fraction"], sort=False)[["beta_eff", "x_eff", "x_theory", "mean_x", "converged"]]
    typer.echo(f"\nMeans over {repeats} repeats")
    typer.echo(shown.mean().reset_index().to_string(index=False, float_format="{:.4g}".format, na_rep="-"))
    remove_stale(out)
    write_whole(out / "resilience.csv", lambda path: curve.to_csv(path, index=False))
    _draw(plot.state_against_capacity(curve, chosen), out / "state_vs_capacity.png")
    _draw(plot.state_against_loss(curve), out / "state_vs_loss.png")
    typer.echo(f"\nTables and figures are in {out}")


def main() -> None:
    """Entry point; errors of this package are printed as one line, without a traceback."""
    try:
        app()
    except (LinegraphError, OSError) as error:
        typer.echo(f"linegraph: {error}", err=True)
        raise SystemExit(1) from None


def _report(table: pd.DataFrame, out: Path, epochs: int, final_epochs: int | None) -> None:
    if not table["epochs"].any():  # all failed: earlier tables and figures are not overwritten with nothing
        raise DataError(f"no candidate could be ranked; {table['name'][0]}: {table['error'][0]}")
    remove_stale(out)
    history = table.attrs["history"]
    shown = table.drop(columns="error") if table["error"].isna().all() else table.fillna({"error": ""})
    typer.echo(f"\nFinal accuracy predicted from {epochs} epochs, best first")
    typer.echo(shown.to_string(index=False, float_format="{:.4g}".format, na_rep="-"))
    if final_epochs:
        typer.echo(f"\nAgreement with the true accuracy after {final_epochs} epochs")
        correlations = rank_correlations(table, PRINTED_METHODS)
        ends = correlations.filter(regex="_(low|high)$").columns  # in the file
        typer.echo(correlations.drop(columns=ends).to_string(index=False, float_format="{:.3f}".format))
        write_whole(out / "correlations.csv", lambda path: correlations.to_csv(path, index=False))
        _draw(plot.predicted_against_true(table), out / "predicted_vs_true.png")
    write_whole(out / "ranking.csv", lambda path: table.to_csv(path, index=False))
    write_whole(out / "history.csv", lambda path: history.to_csv(path, index=False))
    _draw(plot.accuracy_against_capacitance(history), out / "accuracy_vs_capacitance.png")
    typer.echo(f"\nTables and figures are in {out}")


def _draw(ax: object, path: Path) -> None:
    figure = ax.figure  # type: ignore[attr-defined]
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))
