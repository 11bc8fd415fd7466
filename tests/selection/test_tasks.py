"""The task is told by shapes, and by the loss where shapes do not tell; what is not certain is refused."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from linegraph.errors import DataError
from linegraph.selection.tasks import Task, task_of

bce, mse = F.binary_cross_entropy_with_logits, F.mse_loss
N = 12
PROBABILITY = Task("binary", threshold=0.5)
GENERATOR = torch.Generator().manual_seed(0)
CLASS = torch.randint(3, (N,), generator=GENERATOR)
LABEL = torch.arange(N) % 2
LABELS = torch.randint(2, (N, 4), generator=GENERATOR)
NUMBERS = torch.randn(N, 4, generator=GENERATOR)


def outputs(*shape):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(1))


def tokens(length, classes=3):
    return torch.randint(classes, (N, length), generator=torch.Generator().manual_seed(2))


def by_softmax(scores, targets):
    return -(targets * scores.log_softmax(1)).sum(1).mean()


def own_bce(scores, targets):
    return -(targets * scores.log() + (1 - targets) * (1 - scores).log()).mean()


CERTAIN = {
    "classes": (outputs(3), CLASS, F.cross_entropy, Task("classes", 1, 3)),
    "classes, another loss": (outputs(3), CLASS, lambda o, t: F.cross_entropy(o, t), Task("classes", 1, 3)),
    "classes as uint8": (outputs(3), CLASS.to(torch.uint8), F.cross_entropy, Task("classes", 1, 3)),
    "two classes": (outputs(2), LABEL, F.cross_entropy, Task("classes", 1, 2)),
    "two classes, truth values": (outputs(2), LABEL.bool(), F.cross_entropy, Task("classes", 1, 2)),
    "classes in a column": (outputs(3), CLASS[:, None], F.cross_entropy, Task("classes", 1, 3)),
    "an index that is ignored": (
        outputs(3), CLASS, partial(F.cross_entropy, ignore_index=7), Task("classes", 1, 3, ignored=7),
    ),
    "a module that ignores one": (
        outputs(3), CLASS, nn.CrossEntropyLoss(ignore_index=7), Task("classes", 1, 3, ignored=7),
    ),
    "tokens, torch": (outputs(3, 5), tokens(5), F.cross_entropy, Task("classes", 1, 3)),
    "tokens, Hugging Face": (outputs(5, 3), tokens(5), lambda o, t: o.sum(), Task("classes", 2, 3)),
    "as many tokens as classes": (outputs(3, 3), tokens(3), F.cross_entropy, Task("classes", 1, 3)),
    "one token": (outputs(1, 3), tokens(1), lambda o, t: o.sum(), Task("classes", 2, 3)),
    "maps": (outputs(3, 2, 4), tokens(8).reshape(N, 2, 4), F.cross_entropy, Task("classes", 1, 3)),
    "maps in one channel": (outputs(3, 2, 4), tokens(8).reshape(N, 1, 2, 4), F.cross_entropy, Task("classes", 1, 3)),
    "one logit": (outputs(1), LABEL[:, None].float(), bce, Task("binary")),
    "one logit, module": (outputs(1), LABEL[:, None].float(), nn.BCEWithLogitsLoss(), Task("binary")),
    "one logit, targets (N,)": (outputs(1), LABEL.float(), lambda o, t: bce(o[:, 0], t), Task("binary")),
    "one logit, truth values": (outputs(1), LABEL.bool(), lambda o, t: bce(o[:, 0], t.float()), Task("binary")),
    "one logit, integers": (outputs(), LABEL, lambda o, t: bce(o, t.float()), Task("binary")),
    "one logit, smoothed": (outputs(), LABEL, lambda o, t: bce(o, 0.9 * t + 0.05), Task("binary")),
    "one logit, all 0": (outputs(), 0 * LABEL, lambda o, t: bce(o, t.float()), Task("binary")),
    "one logit in half precision": (outputs(1).half(), LABEL, lambda o, t: bce(o[:, 0], t.float()), Task("binary")),
    "probabilities": (outputs(1).sigmoid(), LABEL[:, None].float(), F.binary_cross_entropy, PROBABILITY),
    "probabilities, another loss": (
        outputs(1).sigmoid(), LABEL, lambda o, t: F.binary_cross_entropy(o[:, 0], t.float()), PROBABILITY,
    ),
    "probabilities, one's own loss": (outputs().sigmoid(), LABEL.float(), own_bce, PROBABILITY),
    "logits of a map": (
        outputs(1, 2, 4), tokens(8, 2).reshape(N, 2, 4), lambda o, t: bce(o[:, 0], t.float()), Task("binary"),
    ),
    "labels": (outputs(4), LABELS.float(), bce, Task("labels")),
    "labels, torch's other loss": (outputs(4), LABELS.float(), F.multilabel_soft_margin_loss, Task("labels")),
    "labels, integers": (outputs(4), LABELS, lambda o, t: bce(o, t.float()), Task("labels")),
    "one label each": (outputs(3), F.one_hot(CLASS, 3).float(), bce, Task("labels")),
    "a number": (outputs(1), NUMBERS[:, :1], mse, Task("values")),
    "a number, targets (N,)": (outputs(1), NUMBERS[:, 0], lambda o, t: mse(o[:, 0], t), Task("values")),
    "a number that is 0 or 1": (outputs(1), LABEL[:, None].float(), mse, Task("values")),
    "a number that is 0 or 1, another loss": (
        outputs(), LABEL.float(), lambda o, t: (o - t).abs().mean(), Task("values"),
    ),
    "a count": (outputs(), CLASS, lambda o, t: mse(o, t.float()), Task("values")),
    "numbers": (outputs(4), NUMBERS, nn.SmoothL1Loss(), Task("values")),
    "images": (outputs(3, 2, 2), outputs(3, 2, 2), mse, Task("values")),
}  # fmt: skip


@pytest.mark.parametrize("name", CERTAIN)
def test_tasks(name):
    scores, targets, loss, expected = CERTAIN[name]
    assert task_of(scores, targets, loss) == expected


UNCERTAIN = {
    "as many tokens as classes": (
        outputs(3, 3), tokens(3), lambda o, t: F.cross_entropy(o.transpose(1, 2), t), "dimension 1 or 2; pass metric=",
    ),
    "classes that exclude each other": (
        outputs(3), F.one_hot(CLASS, 3).float(), by_softmax, r"does not tell .* targets.argmax\(1\)",
    ),
    "probabilities of classes": (outputs(3), F.one_hot(CLASS, 3).float(), F.cross_entropy, r"targets.argmax\(1\)"),
    "logarithms of rates": (outputs(), CLASS.float(), F.poisson_nll_loss, "poisson_nll_loss does not tell"),
    "one's own rates": (outputs(), CLASS.float(), lambda o, t: F.poisson_nll_loss(o, t), "does not tell"),
    "a margin": (outputs(), 2 * LABEL - 1, lambda o, t: (1 - t * o).relu().mean(), "does not tell what they are"),
    "a loss that fails": (outputs(), LABEL, lambda o, t: 1 / 0, "does not tell what they are"),
    "a loss without a gradient": (outputs(), LABEL, lambda o, t: torch.zeros(()), "does not tell what they are"),
    "labels other than 0 and 1": (outputs(), LABEL + 0.5, bce, r"targets \(12,\) of float32 other than 0 and 1"),
    "classes as floats": (outputs(3), CLASS.float(), F.cross_entropy, r"by targets.long\(\)"),
    "other numbers": (outputs(4), NUMBERS[:, :3], mse, r"returns \(12, 4\) of float32 for targets \(12, 3\)"),
    "one score for all": (outputs(3)[:1], CLASS, F.cross_entropy, r"returns \(1, 3\) of float32"),
    "a tuple": ((outputs(3), outputs(3)), CLASS, F.cross_entropy, "returns a tuple; wrap it"),
    "an array": (outputs(3), CLASS.numpy(), F.cross_entropy, "targets of type ndarray; .*torch.as_tensor"),
    "complex numbers": (outputs(3) + 0j, CLASS, F.cross_entropy, "complex64"),
    "complex targets": (outputs(), CLASS + 0j, mse, "complex64"),
    "a class too many": (outputs(2), CLASS, F.cross_entropy, "has the target 2, the model 2 classes"),
    "a negative class": (outputs(3), CLASS - 1, F.cross_entropy, "has the target -1"),
    "targets that are NaN": (outputs(), NUMBERS[:, 0] / 0 * 0, mse, "NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_refused(name):
    scores, targets, loss, says = UNCERTAIN[name]
    with pytest.raises(DataError, match=says):
        task_of(scores, targets, loss)


def test_the_metric_tells_where_the_loss_does_not():
    def unknown(scores, targets):
        raise NotImplementedError

    assert task_of(outputs(), LABEL, unknown, frozenset({"binary", "classes"})) == Task("binary")
    assert task_of(outputs(4), LABELS, unknown, frozenset({"labels"})) == Task("labels")
    assert task_of(outputs(), LABEL, unknown, frozenset({"values"})) == Task("values")
    assert task_of(outputs(), LABEL, mse, frozenset({"binary"})) == Task("binary", threshold=0.5)


def test_later_batches_are_of_the_same_task():
    task = task_of(outputs(5, 3), tokens(5), lambda o, t: o.sum())
    task.check(outputs(3, 3), tokens(3))
    with pytest.raises(DataError, match="scores of 4 classes for a batch of valid, and of 3 for another"):
        task.check(outputs(5, 4), tokens(5))
    with pytest.raises(DataError, match="has the target 3, the model 3 classes"):
        task.check(outputs(5, 3), tokens(5) + 1)
    with pytest.raises(DataError, match="other than 0 and 1"):
        Task("binary").check(outputs(), CLASS)
