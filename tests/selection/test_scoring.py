"""Held-out data are scored in every task; what no metric or loss fits is refused before training."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import jaccard_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection import training
from linegraph.selection.scoring import HeldOutLoss, check_outputs, evaluate

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] + X[:, 1] > 0).long()
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


IMAGES = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(2)), torch.randint(4, (8, 6, 6))
TOKENS = torch.randint(2, (60, 3), generator=torch.Generator().manual_seed(1))


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(2)()

    def forward(self, x):
        return self.body(x), x


class Summed(Several):
    def forward(self, x):
        return self.body(x).sum(0, keepdim=True)


def of_tokens(classes):
    """A model of scores (N, 3, classes) and its loss, as Hugging Face has them."""
    return mlp(3 * classes, nn.Unflatten(1, (3, classes))), lambda o, t: F.cross_entropy(o.transpose(1, 2), t)


REFUSED = {
    "a regression with the default loss": (
        mlp(1), (X, X[:, :1]), F.cross_entropy,
        r"cross_entropy does not take .*\(60, 1\).*: it compares scores of two classes .*pass loss_fn=.*mse_loss",
    ),
    "regressions with the default loss": (
        mlp(3), (X, X[:, :3]), F.cross_entropy, r"do not add up to 1; for a regression .*mse_loss",
    ),
    "numbers (N,) with outputs (N, 1)": (
        mlp(1), (X, X[:, 0]), F.mse_loss, r"every output would be compared with every target; .*reshape\(-1, 1\)",
    ),
    "one logit with the default loss": (
        mlp(1), (X, Y), F.cross_entropy,
        r"two classes or more.*binary_cross_entropy_with_logits, and float targets, and targets.reshape\(-1, 1\)",
    ),
    "one logit, integers": (mlp(1), (X, Y[:, None]), bce, "binary_cross_entropy_with_logits, and float targets"),
    "logits for probabilities": (
        mlp(1), (X, Y[:, None].float()), F.binary_cross_entropy, "takes probabilities, and outputs are below 0 or",
    ),
    "labels -1 and 1": (mlp(1), (X, 2.0 * Y[:, None] - 1), bce, "its targets are labels 0 and 1, and some are below 0"),
    "labels with the default loss": (
        mlp(3), (X, (X[:, :3] > 0).float()), F.cross_entropy, "do not add up to 1; .*binary_cross_entropy_with_logits",
    ),
    "tokens with the default loss": (
        of_tokens(2)[0], (X, TOKENS), F.cross_entropy, r"cross_entropy\(outputs.movedim\(-1, 1\), targets\)",
    ),
    "as many tokens as classes": (of_tokens(3)[0], (X, TOKENS), of_tokens(3)[1], "dimension 1 or 2"),
    "classes with a loss of numbers": (mlp(2), (X, Y), F.mse_loss, "for class indices .*cross_entropy"),
    "classes (N, 1) with the default loss": (mlp(2), (X, Y[:, None]), F.cross_entropy, r"by targets\[:, 0\]"),
    "a map of scores": (
        maps, (IMAGES[0], Y[:8]), lambda o, t: F.cross_entropy(o.mean((2, 3)), t), r"returns \(8, 4, 6, 6\) of float32",
    ),
    "too few classes": (mlp(2), (X, Y + 1), F.cross_entropy, "train has the target 2, the model 2 classes"),
    "classes from 1": (mlp(2), (X, Y + 1), lambda o, t: F.cross_entropy(o, t - 1), "valid has the target 2"),
    "negative classes": (mlp(2), (X, 2 * Y - 1), lambda o, t: F.cross_entropy(o, t.relu()), "has the target -1"),
    "one class": (mlp(1), (X, torch.zeros_like(Y)), F.cross_entropy, "two classes or more"),
    "arrays": (mlp(2), [(X, Y.numpy())], F.cross_entropy, r"train has targets of type ndarray.*torch\.as_tensor"),
    "lists": (mlp(2), [(X, Y.tolist())], lambda o, t: F.cross_entropy(o, torch.tensor(t)), "targets of type list"),
    "dictionaries": (mlp(2), [(X, {"labels": Y})], lambda o, t: F.cross_entropy(o, t["labels"]), "of type dict"),
    "a tuple": (Several, (X, Y), lambda o, t: F.cross_entropy(o[0], t), "the model returns a tuple; wrap it"),
    "one score for all": (
        Summed, (X, Y), lambda o, t: F.cross_entropy(o, t[:1]), r"returns \(1, 2\) of float32 for targets \(60,\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("untrained")
def test_what_no_metric_or_loss_fits_is_refused_before_training(name):
    make, data, loss, says = REFUSED[name]
    for given in (data, [data] if isinstance(data, tuple) else data):
        with pytest.raises(DataError, match=f"no candidate could be trained; a: .*{says}"):
            rank(make, given, loss=loss, batch_size=60)


@pytest.mark.usefixtures("untrained")
def test_a_metric_that_does_not_fit_is_refused_before_training():
    for metric, says in (
        ("r2", "'r2' is for numbers"),
        (lambda o, t: 2.0, "gives 2; a metric is one number from 0 to 1"),
        (lambda o, t: o, "gives Tensor"),
    ):
        with pytest.raises(DataError, match=says):
            rank(mlp(2), (X, Y), metric=metric)
    with pytest.raises(DataError, match="unknown metric 'auc'"):
        rank(mlp(2), (X, Y), metric="auc")


@pytest.mark.usefixtures("untrained")
def test_either_of_the_data_is_checked_and_named():
    for train, valid, says in (
        ((X, Y.float()), (X, Y), "float32 of train"),
        ((X, Y), (X, Y.float()), "float32 of valid"),
        ((X, Y), [(X, Y.numpy())], "valid has targets of type ndarray"),
        ((X, torch.where(Y == 1, 4, 0)), (X, Y), "train has the target 4, the model 2 classes"),
        ((X, Y), (X, torch.where(Y == 1, 4, 0)), "valid has the target 4, the model 2 classes"),
    ):
        with pytest.raises(DataError, match=says):
            rank(mlp(2), train, valid)


def test_one_candidate_with_other_outputs_comes_last():
    table = lg.rank({"one": mlp(1), "two": mlp(2)}, (X, Y), (X, Y), epochs=2, loss_fn=F.cross_entropy)
    assert table["name"].tolist() == ["two", "one"]
    assert table["error"][1].startswith("DataError: the loss cross_entropy does not take the outputs (60, 1)")


def test_candidates_are_compared_by_one_metric():
    """With this loss two outputs are scores of classes, and one is a number."""

    def loss(outputs, targets):
        return (
            F.cross_entropy(outputs, targets) if outputs.shape[1] == 2 else F.mse_loss(outputs[:, 0], targets.float())
        )

    table = lg.rank({"two": mlp(2), "one": mlp(1)}, (X, Y), (X, Y), epochs=2, loss_fn=loss)
    assert table["name"].tolist() == ["two", "one"]
    assert table.attrs["metric"] == "accuracy"
    assert "the metric of its outputs is 'r2', and that of 'two' is 'accuracy'" in table["error"][1]
    assert set(table.attrs["history"]["name"]) == {"two"}


def test_later_batches_are_checked():
    valid = DataLoader(TensorDataset(X, torch.cat([Y[:-1], torch.tensor([5])])), 20)
    with pytest.raises(DataError, match="valid has the target 5, the model 2 classes"):
        rank(mlp(2), (X, Y), valid)


# tasks ----------------------------------------------------------------------------------------------------------------


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
    assert table.attrs["metric"] == "accuracy"
    assert table.attrs["history"]["accuracy"].between(0, 1).all()


def segmented(images):
    """The channel that is largest at each pixel."""
    return images.argmax(1)


SEQUENCES = torch.randn(60, 3, 6, generator=torch.Generator().manual_seed(3))
PADDED = torch.where(torch.arange(3) < 1 + torch.arange(60)[:, None] % 3, (SEQUENCES[..., 0] > 0).long(), -100)


class Tagger(nn.Module):
    """Returns an object with logits (N, T, classes), as Hugging Face's token classifiers do."""

    def __init__(self):
        super().__init__()
        self.body = mlp(2)()

    def forward(self, x):
        return SimpleNamespace(logits=self.body(x), loss=None)


