from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import DataError, LossError
from linegraph.selection import training
from linegraph.selection.candidates import digits_candidates
from linegraph.selection.rank import rank_correlations


def mlp(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))


CANDIDATES = {"narrow": partial(mlp, 2), "wide/64": partial(mlp, 64)}


@pytest.fixture(scope="module")
def digits():
    (x, y), valid = lg.datasets.digits()
    return (x[:300], y[:300]), valid


def test_table(digits):
    table = lg.rank(CANDIDATES, *digits, epochs=3, train_fully=6)
    assert table.columns.tolist() == ["name", "capacitance", "last_seen", "mean_seen", "final", "beta_eff", "error"]
    assert table["capacitance"].is_monotonic_decreasing
    history = table.attrs["history"]
    assert history.groupby("name").size().to_dict() == {"narrow": 6, "wide/64": 6}
    for row in table.itertuples():
        run = history[history["name"] == row.name]
        seen = run[:3]
        assert row.last_seen == seen["accuracy"].iloc[-1]
        assert row.final == run["accuracy"].iloc[-1]
        assert row.capacitance == pytest.approx(lg.predict_final(seen).mean)
        assert run["beta_eff"].notna().tolist() == [True] * 3 + [False] * 3


def test_same_seed_same_numbers_and_the_callers_randomness_is_left_alone(digits):
    before = torch.get_rng_state()
    first, second = (lg.rank(CANDIDATES, *digits, epochs=2) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.equals(lg.rank(CANDIDATES, *digits, epochs=2, seed=1))


def interrupt(monkeypatch, after):
    """Let the nth call of a model in training and validation raise."""
    left = [after]

    def call(model, inputs):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return model(inputs)

    monkeypatch.setattr(training, "call_model", call)


@pytest.mark.parametrize("after", [3, 18, 30])
@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.Adam, lr=0.01), partial(torch.optim.SGD, lr=0.1, momentum=0.9)]
)
def test_an_interrupted_ranking_goes_on_where_it_stopped(digits, tmp_path, monkeypatch, after, optimizer):
    def run(**changes):
        settings = {"epochs": 2, "train_fully": 3, "optimizer": lambda model: optimizer(model.parameters())}
        return lg.rank(CANDIDATES, *digits, **settings, **changes)

    with monkeypatch.context() as patched:
        interrupt(patched, after)
        with pytest.raises(KeyboardInterrupt):
            run(directory=tmp_path)
    stored = {path.name for path in tmp_path.iterdir()}
    assert stored <= {"narrow.safetensors", "wide_2f_64.safetensors"}
    resumed = run(directory=tmp_path)
    pd.testing.assert_frame_equal(resumed, run())
    pd.testing.assert_frame_equal(resumed.attrs["history"], run().attrs["history"])


def test_finished_candidates_are_not_trained_again(digits, tmp_path, monkeypatch):
    first = lg.rank(CANDIDATES, *digits, epochs=2, directory=tmp_path)
    interrupt(monkeypatch, 1)
    pd.testing.assert_frame_equal(lg.rank(CANDIDATES, *digits, epochs=2, directory=tmp_path), first)


