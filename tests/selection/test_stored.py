"""Files of other settings, of other candidates, damaged ones, and those of several runs at once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, TensorDataset

from linegraph.errors import DataError
from linegraph.selection import training
from tests.selection.runs import PARTLY, X, Y, check_same, loader, net, rank, scheduled, seeded, sgd

# other settings -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, act=torch.relu, scale=1.0):
        super().__init__()
        self.layers, self.act, self.scale = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 3)]), act, scale

    def forward(self, x):
        return self.layers[1](self.act(self.layers[0](x))) * self.scale


def with_forward(body):
    return {"a": type("Net", (Net,), {"forward": body})}


def weighted(number):
    return lambda outputs, targets: number * F.cross_entropy(outputs, targets)


def plus(loss, number):
    def total(outputs, targets):
        return loss(outputs, targets) + number

    return total


def with_first_weights(gain):
    def make():
        made = net()
        with torch.no_grad():
            made[0].weight.mul_(gain)
        return made

    return {"a": make}


class Transformed(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return self.transform(X[i]), Y[i]


OTHER = {
    "label smoothing": ("loss_fn", nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
    "class weights": (
        "loss_fn",
        *(nn.CrossEntropyLoss(torch.tensor(weight)) for weight in ([1.0, 1.0, 1.0], [1.0, 1.0, 2.0])),
    ),
    "no class weights": ("loss_fn", nn.CrossEntropyLoss(), nn.CrossEntropyLoss(torch.tensor([1.0, 1.0, 2.0]))),
    "lambda": ("loss_fn", lambda o, t: F.cross_entropy(o, t), lambda o, t: 3 * F.cross_entropy(o, t)),
    "closure": ("loss_fn", weighted(1.0), weighted(2.0)),
    "nested closure": ("loss_fn", plus(weighted(1.0), 0), plus(weighted(2.0), 0)),
    "partial": (
        "loss_fn",
        *(partial(F.cross_entropy, weight=torch.tensor(weight)) for weight in ([1.0, 1, 1], [1.0, 1, 2])),
    ),
    "bound method": ("loss_fn", *(nn.CrossEntropyLoss(label_smoothing=s).forward for s in (0.0, 0.1))),
    "weight of a batch": ("batch_weight", lambda x, y: len(y), lambda x, y: 1),
    "rate": ("optimizer", partial(sgd, lr=0.1), partial(sgd, lr=0.01)),
    "optimizer": ("optimizer", sgd, lambda m: torch.optim.Adam(m.parameters())),
    "schedule": (
        "optimizer",
        *(scheduled(lambda o, rate=rate: lr_scheduler.ExponentialLR(o, rate)) for rate in (0.9, 0.8)),
    ),
    "activation": ("model", *({"a": partial(Net, act)} for act in (torch.relu, torch.sin))),
    "lambda activation": ("model", *({"a": partial(Net, act)} for act in (lambda x: x.relu(), lambda x: x.tanh()))),
    "attribute": ("model", *({"a": partial(Net, scale=scale)} for scale in (1.0, 2.0))),
    "forward": ("model", *(with_forward(f) for f in (Net.forward, lambda self, x: Net.forward(self, x) + 1))),
    "dropout": ("model", *({"a": partial(net, middle=partial(nn.Dropout, p))} for p in (0.1, 0.2))),
    "first weights": ("first weights", with_first_weights(0.01), with_first_weights(5.0)),
    "frozen": ("model", {"a": net}, {"a": lambda: freeze(net())}),
    "train": ("train", (X, Y), (X, Y.flip(0))),
    "end of train": ("train", (X, Y), (torch.cat([X[:-1], X[-1:] + 1]), Y)),
    "batch size": ("train", loader(), loader(batch_size=8)),
    "shuffling": ("train", loader(), loader(shuffle=True)),
    "generator": ("train", *(loader(shuffle=True, generator=seeded(seed)) for seed in (0, 1))),
    "last batch": ("train", loader(), loader(drop_last=True)),
    "end of a dataset": ("train", loader(), DataLoader(TensorDataset(X, torch.cat([Y[:-1], (Y[-1:] + 1) % 3])), 16)),
    "transform": ("train", *(DataLoader(Transformed(f), 16) for f in (lambda x: x, lambda x: 2 * x))),
    "valid": ("valid", (X[:30], Y[:30]), (X[:29], Y[:29])),
    "seed": ("seed", 1, 2),
    "kind": ("kind", "magnitude", "energy"),
    "samples": ("coupling_samples", 512, 20),
}


def freeze(model):
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("name", OTHER)
def test_results_of_other_settings_are_refused_and_kept(name, tmp_path):
    setting, first, then = OTHER[name]
    argument = "candidates" if setting in ("model", "first weights") else setting
    base = {"candidates": {"a": net}, "epochs": 2}
    rank(lambda: base | {argument: first}, tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=rf"a\.safetensors was made with other settings: .*{setting} \(.*, now .*take"):
        rank(lambda: base | {argument: then}, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept
    rank(lambda: base | {argument: first}, tmp_path)


def test_one_candidate_of_other_settings_does_not_stop_the_others(tmp_path):
    rank(lambda: {"candidates": {"a": Net, "b": net}}, tmp_path)
    changed = rank(lambda: {"candidates": {"a": partial(Net, torch.sin), "b": net}}, tmp_path).set_index("name")
    assert changed.loc["a", "error"].startswith("DataError: ")
    assert "other settings: model" in changed.loc["a", "error"]
    assert pd.isna(changed.loc["b", "error"])


def test_fewer_epochs_than_stored_are_the_first_ones(tmp_path):
    long = rank(lambda: {"train_fully": 5}, tmp_path)
    short = rank(dict, tmp_path)
    check_same(short, rank(dict))
    check_same(rank(lambda: {"train_fully": 5}, tmp_path), long)


# damaged files --------------------------------------------------------------------------------------------------------


def content_of(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def rewritten(path, change_tensors=lambda tensors: None, change_metadata=lambda metadata: None):
    tensors, metadata = content_of(path)
    change_tensors(tensors)
    change_metadata(metadata)
    save_file(tensors, path, metadata)


def flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def better(metadata):
    history = json.loads(metadata["history"])
    history[-1]["accuracy"] = 1.0
    metadata["history"] = json.dumps(history)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, 100),
    "cut at the end": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "text": lambda path: path.write_text("accuracy 0.5\n"),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "another format": lambda path: torch.save({"a": torch.ones(1)}, path),
    "a numpy archive": lambda path: np.savez(path.open("wb"), a=np.ones(1)),
    "no metadata": lambda path: save_file({"a": torch.ones(1)}, path),
    "other metadata": lambda path: save_file({"a": torch.ones(1)}, path, {"format": "pt"}),
    "no history": lambda path: rewritten(path, change_metadata=lambda m: m.pop("history")),
    "no JSON": lambda path: rewritten(path, change_metadata=lambda m: m.update(history="[{")),
    "JSON of another kind": lambda path: rewritten(path, change_metadata=lambda m: m.update(settings="3")),
    "another history": lambda path: rewritten(path, change_metadata=better),
    "a tensor less": lambda path: rewritten(path, lambda t: t.pop("model.0.weight")),
    "a tensor more": lambda path: rewritten(path, lambda t: t.update(more=torch.ones(1))),
    "another shape": lambda path: rewritten(path, lambda t: t.update({"model.0.weight": torch.ones(2, 2)})),
    "another dtype": lambda path: rewritten(path, lambda t: t.update({"model.0.weight": t["model.0.weight"].double()})),
    "another value": lambda path: rewritten(path, lambda t: t["model.0.weight"].add_(1)),
    "a flipped bit": lambda path: flipped(path, -5),
}


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_before_training(name, finished, tmp_path, monkeypatch, stored_runs):
    shutil.copytree(stored_runs, tmp_path, dirs_exist_ok=True)
    DAMAGE[name](tmp_path / "a.safetensors")
    monkeypatch.setattr(training, "train_candidate", None)
    with pytest.raises(DataError, match=r"a\.safetensors is damaged \(.* remove it, and its candidate is trained anew"):
        rank(dict, tmp_path, train_fully=None if finished else 5)


@pytest.fixture(scope="module")
def stored_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    rank(dict, folder)
    return folder


def test_any_byte_that_changes_is_noticed(tmp_path, stored_runs):
    whole = (stored_runs / "a.safetensors").read_bytes()
    path = tmp_path / "a.safetensors"
    draw = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3])):
            content[draw.randrange(len(content) if draw.random() < 0.5 else 300)] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        if bytes(content) == whole:
            continue
        path.write_bytes(content)
        try:
            found = training.stored.read(path, "a")
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:  # white space in the header, or a key that says nothing
            assert found.history == training.stored.read(stored_runs / "a.safetensors", "a").history


def test_the_file_of_another_candidate_is_not_taken(tmp_path, stored_runs):
    shutil.copytree(stored_runs, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "b.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"a\.safetensors is the file of the candidate 'b', not of 'a'; remove it"):
        rank(dict, tmp_path)


# several runs, and killed ones ----------------------------------------------------------------------------------------


def test_a_run_of_other_settings_that_began_meanwhile_keeps_its_file(tmp_path, monkeypatch):
    """Two runs begin in an empty folder; the one that writes first keeps the file."""
    begin = training._Run.__init__

    def interleaved(self, name, constructor, plan):
        begin(self, name, constructor, plan)
        if plan.seed == 1:
            rank(lambda: {"candidates": {"a": net}, "seed": 2}, tmp_path)

    monkeypatch.setattr(training._Run, "__init__", interleaved)
    with pytest.raises(DataError, match=r"a\.safetensors was made with other settings: seed \(2, now 1\)"):
        rank(lambda: {"candidates": {"a": net}}, tmp_path)
    monkeypatch.undo()
    second = {"candidates": {"a": net}, "seed": 2}
    check_same(rank(lambda: second, tmp_path), rank(lambda: second))


def shuffled():
    return {"train": loader(shuffle=True, generator=seeded())}


SCRIPT = """
import os, signal, sys
from linegraph.selection import stored
from tests.selection.runs import rank
from tests.selection.test_stored import shuffled

left, save_file = int(sys.argv[2]), stored.save_file


def dying(*given):
    global left
    save_file(*given)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


stored.save_file = dying
rank(shuffled, sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_is_gone_on_with_and_leaves_nothing_behind(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(PARTLY)]
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.iterdir())) == 3  # two candidates, and what was being written
    check_same(rank(shuffled, tmp_path), rank(shuffled))
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors"}
