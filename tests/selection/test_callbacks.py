"""What callbacks for training frameworks have in common."""

import datetime
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError, LossError, RecordWarning
from linegraph.selection.callbacks import EpochRecorder

DATA = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)
        )

    def forward(self, x):
        return {"scores": self.net(x)}


def recorder(accuracy=None, data=DATA, loss_fn=F.cross_entropy, **options):
    metrics = {"loss": "loss", "accuracy": accuracy, "valid_loss": None}
    defaults = {"kind": "magnitude", "include": None, "batch_weight": None, "network": "net", "file": None}
    return EpochRecorder(data, loss_fn, metrics, **(defaults | options))


def capacitance(model):
    return lg.capacitance(lg.NeuralCoupling(model.net, F.cross_entropy, DATA, kind="magnitude")).beta_eff


def move(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))


def test_records_of_a_part_of_the_model():
    model, recording = Wrapped(), recorder(accuracy="acc")
    assert recording.history.empty
    assert recording.start(model, 0)
    expected = []
    for epoch in range(3):
        expected.append(capacitance(model))
        recording.record(epoch, {"acc": torch.tensor(0.25 * epoch), "loss": 2.0 - epoch} if epoch else {})
        move(model)
    history = recording.history
    assert history.columns.tolist()[:4] == ["epoch", "loss", "accuracy", "valid_loss"]
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["accuracy"].tolist() == pytest.approx([math.nan, 0.25, 0.5], nan_ok=True)
    assert history["loss"].tolist() == pytest.approx([math.nan, 1.0, 0.0], nan_ok=True)
    assert history["beta_eff"].tolist() == pytest.approx(expected, rel=1e-6)
    assert set(recording.layers["epoch"]) == {0, 1, 2}


@pytest.mark.parametrize("data", [DATA, [DATA], [tuple(t[:6] for t in DATA), tuple(t[6:] for t in DATA)], list(DATA)])
def test_forms_of_data(data):
    model, recording = Wrapped(), recorder(data=data)
    recording.start(model, 0)
    recording.record(0, {})
    assert recording.history["beta_eff"].tolist() == pytest.approx([capacitance(model)], rel=1e-6)


@pytest.mark.parametrize("data", [DATA, [DATA]], ids=["pair", "batches"])
def test_data_are_moved_to_the_device_of_the_model(data, device):
    expected = capacitance(Wrapped())
    recording = recorder(data=data)
    recording.start(Wrapped().to(device), 0)
    recording.record(0, {})
    assert recording.history["beta_eff"].tolist() == pytest.approx([expected], rel=1e-4)


def test_a_metric_may_be_a_function_of_the_network():
    model = Wrapped()
    seen = []

    def accuracy(net):
        seen.append((net is model.net, net.training, torch.is_grad_enabled()))
        torch.rand(3), np.random.rand()  # noqa: NPY002
        net.eval()
        return (net(DATA[0]).argmax(1) == DATA[1]).float().mean()

    recording = recorder(accuracy=accuracy)
    before, buffers = torch.get_rng_state(), [b.clone() for b in model.buffers()]
    recording.start(model, 0)
    recording.record(0, {})
    assert seen == [(True, False, False)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(b, old) for b, old in zip(model.buffers(), buffers, strict=True))
    assert all(p.grad is None for p in model.parameters())
    right = (model.eval().net(DATA[0]).argmax(1) == DATA[1]).float().mean()
    assert recording.history["accuracy"].tolist() == pytest.approx([float(right)])


def test_gradients_of_training_are_left_alone():
    model, recording = Wrapped(), recorder()
    F.cross_entropy(model.net(DATA[0]), DATA[1]).backward()
    before = [p.grad.clone() for p in model.parameters()]
    recording.start(model, 0)
    recording.record(0, {})
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_run_goes_on_from_its_state():
    model, first = Wrapped(), recorder()
    first.start(model, 0)
    for epoch in range(3):
        first.record(epoch, {"loss": epoch})
    second = recorder()
    second.load_state_dict(first.state_dict())
    assert second.history.equals(first.history)  # also before the run starts
    assert second.state_dict() == first.state_dict()
    assert not second.start(Wrapped(), 2)
    assert second.history.equals(first.history)
    assert second.layers.equals(first.layers)
    assert second.start(model, 3)
    second.load_state_dict(first.state_dict())
    second.start(model, 1)
    second.record(2, {"loss": 9.0})  # an earlier checkpoint: the records after it are replaced
    assert second.history["loss"].tolist() == [0, 1, 9]


def test_states_of_other_trackers_are_refused():
    model, one = Wrapped(), recorder()
    one.start(model, 0)
    one.record(0, {})
    other = recorder(kind="energy")
    other.load_state_dict(one.state_dict())
    with pytest.raises(DataError, match="of kind"):
        other.start(model, 1)
    deeper = recorder(network="")
    deeper.load_state_dict(one.state_dict())
    with pytest.raises(DataError, match="other parameters"):
        deeper.start(model, 1)


def test_a_file_holds_the_records(tmp_path):
    model, one = Wrapped(), recorder(file=tmp_path / "run" / "history.parquet")
    one.start(model, 0)
    one.record(0, {})
    one.record(1, {"loss": 0.5})
    two = recorder(file=str(tmp_path / "run" / "history.parquet"))
    assert not two.start(model, 1)
    assert two.history["loss"].tolist() == pytest.approx([math.nan, 0.5], nan_ok=True)
    assert two.start(model, 0)  # a new run
    two.record(0, {})
    assert two.history["epoch"].tolist() == [0]


