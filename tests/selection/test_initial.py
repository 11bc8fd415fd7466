"""Scores at initialisation within rankings."""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection import h_score, leep, logme, methods, nce, snip, training
from linegraph.selection.initial import initial_scores
from linegraph.selection.methods import METHODS, register_method


def network(width, dropout=0.0):
    return nn.Sequential(
        nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3)
    )


def data(n=48):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return x, (x @ torch.eye(4)[:, :3]).argmax(1)


CANDIDATES = {"narrow": partial(network, 3), "wide": partial(network, 8, 0.5)}
INITIAL = [
    *("grad_norm", "snip", "grasp", "fisher", "jacobian_covariance", "synflow", "num_parameters", "flops"),
    *("logme", "h_score"),
]


def ranked(**options):
    return lg.rank(CANDIDATES, data(), data(20), **{"epochs": 2, "batch_size": 16, **options})


def test_scores_are_of_the_candidate_as_constructed_and_change_nothing():
    plain = ranked(methods="last_seen").set_index("name")
    before = torch.get_rng_state()
    table = ranked(methods=[*INITIAL, "last_seen"], coupling_samples=24).set_index("name")
    assert torch.equal(torch.get_rng_state(), before)
    assert table["error"].isna().all()
    assert table.loc[plain.index, "last_seen"].tolist() == pytest.approx(plain["last_seen"].tolist(), rel=1e-12)
    x, y = data()
    for name, make in CANDIDATES.items():
        torch.manual_seed(0)
        model = make()
        for method in INITIAL[:8]:
            expected = METHODS[method].function(model, nn.functional.cross_entropy, (x[:24], y[:24]))
            assert table.loc[name, method] == pytest.approx(expected, rel=1e-4)
        model.eval()
        features = model[:4](x[:24]).detach()
        assert table.loc[name, "logme"] == pytest.approx(logme(features, y[:24]), rel=1e-4)
        assert table.loc[name, "h_score"] == pytest.approx(h_score(features, y[:24]), rel=1e-4)


def test_the_first_method_orders_in_its_direction():
    by_loss = ranked(methods=["last_loss", "num_parameters"])
    assert by_loss["last_loss"].is_monotonic_increasing
    assert ranked(methods=["num_parameters", "last_loss"])["name"].tolist() == ["wide", "narrow"]


def test_a_resumed_ranking_has_the_scores_of_its_files(tmp_path, monkeypatch):
    first = ranked(methods=["snip", "synflow"], directory=tmp_path)
    asked = []

    def score(methods, *others):
        asked.extend(methods := list(methods))
        return initial_scores(methods, *others)

    monkeypatch.setattr(training, "initial_scores", score)
    again = ranked(methods=["snip", "grad_norm", "synflow"], directory=tmp_path)
    assert [method.name for method in asked] == ["grad_norm"] * 2
    pd.testing.assert_frame_equal(again.drop(columns="grad_norm"), first)
    assert again["grad_norm"].tolist() == pytest.approx(ranked(methods=["snip", "grad_norm"])["grad_norm"].tolist())


def test_scores_without_a_value_have_a_reason():
    table = ranked(methods=["last_seen", "leep", "power_law"])
    assert table["leep"].isna().all()
    assert table["error"].str.startswith("leep: DataError: a Sequential has no classes of another task").all()
    assert table["power_law"].notna().all()
    assert table["power_law_std"].isna().all()


def test_methods_of_ones_own(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(METHODS))

    def draws(model, loss_fn, data):
        return float(torch.rand(()) + len(data[0]))

    register_method("own", draws, needs=["initialisation"], higher_is_better=False)
    register_method("gain", lambda h: (h["accuracy"].iloc[-1], 0.1), needs=["accuracy"], gives="accuracy and std")
    table = ranked(methods=["own", "gain"])
    assert table["own"].between(48, 49).all()
    assert table["gain_std"].tolist() == [0.1, 0.1]
    pd.testing.assert_series_equal(
        table.set_index("name")["gain"].sort_index(),
        ranked(methods="last_seen").set_index("name")["last_seen"].sort_index(),
        check_names=False,
    )


