"""Training with Lightning, recorded by the callback."""

import copy
import importlib.util
import logging
import sys

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import DataError, RecordWarning

lightning = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402

from linegraph.lightning import CapacitanceCallback  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*is deprecated"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch"),
]
X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3


@pytest.fixture(autouse=True)
def quiet():
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


class Classifier(lightning.LightningModule):
    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            *(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


class Watching(Callback):
    """The networks before training and after every epoch, and the mean losses that the module logs."""

    def __init__(self):
        self.networks, self.losses = [], []

    def on_train_start(self, trainer, module):
        self.networks.append(copy.deepcopy(module.net).eval())

    def on_train_epoch_end(self, trainer, module):
        self.networks.append(copy.deepcopy(module.net).eval())
        self.losses.append(float(trainer.callback_metrics["train_loss_epoch"]))


def fit(*callbacks, module=None, epochs=3, validate=True, ckpt_path=None, **options):
    silent = dict.fromkeys(["enable_progress_bar", "enable_model_summary", "logger"], False)
    options = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False} | silent | options
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=list(callbacks), **options)
    module = module or Classifier()
    batches = DataLoader(TensorDataset(X, Y), 6)
    trainer.fit(module, batches, DataLoader(TensorDataset(X, Y), 12) if validate else None, ckpt_path=ckpt_path)
    return module


def same(one, other):
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, check_dtype=False)


def test_every_epoch_is_recorded():
    callback, watching = CapacitanceCallback((X, Y), kind=["magnitude", "energy"]), Watching()
    fit(callback, watching)
    history = callback.history
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    for kind, column in (("magnitude", "beta_eff"), ("energy", "energy_beta_eff")):
        couplings = [lg.NeuralCoupling(net, F.cross_entropy, (X, Y), kind=kind) for net in watching.networks]
        assert history[column].tolist() == pytest.approx([lg.capacitance(P).beta_eff for P in couplings], rel=1e-5)
    with torch.no_grad():
        scores = [net(X) for net in watching.networks[1:]]
    expected = [float((s.argmax(1) == Y).float().mean()) for s in scores]
    assert history["accuracy"][1:].tolist() == pytest.approx(expected, abs=1e-6)
    assert history["valid_loss"][1:].tolist() == pytest.approx([float(F.cross_entropy(s, Y)) for s in scores], rel=1e-5)
    assert history["loss"][1:].tolist() == pytest.approx(watching.losses, rel=1e-5)
    assert history.loc[0, ["loss", "accuracy", "valid_loss"]].isna().all()
    assert set(callback.layers["epoch"]) == {0, 1, 2, 3}


@pytest.mark.filterwarnings("error::linegraph.errors.IncompleteHistoryWarning")
def test_held_out_data_give_all_that_is_predicted_from():
    callback, watching = CapacitanceCallback((X, Y), valid=[(X[:9], Y[:9]), (X[9:15], Y[9:15])]), Watching()
    fit(callback, watching, validate=False)
    history, x, y = callback.history, X[:15], Y[:15]
    with torch.no_grad():
        held_out, seen = ([net(inputs) for net in watching.networks] for inputs in (x, X))
    assert history["accuracy"].tolist() == pytest.approx([float((s.argmax(1) == y).float().mean()) for s in held_out])
    assert history["valid_loss"].tolist() == pytest.approx([float(F.cross_entropy(s, y)) for s in held_out], rel=1e-5)
    assert history["seen_loss"].tolist() == pytest.approx([float(F.cross_entropy(s, Y)) for s in seen], rel=1e-5)
    assert history["linear_probe"].between(0, 1).all()
    assert history["layer_probe"].between(0, 1).all()
    assert 0 <= lg.predict_final(history).mean <= 1


def test_training_is_not_changed():
    states = []
    for callbacks in ([], [CapacitanceCallback((X, Y), kind=["magnitude", "energy"], valid=(X[:9], Y[:9]))]):
        torch.manual_seed(5)
        module = fit(*callbacks, module=Classifier(dropout=0.5))
        states.append((module.state_dict(), torch.get_rng_state()))
    for name, value in states[0][0].items():
        torch.testing.assert_close(states[1][0][name], value, rtol=1e-6, atol=1e-8)
    assert torch.equal(states[0][1], states[1][1])


def test_functions_of_the_network_and_named_losses():
    def accuracy(net):
        return (net(X).argmax(1) == Y).float().mean()

    callback = CapacitanceCallback(
        [(X, Y)], accuracy, valid_loss=lambda net: F.cross_entropy(net(X), Y), loss="train_loss", network="net"
    )
    watching = Watching()
    fit(callback, watching, validate=False, epochs=2)
    expected = [float(accuracy(net)) for net in watching.networks]
    assert callback.history["accuracy"].tolist() == pytest.approx(expected, abs=1e-6)
    assert callback.history["loss"][1:].tolist() == pytest.approx(watching.losses, rel=1e-5)
    assert callback.history["valid_loss"].notna().all()


