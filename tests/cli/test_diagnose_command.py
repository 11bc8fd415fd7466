import json

import pandas as pd
import pytest

import linegraph as lg


def test_a_graph(run, web, tmp_path):
    found = json.loads(run("diagnose", web, "--json", "--out", tmp_path / "runs").stdout)
    P = lg.read_network(web)
    assert found["summary"]["stable_rank"] == pytest.approx(lg.summary(P)["stable_rank"])
    assert found["summary"]["covered"] is None
    assert found["layers"][0]["beta"] == pytest.approx(lg.diagnose(P)["beta"][0])
    assert pd.read_csv(tmp_path / "runs/summary.csv")["name"].tolist() == list(found["summary"])


def test_layers_of_a_network_print_whole(run):
    arguments = ["--model", "nets:Wide", "--data", "nets:few", "--samples", 10]
    told = run("diagnose", *arguments).stdout
    assert {"first.weight", "stable_rank_error", "effective_degree"} <= {*told.split()}
    found = json.loads(run("diagnose", *arguments, "--kind", "flow", "--kind", "magnitude", "--json").stdout)
    assert {"layers_flow", "summary_flow", "layers_magnitude", "summary_magnitude"} <= found.keys()
