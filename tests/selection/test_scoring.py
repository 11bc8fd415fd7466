"""Data and models of which no accuracy can be told are refused before training."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection import training

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] + X[:, 1] > 0).long()
TAKES = r"; rank compares scores \(N, classes\) with class indices \(N,\), integers from 0 to classes - 1"
bce = F.binary_cross_entropy_with_logits


def mlp(outputs, *more):
    return lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs), *more)


def maps():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))


def rank(make, train, valid=None, loss=F.cross_entropy, **more):
    return lg.rank({"a": make}, train, train if valid is None else valid, epochs=2, loss_fn=loss, **more)


@pytest.fixture
def untrained(monkeypatch):
    """No epoch may be trained."""
    monkeypatch.setattr(training, "_train_epoch", None)


IMAGES = torch.randn(8, 3, 6, 6), torch.randint(4, (8, 6, 6))
TASKS = {
    "one logit, targets (N, 1)": (mlp(1), (X, Y[:, None].float()), bce, r"\(60, 1\) of float32"),
    "one logit, targets (N,)": (mlp(1), (X, Y.float()), lambda o, t: bce(o[:, 0], t), r"\(60,\) of float32"),
    "one logit, truth values": (mlp(1), (X, Y.bool()), lambda o, t: bce(o[:, 0], t * 1.0), r"\(60,\) of bool"),
    "one logit, class indices": (mlp(1), (X, Y), lambda o, t: bce(o[:, 0], t * 1.0), r"returns \(60, 1\) of float32"),
    "one score without classes": (
        mlp(1, nn.Flatten(0)), (X, Y), lambda o, t: bce(o, t * 1.0), r"returns \(60,\) of float32",
    ),
    "targets (N, 1)": (mlp(2), (X, Y[:, None]), lambda o, t: F.cross_entropy(o, t[:, 0]), r"\(60, 1\) of int64"),
    "regression": (mlp(1), (X, X[:, :1]), F.mse_loss, r"\(60, 1\) of float32"),
    "regression of one number": (mlp(1), (X, X[:, 0]), lambda o, t: F.mse_loss(o[:, 0], t), r"\(60,\) of float32"),
    "regression of counts": (mlp(1), (X, Y), lambda o, t: F.mse_loss(o[:, 0], t * 1.0), r"returns \(60, 1\)"),
    "several regressions": (mlp(3), (X, X[:, :3]), F.mse_loss, r"valid has targets \(60, 3\) of float32"),
    "several labels": (mlp(3), (X, (X[:, :3] > 0).float()), bce, r"valid has targets \(60, 3\) of float32"),
    "several labels as integers": (
        mlp(3), (X, (X[:, :3] > 0).long()), lambda o, t: bce(o, t * 1.0), r"\(60, 3\) of int64",
    ),
    "segmentation": (maps, IMAGES, F.cross_entropy, r"train has targets \(8, 6, 6\) of int64"),
    "a map of scores": (
        maps, (IMAGES[0], Y[:8]), lambda o, t: F.cross_entropy(o.mean((2, 3)), t), r"returns \(8, 4, 6, 6\) of float32",
    ),
    "a sequence of scores": (
        mlp(6, nn.Unflatten(1, (3, 2))), (X, Y), lambda o, t: F.cross_entropy(o[:, 0], t), r"returns \(60, 3, 2\)",
    ),
    "autoencoder": (mlp(6), (X, X), F.mse_loss, r"\(60, 6\) of float32"),
    "too few classes": (mlp(2), (X, Y + 1), lambda o, t: F.cross_entropy(o, t - 1), "target 2, the model 2 classes"),
    "classes from 1": (mlp(2), (X, Y + 1), lambda o, t: F.cross_entropy(o, t - 1), "the target 2"),
    "negative classes": (mlp(2), (X, 2 * Y - 1), lambda o, t: F.cross_entropy(o, t.relu()), "has the target -1"),
    "one class": (mlp(1), (X, torch.zeros_like(Y)), F.cross_entropy, r"returns \(60, 1\) of float32"),
    "arrays": (mlp(2), [(X, Y.numpy())], F.cross_entropy, "targets of type ndarray"),
    "lists": (mlp(2), [(X, Y.tolist())], F.cross_entropy, "targets of type list"),
    "dictionaries": (mlp(2), [(X, {"labels": Y})], lambda o, t: F.cross_entropy(o, t["labels"]), "of type dict"),
    "outputs of several kinds": (
        lambda: Several(), (X, Y), lambda o, t: F.cross_entropy(o[0], t), "the model returns a tuple",
    ),
    "one score for all": (
        lambda: Summed(), (X, Y), lambda o, t: F.cross_entropy(o, t[:1]), r"returns \(1, 2\) of float32 for targets",
    ),
}  # fmt: skip


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(2)()

    def forward(self, x):
        return self.body(x), x


class Summed(Several):
    def forward(self, x):
        return self.body(x).sum(0, keepdim=True)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.usefixtures("untrained")
def test_other_tasks_are_refused_before_training(name):
    make, data, loss, says = TASKS[name]
    with pytest.raises(DataError, match=f"{says}.*{TAKES}"):
        rank(make, data, loss=loss)
    batches = [data] if isinstance(data, tuple) else data
    with pytest.raises(DataError, match=TAKES):
        rank(make, batches, loss=loss)


@pytest.mark.usefixtures("untrained")
def test_either_of_the_data_is_checked_and_named():
    for train, valid, says in (
        ((X, Y.float()), (X, Y), "train has"),
        ((X, Y), (X, Y.float()), "valid has"),
        ((X, Y), (X, Y[:, None]), r"valid has .* targets\[:, 0\]"),
        ((X, Y), (X, Y.float()), r"targets.long\(\)"),
        ((X, Y), [(X, Y.numpy())], r"torch\.as_tensor"),
        ((X, torch.where(Y == 1, 4, 0)), (X, Y), "train has the target 4, the model 2 classes"),
    ):
        with pytest.raises(DataError, match=says):
            rank(mlp(2), train, valid)


def test_one_candidate_with_other_outputs_comes_last():
    table = lg.rank({"one": mlp(1), "two": mlp(2)}, (X, Y), (X, Y), epochs=2, loss_fn=F.cross_entropy)
    assert table["name"].tolist() == ["two", "one"]
    assert table["error"][1].startswith("DataError: on valid the model returns (60, 1) of float32")


def test_a_model_of_one_logit_is_told_how_to_have_two_scores():
    for last in ([], [nn.Flatten(0)]):
        with pytest.raises(DataError, match=r"of one logit z, torch\.stack\(\[-z, z\], 1\) / 2"):
            rank(mlp(1, *last), (X, Y), loss=lambda o, t: bce(o.flatten(), t * 1.0))


def test_later_batches_are_checked():
    valid = DataLoader(TensorDataset(X, torch.cat([Y[:-1], torch.tensor([5])])), 20)
    with pytest.raises(DataError, match="valid has the target 5, the model 2 classes"):
        rank(mlp(2), (X, Y), valid)


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(2)()

    def forward(self, x):
        return SimpleNamespace(logits=self.body(x), loss=None)


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize(
    ("make", "train", "loss"),
    [
        (mlp(2), (X, Y), F.cross_entropy),
        (mlp(2), (X, Y), nn.CrossEntropyLoss()),
        (mlp(5), (X, Y), F.cross_entropy),
        (Held, (X, Y), F.cross_entropy),
        (Lazy, (X, Y), F.cross_entropy),
        (mlp(2), (X, F.one_hot(Y).float()), F.cross_entropy),
        (mlp(2), (X, torch.where(X[:, 2] > 1, -100, Y)), F.cross_entropy),
        (mlp(2), (X, torch.where(X[:, 2] > 1, 7, Y)), nn.CrossEntropyLoss(ignore_index=7)),
        (mlp(2), [(X, (Y, Y.flip(0)))], lambda o, t: F.cross_entropy(o, t[0]) + F.cross_entropy(o, t[1])),
        (mlp(2), (X, Y.to(torch.uint8)), lambda o, t: F.cross_entropy(o, t.long())),
        (mlp(2), (X, Y.int()), lambda o, t: F.cross_entropy(o, t.long())),
        (lambda: mlp(2)().append(nn.LogSoftmax(1)), (X, Y), F.nll_loss),
    ],
)
def test_accuracies_are_shares_of_right_classes(make, train, loss):
    table = rank(make, train, (X, Y), loss)
    assert table["error"].isna().all()
    assert table.attrs["history"]["accuracy"].between(0, 1).all()


def test_the_accuracy_is_that_of_the_largest_score():
    model = nn.Linear(6, 3)
    targets = torch.randint(3, (60,))
    expected = np.mean(model(X).detach().numpy().argmax(1) == targets.numpy())
    for data in ((X, targets), list(zip(X.split(7), targets.split(7), strict=True))):
        assert training.accuracy(model, data) == pytest.approx(expected)


def test_the_check_leaves_no_trace(monkeypatch):
    """A model whose running statistics and random draws a pass would change trains as without the check."""

    def make():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))

    with_check = rank(make, (X, Y))
    monkeypatch.setattr(training, "check_outputs", lambda *given: None)
    pd.testing.assert_frame_equal(with_check, rank(make, (X, Y)), rtol=1e-6)


def test_a_pair_of_targets_and_inputs_of_other_lengths_is_refused():
    with pytest.raises(DataError, match="one each a sample"):
        rank(mlp(2), (X, Y[:-1]))


def test_a_model_that_writes_into_its_inputs_leaves_those_of_the_others_alone():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(2)()

        def forward(self, x):
            return self.body(x.sub_(5.0))

    data = X.clone(), Y.clone()
    lg.rank({"first": Centred, "second": mlp(2)}, list(zip(*(t.split(20) for t in data), strict=True)), data, epochs=2)
    torch.testing.assert_close(data[0], X)