@pytest.mark.parametrize("options", [{"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_losses_and_weights_under_other_settings(options):
    callback, watching = CapacitanceCallback((X, Y)), Watching()
    fit(callback, watching, epochs=2, **options)
    assert callback.history["loss"][1:].tolist() == pytest.approx(watching.losses, rel=1e-2)
    couplings = [lg.NeuralCoupling(net, F.cross_entropy, (X, Y), kind="magnitude") for net in watching.networks]
    expected = [lg.capacitance(P).beta_eff for P in couplings]
    assert callback.history["beta_eff"].tolist() == pytest.approx(expected, rel=1e-5)


class Interrupting(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == 10:
            raise RuntimeError("interrupted")


@pytest.mark.parametrize(
    "when",
    [{"monitor": "val_loss"}, {"save_on_train_epoch_end": True}, {"every_n_train_steps": 4}],
    ids=["after validation", "after the epoch", "after the last step"],
)
def test_an_interrupted_run_goes_on(tmp_path, when):
    whole = CapacitanceCallback((X, Y))
    fit(whole)
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(CapacitanceCallback((X, Y)), saving, Interrupting(), enable_checkpointing=True)
    resumed = CapacitanceCallback((X, Y))
    fit(resumed, ckpt_path=tmp_path / "step=8.ckpt")
    seen = resumed.history["accuracy"].notna()  # validation after the checkpoint was not logged in it
    columns = ["epoch", "beta_eff", "mean_strength", "gradient_norm", "weight_norm"]
    same(resumed.history[columns], whole.history[columns])
    same(resumed.history[seen], whole.history[seen])
    assert seen.tolist() == [False, True, "every_n_train_steps" not in when, True]


def test_a_run_resumed_within_an_epoch(tmp_path):
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=3)
    whole = CapacitanceCallback((X, Y))
    fit(whole, saving, enable_checkpointing=True)
    for step in (3, 6):
        resumed = CapacitanceCallback((X, Y))
        fit(resumed, ckpt_path=tmp_path / f"step={step}.ckpt")
        assert resumed.history["epoch"].tolist() == [0, 1, 2, 3]
        done = step // 4 + 1
        same(resumed.history[:done], whole.history[:done])
    new = CapacitanceCallback((X, Y))  # of which the checkpoint knows nothing
    with_old = torch.load(tmp_path / "step=6.ckpt", weights_only=True)
    with_old["callbacks"] = {}
    torch.save(with_old, tmp_path / "old.ckpt")
    fit(new, ckpt_path=tmp_path / "old.ckpt")
    assert new.history["epoch"].tolist() == [2, 3]


def test_a_finished_run_shows_its_history(tmp_path):
    saving = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    whole = CapacitanceCallback((X, Y), file=tmp_path / "history.parquet")
    fit(whole, saving, enable_checkpointing=True, epochs=2)
    resumed = CapacitanceCallback((X, Y))
    fit(resumed, epochs=2, ckpt_path=tmp_path / "last.ckpt")
    same(resumed.history, whole.history)
    tracker = lg.CapacitanceTracker(Classifier(), F.cross_entropy, (X, Y), file=tmp_path / "history.parquet")
    same(tracker.history, whole.history)
    fit(whole, epochs=1)  # a new run
    assert whole.history["epoch"].tolist() == [0, 1]


def test_one_process_writes_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(lightning.Trainer, "is_global_zero", False)
    callback = CapacitanceCallback((X, Y), file=tmp_path / "history.parquet")
    fit(callback, epochs=1)
    assert callback.history["epoch"].tolist() == [0, 1]
    assert not list(tmp_path.iterdir())


def test_a_metric_that_is_not_logged():
    callback = CapacitanceCallback((X, Y), "val_accuracy")
    with pytest.warns(RecordWarning, match=r"'val_accuracy' was logged .* logged are .*val_acc, val_loss"):
        fit(callback, epochs=2)
    assert callback.history["accuracy"].isna().all()


def test_wrong_arguments_are_refused_before_training():
    for options in ({"network": "body"}, {"kind": "wrong"}):
        with pytest.raises(DataError):
            fit(CapacitanceCallback((X, Y), **options), epochs=1)
    with pytest.raises(DataError, match="data must be"):
        fit(CapacitanceCallback(3), epochs=1)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    spec = importlib.util.spec_from_file_location("another", lg.lightning.__file__)
    with pytest.raises(ImportError, match=r"pip install 'neural-linegraph\[lightning\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
