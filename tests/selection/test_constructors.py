"""Candidates as they are given: constructors, models on disk, and models that a package names."""

import json
import os
import pickle
import shutil
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.selection.constructors import constructors, named, number_of_classes
from linegraph.selection.probe import CapacitanceProbe
from tests.selection.runs import check_same

X = torch.randn(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(48) % 3
DATA = {"train": (X, Y), "valid": (X[:24], Y[:24])}


def classifier(width=6):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 7))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A vision transformer saved as a classifier of five classes, and one saved without a classifier."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=5)
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(folder / "classifier")
    transformers.ViTModel(config).save_pretrained(folder / "body")
    return folder


def made(candidates, classes=3):
    return {name: make() for name, make in constructors(named(candidates), lambda: classes).items()}


def test_constructors_stay_as_they_are():
    candidates = {"a": classifier, "b": partial(classifier, 3)}
    assert constructors(named(candidates), None) == candidates


@pytest.mark.parametrize("name", ["classifier", "body"])
@pytest.mark.parametrize("spelling", ["{}", "hf:{}", Path])
def test_folders_of_transformers_become_probes(folders, name, spelling):
    from transformers import AutoModel

    path = folders / name
    given = path if spelling is Path else spelling.format(path)
    probe = made({"one": given})["one"]
    assert isinstance(probe, CapacitanceProbe)
    assert probe(X).shape == (48, 3)
    assert {name for name, p in probe.named_parameters() if p.requires_grad} == {
        f"head.{i}.{part}" for i in (0, 2, 4, 6) for part in ("weight", "bias")
    }
    body = AutoModel.from_pretrained(path)
    state = {key.removeprefix("vit."): value for key, value in probe.backbone.state_dict().items()}
    for key, value in body.state_dict().items():
        if not key.startswith("pooler"):  # which the classifier does not have
            torch.testing.assert_close(state[key], value)


def test_a_ranking_of_folders(folders, tmp_path):
    paths = [folders / "classifier", str(folders / "body")]
    table = lg.rank(paths, **DATA, epochs=2, directory=tmp_path)
    assert set(table["name"]) == {"classifier", "body"}
    assert table["error"].isna().all()
    assert table["beta_eff"].notna().all()
    check_same(lg.rank(paths, **DATA, epochs=2, directory=tmp_path), table)