@pytest.mark.parametrize("differs", ["seed", "loss_fn", "train", "valid"])
def test_a_directory_of_other_settings_is_refused_and_kept(digits, tmp_path, differs):
    train, valid = digits
    run = {"train": train, "valid": valid, "seed": 0, "loss_fn": nn.functional.cross_entropy}
    lg.rank(CANDIDATES, **run, epochs=2, directory=tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    others = {
        "seed": 3,
        "loss_fn": partial(nn.functional.cross_entropy, label_smoothing=0.1),
        "train": (train[0].flip(0), train[1].flip(0)),
        "valid": (valid[0][:40], valid[1][:40]),
    }
    with pytest.raises(DataError, match=f"other settings: {differs} "):
        lg.rank(CANDIDATES, **{**run, differs: others[differs]}, epochs=2, directory=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_a_changed_network_or_optimizer_is_not_taken_for_the_stored_one(digits, tmp_path):
    lg.rank(CANDIDATES, *digits, epochs=2, directory=tmp_path)

    def slow(model):
        return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    assert lg.rank(CANDIDATES, *digits, epochs=2, directory=tmp_path, optimizer=slow)["error"].str.contains("lr").all()
    changed = {"narrow": lambda: mlp(2).append(nn.Tanh()), "wide/64": CANDIDATES["wide/64"]}
    errors = lg.rank(changed, *digits, epochs=2, directory=tmp_path).set_index("name")["error"]
    assert "other settings: model" in errors["narrow"]
    assert pd.isna(errors["wide/64"])


def test_one_bad_candidate_comes_last_with_its_error(digits):
    def broken():
        raise RuntimeError("no such network")

    table = lg.rank({"broken": broken, "no synapse": nn.Flatten, **CANDIDATES}, *digits, epochs=2)
    assert set(table["name"][:2]) == set(CANDIDATES)
    errors = table.set_index("name")["error"]
    assert errors["broken"] == "RuntimeError: no such network"
    assert errors[list(CANDIDATES)].isna().all()
    assert isinstance(errors["no synapse"], str)


def test_loaders_and_executors(digits):
    (x, y), valid = digits
    loader = DataLoader(TensorDataset(x, y), batch_size=100)
    alone = lg.rank(CANDIDATES, loader, valid, epochs=2)
    assert alone["error"].isna().all()
    with ThreadPoolExecutor(2) as executor:
        together = lg.rank(CANDIDATES, loader, valid, epochs=2, executor=executor)
    pd.testing.assert_frame_equal(together, alone)


class Scores(nn.Module):
    """Returns an object with logits, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.body = mlp(8)

    def forward(self, x):
        return SimpleNamespace(logits=self.body(x))


def test_outputs_with_logits_and_one_method_by_name(digits):
    plain, held = (lg.rank({"one": make}, *digits, epochs=2, methods="last_seen") for make in (partial(mlp, 8), Scores))
    pd.testing.assert_frame_equal(plain, held)


def test_a_method_that_cannot_tell_leaves_the_others(digits):
    linear = {"linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}
    row = lg.rank(linear, *digits, epochs=2).iloc[0]
    assert row["last_seen"] > 0
    assert pd.isna(row["capacitance"])
    assert "DataError" in row["error"]


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"candidates": [mlp(2)]}, TypeError, "constructors by name"),
        ({"candidates": {"made": mlp(2)}}, TypeError, "lambda: copy.deepcopy"),
        ({"optimizer": torch.optim.Adam}, TypeError, r"torch.optim.Adam\(model.parameters"),
        ({"loss_fn": nn.CrossEntropyLoss}, LossError, "CrossEntropyLoss"),
        ({"kind": "sign"}, ValueError, "sign"),
        ({"train": (torch.zeros(3, 64), torch.zeros(2).long())}, DataError, r"train has inputs \(3, 64\)"),
        ({"valid": []}, DataError, "valid has no sample"),
    ],
)
def test_what_would_fail_for_every_candidate_fails_before_training(digits, changed, error, says):
    train, valid = digits
    with pytest.raises(error, match=says):
        lg.rank(**({"candidates": CANDIDATES, "train": train, "valid": valid, "epochs": 2} | changed))


def test_correlations():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, None], "b": [3.0, 2.0, 1.0, 0.0], "final": [0.1, 0.2, 0.4, None]})
    found = rank_correlations(table, ["a", "b"]).set_index("method")
    assert found.loc["a", ["kendall_tau", "spearman_rho"]].tolist() == pytest.approx([1, 1])
    assert found.loc["b", ["kendall_tau", "spearman_rho"]].tolist() == pytest.approx([-1, -1])
    with pytest.raises(DataError, match="train_fully"):
        rank_correlations(table.drop(columns="final"), ["a"])


def test_bad_arguments(digits):
    with pytest.raises(ValueError, match="unknown method 'guess'"):
        lg.rank(CANDIDATES, *digits, methods=["guess"])
    with pytest.raises(ValueError, match="at least one candidate"):
        lg.rank({}, *digits)
    for name, least, numbers in (
        ("epochs", 2, (1, 2.5, float("nan"))),
        ("train_fully", 5, (0, 4, 5.0)),
        ("batch_size", 1, (0, None)),
        ("coupling_samples", 1, (0, float("nan"))),
    ):
        for number in numbers:
            with pytest.raises(ValueError, match=f"{name} must be {least} or more, got {number}; pass such an integer"):
                lg.rank(CANDIDATES, *digits, **{name: number})


@pytest.mark.parametrize("name", digits_candidates())
def test_candidates_satisfy_the_identity(name):
    model = digits_candidates()[name]().double()
    x, y = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    P = lg.NeuralCoupling(model, nn.functional.cross_entropy, (x, y))
    torch.testing.assert_close(P @ P.weights() + P.drive(), -P.gradient(), rtol=1e-10, atol=1e-10)
    magnitude = lg.capacitance(lg.NeuralCoupling(model, nn.functional.cross_entropy, (x, y), kind="magnitude"))
    assert magnitude.beta_eff > 0
