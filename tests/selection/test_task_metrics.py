"""Metrics accumulated over batches are scikit-learn's of all data together."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sklearn

from linegraph.errors import ArgumentTypeError, DataError
from linegraph.selection.task_metrics import METRICS, check_metric, choose

bce = F.binary_cross_entropy_with_logits
OF_CLASSES = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "f1": lambda true, found: sklearn.f1_score(true, found, average="macro"),
    "mean_iou": lambda true, found: sklearn.jaccard_score(true, found, average="macro"),
}


def found(metric, scores, targets, loss=F.cross_entropy, cuts=(3, 10)):
    """The metric of batches of unequal size."""
    accumulated = choose(metric, scores[: cuts[0]], targets[: cuts[0]], loss).begin()
    for part in zip(scores.tensor_split(cuts), targets.tensor_split(cuts), strict=True):
        accumulated.update(*part)
    return accumulated.compute()


def skewed(*shape, classes):
    """Class indices of which the last one is missing and others are rare."""
    return (torch.rand(shape) ** 2 * (classes - 1)).long()


@pytest.mark.parametrize("name", OF_CLASSES)
def test_metrics_of_classes(name):
    scores, targets = torch.randn(40, 5), skewed(40, classes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes that are found but not there
        expected = OF_CLASSES[name](targets.numpy(), scores.numpy().argmax(1))
    assert found(name, scores, targets) == pytest.approx(expected)
    assert found(name, scores, targets[:, None]) == pytest.approx(expected)
    assert found(name, scores.half().float(), targets.to(torch.uint8)) == pytest.approx(expected)
    perfect = F.one_hot(targets, 5).float()
    assert found(name, perfect, targets) == pytest.approx(1)


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("axis", [1, -1])
def test_metrics_of_pixels_and_tokens_leave_out_those_that_the_loss_ignores(name, axis):
    scores, targets = torch.randn(12, 4, 3, 5), skewed(12, 3, 5, classes=4)
    targets[torch.rand(12, 3, 5) < 0.3] = -100
    given = scores.movedim(1, axis)
    # Padding may be NaN.
    scores[:, :, 0, 0] = math.nan
    targets[:, 0, 0] = -100
    kept = (targets != -100).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = OF_CLASSES[name](targets.numpy()[kept], scores.numpy().argmax(1)[kept])
    assert found(name, given, targets, lambda o, t: o.sum(), cuts=(5,)) == pytest.approx(expected)


def test_sequences_of_several_lengths():
    lengths, right, total = (4, 7, 3), 0, 0
    accumulated = choose(None, torch.randn(2, 4, 3), torch.randint(3, (2, 4)), lambda o, t: o.sum()).begin()
    for length in lengths:
        scores, targets = torch.randn(2, length, 3), torch.randint(3, (2, length))
        targets[0, -1] = -100
        accumulated.update(scores, targets)
        right += int((scores.argmax(2) == targets).sum())
        total += 2 * length - 1
    assert accumulated.compute() == pytest.approx(right / total)


OF_LABEL = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "f1": sklearn.f1_score,
    "mean_iou": OF_CLASSES["mean_iou"],
}


@pytest.mark.parametrize("name", OF_LABEL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64])
def test_metrics_of_one_logit(name, dtype):
    scores, targets = torch.randn(40, 1), (torch.rand(40) < 0.2).to(dtype)

    def loss(outputs, targets):
        return bce(outputs[:, 0], targets.float())

    expected = OF_LABEL[name](targets.bool().numpy(), scores[:, 0].numpy() > 0)
    assert found(name, scores, targets, loss) == pytest.approx(expected)
    probabilities = scores.double().sigmoid()
    assert found(name, probabilities, targets[:, None].double(), F.binary_cross_entropy) == pytest.approx(expected)


def test_one_logit_that_never_says_yes():
    scores, targets = -torch.ones(20, 1), torch.ones(20, 1)
    assert found("f1", scores, targets, bce) == pytest.approx(0)
    assert found("f1", scores, 0 * targets, bce) == pytest.approx(0)
    assert found("accuracy", scores, 0 * targets, bce) == pytest.approx(1)


def test_metrics_of_labels():
    scores, targets = torch.randn(40, 6), (torch.rand(40, 6) < torch.tensor([0.05, 0.1, 0.3, 0.5, 0.9, 0.0])).float()
    true, decided = targets.numpy(), scores.numpy() > 0
    assert found("accuracy", scores, targets, bce) == pytest.approx(1 - sklearn.hamming_loss(true, decided))
    f1 = sklearn.f1_score(true, decided, average="macro", zero_division=0)
    assert found("f1", scores, targets, bce) == pytest.approx(f1)
    present = true.any(0)
    expected = sklearn.average_precision_score(true[:, present], scores.numpy()[:, present], average="macro")
    assert not present.all()
    assert found(None, scores, targets, bce) == pytest.approx(expected)
    assert found("average_precision", scores.round(), targets, bce) == pytest.approx(
        sklearn.average_precision_score(true[:, present], scores.round().numpy()[:, present], average="macro")
    )
    one = scores[:, :1], targets[:, 3:4]
    assert found("average_precision", *one, bce) == pytest.approx(
        sklearn.average_precision_score(one[1].numpy(), one[0].numpy())
    )


def test_labels_of_which_none_is_there():
    with pytest.raises(DataError, match="valid has no target 1"):
        found("average_precision", torch.randn(20, 3), torch.zeros(20, 3), bce)
    scores = torch.full((20, 3), math.inf)
    scores[0] = -math.inf
    targets = torch.ones(20, 3)
    targets[0] = 0
    assert found("average_precision", scores, targets, bce) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 4)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_r2(shape, offset):
    true = torch.randn(40, *shape, dtype=torch.float64) + offset
    near = true + 0.5 * torch.randn(40, *shape, dtype=torch.float64)
    expected = sklearn.r2_score(true.reshape(40, -1).numpy(), near.reshape(40, -1).numpy())
    assert 0 < expected < 1
    assert found(None, near, true, F.mse_loss) == pytest.approx(expected, rel=1e-6)
    assert found(None, true, true, F.mse_loss) == pytest.approx(1)
    assert found(None, true.flip(0) + 9, true, F.mse_loss) == pytest.approx(0)


def test_r2_of_targets_that_are_all_equal_is_that_of_scikit_learn():
    true = torch.stack([torch.full((40,), 0.1), torch.full((40,), 0.1), torch.randn(40)], 1)
    near = torch.stack([true[:, 0], true[:, 1] + 0.2, true[:, 2] + 0.1 * torch.randn(40)], 1)
    expected = sklearn.r2_score(true.double().numpy(), near.double().numpy())
    assert found("r2", near, true, F.mse_loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "targets", "loss"),
    [
        (torch.zeros(20, 3), torch.arange(20) % 3, F.cross_entropy),
        (torch.zeros(20, 1), torch.arange(20)[:, None] % 2.0, bce),
        (torch.zeros(20, 4), torch.arange(80).reshape(20, 4) % 2.0, bce),
        (torch.zeros(20, 2), torch.arange(40.0).reshape(20, 2), F.mse_loss),
    ],
)
def test_an_output_that_is_nan_has_no_metric(scores, targets, loss):
    scores = scores.clone()
    scores[-1, -1] = math.nan
    for name in METRICS:
        try:
            value = found(name, scores, targets, loss)
        except DataError as error:
            assert f"the metric {name!r} is for" in str(error)  # noqa: PT017
        else:
            assert math.isnan(value)


def test_infinite_outputs_of_a_regression():
    assert found(None, torch.full((20,), math.inf), torch.randn(20), F.mse_loss) == pytest.approx(0)


def test_targets_that_are_all_ignored():
    scores, targets = torch.randn(20, 3), torch.full((20,), -100)
    with pytest.raises(DataError, match="valid has no target other than -100"):
        found(None, scores, targets)


@pytest.mark.parametrize(
    ("name", "scores", "targets", "loss", "says"),
    [
        ("r2", torch.randn(20, 3), torch.arange(20) % 3, F.cross_entropy, "'r2' is for numbers; .* class indices"),
        ("r2", torch.randn(20), torch.arange(20) % 2.0, bce, "'r2' is for numbers; .* targets 0 and 1"),
        ("accuracy", torch.randn(20), torch.randn(20), F.mse_loss, "'accuracy' is for .* numbers"),
        ("mean_iou", torch.randn(20, 2), torch.arange(40).reshape(20, 2) % 2.0, bce, "'average_precision'"),
        ("average_precision", torch.randn(20, 3), torch.arange(20) % 3, F.cross_entropy, "with the metrics 'accuracy'"),
    ],
)
def test_a_metric_of_another_task_is_refused(name, scores, targets, loss, says):
    with pytest.raises(DataError, match=says):
        choose(name, scores, targets, loss)


# the user's -----------------------------------------------------------------------------------------------------------


def auc(outputs, targets):
    return sklearn.roc_auc_score(targets, outputs[:, 0])


def test_a_function_sees_all_data_together():
    scores, targets = torch.randn(40, 1, requires_grad=True), torch.arange(40) % 2
    assert choose(auc, scores, targets, None).name == "auc"
    assert found(auc, scores, targets) == pytest.approx(auc(scores.detach(), targets))


class Share:
    """The share of outputs above 0, with a state that it must not keep."""

    def __init__(self):
        self.above = self.total = 0

    def update(self, outputs, targets):
        self.above += int((outputs["scores"] > 0).sum())
        self.total += len(targets["boxes"])

    def compute(self):
        return self.above / self.total


def test_an_object_accumulates_outputs_of_any_form():
    share = Share()
    chosen = choose(share, {"scores": torch.ones(3)}, {"boxes": [1, 2, 3]}, None)
    assert chosen.name == "Share"
    for _ in range(2):
        accumulated = chosen.begin()
        accumulated.update({"scores": torch.tensor([1.0, -1.0])}, {"boxes": [1, 2]})
        accumulated.update({"scores": torch.tensor([1.0, 1.0])}, {"boxes": [1, 2]})
        assert accumulated.compute() == pytest.approx(3 / 4)
    assert share.total == 0


def test_metrics_of_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics")
    scores, targets = torch.randn(40, 5), skewed(40, classes=5)
    for average, ours in (("micro", "accuracy"), ("macro", "balanced_accuracy")):
        metric = torchmetrics.Accuracy(task="multiclass", num_classes=5, average=average)
        metric.update(scores[:1], targets[:1])
        assert choose(metric, scores, targets, None).name == "MulticlassAccuracy"
        if average == "micro":
            assert found(metric, scores, targets) == pytest.approx(found(ours, scores, targets))
        assert 0 <= found(metric, scores, targets) <= 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (-0.1, "gives -0.1; a metric is one number from 0 to 1"),
        (1.5, "gives 1.5"),
        (math.inf, "gives inf"),
        (None, "gives NoneType"),
        (True, "gives bool"),
        ("0.5", "gives str"),
        (torch.ones(2), "gives Tensor"),
        (np.ones(2), "gives ndarray"),
        (0.5j, "gives complex"),
    ],
)
def test_what_is_no_number_from_0_to_1_is_refused(value, says):
    with pytest.raises(DataError, match=says):
        found(lambda outputs, targets: value, torch.randn(20, 3), torch.arange(20) % 3)


@pytest.mark.parametrize("value", [0, 1, 0.5, torch.tensor(0.5), torch.tensor([0.5]), np.float32(0.5), np.ones((1, 1))])
def test_numbers_of_several_types(value):
    scores, targets = torch.randn(20, 3), torch.arange(20) % 3
    assert found(lambda outputs, targets: value, scores, targets) == pytest.approx(float(np.ravel(value)[0]))
    assert found(lambda outputs, targets: 1 + 1e-7, scores, targets) <= 1
    assert math.isnan(found(lambda outputs, targets: math.nan, scores, targets))


def test_a_function_takes_batches_of_one_shape():
    accumulated = choose(auc, torch.randn(4, 7, 3), torch.zeros(4, 7), None).begin()
    accumulated.update(torch.randn(4, 7, 3), torch.zeros(4, 7))
    with pytest.raises(DataError, match=r"\(4, 6, 3\).*pad them to one length"):
        accumulated.update(torch.randn(4, 6, 3), torch.zeros(4, 6))
    with pytest.raises(DataError, match="returns a tuple"):
        choose(auc, (torch.randn(4, 3),), torch.zeros(4), None)


@pytest.mark.parametrize("metric", [None, *METRICS, auc, Share()])
def test_what_may_be_a_metric(metric):
    check_metric(metric)


@pytest.mark.parametrize(
    ("metric", "error", "says"),
    [
        ("roc", DataError, "unknown metric 'roc'; there are accuracy, balanced_accuracy"),
        (Share, ArgumentTypeError, r"the class Share; pass an instance, Share\(\)"),
        (3, ArgumentTypeError, "got an object of type int"),
        (["accuracy"], ArgumentTypeError, "got an object of type list"),
    ],
)
def test_what_is_no_metric(metric, error, says):
    with pytest.raises(error, match=says):
        check_metric(metric)


# devices --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "targets", "loss"),
    [
        (torch.randn(20, 3), torch.arange(20) % 3, F.cross_entropy),
        (torch.randn(20, 5, 3), torch.arange(100).reshape(20, 5) % 3, lambda o, t: o.sum()),
        (torch.randn(20, 1), torch.arange(20) % 2, lambda o, t: bce(o[:, 0], t.float())),
        (torch.randn(20, 4), torch.arange(80).reshape(20, 4) % 3 // 2 * 1.0, bce),
        (torch.randn(20, 2), torch.randn(20, 2), F.mse_loss),
    ],
)
def test_metrics_on_a_device_are_those_on_the_host(scores, targets, loss, device):
    for name in METRICS:
        try:
            expected = found(name, scores, targets, loss)
        except DataError:  # a metric of another task
            continue
        assert found(name, scores.to(device), targets.to(device), loss) == pytest.approx(expected)
    expected = found(None, scores, targets, loss)
    assert found(None, scores.to(device), targets.to(device), loss) == pytest.approx(expected)
    assert found(lambda o, t: float(o.shape == scores.shape), scores.to(device), targets.to(device)) == pytest.approx(1)