def test_no_code_of_a_folder_is_run(folders, tmp_path):
    shutil.copytree(folders / "body", tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "net/config.json").write_text(json.dumps(config))
    (tmp_path / "net/own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()")
    table = lg.rank({"own": tmp_path / "net", "good": classifier}, **DATA, epochs=1, methods="last_seen")
    assert table["name"].tolist() == ["good", "own"]
    assert "ValueError" in table["error"][1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_files_of_weights(tmp_path, suffix, monkeypatch):
    model, path = classifier(), tmp_path / f"weights{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    monkeypatch.chdir(tmp_path)
    make = constructors(named({"one": (classifier, path.name)}), lambda: 3)["one"]
    monkeypatch.chdir("/")
    probe = make()
    assert isinstance(probe, CapacitanceProbe)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(probe.backbone.state_dict()[key], value)
    assert pd.isna(lg.rank({"one": (classifier, path)}, **DATA, epochs=1, methods="last_seen")["error"][0])


class Attack:
    def __reduce__(self):
        return os.mkdir, (str(Attack.path),)


def test_nothing_is_unpickled(tmp_path):
    Attack.path, path = tmp_path / "attacked", tmp_path / "weights.pt"
    torch.save({"weight": Attack()}, path)
    table = lg.rank({"bad": (classifier, path), "good": classifier}, **DATA, epochs=1, methods="last_seen")
    assert table["name"].tolist() == ["good", "bad"]
    assert "UnpicklingError" in table["error"][1]
    assert not Attack.path.exists()
    pickle.loads(pickle.dumps(Attack()))
    assert Attack.path.exists()  # so the attack is one


def test_files_of_something_else_are_rows(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    candidates = {
        name: (classifier, tmp_path / name) for name in ("list.pt", "other.safetensors", "broken.safetensors")
    }
    errors = lg.rank(candidates | {"good": classifier}, **DATA, epochs=1, methods="last_seen").set_index("name")[
        "error"
    ]
    assert "does not hold tensors by name" in errors["list.pt"]
    assert 'Unexpected key(s) in state_dict: "other"' in errors["other.safetensors"]
    assert errors["broken.safetensors"].startswith("SafetensorError")
    assert pd.isna(errors["good"])


class OfTimm(nn.Module):
    """What the models of timm have in common."""

    def __init__(self, width):
        super().__init__()
        self.num_features = self.head_hidden_size = width
        self.body, self.fc = nn.Linear(64, width), nn.Linear(width, 10)

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        return self.fc(self.body(x.flatten(1)).relu())


@pytest.fixture
def timm(monkeypatch):
    asked = []

    def create_model(name, pretrained=False):
        asked.append((name, pretrained))
        return OfTimm({"small": 4, "wide.in1k": 9}[name])

    module = ModuleType("timm")
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


def test_models_of_timm(timm):
    table = lg.rank(["timm:small", "timm:wide.in1k", "timm:none"], **DATA, epochs=2)
    assert sorted(table["name"][:2]) == ["small", "wide.in1k"]
    assert table["error"].tolist()[2] == "KeyError: 'none'"
    assert set(timm) == {("small", True), ("wide.in1k", True), ("none", True)}
    assert table["error"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize("package", ["transformers", "timm"])
def test_a_package_that_is_missing_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    prefix = {"transformers": "hf", "timm": "timm"}[package]
    with pytest.raises(DataError, match=f"'one' needs {package}, which cannot be imported .*pip install {package}"):
        named({"one": f"{prefix}:net"})


@pytest.mark.usefixtures("timm")
def test_names_in_lists(folders):
    assert list(named(["timm:small", folders / "body"])) == ["small", "body"]
    assert list(named(("hf:owner/net", "hf:other/net"))) == ["owner/net", "other/net"]
    assert named(["timm:small"]) == {"small": "timm:small"}


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("other", ["timm:small", "hf:small", "{}/small"])
def test_names_alike_are_refused(other, tmp_path):
    with pytest.raises(DataError, match=r"'timm:small' and '.*small' have one name, 'small'; pass a dict"):
        named(["timm:small", other.format(tmp_path)])


@pytest.mark.parametrize(
    ("candidates", "says"),
    [
        ("timm:small", "must be a dict of constructors"),
        ({"timm:small"}, "must be a dict of constructors"),
        (None, "must be a dict of constructors"),
        (nn.Sequential(nn.Linear(2, 2)), "must be a dict of constructors"),
        ([classifier], "pass a dict of constructors by name"),
        ({"one": 3}, "candidate 'one' is a int, not a constructor; 'hf:name'"),
        ({"one": nn.Linear(2, 2)}, "lambda: copy.deepcopy"),
        ({"one": (classifier,)}, "candidate 'one' is a tuple, but not"),
        ({"one": (nn.Linear(2, 2), "weights.pt")}, "candidate 'one' is a tuple, but not"),
        ({"one": ("weights.pt", classifier)}, "candidate 'one' is a tuple, but not"),
        ({"one": (classifier, 3)}, "the file of the weights is a int"),
    ],
)
def test_what_is_no_candidate_is_refused(candidates, says):
    with pytest.raises(ArgumentTypeError, match=says):
        lg.rank(candidates, **DATA)


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        (
            "resnet18",
            r"no folder resnet18. A candidate is a constructor; 'hf:name', a model of transformers; 'timm:name'",
        ),
        ("HF:owner/net", "there is no folder HF:owner/net"),
        ("hf:", "'one' names no model after 'hf:'"),
        ("{}/weights.safetensors", r"is a file, .*weights.safetensors; .*pass \(constructor, path\)"),
        ("{}", "has no config.json"),
        ("{}/pickled", r"has no weights in .safetensors, and pickled ones are not read"),
        ((classifier, "{}/none.pt"), "there is no file .*none.pt"),
        ((classifier, "{}/weights.h5"), "weights.h5 is no file of weights that is known"),
    ],
)
def test_models_that_are_not_there_are_refused_before_training(tmp_path, candidate, says):
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    (tmp_path / "weights.h5").touch()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    (tmp_path / "pickled/pytorch_model.bin").touch()
    formatted = (
        (candidate[0], candidate[1].format(tmp_path)) if isinstance(candidate, tuple) else candidate.format(tmp_path)
    )
    with pytest.raises(DataError, match=says):
        lg.rank({"good": partial(pytest.fail, "was trained"), "one": formatted}, **DATA)


def test_the_number_of_classes():
    assert number_of_classes((X, Y), -100) == 3
    assert number_of_classes(DataLoader(TensorDataset(X, Y), batch_size=7), -100) == 3
    assert number_of_classes((X, torch.where(Y == 2, 9, Y)), 9) == 2
    assert number_of_classes((X, torch.full((48, 4), 0.25)), -100) == 4
    with pytest.raises(DataError, match="targets of 1 class"):
        number_of_classes((X, torch.zeros(48, dtype=torch.long)), -100)
    for targets in (torch.rand(48), torch.zeros(48, 2, 2).long()):
        with pytest.raises(DataError, match=r"no class indices \(N,\) or probabilities"):
            number_of_classes((X, targets), -100)


@pytest.mark.usefixtures("timm")
def test_the_number_of_classes_is_that_of_all_batches():
    batches = [(X[label == Y], Y[label == Y]) for label in (0, 2, 1)]
    table = lg.rank({"one": "timm:small"}, batches, DATA["valid"], epochs=1, methods="last_seen")
    assert table["error"].isna().all()
    with pytest.raises(DataError, match="targets of 1 class"):
        lg.rank({"one": "timm:small"}, batches[:1], DATA["valid"], epochs=1, methods="last_seen")
