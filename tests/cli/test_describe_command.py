import json

import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph.coupling.base import Coupling
from linegraph.errors import TooLargeError


def test_sizes_and_roles_without_products(run, monkeypatch, tmp_path):
    for name in ("matvec", "rmatvec", "in_strength", "out_strength"):
        monkeypatch.setattr(Coupling, name, None)
    found = json.loads(run("describe", "--model", "nets:Wide", "--data", "nets:few", "--json", "--out", "runs").stdout)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 10)
    )
    data = torch.randn(4, 64), torch.randint(0, 10, (4,))
    P = lg.NeuralCoupling(model, torch.nn.functional.cross_entropy, data)
    assert found["sizes"]["edges"] == P.num_edges
    assert found["sizes"]["nodes"] == 888
    assert [(layer["layer"], layer["shape"]) for layer in found["layers"]] == [
        ("first.weight", [12, 64]),
        ("last.weight", [10, 12]),
    ]
    assert {row["name"]: row["role"] for row in found["coverage"]} == {
        "first.weight": "synapse",
        "first.bias": "bias",
        "norm.weight": "path",
        "norm.bias": "bias",
        "last.weight": "synapse",
        "last.bias": "bias",
    }
    assert sum(row["numbers"] for row in found["roles"]) == found["sizes"]["parameters"]
    assert len(pd.read_csv(tmp_path / "runs/coverage.csv")) == 6


def test_a_shape_instead_of_data(run):
    told = run("describe", "--model", "nets:small", "--input-shape", "1x8x8").stdout
    assert {"1.weight", "6x64", "444"} <= {*told.split()}
    for shape in ("1xx8", "0x2", "a"):
        assert "is no shape such as" in run("describe", "--model", "nets:small", "--input-shape", shape, code=2).told
    assert "name a network" in run("describe", "--input-shape", "3", code=2).told


def test_edges_that_are_too_many_to_count(run, monkeypatch):
    def refuse(_):
        raise TooLargeError("too many")

    monkeypatch.setattr(lg.NeuralCoupling, "num_edges", property(refuse))
    arguments = ["describe", "--model", "nets:small", "--data", "nets:few"]
    assert json.loads(run(*arguments, "--json").stdout)["sizes"]["edges"] is None
    assert "too many to count" in run(*arguments).stdout


@pytest.mark.filterwarnings("always::linegraph.errors.CoverageWarning")
def test_what_is_left_out_and_why(run, tmp_path):
    (tmp_path / "odd.py").write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first, self.odd = torch.nn.Linear(64, 10), torch.nn.Parameter(torch.rand(10, 10))\n"
        "    def forward(self, x):\n"
        "        return self.first(x.flatten(1)) @ self.odd.cumsum(0)\n"
    )
    found = run("describe", "--model", "odd:Odd", "--data", "nets:few")
    assert "CoverageWarning" in found.stderr
    assert "left out" in found.stdout
