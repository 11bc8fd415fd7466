"""The commands of the guide run, with the files that its code makes."""

import json
import shlex

import pytest
import torch

import linegraph as lg
from tests.docs.pages import DOCS, blocks
from tests.docs.test_code_blocks import few_digits

GUIDE = list(blocks(DOCS / "guides" / "command_line.md"))


def test_the_commands_of_the_guide(run, monkeypatch, tmp_path):
    for package in ("PIL", "transformers"):
        pytest.importorskip(package)
    monkeypatch.setattr("linegraph.datasets.digits", few_digits(lg.datasets.digits))
    codes = [block.code for block in GUIDE if block.language == "python"]
    (tmp_path / "nets.py").write_text(codes[0])
    torch.manual_seed(0)
    namespace = {"__name__": "__main__"}
    for code in codes:
        exec(compile(code, "command_line.md", "exec"), namespace)

    lines = "".join(block.code for block in GUIDE if block.language == "console").splitlines()
    answers = {}
    for line in lines:
        program, *arguments = shlex.split(line.removeprefix("$ "))
        assert program == "linegraph"
        answers[" ".join(arguments)] = run(*arguments).stdout
    assert len(lines) == 10
    files = {path.relative_to(tmp_path / "runs").as_posix() for path in (tmp_path / "runs").rglob("*")}
    assert {"small/report.html", "zoo/report.html", "zoo/ranking.csv", "karate/agreement.csv"} <= files
    assert json.loads(answers["capacitance karate.graphml --unweighted --json"])["capacitance"][0]["denominator"] == 156
    assert {"small", "narrow", "wide"} <= {*answers[next(a for a in answers if a.startswith("rank"))].split()}
