"""The command line as a program."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import linegraph as lg
from linegraph.cli import app

COMMANDS = ["rank", "analyze", "capacitance", "diagnose", "resilience", "describe"]
NETS = """
import time
from torch import nn

def slow():
    class Slow(nn.Sequential):
        def forward(self, x):
            time.sleep(0.05)
            return super().forward(x)
    return Slow(nn.Flatten(), nn.Linear(64, 10))
"""


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "linegraph", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(lg.__path__[0]).removesuffix("linegraph")},
        preexec_fn=heed_interrupts if os.name == "posix" else None,
    )


def heed_interrupts():
    """Tests in the background of a shell run with an ignored SIGINT, which programs that they start inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"linegraph {lg.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_the_same_in_all_commands(command):
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in told for option in ("--json", "--out", "--threads", "--debug"))
    assert "--model" in told


def test_help_names_commands_and_exit_codes():
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert all(word in told for word in [*COMMANDS, "--version", "--install-completion", "Exit codes"])


def test_unknown_commands_are_told_the_nearest():
    found = CliRunner().invoke(app, ["capacitence"])
    assert found.exit_code == 2
    assert "capacitance" in found.output


def test_the_shell_completes_options():
    words = {"_LINEGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": "linegraph describe --inp", "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['linegraph']; from linegraph.cli import app; app(prog_name='linegraph')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | words)
    assert found.stdout.split() == ["--input-shape"]


def test_json_is_alone_on_stdout_and_errors_on_stderr(tmp_path):
    (tmp_path / "web.txt").write_text("0 1 2\n1 0 1\n")
    program = start(tmp_path, "capacitance", "web.txt", "--json")
    out, err = program.communicate(timeout=300)
    assert json.loads(out)["capacitance"][0]["nodes"] == 2
    assert (program.returncode, err) == (0, "")
    program = start(tmp_path, "capacitance", "none.txt", "--json")
    assert program.communicate(timeout=300) == ("", "linegraph: there is no file none.txt\n")
    assert program.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_an_interrupted_ranking_goes_on(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    ranking = ["rank", "--model", "nets:slow", "--data", "digits", "--epochs", 3, "--out", "runs"]
    program = start(tmp_path, *ranking)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "runs").rglob("*.safetensors")) and time.monotonic() < deadline:
        assert program.poll() is None, program.communicate()
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=300)
    assert program.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs/ranking.csv").exists()
    program = start(tmp_path, *ranking)
    out, err = program.communicate(timeout=300)
    assert program.returncode == 0, err
    assert "slow" in out


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_debug_shows_the_traceback(tmp_path):
    program = start(tmp_path, "capacitance", "none.txt", "--debug")
    _, err = program.communicate(timeout=300)
    assert program.returncode == 1
    assert "Traceback" in err
    assert "there is no file none.txt" in err
