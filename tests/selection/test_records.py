import math

import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph.selection.records import COLUMNS, column_names, measured, totals
from tests.cases import CASES

KINDS = ("magnitude", "signed", "flow")


@pytest.fixture(params=["mlp", "cnn"])
def couplings(request):
    model, loss, data = CASES[request.param].make()
    return [lg.NeuralCoupling(model, loss, data, kind=kind) for kind in KINDS]


def test_sums_over_layers_are_those_of_the_vectors(couplings):
    P = couplings[1]
    w, g, b, coupled = P.weights(), P.gradient(), P.drive(), P @ P.weights()
    layers = measured(couplings)[1].drop(columns="layer")
    expected = {
        "num_synapses": P.num_nodes,
        "weight_square": w.square().sum(),
        "gradient_square": g.square().sum(),
        "drive_square": b.square().sum(),
        "coupled_square": coupled.square().sum(),
        "saliency": (w * g).abs().sum(),
        "flow": (w * coupled).abs().sum(),
        "weight_gradient": w @ g,
        "weight_coupled": w @ coupled,
    }
    for other in couplings:
        expected[f"{other.kind}_in_strength"] = expected[f"{other.kind}_out_strength"] = other.walks().one
    assert set(expected) == set(layers.columns)
    for name, value in expected.items():
        assert float(layers[name].sum()) == pytest.approx(float(value), rel=1e-6, abs=1e-9), name


def test_each_layer_has_its_own_sums(couplings):
    P = couplings[0]
    layers = measured(couplings)[1]
    assert layers["layer"].tolist() == [s.name for s in P.synapses]
    for name, w in P.split(P.weights()).items():
        row = layers[layers["layer"] == name].iloc[0]
        assert row["weight_square"] == pytest.approx(float(w.square().sum()), rel=1e-6)


def test_totals_are_norms_and_shares():
    layers = pd.DataFrame({"layer": ["a", "b", "c"], "num_synapses": [1, 2, 3]})
    for name in ("weight", "gradient", "drive", "coupled"):
        layers[f"{name}_square"] = [1.0, 1.0, 2.0]
    for name in ("saliency", "flow", "weight_gradient", "weight_coupled"):
        layers[name] = [1.0, 1.0, 0.0]
    found = totals(layers)
    assert set(found) == set(COLUMNS)
    assert found["gradient_norm"] == pytest.approx(2.0)
    assert found["gradient_layers"] == pytest.approx(2 * math.sqrt(2) / 3)  # the entropy of 1/4, 1/4, 1/2 is 1.5 bits
    assert found["flow_layers"] == pytest.approx(2 / 3)
    assert found["gradient_in_first"] == pytest.approx(0.5)  # of three layers, the first two
    assert found["flow_in_first"] == pytest.approx(1.0)


def test_shares_of_nothing_are_nan():
    layers = pd.DataFrame({"layer": ["a"], "num_synapses": [1]})
    for name in ("weight_square", "gradient_square", "drive_square", "coupled_square", "saliency", "flow"):
        layers[name] = 0.0
    layers["weight_gradient"] = layers["weight_coupled"] = 0.0
    found = totals(layers)
    assert math.isnan(found["flow_layers"])
    assert math.isnan(found["gradient_in_first"])


def test_the_first_kind_has_plain_names_and_the_others_their_own(couplings):
    found, _ = measured(couplings)
    assert set(found) <= column_names(KINDS)
    assert found["beta_eff"] == pytest.approx(lg.capacitance(couplings[0]).beta_eff)
    assert found["signed_beta_eff"] == pytest.approx(lg.capacitance(couplings[1]).beta_eff)
    assert found["flow_beta_eff"] == pytest.approx(lg.capacitance(couplings[2]).beta_eff)


def test_the_coupling_along_the_gradient_is_a_quotient(couplings):
    P = couplings[1]
    g = P.gradient()
    assert measured([P])[0]["gradient_coupling"] == pytest.approx(float(g @ (P @ g) / (g @ g)))
    dense = P.to_graph().to_scipy_sparse().toarray()
    assert float(g.numpy() @ dense @ g.numpy() / (g @ g)) == pytest.approx(measured([P])[0]["gradient_coupling"])


def test_norms_do_not_depend_on_the_kind_of_the_coupling():
    model, loss, data = CASES["mlp"].make()
    norms = [totals(measured([lg.NeuralCoupling(model, loss, data, kind=kind)])[1]) for kind in KINDS]
    for other in norms[1:]:
        assert other == pytest.approx(norms[0], rel=1e-9)


def test_a_model_whose_gradient_is_zero_has_records():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    data = torch.zeros(5, 3).double(), torch.zeros(5, 2).double()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)
    with pytest.warns(lg.errors.DegenerateCapacitanceWarning):
        found, _ = measured([P])
    assert math.isnan(found["beta_eff"])
    assert math.isnan(found["gradient_coupling"])
