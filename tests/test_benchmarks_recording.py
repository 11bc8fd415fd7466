import math
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import linegraph as lg
from benchmarks.selection import efficientnet_lite, recording
from benchmarks.selection.recording import Run, Zoo

RUNS = {
    "scratch": Run("scratch", "cifar10", "mlp", "mlp-16-16", 0),
    "wired": Run("wired", "cifar10", "er", "wired-er-0", 0),
    "transfer": Run("transfer", "digits", "cnn", "cnn-4x2@cifar-source", 0),
    "frozen": Run("frozen", "digits", "cnn", "cnn-4x2@cifar-source", 0),
}
READ = (0, 1, 2)


def random_images(name, data, train=None, valid=None, device="cpu"):
    """Images of classes that differ in brightness, in place of those of a task."""
    classes = recording.tasks.TASKS[name].num_classes
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(train or 64) % classes, torch.arange(valid or 64) % classes
    return tuple(
        ((torch.randn(len(y), 3, 8, 8, generator=rng) + y[:, None, None, None] / 4).to(device), y.to(device))
        for y in labels
    )


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    """Two recorded epochs of random images and one that is not recorded, and one pre-trained body."""
    monkeypatch.setattr(recording, "RUNS", tmp_path)
    monkeypatch.setattr(recording, "task_of", random_images)
    monkeypatch.setattr(recording, "READ_EPOCHS", READ)
    for name, found in recording.ZOOS.items():
        monkeypatch.setitem(recording.ZOOS, name, Zoo(found.tasks, 3, 80, 70))
    recording.pretrain("cnn", "cnn-4x2", "cifar-source", None, epochs=1)


def by_hand(run):
    """The network after plain training, and its held-out accuracy and loss after each epoch."""
    (x, y), (x_valid, y_valid) = recording.images(run, None)
    torch.manual_seed(1000 * run.seed + 1)
    model = recording.network(run, None)
    trained = [p for p in model.parameters() if p.requires_grad]
    fresh = run.zoo in ("scratch", "wired")
    optimizer = torch.optim.SGD(trained, 0.05, momentum=0.9) if fresh else torch.optim.Adam(trained, 1e-3)
    rows = []
    for epoch in range(4):
        if epoch:
            model.train()
            for part in torch.randperm(80).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            scores = model(x_valid)
        rows.append((float((scores.argmax(1) == y_valid).double().mean()), float(F.cross_entropy(scores, y_valid))))
    return model, pd.DataFrame(rows, columns=["accuracy", "valid_loss"])


@pytest.mark.parametrize("zoo", RUNS)
def test_a_history_is_that_of_plain_training(zoo):
    history = recording.train(RUNS[zoo], None)
    model, expected = by_hand(RUNS[zoo])
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(history[["accuracy", "valid_loss"]], expected, rtol=1e-4)
    assert history["beta_eff"].notna().tolist() == [True, True, True, False]
    (x, y), valid = recording.images(RUNS[zoo], None)
    tracker = lg.CapacitanceTracker(model, F.cross_entropy, (x, y), kind=recording.KINDS, valid=valid)
    assert set(tracker.record(epoch=3)) | {"loss", "train_seconds", "record_seconds"} == set(history)


def test_the_head_on_features_has_the_figures_of_the_frozen_probe():
    run = RUNS["frozen"]
    history = recording.train(run, None)
    data, valid = recording.images(run, None)
    torch.manual_seed(1)
    probe = recording.network(run, None)
    tracker = lg.CapacitanceTracker(probe, F.cross_entropy, data, kind=recording.KINDS, valid=valid)
    for name, value in tracker.record(epoch=0).items():
        assert history[name][0] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_a_seed_sets_a_history():
    run = RUNS["transfer"]
    first, again = (recording.train(run, None).drop(columns=["train_seconds", "record_seconds"]) for _ in range(2))
    pd.testing.assert_frame_equal(first, again, rtol=1e-4)
    other = recording.train(Run(run.zoo, run.task, run.family, run.name, 1), None)
    assert abs(other["loss"][1] - first["loss"][1]) > 1e-3


@pytest.mark.parametrize("zoo", ["transfer", "frozen"])
def test_a_device_records_the_history_of_the_host(zoo, device):
    times = ["train_seconds", "record_seconds"]
    here, there = (recording.train(RUNS[zoo], None, where).drop(columns=times) for where in ("cpu", device))
    unstable = [name for name in here if name.startswith("signed_beta") or name == "gradient_coupling"]
    pd.testing.assert_frame_equal(there.drop(columns=unstable), here.drop(columns=unstable), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("zoo", RUNS)
def test_a_history_is_all_that_a_prediction_needs(zoo):
    history = recording.train(RUNS[zoo], None)
    seen = history[history["epoch"] <= READ[-1]]
    found = lg.predict_final(seen, method="combined")  # a missing column would warn, which the tests take for an error
    assert 0 <= found.mean <= 1
    assert math.isfinite(found.std)


@pytest.mark.parametrize("zoo", ["scratch", "transfer"])
def test_scores_of_a_network_as_constructed(zoo):
    scores = recording.initial_scores(RUNS[zoo], None).iloc[0]
    (x, y), _ = recording.images(RUNS[zoo], None)
    torch.manual_seed(1)
    model = recording.network(RUNS[zoo], None)
    assert scores["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert scores["grad_norm"] == pytest.approx(lg.selection.grad_norm(model, F.cross_entropy, (x, y)), rel=1e-4)
    assert math.isfinite(scores["logme"])
    assert ("leep" in scores) == (zoo == "transfer")


def test_a_run_that_fails_becomes_a_row(monkeypatch):
    run = RUNS["scratch"]
    monkeypatch.setattr(recording, "train_epoch", lambda *args: math.nan)
    recording.work(run, None, "cpu")
    found = pd.read_parquet(run.path)
    assert found["error"].tolist() == ["FloatingPointError: training diverged in epoch 1"]
    assert found[["task", "family", "name", "seed"]].iloc[0].tolist() == ["cifar10", "mlp", "mlp-16-16", 0]


def test_no_job_begins_after_the_time():
    with ThreadPoolExecutor(2) as pool:
        done = sorted(recording.finished(pool, pow, range(9), (2,), math.inf, 4))
        assert done == [k**2 for k in range(9)]
        assert list(recording.finished(pool, pow, range(9), (2,), -math.inf, 4)) == []


def test_networks_without_installed_weights_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(efficientnet_lite, "weights_path", lambda name: None)
    recording.record(["frozen"], None, workers=1, minutes=-1)
    assert "left out, since no weights are installed: efficientnet-lite0" in capsys.readouterr().out
    names = {run.name for run in recording.all_runs(["frozen"])}
    assert names >= {"efficientnet-lite1@imagenet", "vit-32x1@mnist-source", "resnet20@published"}


def test_published_networks_are_kept_from_the_images_they_have_seen():
    runs = list(recording.all_runs(["transfer"]))
    of_cifar = {run.task for run in runs if run.name.endswith("@published")}
    assert of_cifar == {"digits", "mnist-others", "mnist-photographs"}
    assert len(set(runs)) == len(runs)
    assert {run.seed for run in runs} == set(recording.SEEDS)
