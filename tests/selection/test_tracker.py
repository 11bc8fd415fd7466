import copy
import math
import warnings
import weakref
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.coupling.tracing.passes import Passes
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
    assert list(tracker.history)[:7] == [
        "epoch",
        "accuracy",
        "valid_loss",
        "seen_accuracy",
        "seen_loss",
        "linear_probe",
        "layer_probe",
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


def classifier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    return model, (torch.randn(30, 4), torch.arange(30) % 3)


CROSS_ENTROPY = torch.nn.functional.cross_entropy


def loader(x, y):
    return DataLoader(TensorDataset(x, y), 8, shuffle=True)


def test_held_out_data_of_a_loader_are_those_of_a_pair():
    model, data = classifier()
    row = lg.CapacitanceTracker(model, CROSS_ENTROPY, data, valid=loader(*data)).record()
    expected = lg.CapacitanceTracker(model, CROSS_ENTROPY, data, valid=data).record()
    assert row == pytest.approx(expected, rel=1e-5)
    row = lg.CapacitanceTracker(model, CROSS_ENTROPY, loader(*data), valid=data).record()
    assert row == pytest.approx(expected, rel=1e-4)


class OfMappings(nn.Module):
    """Returns an object with logits of a named input, as models of Hugging Face do."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, features):
        return SimpleNamespace(logits=self.net(features))


def test_batches_that_are_mappings_and_outputs_with_logits():
    model, (x, y) = classifier()
    expected = lg.CapacitanceTracker(model, CROSS_ENTROPY, (x, y), valid=(x, y)).record()
    pairs = [({"features": part}, labels) for part, labels in zip(x.split(10), y.split(10), strict=True)]
    of_logits = lambda outputs, labels: CROSS_ENTROPY(outputs.logits, labels)  # noqa: E731
    row = lg.CapacitanceTracker(OfMappings(model), of_logits, pairs, valid=pairs).record()
    assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision(dtype):
    model, (x, y) = classifier()
    exact = lg.CapacitanceTracker(model, CROSS_ENTROPY, (x, y), valid=(x, y)).record()
    data = x.to(dtype), y
    row = lg.CapacitanceTracker(model.to(dtype), CROSS_ENTROPY, data, valid=data).record()
    for name in ("beta_eff", "valid_loss", "seen_loss", "gradient_norm", "weight_norm", "flow"):
        assert row[name] == pytest.approx(exact[name], rel=0.05), name


def test_held_out_data_without_a_sample_are_refused():
    model, data = classifier()
    with pytest.raises(DataError, match="valid has no sample"):
        lg.CapacitanceTracker(model, CROSS_ENTROPY, data, valid=[]).record()


def test_several_kinds_of_chosen_synapses():
    model, data = classifier()
    options = {"kind": ("magnitude", "signed"), "include": ["0.weight", "2.weight", "4.weight"]}
    row = lg.CapacitanceTracker(model, CROSS_ENTROPY, data, **options).record()
    assert row == pytest.approx(lg.CapacitanceTracker(model, CROSS_ENTROPY, data, kind=options["kind"]).record())
    tracker = lg.CapacitanceTracker(model, CROSS_ENTROPY, data, kind=options["kind"], include=["2.weight", "4.weight"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.errors.DegenerateCapacitanceWarning)
        assert tracker.record()["num_synapses"] == 6 * 6 + 6 * 3
    assert set(tracker.layers["layer"]) == {"2.weight", "4.weight"}


def test_the_signed_capacitance_of_a_transformer_is_nan_and_its_other_columns_are_numbers():
    data = torch.randn(6, 1, 8, 8), torch.arange(6)
    model = ARCHITECTURES["vit"]()
    tracker = lg.CapacitanceTracker(model, CROSS_ENTROPY, data, kind=("magnitude", "signed"), valid=data)
    with pytest.warns(lg.errors.DegenerateCapacitanceWarning):
        row = tracker.record()
    without = {name for name, value in row.items() if not math.isfinite(value)}
    assert without == {"signed_beta_eff", "signed_heterogeneity"}


def test_no_vector_is_kept_after_a_record(monkeypatch):
    model, data = classifier()
    made = []
    memory = lg.NeuralCoupling._memory

    def watched(P):
        found = memory(P)
        made.append(weakref.ref(found.untyped_storage()))
        return found

    monkeypatch.setattr(lg.NeuralCoupling, "_memory", watched)
    lg.CapacitanceTracker(model, CROSS_ENTROPY, data, kind=("magnitude", "signed")).record()
    assert len(made) > 6
    assert not any(vector() is not None for vector in made)


@pytest.mark.parametrize(("kinds", "readings"), [(("magnitude",), 2), (("magnitude", "signed"), 4)])
def test_data_are_read_once_for_each_kind_once_for_the_gradient_and_once_along_it(kinds, readings, monkeypatch):
    model, (x, y) = classifier()
    passes = []
    record = Passes.record
    monkeypatch.setattr(Passes, "record", lambda *given, **named: passes.append(1) or record(*given, **named))
    batches = list(zip(x.split(10), y.split(10), strict=True))
    lg.CapacitanceTracker(model, CROSS_ENTROPY, batches, kind=kinds).record()
    assert len(passes) == readings * len(batches) + len(kinds)  # the first batch of each coupling shows its synapses
