import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph import dynamics, files
from linegraph.dynamics import resilience as curves
from linegraph.errors import ConvergenceWarning, DataError
from tests.dynamics.reference import lsoda, mutualistic, vector
from tests.dynamics.test_bad_starts_and_ends import Exploding

WEB = lg.from_networkx(nx.random_regular_graph(6, 24, seed=0))
MODEL = dynamics.Mutualistic()
FRACTIONS = [0.0, 0.4, 0.8]


@pytest.mark.parametrize("kind", curves.LOSSES)
def test_each_row_is_the_equilibrium_of_a_perturbed_copy(kind):
    curve = dynamics.resilience_curve(WEB, MODEL, kind, FRACTIONS, 2, seed=5)
    assert len(curve) == 3 * 2 * 2
    assert curve["converged"].all()
    assert (curve["residual"] <= 1e-8).all()
    row = curve[(curve["fraction"] == 0.4) & (curve["repeat"] == 1) & (curve["start"] == "high")].iloc[0]
    generator = torch.Generator().manual_seed(5 + 1_000_003 * 2)
    copy = dynamics.perturb(WEB, **{kind: 0.4}, jitter=0.5 if kind == "weights" else 0.0, generator=generator)
    A = copy.to_dense().double().numpy()
    x = lsoda(mutualistic, A, 5.0)
    assert row["nodes"] == len(A)
    assert row["beta_eff"] == pytest.approx((A @ A).sum() / A.sum(), rel=1e-6)
    assert row["x_eff"] == pytest.approx((A @ x).sum() / A.sum(), rel=1e-5)
    assert row["mean_x"] == pytest.approx(x.mean(), rel=1e-5)
    assert row["x_theory"] == pytest.approx(dynamics.mean_field_state(MODEL, row["beta_eff"], "high"))


def test_the_state_falls_and_the_intact_network_is_the_same_in_every_repeat():
    curve = dynamics.resilience_curve(WEB, MODEL, "links", [0, 0.3, 0.6, 0.9], 3)
    high = curve[curve["start"] == "high"].pivot(index="repeat", columns="fraction", values="x_eff")
    assert (np.diff(high.to_numpy()) < 0).all()
    assert np.ptp(high[0.0]) < 1e-6 < np.ptp(high[0.9])


def test_everything_removed_is_nan_and_no_failure():
    for kind in curves.LOSSES:
        last = dynamics.resilience_curve(WEB, MODEL, kind, [1.0], 1)
        assert last["beta_eff"].isna().all()
        assert last["x_eff"].isna().all()
        assert last["converged"].all()
    assert last["mean_x"].notna().all()  # weights gone, nodes still there


