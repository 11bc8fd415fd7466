import copy

import pytest
import torch
from torch import nn

import linegraph as lg
from linegraph.errors import CoverageWarning
from tests.architectures import ARCHITECTURES
from tests.cases import CASES, Written, squared, weight


def test_each_record_is_the_capacitance_at_the_weights_of_that_moment():
    model, loss, data = CASES["mlp"].make()
    tracker = lg.CapacitanceTracker(model, loss, data)
    expected = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        frozen = copy.deepcopy(model)
        expected.append(float(lg.capacitance(lg.NeuralCoupling(frozen, loss, data, kind="magnitude"))))
        tracker.record(accuracy=epoch / 10)
        optimizer.zero_grad()
        loss(model(data[0]), data[1]).backward()
        optimizer.step()
    assert tracker.history["beta_eff"].tolist() == pytest.approx(expected)
    assert len(set(expected)) == 3
    assert tracker.history["accuracy"].tolist() == [0.0, 0.1, 0.2]
    assert tracker.history["epoch"].tolist() == [1, 2, 3]


def test_a_metric_cannot_take_the_name_of_a_capacitance_column():
    tracker = lg.CapacitanceTracker(*CASES["mlp"].make())
    with pytest.raises(ValueError, match="'beta_eff' is a column"):
        tracker.record(beta_eff=1.0)
    assert tracker.history.empty


def test_metrics_may_be_tensors_and_records_are_counted():
    tracker = lg.CapacitanceTracker(*CASES["mlp"].make())
    assert tracker.record(accuracy=torch.tensor(0.5))["accuracy"] == 0.5
    assert tracker.history["accuracy"].dtype == float
    assert repr(tracker) == "CapacitanceTracker(kind='magnitude', records=1)"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_default_has_a_capacitance_for_every_architecture(name):
    data = torch.randn(6, 1, 8, 8), torch.arange(6)
    row = lg.CapacitanceTracker(ARCHITECTURES[name](), torch.nn.functional.cross_entropy, data).record()
    assert 0 < row["beta_eff"] < float("inf")
    assert row["beta_eff"] == pytest.approx(row["mean_strength"] + row["symmetry"] * row["heterogeneity"], rel=1e-4)


def test_weights_that_are_left_out_are_named_once():
    parts = {"a": nn.Linear(4, 4), "decay": weight(2, 4), "out": nn.Linear(4, 3)}
    model = Written(lambda net, x: net.out(torch.tanh(net.a(x)) * net.decay.exp().sum(0)), **parts)
    tracker = lg.CapacitanceTracker(model, squared, (torch.randn(6, 4), torch.randn(6, 3)))
    with pytest.warns(CoverageWarning, match="'decay'"):
        tracker.record()
    tracker.record()
    assert tracker.history["beta_eff"].notna().all()
