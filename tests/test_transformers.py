"""Training with the Trainer of Hugging Face, recorded by the callback."""

import copy
import importlib.util
import sys

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import transformers
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainerCallback, TrainingArguments

import linegraph as lg
from linegraph.errors import DataError, RecordWarning
from linegraph.transformers import CapacitanceCallback

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
X = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
DATA = {"pixel_values": X}, Y
IMAGES = [{"pixel_values": x, "labels": y} for x, y in zip(X, Y, strict=True)]


def network():
    torch.manual_seed(0)
    stages = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic", "num_labels": 3}
    return ResNetForImageClassification(ResNetConfig(**stages))


class Watching(TrainerCallback):
    """Models before training and after every epoch; it comes after the callback that is tested."""

    def __init__(self):
        self.models = []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.models.append(copy.deepcopy(model).eval())

    on_epoch_end = on_train_begin


class Interrupting(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RuntimeError("interrupted")


def train(folder, *callbacks, resume=None, model=None, **options):
    """Three epochs of four steps, unless the options say otherwise."""
    settings = {
        **{"num_train_epochs": 3, "per_device_train_batch_size": 6, "learning_rate": 1e-2, "use_cpu": True},
        **dict.fromkeys(["save_strategy", "eval_strategy", "logging_strategy"], "epoch"),
        **{"report_to": "none", "disable_tqdm": True, "optim": "sgd", "seed": 3},
    }
    trainer = Trainer(
        model or network(),
        TrainingArguments(str(folder), **(settings | options)),
        train_dataset=IMAGES,
        eval_dataset=IMAGES,
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def same(one, other):
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, check_dtype=False)


@torch.no_grad()
def accuracies(models):
    return [float((model(X).logits.argmax(1) == Y).float().mean()) for model in models]


def capacitances(models, kind="magnitude"):
    def loss(outputs, targets):
        return F.cross_entropy(outputs.logits, targets)

    return [lg.capacitance(lg.NeuralCoupling(model, loss, DATA, kind=kind)).beta_eff for model in models]


def test_every_epoch_is_recorded(tmp_path):
    callback, watching = CapacitanceCallback(DATA, kind=["magnitude", "energy"]), Watching()
    trainer = train(tmp_path, callback, watching)
    history = callback.history
    assert history.columns.tolist()[:4] == ["epoch", "loss", "accuracy", "valid_loss"]
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert history["beta_eff"].tolist() == pytest.approx(capacitances(watching.models), rel=1e-5)
    assert history["energy_beta_eff"].tolist() == pytest.approx(capacitances(watching.models, "energy"), rel=1e-5)
    assert history["accuracy"][1:].tolist() == pytest.approx(accuracies(watching.models[1:]), abs=1e-6)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert history["loss"][1:].tolist() == pytest.approx(logged)
    logged = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert history["valid_loss"][1:].tolist() == pytest.approx(logged)
    assert history.loc[0, ["loss", "accuracy", "valid_loss"]].isna().all()
    assert (tmp_path / "capacitance.parquet").exists()
    assert set(callback.layers["epoch"]) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "options",
    [
        {"eval_on_start": True},
        {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"},
        {"load_best_model_at_end": True, "metric_for_best_model": "accuracy", "logging_strategy": "no"},
        {"logging_strategy": "steps", "logging_steps": 3, "eval_strategy": "steps", "eval_steps": 2},
        {"logging_strategy": "no", "save_strategy": "no"},
        {"bf16": True, "save_strategy": "no"},
        {"gradient_accumulation_steps": 2, "save_strategy": "no"},
    ],
)
def test_times_at_which_metrics_are_logged(tmp_path, options):
    callback, watching = CapacitanceCallback(DATA), Watching()
    train(tmp_path, callback, watching, **options)
    history, first = callback.history, 0 if "eval_on_start" in options else 1
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert history["beta_eff"].tolist() == pytest.approx(capacitances(watching.models), rel=1e-5)
    tolerance = 0.1 if "bf16" in options else 1e-6
    assert history["accuracy"][first:].tolist() == pytest.approx(accuracies(watching.models[first:]), abs=tolerance)
    assert history["loss"].notna().tolist() == [False, *[options.get("logging_strategy") != "no"] * 3]


@pytest.mark.filterwarnings("error::linegraph.errors.IncompleteHistoryWarning")
def test_held_out_data_give_all_that_is_predicted_from(tmp_path):
    batches = [{"pixel_values": X[part], "labels": Y[part]} for part in (slice(9), slice(9, 15))]
    callback, watching = CapacitanceCallback(DATA, valid=batches), Watching()
    train(tmp_path, callback, watching, eval_strategy="no", save_strategy="no")
    history, y = callback.history, Y[:15]
    with torch.no_grad():
        held_out, seen = ([model(x).logits for model in watching.models] for x in (X[:15], X))
    assert history["accuracy"].tolist() == pytest.approx([float((s.argmax(1) == y).float().mean()) for s in held_out])
    assert history["valid_loss"].tolist() == pytest.approx([float(F.cross_entropy(s, y)) for s in held_out], rel=1e-5)
    assert history["seen_loss"].tolist() == pytest.approx([float(F.cross_entropy(s, Y)) for s in seen], rel=1e-5)
    assert history["loss"][1:].notna().all()
    assert history["linear_probe"].between(0, 1).all()
    assert history["layer_probe"].between(0, 1).all()
    assert 0 <= lg.predict_final(history).mean <= 1


def test_losses_logged_across_the_end_of_an_epoch(tmp_path):
    callback = CapacitanceCallback(DATA)
    trainer = train(tmp_path, callback, logging_strategy="steps", logging_steps=3, save_strategy="no")
    three, six, nine, twelve = (entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    # Epochs end after steps 4, 8 and 12. The mean over steps 4 to 6 belongs to the second epoch by two steps in three.
    expected = [three, six, (nine + 3 * twelve) / 4]
    assert callback.history["loss"][1:].tolist() == pytest.approx(expected)


def test_training_is_not_changed(tmp_path):
    def accuracy(model):
        torch.rand(5)
        return accuracies([model])[0]

    found = []
    for callbacks in ([], [CapacitanceCallback(DATA, accuracy, kind=["magnitude", "energy"])]):
        trainer = train(tmp_path, *callbacks, save_strategy="no")
        found.append((trainer.model.state_dict(), torch.get_rng_state()))
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, rtol=1e-6, atol=1e-8)
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("step", [6, 9, 11])
def test_an_interrupted_run_goes_on(tmp_path, step):
    whole = CapacitanceCallback(DATA)
    train(tmp_path / "whole", whole)
    with pytest.raises(RuntimeError, match="interrupted"):
        train(tmp_path / "parts", CapacitanceCallback(DATA), Interrupting(step))
    resumed = CapacitanceCallback(DATA)
    train(tmp_path / "parts", resumed, resume=True)
    same(resumed.history, whole.history)
    assert len(resumed.layers) == len(whole.layers)


def test_a_run_resumed_without_its_records(tmp_path):
    whole = CapacitanceCallback(DATA)
    train(tmp_path, whole)
    other = CapacitanceCallback(DATA, file=tmp_path / "other.parquet")
    train(tmp_path, other, resume=str(tmp_path / "checkpoint-8"))
    same(other.history, whole.history[2:].reset_index(drop=True))
    train(tmp_path, other, resume=str(tmp_path / "checkpoint-4"))  # an earlier one
    assert other.history["epoch"].tolist() == [1, 2, 3]


def test_a_new_run_replaces_the_records(tmp_path):
    for epochs in (2, 1):
        callback = CapacitanceCallback(DATA)
        train(tmp_path, callback, num_train_epochs=epochs, save_strategy="no")
        assert callback.history["epoch"].tolist() == list(range(epochs + 1))


def test_forms_of_data(tmp_path):
    expected = CapacitanceCallback(DATA)
    train(tmp_path, expected, save_strategy="no", num_train_epochs=1)
    whole = {"pixel_values": X, "labels": Y}
    halves = [{name: part[k::2] for name, part in whole.items()} for k in range(2)]
    for data in (whole, [whole], halves, [DATA], transformers.BatchEncoding(whole)):
        callback = CapacitanceCallback(data)
        train(tmp_path, callback, save_strategy="no", num_train_epochs=1)
        same(callback.history[["epoch", "beta_eff", "accuracy"]], expected.history[["epoch", "beta_eff", "accuracy"]])


def test_probes_and_functions_of_the_model(tmp_path):
    class Probe(lg.CapacitanceProbe):
        """Returns the loss too, which the Trainer asks for."""

        def forward(self, pixel_values, labels=None):
            logits = super().forward(pixel_values)
            return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}

    def accuracy(model):
        return (model(X)["logits"].argmax(1) == Y).float().mean()

    callback = CapacitanceCallback(
        DATA,
        accuracy,
        valid_loss=lambda model: F.cross_entropy(model(X)["logits"], Y),
        loss_fn=lambda outputs, y: F.cross_entropy(outputs["logits"], y),
    )
    probe = Probe(network(), num_classes=3, hidden=(6, 5), frozen=False)
    train(tmp_path, callback, model=probe, save_strategy="no", eval_strategy="no", num_train_epochs=2)
    assert callback.history[["accuracy", "valid_loss", "beta_eff"]].notna().all().all()


def test_one_process_writes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "is_world_process_zero", lambda self: False)
    callback = CapacitanceCallback(DATA)
    train(tmp_path, callback, num_train_epochs=1, save_strategy="no")
    assert callback.history["epoch"].tolist() == [0, 1]
    assert not (tmp_path / "capacitance.parquet").exists()


def test_a_metric_that_is_not_logged(tmp_path):
    callback = CapacitanceCallback(DATA, "eval_f1")
    with pytest.warns(RecordWarning, match=r"'eval_f1' was logged .* logged are .*eval_accuracy"):
        train(tmp_path, callback, num_train_epochs=2, save_strategy="no")
    assert callback.history["accuracy"].isna().all()


def test_wrong_arguments_are_refused_before_training(tmp_path):
    for callback in (CapacitanceCallback(DATA, kind="wrong"), CapacitanceCallback(3)):
        with pytest.raises(DataError):
            train(tmp_path, callback, num_train_epochs=1)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    spec = importlib.util.spec_from_file_location("another", lg.transformers.__file__)
    with pytest.raises(ImportError, match=r"pip install 'neural-linegraph\[transformers\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
