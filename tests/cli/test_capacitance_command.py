import json

import pandas as pd
import pytest

import linegraph as lg
from linegraph.cli import couplings
from linegraph.cli.options import DataOptions, ModelOptions


def test_kinds_of_a_network(run, tmp_path):
    arguments = ["capacitance", "--model", "nets:Wide", "--data", "nets:few", "--samples", 20]
    found = run(*arguments, "--kind", "magnitude", "--kind", "flow", "--json", "--out", "runs")
    rows = json.loads(found.stdout)["capacitance"]
    network = couplings.network(ModelOptions("nets:Wide"), DataOptions("nets:few"), 20)
    for row in rows:
        expected = lg.capacitance(network.coupling(row["kind"])).as_dict()
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert [row["kind"] for row in rows] == ["magnitude", "flow"]
    assert pd.read_csv(tmp_path / "runs/capacitance.csv")["kind"].tolist() == ["magnitude", "flow"]


def test_a_graph(run, web):
    told = run("capacitance", web).stdout
    assert "Capacitance of web.txt" in told
    assert {"1.5", "-0.6667", "heterogeneity"} <= {*told.split()}
    assert json.loads(run("capacitance", web, "--unweighted", "--json").stdout)["capacitance"][0]["denominator"] == 6


@pytest.mark.filterwarnings("always::linegraph.errors.DegenerateCapacitanceWarning")
def test_0_over_0_is_null_and_a_line_on_stderr(run):
    arguments = ["--model", "nets:small", "--data", "nets:few", "--kind", "signed"]
    found = run("capacitance", *arguments, "--json")
    assert json.loads(found.stdout)["capacitance"][0]["beta_eff"] is None
    assert found.stderr.splitlines()[-1].startswith("DegenerateCapacitanceWarning: β_eff is 0/0")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "name a network"),
        (["none.txt"], 1, "there is no file none.txt"),
        (["--model", "nets:small"], 1, "--data is needed for a network of your own"),
        (["--model", "nets:small", "--data", "nets:few", "--kind", "big"], 2, "unknown kind 'big'"),
        (["--model", "nets:small", "--data", "nets:few", "--loss", "mse"], 1, "did you mean 'mse_loss'"),
        (["--model", "nets:small", "--data", "nets:few", "--loss", "mse_loss"], 1, "pass --loss cross_entropy"),
        (["--model", "nets:small", "--data", "nets:few", "--samples", "0"], 2, "Invalid value for '--samples'"),
        (["--modl", "nets:small"], 2, "No such option: --modl"),
    ],
)
def test_errors(run, arguments, code, message):
    found = run("capacitance", *arguments, code=code)
    assert found.stdout == ""
    assert message in found.told
    if code == 1:
        assert found.stderr.splitlines()[-1].startswith("linegraph: ")
