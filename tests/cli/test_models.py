import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import linegraph as lg
from linegraph.cli import models
from linegraph.errors import DataError


@pytest.fixture(autouse=True)
def _here(run):
    """In the folder of the module ``nets``."""


def test_a_function_a_class_a_network_and_a_file(tmp_path):
    for name in ("nets:small", "nets:network", f"{tmp_path / 'nets.py'}:small"):
        assert [type(layer) for layer in models.model(name, None, 0)] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    assert type(models.model("nets:Wide", None, 0)).__name__ == "Wide"
    assert len(models.model("digits:mlp-4-4", None, 0)) == 6


def test_the_seed_sets_the_weights_and_no_other_random_state():
    state = torch.get_rng_state()
    first, same, other = (models.model("nets:small", None, seed)[1].weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_a_network_of_a_module_is_not_changed():
    model = models.model("nets:network", None, 0)
    with torch.no_grad():
        model[1].weight.zero_()
    assert sys.modules["nets"].network[1].weight.abs().max() > 0


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_a_file(tmp_path, suffix):
    given, path = models.model("nets:small", None, 5), tmp_path / f"weights{suffix}"
    save_file(given.state_dict(), path) if suffix == ".safetensors" else torch.save(given.state_dict(), path)
    torch.testing.assert_close(models.model("nets:small", path, 0).state_dict(), given.state_dict())
    with pytest.raises(DataError, match="has no weights of this model"):
        models.model("nets:Wide", path, 0)
    with pytest.raises(DataError, match="there is no file"):
        models.model("nets:small", tmp_path / "none.safetensors", 0)


def test_a_folder_of_hugging_face(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=10)
    saved = transformers.ViTForImageClassification(config)
    saved.save_pretrained(tmp_path / "vit")
    found = models.model(str(tmp_path / "vit"), None, 0)
    torch.testing.assert_close(found.state_dict(), saved.state_dict())
    assert list(models.candidates([str(tmp_path / "vit"), "own=vit"], [])) == ["vit", "own"]


def test_without_transformers_a_folder_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit/config.json").write_text("{}")
    (tmp_path / "vit/a.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"needs transformers.*pip install transformers"):
        models.model("vit", None, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nets:smal", "nets has no 'smal'; did you mean 'small'\\?"),
        ("nts:small", "there is no module 'nts'"),
        ("none.py:small", "there is no file none.py"),
        ("nets:number", "is an object of type int"),
        ("nets:bad", "nets:bad cannot be constructed: ValueError: no way"),
        ("nets:few", "returns an object of type tuple"),
        ("nets:zoo", r"gives 2 networks \(one, two\)"),
        ("resnet", "there is no model 'resnet'.*A model is module:function"),
        ("digits:mlp-44", "did you mean 'mlp-4-4'"),
        ("broken:net", "broken cannot be imported: NameError: name 'x' is not defined"),
        ("lacking:net", "lacking cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("nets.py", "it is|is a file"),
    ],
)
def test_what_is_no_model(tmp_path, name, message):
    (tmp_path / "broken.py").write_text("x")
    (tmp_path / "lacking.py").write_text("import no_such_module")
    with pytest.raises(DataError, match=message):
        models.model(name, None, 0)


def test_candidates_have_names():
    found = models.candidates(["nets:zoo", "own=nets:small", "digits:cnn-8", "all=nets:zoo", "nets:network"], [])
    assert list(found) == ["one", "two", "own", "cnn-8", "all-one", "all-two", "network"]
    assert all(isinstance(make(), nn.Module) for make in found.values())
    assert models.largest(found) == sum(p.numel() for p in found["cnn-8"]().parameters())
    assert models.largest({"bad": models.imported("nets:bad")}) == 0


def test_weights_of_candidates(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(models.model("nets:small", None, 0).state_dict(), path)
    found = models.candidates(["nets:small", "nets:Wide"], [f"small={path}"])
    assert found["small"][1] == str(path)
    assert models.largest(found) == float("inf")
    assert models.candidates(["nets:small"], [str(path)])["small"][1] == str(path)
    for weights, message in ((str(path), "of which candidate"), (f"smal={path}", "did you mean 'small'")):
        with pytest.raises(DataError, match=message):
            models.candidates(["nets:small", "nets:Wide"], [weights])


def test_two_candidates_of_one_name():
    with pytest.raises(DataError, match="two candidates have the name 'small'"):
        models.candidates(["nets:small", "small=nets:Wide"], [])


def test_losses():
    assert models.loss("mse_loss") is nn.functional.mse_loss
    assert models.loss("nets:own_loss").__name__ == "own_loss"
    assert isinstance(models.loss("torch.nn:MSELoss"), nn.MSELoss)
    with pytest.raises(DataError, match="did you mean 'cross_entropy'"):
        models.loss("crossentropy")
    with pytest.raises(lg.errors.LossError, match="must be a function"):
        models.loss("nets:number")