def test_interrupted_curves_go_on(tmp_path, monkeypatch, capsys):
    whole = dynamics.resilience_curve(WEB, MODEL, "nodes", FRACTIONS, 3)
    computed, repeat = [], curves._repeat

    def counted(plan, number):
        computed.append(number)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return repeat(plan, number)

    monkeypatch.setattr(curves, "_repeat", counted)
    with pytest.raises(KeyboardInterrupt):
        dynamics.resilience_curve(WEB, MODEL, "nodes", FRACTIONS, 3, directory=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repeat-0.json", "repeat-1.json", "settings.json"]
    again = dynamics.resilience_curve(WEB, MODEL, "nodes", FRACTIONS, 3, directory=tmp_path, progress=True)
    assert computed == [0, 1, 2, 2]
    assert "3/3" in capsys.readouterr().err
    pd.testing.assert_frame_equal(again, whole)
    more = dynamics.resilience_curve(WEB, MODEL, "nodes", FRACTIONS, 4, directory=tmp_path)
    pd.testing.assert_frame_equal(more[more["repeat"] < 3], whole)
    assert computed[4:] == [3]


def test_a_folder_of_another_curve_is_refused(tmp_path):
    dynamics.resilience_curve(WEB, MODEL, "nodes", FRACTIONS, 1, directory=tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = lg.from_networkx(nx.path_graph(24))
    for arguments, keywords, what in [
        ((WEB, MODEL, "nodes", FRACTIONS, 1), {"seed": 1}, r"seed \(0, now 1\)"),
        ((WEB, dynamics.Mutualistic(K=4), "nodes", FRACTIONS, 1), {}, "model"),
        ((other, MODEL, "nodes", FRACTIONS, 1), {}, "network"),
        ((WEB, MODEL, "nodes", [0.0, 0.5], 1), {}, "fractions"),
        ((WEB, MODEL, "nodes", FRACTIONS, 1), {"method": "flow"}, r"method \(auto, now flow\)"),
    ]:
        with pytest.raises(DataError, match=f"other settings: {what}"):
            dynamics.resilience_curve(*arguments, **keywords, directory=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_curves_of_the_largest_component():
    web = lg.from_networkx(nx.path_graph(12))
    curve = dynamics.resilience_curve(web, MODEL, "nodes", [0.0, 0.4], 2, starts=["high"], component="weak")
    for row in curve.itertuples():
        generator = torch.Generator().manual_seed(1_000_003 * (row.repeat + 1))
        left = dynamics.perturb(web, nodes=row.fraction, generator=generator)
        giant = max(nx.weakly_connected_components(left.to_networkx()), key=len)
        assert row.nodes == len(giant)
    with pytest.raises(DataError, match="connection must be"):
        dynamics.resilience_curve(web, MODEL, "nodes", [0.4], 1, component="giant")


@pytest.mark.parametrize("name", ["repeat-0.json", "settings.json"])
@pytest.mark.parametrize("content", ["", '[{"kind": "nod', "[]", "3"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, directory=tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, directory=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"fraction": 0.4},
        {"repeat": 1},
        {"start": "low"},
        {"converged": 1},
        {"more": 1},
    ],
)
def test_rows_of_another_repeat_are_not_taken(tmp_path, change):
    dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=["high"], directory=tmp_path)
    file = tmp_path / "repeat-0.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"rows": [row | change for row in stored["rows"]]}))
    with pytest.raises(DataError, match=r"repeat-0.json is damaged .*not those of repeat 0"):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=["high"], directory=tmp_path)


DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "a list": lambda text: json.dumps(json.loads(text)["rows"]),
    "no settings": lambda text: json.dumps({"rows": json.loads(text)["rows"]}),
    "no rows": lambda text: json.dumps(json.loads(text) | {"rows": None}),
    "no checksum": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"}),
    "another number": lambda text: text.replace('"x_eff": ', '"x_eff": 1'),
    "another format": lambda text: "kind,fraction\nnodes,0.5\n",
    "too deep": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_of_any_kind_is_named(tmp_path, name):
    dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=["high"], directory=tmp_path)
    file = tmp_path / "repeat-0.json"
    file.write_text(DAMAGE[name](file.read_text()))
    with pytest.raises(DataError, match=r"repeat-0\.json is damaged \(.*remove it, and what it held is computed anew"):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=["high"], directory=tmp_path)


def decay(rate, sent=lambda y: y / (1 + y)):
    """Dynamics of one name that differ in what their methods refer to."""

    class Decay(dynamics.Dynamics):
        domain, starts = (0.0, float("inf")), {"high": 5.0}

        def self_term(self, x):
            return -rate * x

        def pair_term(self, x, y):
            return sent(y)

    return Decay()


def with_attributes(**attributes):
    model = decay(1.0)
    vars(model).update(attributes)
    return model


