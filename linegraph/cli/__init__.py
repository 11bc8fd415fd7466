"""The command line, ``linegraph``.

Exit codes: 0, all went well; 1, an error of the input or of the computation, in one line on stderr, of which
``--debug`` shows the traceback; 2, a wrong option; 130, interrupted. Results go to stdout, as tables or, with
``--json``, as one object; progress and notes go to stderr.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from linegraph import __version__
from linegraph.cli.analyze_command import analyze
from linegraph.cli.capacitance_command import capacitance
from linegraph.cli.describe_command import describe
from linegraph.cli.diagnose_command import diagnose
from linegraph.cli.options import with_groups
from linegraph.cli.rank_command import rank
from linegraph.cli.resilience_command import resilience

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0, all went well; 1, an error of the input or of the computation; 2, a wrong option; 130, interrupted."
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, epilog=EPILOG)
for command in (rank, analyze, capacitance, diagnose, resilience, describe):
    app.command(command.__name__)(with_groups(command))


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


def main() -> None:
    """Entry point."""
    os.environ.setdefault("MPLBACKEND", "agg")  # figures go to files, and need no window
    app()