def test_a_missing_metric_is_named_once():
    model, recording = Wrapped(), recorder(accuracy="acc")
    recording.start(model, 0)
    recording.record(0, {})
    with pytest.warns(RecordWarning, match=r"no metric 'acc' was logged .* logged are loss, val_acc; pass accuracy="):
        recording.record(1, {"val_acc": 0.5, "loss": 1.0})
    recording.record(2, {"val_acc": 0.5, "loss": 1.0})
    assert recording.history["accuracy"].isna().all()


VALID = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3


@pytest.mark.parametrize("valid", [VALID, [VALID], [tuple(t[:4] for t in VALID), tuple(t[4:] for t in VALID)]])
def test_held_out_data_are_recorded_as_by_a_tracker(valid):
    model, recording = Wrapped(), recorder(valid=valid, metric="balanced_accuracy")
    tracker = lg.CapacitanceTracker(model.net, F.cross_entropy, DATA, valid=VALID, metric="balanced_accuracy")
    assert recording.start(model, 0)
    for epoch in range(2):
        recording.record(epoch, {"loss": 1.5, "acc": 0.25})
        tracker.record(epoch=epoch, loss=1.5)
        move(model)
    assert recording.history.columns.tolist() == tracker.history.columns.tolist()
    for column in tracker.history:
        assert recording.history[column].tolist() == pytest.approx(tracker.history[column].tolist(), rel=1e-6), column
    assert all(module.training for module in model.modules())


@pytest.mark.filterwarnings("error::linegraph.errors.RecordWarning")
def test_accuracy_is_logged_or_of_held_out_data():
    with pytest.raises(DataError, match="accuracy= and valid= both fill the column 'accuracy'"):
        recorder(accuracy="acc", valid=VALID)
    with pytest.raises(DataError, match="unknown metric 'wrong'"):
        recorder(valid=VALID, metric="wrong")
    model, recording = Wrapped(), recorder(valid=VALID)
    recording.start(model, 0)
    recording.record(1, {})  # nothing logged is missing


def test_held_out_data_that_no_metric_fits_are_refused():
    model, recording = Wrapped(), recorder(valid=VALID, metric="r2")
    recording.start(model, 0)
    with pytest.raises(DataError, match="r2"):
        recording.record(0, {})


def test_held_out_data_are_moved_to_the_device_of_the_model(device):
    found = []
    for place in ("cpu", device):
        model, recording = Wrapped().to(place), recorder(valid=VALID)
        recording.start(model, 0)
        recording.record(0, {})
        found.append(recording.history[["accuracy", "valid_loss", "linear_probe"]].iloc[0].tolist())
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_a_run_that_diverges_is_not_stopped():
    model, recording = Wrapped(), recorder()
    recording.start(model, 0)
    recording.record(0, {})
    with torch.no_grad():
        model.net[0].weight.fill_(math.nan)
    with pytest.warns(RecordWarning, match="epoch 1 is not recorded: NaN or infinite"):
        recording.record(1, {"loss": math.nan})
    assert recording.history["epoch"].tolist() == [0]


def test_wrong_arguments():
    with pytest.raises(LossError):
        recorder(loss_fn=3)
    for options in ({"network": None}, {"file": 3}, {"accuracy": 0.5}):
        with pytest.raises(ArgumentTypeError, match=next(iter(options))):
            recorder(**options)
    with pytest.raises(DataError, match="no part 'body'; pass network= with one of net"):
        recorder(network="body").start(Wrapped(), 0)
    with pytest.raises(DataError, match="kind"):
        recorder(kind="wrong").start(Wrapped(), 0)
    recording = recorder(data=iter([DATA]))
    recording.start(Wrapped(), 0)
    with pytest.raises(DataError, match="iterator"):
        recording.record(0, {})


# several processes ----------------------------------------------------------------------------------------------


def process(rank, world, folder):
    """Two epochs with a shard of the data, then a run that goes on from the file that one process reads."""
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world, timeout=timeout)
    try:
        model, found = Wrapped(), {}
        data = tuple(part[rank::world] for part in DATA)
        for name, epochs in (("first", range(2)), ("again", range(2, 3))):
            recording = recorder(data=data, file=f"{folder}/history.parquet")
            found[f"{name} is new"] = recording.start(model, epochs[0], writes=rank == 0)
            for epoch in epochs:
                recording.record(epoch, {"loss": float(epoch)})
                move(model)
            found[name] = recording.history["beta_eff"].tolist()
        try:
            recorder(kind="energy", data=data, file=f"{folder}/history.parquet").start(model, 3, writes=rank == 0)
        except DataError as error:
            found["error"] = str(error)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
def test_processes_record_together(tmp_path):
    mp.start_processes(process, (2, str(tmp_path)), nprocs=2, start_method="forkserver")
    model, expected = Wrapped(), []
    for _ in range(3):
        expected.append(capacitance(model))
        move(model)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["first"] == pytest.approx(expected[:2], rel=1e-5)
        assert found["again"] == pytest.approx(expected, rel=1e-5)
        assert found["first is new"]
        assert found["again is new"]
        assert "in process 0 of 2: " in found["error"]
