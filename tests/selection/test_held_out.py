import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import nn

from linegraph.selection.held_out import HELD_OUT, LastLinearInputs, LinearProbe, held_out
from linegraph.selection.task_metrics import choose
from tests.comparison import close


def net(features=6, classes=3):
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, features), nn.Tanh(), nn.Linear(features, classes))


def samples(n, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    return x, (x[:, 0] + 0.5 * torch.randn(n, generator=generator) > 0).long() + (x[:, 1] > 1).long() * (classes > 2)


@pytest.mark.parametrize(("n", "features"), [(40, 6), (10, 30)])
def test_the_linear_probe_is_a_ridge_regression(n, features):
    torch.manual_seed(1)
    x, y = torch.randn(n, features), torch.arange(n) % 3
    other, labels = torch.randn(50, features), torch.randint(3, (50,))
    probe = LinearProbe()
    probe.add(x[:7], y[:7])
    probe.add(x[7:], y[7:])
    probe.fit()
    probe.test(other, labels)
    design = np.column_stack([x.numpy(), np.ones(n)]).astype(float)
    penalty = 0.01 * np.diag(design.T @ design).mean()
    fitted = Ridge(penalty, fit_intercept=False).fit(design, np.eye(3)[y])
    expected = fitted.predict(np.column_stack([other.numpy(), np.ones(50)]).astype(float)).argmax(1)
    assert probe.accuracy == pytest.approx(float((expected == labels.numpy()).mean()))


def test_the_features_are_what_enters_the_last_linear_layer():
    model, (x, _) = net(), samples(9)
    with LastLinearInputs(model) as features:
        model(x)
        close(features.take(), model[:4](x))
        assert features.take() is not None  # the pass above through part of the model
        assert features.take() is None
    model(x)
    assert features.take() is None
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_tokens_are_averaged():
    layer = nn.Linear(4, 2)
    x = torch.randn(3, 7, 4)
    with LastLinearInputs(layer) as features:
        layer(x)
        close(features.take(), x.mean(1))


def test_held_out_data_are_scored_and_the_linear_probe_with_them():
    torch.manual_seed(0)
    model, seen, valid = net(), samples(40), samples(60, 1)
    metric = choose(None, model(valid[0]), valid[1], F.cross_entropy)
    row = held_out(model, F.cross_entropy, seen, valid, metric, size=16)
    assert tuple(sorted(row)) == tuple(sorted(HELD_OUT))
    for name, (x, y) in {"accuracy": valid, "seen_accuracy": seen}.items():
        assert row[name] == pytest.approx(float((model(x).argmax(1) == y).double().mean()))
    for name, (x, y) in {"valid_loss": valid, "seen_loss": seen}.items():
        assert row[name] == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-5)
    probe = LinearProbe()
    probe.add(model[:4](seen[0]).detach(), seen[1])
    probe.fit()
    probe.test(model[:4](valid[0]).detach(), valid[1])
    assert row["linear_probe"] == pytest.approx(probe.accuracy)


def test_there_is_no_linear_probe_of_a_regression_or_without_a_linear_layer():
    x, y = samples(20)
    line = nn.Linear(5, 1)
    metric = choose(None, line(x), x[:, :1], F.mse_loss)
    row = held_out(line, F.mse_loss, (x, x[:, :1]), (x, x[:, :1]), metric, size=8)
    assert math.isnan(row["linear_probe"])
    assert row["seen_loss"] == pytest.approx(row["valid_loss"])
    maps = nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 3, 5), nn.Flatten())
    metric = choose(None, maps(x), y, F.cross_entropy)
    assert math.isnan(held_out(maps, F.cross_entropy, (x, y), (x, y), metric, size=8)["linear_probe"])


def test_targets_of_training_may_have_another_form():
    model, (x, y) = net(), samples(20)
    metric = choose(None, model(x), y, F.cross_entropy)
    soft = F.one_hot(y, 3).float()
    row = held_out(model, F.cross_entropy, (x, soft), (x, y), metric, size=8)
    assert math.isnan(row["seen_accuracy"])
    assert row["seen_loss"] == pytest.approx(float(F.cross_entropy(model(x), soft)), rel=1e-5)
    assert row["accuracy"] == pytest.approx(float((model(x).argmax(1) == y).double().mean()))


def test_a_metric_of_ones_own_need_not_take_the_targets_of_training():
    def right(outputs, targets):
        if targets.ndim != 1:
            raise ValueError("it takes labels")
        return float((outputs.argmax(1) == targets).double().mean())

    model, (x, y) = net(), samples(20)
    metric = choose(right, model(x), y, F.cross_entropy)
    row = held_out(model, F.cross_entropy, (x, F.one_hot(y, 3).float()), (x, y), metric, size=8)
    assert math.isnan(row["seen_accuracy"])
    assert row["accuracy"] == pytest.approx(right(model(x), y))
    with pytest.raises(ValueError, match="it takes labels"):
        held_out(model, F.cross_entropy, (x, y), (x, F.one_hot(y, 3).float()), metric, size=8)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_the_linear_probe_takes_labels_of_every_integer_type(dtype):
    (x, y), (other, labels) = samples(30), samples(40, 1)
    accuracies = []
    for given in (torch.int64, dtype):
        probe = LinearProbe()
        probe.add(x, y.to(given))
        probe.fit()
        probe.test(other, labels.to(given))
        accuracies.append(probe.accuracy)
    assert accuracies[1] == pytest.approx(accuracies[0])


def test_the_linear_probe_leaves_out_samples_without_a_class():
    (x, y), (other, labels) = samples(30), samples(40, 1)
    ignored = torch.cat([y, torch.full((10,), -100)])
    probe, alone = LinearProbe(), LinearProbe()
    probe.add(torch.cat([x, torch.randn(10, 5)]), ignored)
    alone.add(x, y)
    for each in (probe, alone):
        each.fit()
    probe.test(torch.cat([other, x]), torch.cat([labels, torch.full_like(y, -100)]))
    alone.test(other, labels)
    assert probe.accuracy == pytest.approx(alone.accuracy)
    nothing = LinearProbe()
    nothing.add(x, torch.full_like(y, -100))
    nothing.fit()
    nothing.test(other, labels)
    assert math.isnan(nothing.accuracy)


def test_there_is_no_linear_probe_of_features_that_are_not_finite():
    x, y = samples(30)
    probe = LinearProbe()
    probe.add(torch.where(x > 2, math.inf, x), y)
    probe.fit()
    probe.test(x, y)
    assert math.isnan(probe.accuracy)
