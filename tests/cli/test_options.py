import inspect
import subprocess
import sys

import typer
from typer.testing import CliRunner

from linegraph.cli.options import Common, NetworkOptions, with_groups


def test_a_group_stands_for_its_options():
    given = []

    def command(common: Common, read: NetworkOptions, size: int = 3) -> None:
        """Do something."""
        given.append((common, read, size))

    made = with_groups(command)
    names = ["json", "threads", "debug", "undirected", "weight", "unweighted", "header", "size"]
    assert list(inspect.signature(made).parameters) == names
    app = typer.Typer()
    app.command()(made)
    found = CliRunner().invoke(app, ["--json", "--weight", "length", "--size", "4", "--no-header"])
    assert found.exit_code == 0, found.output
    assert given == [(Common(json=True), NetworkOptions(weight="length", header=False), 4)]


def test_help_and_completion_need_no_torch():
    code = "import sys, linegraph.cli; print({'torch', 'pandas', 'numpy', 'matplotlib'} & {*sys.modules})"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
