import json

import pytest

import linegraph as lg


def test_a_graph(run, web, tmp_path):
    found = json.loads(run("analyze", web, "--json", "--out", tmp_path / "runs", "--values", 3).stdout)
    measures = {row["measure"]: row["value"] for row in found["measures"]}
    assert measures["beta_eff"] == pytest.approx(1.5)
    assert measures["edges"] == 6
    files = {path.name for path in (tmp_path / "runs").iterdir()}
    assert {"report.html", "measures.csv", "singular-values.csv", "singular-values.svg"} <= files
    assert "Analysis of web.txt" in (tmp_path / "runs/report.html").read_text()
    expected = lg.singular_values(lg.read_network(web), 3).tolist()
    assert [row["singular value"] for row in found["singular-values"]] == pytest.approx(expected)


def test_a_network(run, tmp_path):
    arguments = ["--model", "nets:Wide", "--data", "nets:few", "--samples", 10, "--kind", "magnitude", "--kind", "flow"]
    told = run("analyze", *arguments, "--out", "runs").stdout
    assert {"first.weight", "synapse", "magnitude", "flow"} <= {*told.split()}
    assert "energy" not in told.split()
    page = (tmp_path / "runs/report.html").read_text().replace("<wbr>", "")
    assert "nets:Wide" in page
    assert "training and held-out data of nets:few" in page


def test_out_is_needed(run, web):
    assert "Missing option" in run("analyze", web, code=2).told
