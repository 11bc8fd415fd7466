import copy
import json
import math
import pickle
from itertools import pairwise

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import linegraph as lg
from linegraph.errors import DegenerateCapacitanceWarning
from tests.cases import CASES


@pytest.mark.parametrize("name", ["PLANT_ANT_WEBS_Bluthgen_2004_A", "PLANT_ANT_WEBS_Bluthgen_2004_P", "TECB_core"])
def test_published_values_of_real_networks(shared, name):
    published = json.loads((shared / "data/resilience/published.json").read_text())[f"{name}.npz"]
    P = lg.from_scipy(sp.load_npz(shared / f"data/resilience/{name}.npz"))
    found = lg.capacitance(P)
    assert found.beta_eff == pytest.approx(published["beta_eff"], rel=5e-5)
    assert found.mean_strength == pytest.approx(P.to_dense().sum().item() / P.num_nodes)
    assert found.mean_strength + found.symmetry * found.heterogeneity == pytest.approx(found.beta_eff, rel=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_equals_the_dense_formula(seed, n):
    torch.manual_seed(seed)
    dense = torch.rand(n, n, dtype=torch.float64) - 0.3
    found = lg.capacitance(lg.from_scipy(sp.csr_array(dense.numpy())))
    ones = torch.ones(n, dtype=torch.float64)
    assert found.numerator == pytest.approx(float(ones @ dense @ dense @ ones), rel=1e-9, abs=1e-12)
    assert found.denominator == pytest.approx(float(dense.sum()), rel=1e-9)
    assert found.beta_eff == pytest.approx(found.numerator / found.denominator, rel=1e-9)
    rows, columns = dense.sum(1), dense.sum(0)
    correlation = torch.corrcoef(torch.stack([rows, columns]))[0, 1]
    assert found.symmetry == pytest.approx(float(correlation), abs=1e-9)
    assert found.mean_strength + found.symmetry * found.heterogeneity == pytest.approx(
        found.beta_eff, rel=1e-7, abs=1e-9
    )


def test_regular_graph_has_no_heterogeneity():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.full((3,), 0.7))
    found = lg.capacitance(ring)
    assert (found.heterogeneity, found.symmetry) == (0.0, 0.0)
    assert found.beta_eff == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("weight", "message"), [([1.0, -1.0], "cancel"), ([0.0, 0.0], "every coupling is 0"), ([0.1 + 0.2, -0.3], "cancel")]
)
def test_zero_by_zero_is_named(weight, message):
    weight = torch.tensor(weight, dtype=torch.float64)
    G = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), weight)
    with pytest.warns(DegenerateCapacitanceWarning, match=message):
        found = lg.capacitance(G)
    assert math.isnan(found.beta_eff)
    assert math.isnan(found.heterogeneity)


def test_empty_graph():
    with pytest.warns(DegenerateCapacitanceWarning):
        assert math.isnan(float(lg.capacitance(lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long)))))


def test_a_small_denominator_is_not_taken_for_zero():
    G = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([1.0, -1.0 + 1e-9], dtype=torch.float64))
    assert lg.capacitance(G).denominator == pytest.approx(1e-9, rel=1e-6)
    assert math.isfinite(lg.capacitance(G).beta_eff)


def test_copies_and_pickles_hold_the_figures_and_no_coupling():
    model, loss, data = CASES["mlp"].make()
    found = lg.capacitance(lg.NeuralCoupling(model, loss, data))
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert other.as_dict() == pytest.approx(found.as_dict())
    assert found._coupling is None  # nor is the pass kept once all figures are there


@pytest.mark.parametrize("hidden", [2, 3])
def test_softmax_leaves_no_signed_capacitance_behind_two_hidden_layers(hidden):
    torch.manual_seed(0)
    sizes = [5, *[6] * hidden, 4]
    layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes[:-1])]
    model = nn.Sequential(*layers, nn.Linear(6, 4)).double()
    data = torch.randn(7, 5, dtype=torch.float64), torch.randint(4, (7,))
    found = lg.capacitance(lg.NeuralCoupling(model, nn.functional.cross_entropy, data))
    assert abs(found.denominator) > 1e-3
    assert (abs(found.beta_eff) < 1e-14) == (hidden == 2)
