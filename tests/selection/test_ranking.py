import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import CoverageWarning, DataError, LossError
from linegraph.selection import training
from linegraph.selection.candidates import digits_candidates
from linegraph.selection.ranking import rank_correlations
from tests.architectures import ARCHITECTURES


def mlp(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))


CANDIDATES = {"narrow": partial(mlp, 2), "wide/64": partial(mlp, 64)}


@pytest.fixture(scope="module")
def digits():
    (x, y), (other, labels) = lg.datasets.digits()
    return (x[:120], y[:120]), (other[:80], labels[:80])


def rank(candidates, train, valid, **options):
    """A ranking with P of few samples, since what is tested here does not depend on their number."""
    return lg.rank(candidates, train, valid, **{"coupling_samples": 16, **options})


def test_table(digits):
    methods = ("capacitance", "last_seen", "mean_seen")
    table = rank(CANDIDATES, *digits, epochs=3, train_fully=4, methods=methods)
    assert table.columns.tolist() == [
        *("name", "capacitance", "capacitance_std", "last_seen", "mean_seen", "mean_seen_std"),
        *("final", "beta_eff", "epochs", "error"),
    ]
    assert table["capacitance"].is_monotonic_decreasing
    history = table.attrs["history"]
    assert history.groupby("name").size().to_dict() == {"narrow": 5, "wide/64": 5}
    for row in table.itertuples():
        run = history[history["name"] == row.name]
        seen = run[:4]
        assert row.last_seen == seen["accuracy"].iloc[-1]
        assert row.final == run["accuracy"].iloc[-1]
        found = lg.predict_final(seen, method="capacitance")
        assert (row.capacitance, row.capacitance_std) == pytest.approx((found.mean, found.std))
        assert run["beta_eff"].notna().tolist() == [True] * 4 + [False]


class Decaying(nn.Module):
    """Has a weight that enters an operation without a rule, as the state space of Mamba has."""

    def __init__(self):
        super().__init__()
        self.a, self.decay, self.out = nn.Linear(64, 8), nn.Parameter(torch.zeros(2, 8)), nn.Linear(8, 10)

    def forward(self, x):
        return self.out(torch.tanh(self.a(x.flatten(1))) * self.decay.exp().sum(0))


def test_a_candidate_with_a_weight_that_is_left_out(digits):
    with pytest.warns(CoverageWarning, match="'decay'") as warned:
        table = rank({"decaying": Decaying, "narrow": CANDIDATES["narrow"]}, *digits, epochs=2)
    assert len(warned) == 1
    assert table["error"].isna().all()
    assert table["beta_eff"].notna().all()


def test_same_seed_same_numbers_and_the_callers_randomness_is_left_alone(digits):
    before = torch.get_rng_state()
    first, second = (rank(CANDIDATES, *digits, epochs=2) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.equals(rank(CANDIDATES, *digits, epochs=2, seed=1))


def test_one_number_ranks_every_architecture(digits):
    """A perceptron, a convolutional network, a vision transformer and an MLP-Mixer, in the default settings."""
    table = rank(ARCHITECTURES, *digits, epochs=2)
    assert set(table["name"]) == set(ARCHITECTURES)
    assert not table["error"].notna().any()
    history = table.attrs["history"]
    assert len(history) == 3 * len(ARCHITECTURES)
    for column in ("beta_eff", "heterogeneity", "symmetry", "mean_strength"):
        assert torch.tensor(history[column].to_numpy()).isfinite().all()
    assert (history["beta_eff"] > 0).all()
    assert table["capacitance"].notna().all()


def interrupt(monkeypatch, after):
    """Let the nth call of a model in training and validation raise."""
    left = [after]

    def call(model, inputs):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return model(inputs)

    monkeypatch.setattr(training, "call_model", call)


@pytest.mark.parametrize("after", [2, 7, 12])
@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.Adam, lr=0.01), partial(torch.optim.SGD, lr=0.1, momentum=0.9)]
)
def test_an_interrupted_ranking_goes_on_where_it_stopped(digits, tmp_path, monkeypatch, after, optimizer):
    def run(**changes):
        settings = {"epochs": 2, "train_fully": 3, "optimizer": lambda model: optimizer(model.parameters())}
        return rank(CANDIDATES, *digits, **settings, **changes)

    with monkeypatch.context() as patched:
        interrupt(patched, after)
        with pytest.raises(KeyboardInterrupt):
            run(directory=tmp_path)
    stored = {path.name for path in tmp_path.iterdir()}
    assert stored <= {"narrow.safetensors", "wide_2f_64.safetensors"}
    resumed, whole = run(directory=tmp_path), run()
    pd.testing.assert_frame_equal(resumed, whole)
    pd.testing.assert_frame_equal(resumed.attrs["history"], whole.attrs["history"])