TASKS = {
    "one logit, targets (N, 1)": (mlp(1), (X, Y[:, None].float()), bce, "accuracy"),
    "one logit, targets (N,)": (mlp(1), (X, Y.float()), lambda o, t: bce(o[:, 0], t), "accuracy"),
    "one logit, truth values": (mlp(1), (X, Y.bool()), lambda o, t: bce(o[:, 0], t.float()), "accuracy"),
    "one logit, integers": (mlp(1, nn.Flatten(0)), (X, Y), lambda o, t: bce(o, t.float()), "accuracy"),
    "one probability": (mlp(1, nn.Sigmoid()), (X, Y[:, None].float()), nn.BCELoss(), "accuracy"),
    "classes, targets (N, 1)": (mlp(2), (X, Y[:, None]), lambda o, t: F.cross_entropy(o, t[:, 0]), "accuracy"),
    "labels": (mlp(3), (X, (X[:, :3] > 0).float()), bce, "average_precision"),
    "segmentation": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1)),
        (IMAGES[0], segmented(IMAGES[0])), F.cross_entropy, "accuracy",
    ),
    "tokens, Hugging Face": (
        Tagger, (SEQUENCES, PADDED), lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten()), "accuracy",
    ),
    "tokens, torch": (
        lambda: nn.Sequential(nn.Conv1d(6, 8, 1), nn.ReLU(), nn.Conv1d(8, 2, 1)),
        (SEQUENCES.transpose(1, 2), PADDED), F.cross_entropy, "accuracy",
    ),
    "a number": (mlp(1), (X, X[:, :1] + X[:, 1:2]), F.mse_loss, "r2"),
    "a number, targets (N,)": (mlp(1), (X, X[:, 0] + X[:, 1]), lambda o, t: F.mse_loss(o[:, 0], t), "r2"),
    "numbers": (mlp(3), (X, X[:, :3]), nn.SmoothL1Loss(), "r2"),
    "autoencoder": (mlp(6), (X, X), F.mse_loss, "r2"),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_learnt_and_has_its_metric(name):
    make, data, loss, metric = TASKS[name]

    def adam(model):
        return torch.optim.Adam(model.parameters(), lr=0.03)

    # A mean over the targets of a batch that are not ignored is no mean over samples.
    settings = {"epochs": 2, "train_fully": 12, "loss_fn": loss, "optimizer": adam, "batch_size": 15}
    if name.startswith("tokens"):
        settings["batch_weight"] = lambda inputs, targets: (targets != -100).sum()
    table = lg.rank({"a": make}, data, data, **settings)
    assert table["error"].isna().all(), table["error"][0]
    assert table.attrs["metric"] == metric
    history = table.attrs["history"]
    assert history["accuracy"].between(0, 1).all()
    assert history["accuracy"].iloc[-1] > (0.5 if metric == "r2" else 0.75)
    assert np.isfinite(history["valid_loss"]).all()
    assert history["valid_loss"].iloc[-1] < history["valid_loss"].iloc[0]