OTHER_MODELS = {
    "closure": (decay(1.0), decay(2.0)),
    "function in a closure": (decay(1.0), decay(1.0, lambda y: y / (2 + y))),
    "method": (decay(1.0), type("Decay", (type(decay(1.0)),), {"self_term": lambda self, x: -x * x})()),
    "class attribute": (decay(1.0), type("Decay", (type(decay(1.0)),), {"starts": {"high": 5.0, "low": 1.0}})()),
    "tensor": tuple(with_attributes(more=torch.tensor([m])) for m in (1.0, 1.0 + 1e-6)),
    "function": tuple(with_attributes(more=m) for m in (lambda x: x, lambda x: 2 * x)),
    "nested": tuple(with_attributes(more={"a": [m]}) for m in (1.0, 2.0)),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_dynamics_of_one_name_are_told_apart(tmp_path, name):
    first, then = OTHER_MODELS[name]
    one = dynamics.resilience_curve(WEB, first, "links", [0.5], 1, starts=["high"], directory=tmp_path)
    with pytest.raises(DataError, match=r"settings\.json was made with other settings: model \(Decay.*, now Decay"):
        dynamics.resilience_curve(WEB, then, "links", [0.5], 1, starts=["high"], directory=tmp_path)
    again = dynamics.resilience_curve(WEB, first, "links", [0.5], 1, starts=["high"], directory=tmp_path)
    pd.testing.assert_frame_equal(again, one)


def test_networks_are_told_apart_by_what_they_are(tmp_path):
    edges = torch.tensor([[0, 1], [1, 0]])
    base = lg.GraphCoupling(edges, torch.ones(2).double())
    dynamics.resilience_curve(base, MODEL, "weights", [0.0], 1, starts=["high"], directory=tmp_path)
    for other in (
        lg.GraphCoupling(edges, torch.ones(2).double(), num_nodes=3),
        lg.GraphCoupling(edges, torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)),
        lg.GraphCoupling(torch.tensor([[0, 0], [1, 1]]), torch.ones(2).double()),
    ):
        with pytest.raises(DataError, match="other settings: network"):
            dynamics.resilience_curve(other, MODEL, "weights", [0.0], 1, starts=["high"], directory=tmp_path)


def test_a_repeat_of_another_curve_is_not_taken(tmp_path):
    """Files that came from elsewhere, under the names that these would have."""
    for seed, folder in ((1, "one"), (2, "two")):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 2, seed=seed, directory=tmp_path / folder)
    shutil.copy(tmp_path / "two/repeat-1.json", tmp_path / "one")
    with pytest.raises(DataError, match=r"one.repeat-1\.json was made with other settings: seed \(2, now 1\)"):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 2, seed=1, directory=tmp_path / "one")
    shutil.copy(tmp_path / "one/repeat-0.json", tmp_path / "one/repeat-1.json")
    with pytest.raises(DataError, match=r"repeat-1\.json is damaged \(.* not those of repeat 1"):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 2, seed=1, directory=tmp_path / "one")


def curve(seed, directory=None):
    return dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 3, seed=seed, starts=["high"], directory=directory)


def test_of_two_curves_that_begin_in_one_folder_none_gets_the_repeats_of_the_other(tmp_path, monkeypatch):
    repeat, inner = curves._repeat, []

    def interleaved(plan, number):
        if plan.seed == 1 and number == 1:
            with pytest.raises(DataError, match=r"settings\.json was made with other settings: seed \(1, now 2\)"):
                curve(2, tmp_path)
            (tmp_path / "settings.json").unlink()
            for path in tmp_path.glob("repeat-*"):
                path.unlink()
            inner.append(curve(2, tmp_path))
        return repeat(plan, number)

    monkeypatch.setattr(curves, "_repeat", interleaved)
    with pytest.raises(DataError, match=r"repeat-1\.json was made with other settings: seed \(2, now 1\)"):
        curve(1, tmp_path)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(curve(2, tmp_path), curve(2))
    pd.testing.assert_frame_equal(inner[0], curve(2))


def test_two_processes_with_the_same_settings_share_a_folder(tmp_path, monkeypatch):
    repeat = curves._repeat

    def interleaved(plan, number):
        if number == 1:
            with monkeypatch.context() as patched:
                patched.setattr(curves, "_repeat", repeat)
                pd.testing.assert_frame_equal(curve(1, tmp_path), expected)
        return repeat(plan, number)

    expected = curve(1)
    monkeypatch.setattr(curves, "_repeat", interleaved)
    pd.testing.assert_frame_equal(curve(1, tmp_path), expected)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_killed_curve_left_is_removed(tmp_path):
    left = tmp_path / f".linegraph-{files._host()}-{2**22 + 1}-abc.json"
    left.write_text("half")
    curve(1, tmp_path)
    assert not left.exists()


def test_repeats_without_their_settings_are_not_taken(tmp_path):
    dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, directory=tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(DataError, match=r"no settings\.json that says of which"):
        dynamics.resilience_curve(WEB, dynamics.Regulatory(), "nodes", [0.5], 1, directory=tmp_path)