def test_finished_candidates_are_not_trained_again(digits, tmp_path, monkeypatch):
    first = rank(CANDIDATES, *digits, epochs=2, directory=tmp_path)
    interrupt(monkeypatch, 1)
    pd.testing.assert_frame_equal(rank(CANDIDATES, *digits, epochs=2, directory=tmp_path), first)


@pytest.mark.parametrize("differs", ["seed", "loss_fn", "train", "valid"])
def test_a_directory_of_other_settings_is_refused_and_kept(digits, tmp_path, differs):
    train, valid = digits
    run = {"train": train, "valid": valid, "seed": 0, "loss_fn": nn.functional.cross_entropy}
    rank(CANDIDATES, **run, epochs=2, directory=tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    others = {
        "seed": 3,
        "loss_fn": partial(nn.functional.cross_entropy, label_smoothing=0.1),
        "train": (train[0].flip(0), train[1].flip(0)),
        "valid": (valid[0][:40], valid[1][:40]),
    }
    with pytest.raises(DataError, match=f"other settings: {differs} "):
        rank(CANDIDATES, **{**run, differs: others[differs]}, epochs=2, directory=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_a_changed_network_is_not_taken_for_the_stored_one(digits, tmp_path):
    rank(CANDIDATES, *digits, epochs=2, directory=tmp_path)
    changed = {"narrow": lambda: mlp(2).append(nn.Tanh()), "wide/64": CANDIDATES["wide/64"]}
    errors = rank(changed, *digits, epochs=2, directory=tmp_path).set_index("name")["error"]
    assert "other settings: model" in errors["narrow"]
    assert pd.isna(errors["wide/64"])


def test_one_bad_candidate_comes_last_with_its_error(digits):
    def broken():
        raise RuntimeError("no such network")

    table = rank({"broken": broken, "no synapse": nn.Flatten, **CANDIDATES}, *digits, epochs=2)
    assert set(table["name"][:2]) == set(CANDIDATES)
    errors = table.set_index("name")["error"]
    assert errors["broken"] == "RuntimeError: no such network"
    assert errors[list(CANDIDATES)].isna().all()
    assert isinstance(errors["no synapse"], str)


class Speechless(Exception):
    """An error that cannot be printed."""

    def __str__(self):
        raise ValueError("no words")


class OfTwo(Exception):
    """An error that does not travel between processes."""

    def __init__(self, first, second):
        super().__init__(first)


def raising(error):
    raise error


def without_end():
    return without_end()


BAD = {
    "SystemExit": (lambda: sys.exit("bye"), "SystemExit: bye"),
    "SystemExit of a number": (lambda: sys.exit(0), "SystemExit: 0"),
    "GeneratorExit": (lambda: raising(GeneratorExit()), "GeneratorExit"),
    "another end": (lambda: raising(BaseException("end")), "BaseException: end"),
    "recursion": (without_end, "RecursionError"),
    "memory": (lambda: raising(MemoryError("all")), "MemoryError: all"),
    "memory of a device": (lambda: raising(torch.OutOfMemoryError("20 GiB")), "OutOfMemoryError: 20 GiB"),
    "memory of a host": (lambda: nn.Linear(10**9, 10**9), "RuntimeError"),
    "training that diverges": (lambda: Huge(), "FloatingPointError: training diverged"),
    "end of an iterator": (lambda: raising(StopIteration(1)), "StopIteration"),
    "an error without words": (lambda: raising(Speechless()), "Speechless: an error that cannot be printed"),
    "an error of two": (lambda: raising(OfTwo(1, 2)), "OfTwo: 1"),
    "no model": (lambda: None, "TypeError: the constructor returns a NoneType, not a torch.nn.Module"),
    "a class": (lambda: nn.ReLU, "TypeError: the constructor returns a type"),
    "arguments missing": (nn.Linear, "TypeError"),
    "a forward pass that ends": (lambda: Ending(), "SystemExit: in forward"),
}


class Huge(nn.Module):
    """Has a loss that grows beyond all floats."""

    def __init__(self):
        super().__init__()
        self.body = mlp(4)

    def forward(self, x):
        scores = self.body(x)
        return scores * 1e30 * scores if self.training else scores


class Ending(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(4)

    def forward(self, x):
        sys.exit("in forward")


@pytest.mark.parametrize("name", BAD)
def test_a_candidate_does_not_take_the_others_with_it(digits, name):
    bad, says = BAD[name]
    table = rank({"bad": bad, "good": partial(mlp, 4)}, *digits, epochs=1, methods="last_seen")
    assert table["name"].tolist() == ["good", "bad"]
    assert table["error"][1].startswith(says)
    assert pd.isna(table["error"][0])


def test_what_a_constructor_sets_for_the_process_is_set_back(digits, monkeypatch, tmp_path):
    def double():
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        os.chdir(tmp_path)
        return mlp(4)

    monkeypatch.chdir(tmp_path)
    expected = rank({"good": partial(mlp, 4)}, *digits, epochs=2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    table = rank({"bad": double, "good": partial(mlp, 4)}, *digits, epochs=2, directory="runs")
    pd.testing.assert_frame_equal(table[:1], expected[:1], check_dtype=False)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert (tmp_path / "elsewhere/runs/good.safetensors").exists()


def test_ctrl_c_stops_all_and_keeps_what_is_done(digits, tmp_path):
    interrupted = {"first": partial(mlp, 4), "stops": lambda: raising(KeyboardInterrupt()), "last": partial(mlp, 3)}
    with pytest.raises(KeyboardInterrupt):
        rank(interrupted, *digits, epochs=2, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["first.safetensors"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([1], "the name 1 of a candidate is a int; names are strings"),
        ([None], "the name None of a candidate is a NoneType"),
        ([("a", 1)], "is a tuple"),
        ([b"a"], "is a bytes"),
        ([""], "'' names no candidate"),
        (["\ud800"], "names no candidate"),
        (["a\0b"], "names no candidate"),
        (["x" * 300], "is too long for a file in .*: 300 bytes, at most 200; shorten it"),
        (["ä" * 60], "too long for a file"),
        (["Net", "net"], "'Net' and 'net' differ in case alone"),
        (["straße", "STRASSE"], "differ in case alone"),
    ],
)
def test_names_that_no_file_can_have_are_refused_before_training(digits, tmp_path, names, says):
    made = []
    with pytest.raises(DataError, match=says):
        rank({"good": made.append} | dict.fromkeys(names, made.append), *digits, epochs=2, directory=tmp_path)
    assert not made
    assert not list(tmp_path.iterdir())


def test_names_of_any_length_and_case_do_without_a_directory(digits):
    names = ["x" * 300, "Net", "net"]
    table = rank(dict.fromkeys(names, partial(mlp, 4)), *digits, epochs=1, methods="last_seen")
    assert table["error"].isna().all()


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a b", "ä", "x" * 200, "con", "*?", "a\nb", "-"])
def test_names_of_all_kinds_are_gone_on_with(digits, tmp_path, monkeypatch, name):
    settings = {"epochs": 1, "methods": "last_seen", "directory": tmp_path}
    first = rank({name: partial(mlp, 4)}, *digits, **settings)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(training, "_train_epoch", None)
    pd.testing.assert_frame_equal(rank({name: partial(mlp, 4)}, *digits, **settings), first)


def test_loaders_and_executors(digits):
    (x, y), valid = digits
    loader = DataLoader(TensorDataset(x, y), batch_size=100)
    alone = rank(CANDIDATES, loader, valid, epochs=2)
    assert alone["error"].isna().all()
    with ThreadPoolExecutor(2) as executor:
        together = rank(CANDIDATES, loader, valid, epochs=2, executor=executor)
    pd.testing.assert_frame_equal(together, alone)


class Scores(nn.Module):
    """Returns an object with logits, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.body = mlp(8)

    def forward(self, x):
        return SimpleNamespace(logits=self.body(x))


def test_outputs_with_logits_and_one_method_by_name(digits):
    plain, held = (rank({"one": make}, *digits, epochs=2, methods="last_seen") for make in (partial(mlp, 8), Scores))
    pd.testing.assert_frame_equal(plain, held)


# few epochs, few candidates, few classes ---------------------------------------------------------------------------


METHODS = ("last_seen", "mean_seen", "capacitance")


def test_one_epoch(digits):
    table = rank(CANDIDATES, *digits, epochs=1, methods=METHODS)
    assert table["epochs"].tolist() == [1, 1]
    assert table["last_seen"].is_monotonic_decreasing
    pd.testing.assert_series_equal(table["last_seen"], table["mean_seen"], check_names=False)
    assert table["capacitance"].isna().all()
    assert table["error"].str.startswith("capacitance: ").all()
    assert table["error"].str.contains("needs two epochs").all()
    again = rank(CANDIDATES, *digits, epochs=1, methods="capacitance")  # in the order of the candidates
    assert again["name"].tolist() == list(CANDIDATES)


class Constant(nn.Module):
    """Returns the same scores for every image; its weights are trained without an effect."""

    def __init__(self):
        super().__init__()
        self.body = mlp(4)

    def forward(self, x):
        return self.body(x) * 0 + torch.arange(10.0)


def test_constant_histories(digits):
    row = rank({"constant": Constant}, *digits, epochs=3, methods=METHODS).iloc[0]
    share = (digits[1][1] == 9).double().mean()
    for method in ("last_seen", "mean_seen"):
        assert row[method] == pytest.approx(share)
    assert pd.isna(row["error"]) == pd.notna(row["capacitance"])


class Undefined(nn.Module):
    """Returns NaN where it is evaluated, as a batch norm does whose statistics have overflowed."""

    def __init__(self):
        super().__init__()
        self.body = mlp(4)

    def forward(self, x):
        return self.body(x) if self.training else self.body(x) * math.nan


def test_an_accuracy_that_is_nan(digits):
    """Predictions are nan, and the candidate comes after the others."""
    table = rank({"undefined": Undefined, **CANDIDATES}, *digits, epochs=2, methods=METHODS)
    assert table["name"].iloc[-1] == "undefined"
    row = table.iloc[-1]
    assert row[list(METHODS)].isna().all()
    assert "finite" in row["error"]
    assert table["error"].isna().tolist() == [True, True, False]


def test_one_candidate(digits):
    table = rank({"one": partial(mlp, 4)}, *digits, epochs=2, methods=METHODS)
    assert table["name"].tolist() == ["one"]
    assert table[list(METHODS)].notna().all(axis=None)


def test_one_class(digits):
    """All candidates are right, and none is refused."""
    (x, y), _ = digits
    data = x[y == 3], y[y == 3]
    table = rank(CANDIDATES, data, data, epochs=6, methods=METHODS)
    assert table["name"].tolist() == list(CANDIDATES)
    assert table["last_seen"].tolist() == pytest.approx([1, 1])


def test_a_method_that_cannot_tell_leaves_the_others(digits):
    linear = {"linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}
    row = rank(linear, *digits, epochs=2).iloc[0]
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
        rank(**({"candidates": CANDIDATES, "train": train, "valid": valid, "epochs": 2} | changed))


def test_correlations():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, None], "b": [3.0, 2.0, 1.0, 0.0], "final": [0.1, 0.2, 0.4, None]})
    found = rank_correlations(table.assign(last_loss=table["b"]), ["a", "b", "last_loss"], resamples=50)
    found = found.set_index("method")
    correlations = ["kendall_tau", "spearman_rho", "weighted_tau"]
    assert found.loc["a", correlations].tolist() == pytest.approx([1] * 3)
    assert found.loc["b", correlations].tolist() == pytest.approx([-1] * 3)
    assert found.loc["last_loss", correlations].tolist() == pytest.approx([1] * 3)  # of which lower ones are better
    assert found["regret"].tolist() == pytest.approx([0, 0.3, 0])
    assert found["pairwise_accuracy"].tolist() == [1, 0, 1]
    assert found["candidates"].tolist() == [3] * 3
    assert found.loc["b", "mean_abs_error"] == pytest.approx(5.3 / 3)
    assert np.isnan(found.loc["last_loss", "mean_abs_error"])
    for name in correlations:
        assert (found[f"{name}_low"] <= found[name] + 1e-12).all()
        assert (found[name] <= found[f"{name}_high"] + 1e-12).all()
    with pytest.raises(DataError, match="train_fully"):
        rank_correlations(table.drop(columns="final"), ["a"])
    with pytest.raises(DataError, match="no column 'c'"):
        rank_correlations(table, ["c"])


def test_bad_arguments(digits):
    with pytest.raises(ValueError, match="unknown method 'guess'"):
        rank(CANDIDATES, *digits, methods=["guess"])
    with pytest.raises(ValueError, match="at least one candidate"):
        rank({}, *digits)
    for name, least, numbers in (
        ("epochs", 1, (0, 2.5, float("nan"))),
        ("train_fully", 5, (0, 4, 5.0)),
        ("batch_size", 1, (0, None)),
        ("coupling_samples", 1, (0, float("nan"))),
    ):
        for number in numbers:
            with pytest.raises(ValueError, match=f"{name} must be {least} or more, got {number}; pass such an integer"):
                rank(CANDIDATES, *digits, **{name: number})


@pytest.mark.parametrize("name", digits_candidates())
def test_candidates_satisfy_the_identity(name):
    model = digits_candidates()[name]().double()
    x, y = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    P = lg.NeuralCoupling(model, nn.functional.cross_entropy, (x, y))
    torch.testing.assert_close(P @ P.weights() + P.drive(), -P.gradient(), rtol=1e-10, atol=1e-10)
    magnitude = lg.capacitance(lg.NeuralCoupling(model, nn.functional.cross_entropy, (x, y), kind="magnitude"))
    assert magnitude.beta_eff > 0