def test_a_token_classifier_of_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=30, max_position_embeddings=8, num_labels=2, **sizes)
    ids = torch.randint(30, (40, 6), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(6) < 3 + torch.arange(40)[:, None] % 4).long()
    labels = torch.where(mask == 1, (ids > 14).long(), -100)
    parts = [({"input_ids": ids[k::4], "attention_mask": mask[k::4]}, labels[k::4]) for k in range(4)]

    def make():
        return transformers.BertForTokenClassification(config)

    with pytest.raises(DataError, match=r"pass loss_fn=lambda .* torch.nn.functional.cross_entropy\(outputs.movedim"):
        rank(make, parts)

    def loss(outputs, targets):
        return F.cross_entropy(outputs.movedim(-1, 1), targets)

    settings = {"optimizer": lambda model: torch.optim.Adam(model.parameters(), 0.01), "train_fully": 6}
    weight = lambda inputs, targets: (targets != -100).sum()  # noqa: E731
    table = rank(make, parts, loss=loss, batch_weight=weight, **settings)
    assert table["error"].isna().all()
    assert table["final"][0] > 0.9


def test_metrics_by_name_and_of_the_users():
    targets = segmented(IMAGES[0])
    data = IMAGES[0], targets

    def mean_iou(outputs, labels):
        return jaccard_score(labels.flatten(), outputs.argmax(1).flatten(), average="macro")

    def make():
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    found = {}
    for metric in ("mean_iou", mean_iou, "accuracy"):
        table = rank(make, data, metric=metric)
        found[metric] = table["last_seen"][0]
        assert table.attrs["metric"] == (metric if isinstance(metric, str) else "mean_iou")
    assert found["mean_iou"] == pytest.approx(found[mean_iou])
    assert found["mean_iou"] < found["accuracy"]