def test_results_on_other_tasks():
    results = pd.DataFrame({"birds": [0.5, 0.9], "cars": [0.5, 0.3], "dogs": [0.1, 0.2]}, index=["narrow", "wide"])
    table = ranked(methods="static_ranking", other_tasks=results).set_index("name")
    assert table["static_ranking"].to_dict() == pytest.approx({"wide": 2 / 3, "narrow": 1 / 3})
    with pytest.raises(DataError, match="'static_ranking' reads results on other tasks; pass them as other_tasks="):
        ranked(methods="static_ranking")


def test_time_and_training_steps_of_every_method():
    table = ranked(methods=["last_seen", "snip", "capacitance", "num_parameters"], coupling_samples=32)
    costs = table.attrs["methods"]
    assert costs["training_steps"].to_dict() == pytest.approx(
        {"last_seen": 2 * 3, "snip": 2, "capacitance": 2 * 3 + METHODS["capacitance"].cost * 2 * 2, "num_parameters": 0}
    )
    assert (costs["seconds"] >= 0).all()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=16)
    table = lg.rank(CANDIDATES, loader, loader, epochs=2, methods=["snip"], coupling_samples=17)
    assert table.attrs["methods"]["training_steps"].tolist() == [2]


def test_both_kinds_of_capacitance():
    table = ranked(methods=["signed_capacitance", "capacitance"], epochs=3)
    history = table.attrs["history"]
    for row in table.itertuples():
        run = history[history["name"] == row.name]
        other = run.assign(beta_eff=run["signed_beta_eff"])
        if math.isnan(row.signed_capacitance):
            assert "signed_beta_eff" in row.error
        else:
            assert row.signed_capacitance == pytest.approx(lg.predict_final(other, method="capacitance").mean)
        assert row.capacitance == pytest.approx(lg.predict_final(run, method="capacitance").mean)


def probe(frozen=True):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    return lg.CapacitanceProbe(backbone, num_classes=3, hidden=(8, 8, 8), frozen=frozen)


@pytest.mark.parametrize("frozen", [True, False])
def test_probes_give_features_and_source_classes(frozen):
    x, y = data()
    model = probe(frozen)
    chosen = [METHODS[name] for name in ("logme", "h_score", "leep", "nce")]
    found = initial_scores(chosen, model, nn.functional.cross_entropy, [(x[:20], y[:20]), (x[20:], y[20:])])
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    features, theta = backbone[:2](x).detach(), backbone(x).detach().softmax(1)
    expected = [logme(features, y), h_score(features, y), leep(theta, y), nce(theta, y)]
    assert [score.value for score in found.values()] == pytest.approx(expected, rel=1e-4)
    assert not any(score.error for score in found.values())
    assert model.training


def test_features_of_tokens_are_averaged_and_networks_without_a_linear_layer_have_none():
    class PerToken(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(5, 3)

        def forward(self, x):
            return self.out(x).mean(1)

    x, y = torch.randn(12, 4, 5, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    found = initial_scores([METHODS["logme"]], PerToken(), None, (x, y))["logme"]
    assert found.value == pytest.approx(logme(x.mean(1), y), rel=1e-4)
    convolution = nn.Sequential(nn.Conv1d(4, 3, 5), nn.Flatten())
    assert "calls no linear layer" in initial_scores([METHODS["logme"]], convolution, None, (x, y))["logme"].error
    assert not any(module._forward_pre_hooks for module in convolution.modules())


def test_snip_of_a_loss_object_leaves_its_state():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return nn.functional.cross_entropy(outputs, targets)

    loss = Counting()
    table = ranked(methods="snip", loss_fn=loss)
    assert loss.calls == 0
    torch.manual_seed(0)
    assert table.set_index("name").loc["narrow", "snip"] == pytest.approx(
        snip(CANDIDATES["narrow"](), loss, data()), rel=1e-4
    )
