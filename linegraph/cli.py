"""The command line: ``linegraph rank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from linegraph import datasets, plot
from linegraph.coupling.kinds import KINDS
from linegraph.errors import DataError, LinegraphError
from linegraph.files import write_whole
from linegraph.selection.candidates import digits_candidates
from linegraph.selection.rank import rank, rank_correlations

__all__ = ["app", "main"]

METHODS = ("capacitance", "last_seen", "mean_seen")
DATASETS = {"digits": (datasets.digits, digits_candidates)}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def linegraph() -> None:
    """Neural capacitance: the training of a neural network as a network-science problem."""


@app.command("rank")
def rank_command(
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and the runs to resume from.")],
    dataset: Annotated[str, typer.Option(help="Data set: digits.")] = "digits",
    epochs: Annotated[int, typer.Option(min=2, help="First epochs to look at.")] = 5,
    train_fully: Annotated[bool, typer.Option("--train-fully", help="Train on, to compare with the truth.")] = False,
    final_epochs: Annotated[int, typer.Option(min=2, help="Epochs of full training.")] = 30,
    kind: Annotated[str, typer.Option(help="Kind of coupling: magnitude, energy, flow or signed.")] = "magnitude",
    seed: Annotated[int, typer.Option(help="Seed of weights and batch order.")] = 0,
) -> None:
    """Rank candidate networks by the final accuracy that their first epochs predict.

    Run again after an interruption, it goes on where it stopped.
    """
    if dataset not in DATASETS:
        raise typer.BadParameter(
            f"unknown data set {dataset!r}; there are {', '.join(DATASETS)}", param_hint="--dataset"
        )
    if kind not in KINDS:
        raise typer.BadParameter(f"unknown kind {kind!r}; there are {', '.join(KINDS)}", param_hint="--kind")
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
            methods=METHODS,
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


def main() -> None:
    """Entry point; errors of this package are one line, not a traceback."""
    try:
        app()
    except (LinegraphError, OSError) as error:
        typer.echo(f"linegraph: {error}", err=True)
        raise SystemExit(1) from None


def _report(table: pd.DataFrame, out: Path, epochs: int, final_epochs: int | None) -> None:
    if table["error"].notna().all():  # earlier tables and figures are not overwritten with nothing
        raise DataError(f"no candidate could be ranked; {table['name'][0]}: {table['error'][0]}")
    history = table.attrs["history"]
    shown = table.drop(columns="error") if table["error"].isna().all() else table.fillna({"error": ""})
    typer.echo(f"\nFinal accuracy predicted from {epochs} epochs, best first")
    typer.echo(shown.to_string(index=False, float_format="{:.4g}".format, na_rep="-"))
    if final_epochs:
        typer.echo(f"\nAgreement with the true accuracy after {final_epochs} epochs")
        correlations = rank_correlations(table, METHODS)
        typer.echo(correlations.to_string(index=False, float_format="{:.3f}".format))
        write_whole(out / "correlations.csv", lambda path: correlations.to_csv(path, index=False))
        _draw(plot.predicted_against_true(table), out / "predicted_vs_true.png")
    write_whole(out / "ranking.csv", lambda path: table.to_csv(path, index=False))
    write_whole(out / "history.csv", lambda path: history.to_csv(path, index=False))
    _draw(plot.accuracy_against_capacitance(history), out / "accuracy_vs_capacitance.png")
    typer.echo(f"\nTables and figures are in {out}")


def _draw(ax: object, path: Path) -> None:
    figure = ax.figure  # type: ignore[attr-defined]
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))