def test_a_stored_run_belongs_to_its_metric(tmp_path):
    first = rank(mlp(2), (X, Y), directory=tmp_path)
    again = rank(mlp(2), (X, Y), directory=tmp_path)
    pd.testing.assert_frame_equal(first, again)
    assert again.attrs["metric"] == "accuracy"
    with pytest.raises(DataError, match="other settings: metric"):
        rank(mlp(2), (X, Y), directory=tmp_path, metric="f1")


# scores ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "targets", "loss"),
    [
        (3, torch.randint(3, (60,)), F.cross_entropy),
        (3, torch.where(X[:, 2] > 0.5, -100, torch.randint(3, (60,))), F.cross_entropy),
        (3, torch.randint(3, (60,)), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]))),
        (1, X[:, :1], F.mse_loss),
    ],
)
def test_metric_and_loss_do_not_depend_on_the_batches(outputs, targets, loss):
    model = nn.Linear(6, outputs)
    whole = X, targets
    metric = check_outputs(model, whole, whole, loss, 60)
    expected = evaluate(model, whole, metric, HeldOutLoss(loss), 60)
    assert expected["valid_loss"] == pytest.approx(loss(model(X), targets).item(), rel=1e-5)
    for data in (whole, list(zip(X.split(7), targets.split(7), strict=True))):
        found = evaluate(model, data, metric, HeldOutLoss(loss), 7)
        assert found == pytest.approx(expected, rel=1e-5)
    if loss is F.cross_entropy:
        kept = (targets != -100).numpy()
        right = (model(X).detach().numpy().argmax(1) == targets.numpy())[kept]
        assert found["accuracy"] == pytest.approx(np.mean(right))


def test_the_held_out_loss_has_the_weights_of_the_user():
    model, parts = nn.Linear(6, 1), list(zip(X.split(25), X[:, :1].split(25), strict=True))
    metric = check_outputs(model, parts, parts, F.l1_loss, 60)
    found = evaluate(model, parts, metric, HeldOutLoss(F.l1_loss, lambda x, y: float(len(x) < 25)), 7)
    assert found["valid_loss"] == pytest.approx(F.l1_loss(model(parts[-1][0]), parts[-1][1]).item(), rel=1e-5)


def test_a_loss_that_does_not_take_held_out_targets_leaves_the_metric():
    """Training compares with scores of a teacher, and held-out data have indices of classes."""

    def distilled(outputs, targets):
        return -(targets.softmax(1) * outputs.log_softmax(1)).sum(1).mean()

    table = rank(mlp(2), (X, torch.stack([-X[:, 0], X[:, 0]], 1)), (X, Y), distilled)
    assert table["error"].isna().all()
    assert table.attrs["history"]["valid_loss"].isna().all()
    assert table.attrs["history"]["accuracy"].between(0, 1).all()


def test_a_loss_that_runs_out_of_memory_is_no_loss_that_does_not_fit():
    def greedy(outputs, targets):
        if not torch.is_grad_enabled():  # on held-out data
            raise torch.OutOfMemoryError("all is used")
        return F.cross_entropy(outputs, targets)

    table = rank(mlp(2), (X, Y), loss=greedy)
    assert table["error"][0] == "OutOfMemoryError: all is used"


def test_an_output_that_is_nan_leaves_no_metric_and_no_loss():
    model = mlp(2)()
    metric = check_outputs(model, (X, Y), (X, Y), F.cross_entropy, 60)
    model[0].weight.data[0, 0] = torch.nan
    found = evaluate(model, (X, Y), metric, HeldOutLoss(F.cross_entropy), 7)
    assert np.isnan([found["accuracy"], found["valid_loss"]]).all()


def test_the_check_leaves_no_trace(monkeypatch):
    """A model whose running statistics and random draws a pass would change trains as without the check."""

    def make():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))

    with_check = rank(make, (X, Y))
    metric = check_outputs(mlp(2)(), (X, Y), (X, Y), F.cross_entropy, 60)
    monkeypatch.setattr(training, "check_outputs", lambda *given: metric)
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