def test_a_start_that_failed_binds_nobody(tmp_path):
    with pytest.raises(DataError, match="no start 'hihg'"):
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=["hihg"], directory=tmp_path)
    assert len(dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=["high"], directory=tmp_path)) == 1


def test_models_that_differ_in_digits_that_are_not_printed_are_told_apart(tmp_path):
    chain = lg.GraphCoupling(torch.tensor([[0], [1]]))
    for drive in (1.0, 1.000001):
        model = dynamics.EdgeDynamics(vector(drive))
        with pytest.raises(DataError, match="other settings: model") if drive > 1 else pytest.warns(ConvergenceWarning):
            dynamics.resilience_curve(chain, model, "nodes", [0.0], 1, starts=[0.0], directory=tmp_path)


@pytest.mark.parametrize("start", [1, np.float32(1), np.int64(1), torch.tensor(1)])
def test_starts_are_numbers_of_any_library(tmp_path, start):
    found = [
        dynamics.resilience_curve(WEB, MODEL, "nodes", [0.5], 1, starts=[start], directory=tmp_path) for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*found)
    assert found[0]["start"].tolist() == [1.0]


def test_threads_and_other_processes_give_the_same():
    alone = dynamics.resilience_curve(WEB, MODEL, "weights", FRACTIONS, 2)
    with ThreadPoolExecutor(2) as executor:
        pd.testing.assert_frame_equal(
            dynamics.resilience_curve(WEB, MODEL, "weights", FRACTIONS, 2, executor=executor), alone
        )
    plan = curves._Plan(WEB, MODEL, "weights", tuple(FRACTIONS), ("low", "high"), 0.5, 0, 1e-8)
    sent = pickle.loads(pickle.dumps(plan))  # what a process pool does
    pd.testing.assert_frame_equal(curves._repeat(sent, 0), alone[alone["repeat"] == 0])
    assert sent.settings() == plan.settings()


def test_states_without_an_equilibrium_are_counted(monkeypatch):
    monkeypatch.setattr(curves, "mean_field_state", lambda *_: 0.0)
    pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.ones(2).double())
    with pytest.warns(ConvergenceWarning, match="2 of 2 states reached no equilibrium"):
        curve = dynamics.resilience_curve(pair, Exploding(), "links", [0.0], 1, starts=[0.0, 1.0])
    assert not curve["converged"].any()
    assert curve["start"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "fractions", "repeats", "message"),
    [
        ("edges", [0.1], 1, "unknown kind of perturbation 'edges'; there are nodes, links, weights"),
        ("nodes", [], 1, "one or more numbers"),
        ("nodes", [0.1, 1.2], 1, "from 0 to 1"),
        ("nodes", [0.1], 0, "repeats must be 1 or more"),
    ],
)
def test_bad_arguments_are_named(kind, fractions, repeats, message):
    with pytest.raises(DataError, match=message):
        dynamics.resilience_curve(WEB, MODEL, kind, fractions, repeats)


def test_tolerance_and_network_are_checked():
    for tol in (0.0, float("inf"), float("nan")):
        with pytest.raises(DataError, match="tol must be positive and finite"):
            dynamics.resilience_curve(WEB, MODEL, "nodes", [0.1], 1, tol=tol)
    with pytest.raises(DataError, match=r"lg\.from_scipy"):
        dynamics.resilience_curve(WEB.to_dense().numpy(), MODEL, "nodes", [0.1], 1)


def test_the_method_is_that_of_equilibrium():
    curves = {
        method: dynamics.resilience_curve(WEB, MODEL, "links", [0.0, 0.4], 1, method=method, starts=["high"])
        for method in ("auto", "sweeps", "flow")
    }
    for curve in curves.values():
        np.testing.assert_allclose(curve["x_eff"], curves["auto"]["x_eff"], rtol=1e-6)
    with pytest.raises(DataError, match="unknown method 'fast'"):
        dynamics.resilience_curve(WEB, MODEL, "links", [0.0], 1, method="fast")
    opposed = lg.GraphCoupling(WEB.edge_index, -WEB.weight)
    with pytest.raises(DataError, match="'sweeps' does not apply: the smallest weight is -"):
        dynamics.resilience_curve(opposed, MODEL, "links", [0.0], 1, method="sweeps")
