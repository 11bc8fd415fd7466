import copy

import pandas as pd
import pytest
import torch
from torch import nn

import linegraph as lg
from linegraph.errors import CoverageWarning, DataError
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
    with pytest.raises(ValueError, match="'beta_eff' is a column of the tracker"):
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


KINDS = ("magnitude", "signed", "flow", "energy")


def test_several_kinds_are_those_of_couplings_of_their_own():
    model, loss, data = CASES["mlp"].make()
    row = lg.CapacitanceTracker(model, loss, data, kind=KINDS).record()
    for kind in KINDS:
        alone = lg.capacitance(lg.NeuralCoupling(model, loss, data, kind=kind)).as_dict()
        prefix = "" if kind == "magnitude" else f"{kind}_"
        assert {name: row[f"{prefix}{name}"] for name in alone} == pytest.approx(alone, rel=1e-6)


def test_kinds_that_share_their_passes_record_one(monkeypatch):
    model, loss, data = CASES["mlp"].make()
    made = []
    original = lg.NeuralCoupling.__init__
    monkeypatch.setattr(
        lg.NeuralCoupling, "__init__", lambda P, *a, **k: (made.append(k["kind"]), original(P, *a, **k))[1]
    )
    lg.CapacitanceTracker(model, loss, data, kind=("signed", "flow", "energy", "magnitude")).record()
    assert made == ["signed", "magnitude"]


def test_layers_have_a_row_for_each_record_and_layer():
    model, loss, data = CASES["mlp"].make()
    tracker = lg.CapacitanceTracker(model, loss, data)
    assert tracker.layers.empty
    tracker.record(epoch=0)
    tracker.record()
    layers = lg.NeuralCoupling(model, loss, data).synapses
    assert tracker.layers["epoch"].tolist() == [0] * len(layers) + [1] * len(layers)
    assert tracker.layers["layer"].tolist() == 2 * [s.name for s in layers]
    assert tracker.layers.groupby("epoch")["flow"].sum().tolist() == pytest.approx(tracker.history["flow"].tolist())


def test_a_file_holds_the_records_and_a_new_tracker_goes_on_with_them(tmp_path):
    model, loss, data = CASES["mlp"].make()
    file = tmp_path / "run" / "history.parquet"
    first = lg.CapacitanceTracker(model, loss, data, kind=("magnitude", "signed"), file=file)
    first.record(epoch=0, accuracy=0.1)
    first.record(accuracy=0.2)
    again = lg.CapacitanceTracker(copy.deepcopy(model), loss, data, kind=("magnitude", "signed"), file=file)
    pd.testing.assert_frame_equal(again.history, first.history)
    pd.testing.assert_frame_equal(again.layers, first.layers)
    again.record(accuracy=0.3)
    assert again.history["epoch"].tolist() == [0, 1, 2]
    assert pd.read_parquet(file)["accuracy"].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_an_epoch_that_is_recorded_again_replaces_what_came_after():
    tracker = lg.CapacitanceTracker(*CASES["mlp"].make())
    for epoch in range(4):
        tracker.record(epoch=epoch, accuracy=0.1 * epoch)
    tracker.record(epoch=2, accuracy=0.9)
    assert tracker.history["epoch"].tolist() == [0, 1, 2]
    assert tracker.history["accuracy"].tolist() == pytest.approx([0.0, 0.1, 0.9])
    assert set(tracker.layers["epoch"]) == {0, 1, 2}


def test_files_of_other_kinds_other_models_and_other_programs_are_refused(tmp_path):
    model, loss, data = CASES["mlp"].make()
    file = tmp_path / "history.parquet"
    lg.CapacitanceTracker(model, loss, data, file=file).record()
    with pytest.raises(DataError, match=r"history.parquet holds records of kind \['magnitude'\], not \['signed'\]"):
        lg.CapacitanceTracker(model, loss, data, kind="signed", file=file)
    with pytest.raises(DataError, match="a model with other parameters"):
        lg.CapacitanceTracker(nn.Sequential(model), loss, data, file=file)
    pd.DataFrame({"epoch": [1]}).to_parquet(file)
    with pytest.raises(DataError, match="is no file of a tracker"):
        lg.CapacitanceTracker(model, loss, data, file=file)
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="is no file of a tracker"):
        lg.CapacitanceTracker(model, loss, data, file=file)


def test_no_kind_and_an_unknown_kind_are_refused():
    with pytest.raises(DataError, match="at least one of signed"):
        lg.CapacitanceTracker(*CASES["mlp"].make(), kind=())
    with pytest.raises(DataError, match="'size'"):
        lg.CapacitanceTracker(*CASES["mlp"].make(), kind=("signed", "size"))


def test_held_out_data_add_their_columns_and_leave_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3)).train()
    seen, valid = ((torch.randn(n, 4), torch.randint(3, (n,))) for n in (30, 50))
    tracker = lg.CapacitanceTracker(model, torch.nn.functional.cross_entropy, seen, valid=valid)
    state = torch.get_rng_state()
    row = tracker.record(epoch=0)
    assert bool((torch.get_rng_state() == state).all())
    assert model.training
    assert list(tracker.history)[:6] == [
        "epoch",
        "accuracy",
        "valid_loss",
        "seen_accuracy",
        "seen_loss",
        "linear_probe",
    ]
    model.eval()
    assert row["accuracy"] == pytest.approx(float((model(valid[0]).argmax(1) == valid[1]).double().mean()))
    with pytest.raises(DataError, match="'accuracy' is a column of the tracker"):
        tracker.record(accuracy=0.5)


def test_the_metric_of_held_out_data_can_be_named():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    data = torch.randn(30, 4), torch.arange(30) % 3
    options = {"valid": data, "metric": "balanced_accuracy"}
    row = lg.CapacitanceTracker(model, torch.nn.functional.cross_entropy, data, **options).record()
    decided = model(data[0]).argmax(1)
    recalls = [float((decided[data[1] == c] == c).double().mean()) for c in range(3)]
    assert row["accuracy"] == pytest.approx(sum(recalls) / 3)
    with pytest.raises(DataError, match="unknown metric 'size'"):
        lg.CapacitanceTracker(model, torch.nn.functional.cross_entropy, data, valid=data, metric="size")
