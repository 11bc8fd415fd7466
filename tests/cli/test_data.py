import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from linegraph.cli.data import load
from linegraph.cli.options import DataOptions
from linegraph.errors import DataError


@pytest.fixture(autouse=True)
def _here(run):
    """In the folder of the module ``nets``."""


X, Y = torch.arange(80.0).reshape(40, 2), torch.arange(40) % 4


def read(name, loss="cross_entropy", **options):
    return load(DataOptions(name, **options), loss)


def test_digits_are_the_data_of_built_in_networks():
    found = load(DataOptions(valid_fraction=0.1, split_seed=3), "cross_entropy", ["own=digits:cnn-8", "digits:cnn-8"])
    assert len(found.valid[1]) == 180
    assert "split stratified by class, fraction 0.1 held out, split seed 3" in found.description
    with pytest.raises(DataError, match="--data is needed for a network of your own"):
        load(DataOptions(), "cross_entropy", ["nets:small"])


def test_tensors_are_split_by_class_and_seed(tmp_path):
    save_file({"inputs": X, "targets": Y}, tmp_path / "t.safetensors")
    found, same, other = (read("t.safetensors", split_seed=seed) for seed in (0, 0, 1))
    assert found.valid[1].bincount().tolist() == [2, 2, 3, 3] or len(found.valid[1]) == 10
    assert found.valid[1].bincount().max() - found.valid[1].bincount().min() <= 1
    assert torch.equal(found.valid[0], same.valid[0])
    assert not torch.equal(found.valid[0], other.valid[0])
    both = torch.cat([found.train[0], found.valid[0]])
    assert torch.equal(both[both[:, 0].argsort()], X)  # each sample is in one part
    assert "30 samples to train on, 10 held out" in found.description


@pytest.mark.parametrize("spelling", ["{}_{}", "{}.{}", "{}-{}"])
def test_tensors_with_a_split_of_their_own(tmp_path, spelling):
    names = [spelling.format(part, role) for part in ("train", "val") for role in ("x", "y")]
    save_file(
        dict(zip(names, (X[:30].clone(), Y[:30].clone(), X[30:].clone(), Y[30:].clone()), strict=True)),
        tmp_path / "t.safetensors",
    )
    found = read("t.safetensors")
    assert torch.equal(found.train[0], X[:30])
    assert torch.equal(found.valid[1], Y[30:])


def test_tables_are_standardised_by_the_training_part(tmp_path):
    table = pd.DataFrame({"a": X[:, 0], "b": 7.0, "label": Y})
    table.to_csv("t.csv", index=False)
    found = read("t.csv")
    torch.testing.assert_close(found.train[0].mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.train[0].std(0, correction=0), torch.tensor([1.0, 0.0]))
    assert found.train[1].dtype == torch.int64
    numbers = read("t.csv", "mse_loss", target="a")
    torch.testing.assert_close(numbers.train[1].std(correction=0), torch.tensor(1.0))
    assert "standardised" in numbers.description


def test_image_folders_with_and_without_a_split(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for part, count in (("train", 4), ("test", 2)):
        for name, level in (("cat", 10), ("dog", 200)):
            (tmp_path / f"images/{part}/{name}").mkdir(parents=True)
            for number in range(count):
                image.new("L", (3, 3), level + number).save(tmp_path / f"images/{part}/{name}/{number}.png")
    found = read("images", grey=True)
    assert len(found.train[1]) == 8
    assert found.valid[1].tolist() == [0, 0, 1, 1]
    assert "the folders train and test" in found.description
    torch.testing.assert_close(found.train[0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    whole = read("images/train", grey=True)
    assert whole.train[0].shape == (6, 1, 3, 3)
    assert whole.valid[1].tolist() == [0, 1]


def test_functions_give_two_parts_or_one():
    assert len(read("nets:few").valid[1]) == 60
    found = read("nets:one_part")
    assert (len(found.train[1]), len(found.valid[1])) == (150, 50)
    found = read("nets:loader")
    assert isinstance(found.train, DataLoader)
    assert found.valid is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "there is no file or folder 'digit'; did you mean 'digits'"),
        ("nets.py", "is no file of data that is read"),
        ("none.csv", "there is no file"),
        ("none.safetensors", "there is no file"),
        ("bad.safetensors", "cannot be read as safetensors"),
        ("odd.safetensors", "has a tensor 'weight', which is not understood"),
        ("half.safetensors", "it takes inputs and targets"),
        ("nets:bad", r"nets:bad\(\) failed: ValueError: no"),
        ("nets:none", "nets has no 'none'"),
    ],
)
def test_what_are_no_data(tmp_path, name, message):
    (tmp_path / "bad.safetensors").write_text("x")
    save_file({"weight": X}, tmp_path / "odd.safetensors")
    save_file({"train_x": X}, tmp_path / "half.safetensors")
    with pytest.raises(DataError, match=message):
        read(name)


def test_splits_that_leave_nothing(tmp_path):
    save_file({"inputs": X[:4].clone(), "targets": Y[:4].clone()}, tmp_path / "t.safetensors")
    with pytest.raises(DataError, match="--valid-fraction 0 of 4 samples"):
        read("t.safetensors", valid_fraction=0.0)
    save_file({"inputs": X, "targets": Y[:9].clone()}, tmp_path / "t.safetensors")
    with pytest.raises(DataError, match="not of the same number of samples"):
        read("t.safetensors")
