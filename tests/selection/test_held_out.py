import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from linegraph.selection.held_out import HELD_OUT, held_out
from linegraph.selection.linear_probes import LayerInputs, LayerProbe, LinearProbe
from linegraph.selection.task_metrics import choose
from tests.selection.classified import net, samples


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
    layers = LayerProbe()
    with LayerInputs(model) as entering:
        model(seen[0])
        layers.add(entering.take(40), seen[1])
        layers.fit()
        model(valid[0])
        layers.test(entering.take(60), valid[1])
    assert row["layer_probe"] == pytest.approx(layers.accuracy)


def test_there_is_no_probe_of_a_regression_and_no_linear_probe_without_a_linear_layer():
    x, y = samples(20)
    line = nn.Linear(5, 1)
    metric = choose(None, line(x), x[:, :1], F.mse_loss)
    row = held_out(line, F.mse_loss, (x, x[:, :1]), (x, x[:, :1]), metric, size=8)
    assert math.isnan(row["linear_probe"])
    assert math.isnan(row["layer_probe"])
    assert row["seen_loss"] == pytest.approx(row["valid_loss"])
    maps = nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 3, 5), nn.Flatten())
    metric = choose(None, maps(x), y, F.cross_entropy)
    row = held_out(maps, F.cross_entropy, (x, y), (x, y), metric, size=8)
    assert math.isnan(row["linear_probe"])
    assert 0 <= row["layer_probe"] <= 1
    frozen = net().requires_grad_(False)
    metric = choose(None, frozen(x), y, F.cross_entropy)
    row = held_out(frozen, F.cross_entropy, (x, y), (x, y), metric, size=8)
    assert math.isnan(row["layer_probe"])
    assert 0 <= row["linear_probe"] <= 1


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
