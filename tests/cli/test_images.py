import sys

import numpy as np
import pytest
import torch

from linegraph.cli import images
from linegraph.cli.images import read_images
from linegraph.errors import DataError

image = pytest.importorskip("PIL.Image")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        save(tmp_path / f"images/cat/{number}.png", np.full((4, 4, 3), (255, 0, 0)))
        save(tmp_path / f"images/dog/more/{number}.png", np.full((4, 4, 3), (0, 0, 255)))
    (tmp_path / "images/dog/notes.txt").write_text("")
    return tmp_path / "images"


def test_classes_are_subfolders(folder):
    (pixels, labels), names = read_images(folder, None, grey=False)
    assert names == ["cat", "dog"]
    assert labels.tolist() == [0] * 3 + [1] * 3
    assert pixels.shape == (6, 3, 4, 4)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(pixels[5, :, 3, 3], torch.tensor([0, 0, 1.0]))


def test_grey_levels_and_sizes(folder):
    (pixels, _), _ = read_images(folder, (2, 6), grey=True)
    assert pixels.shape == (6, 1, 2, 6)
    expected = torch.full((2, 6), 0.299)  # ITU-R BT.601
    torch.testing.assert_close(pixels[0, 0], expected, atol=1 / 255, rtol=0)


def test_several_sizes_need_one(folder):
    save(folder / "cat/9.png", np.zeros((5, 4, 3)))
    with pytest.raises(DataError, match=r"several sizes.*4x4.*5x4; resize with --image-size"):
        read_images(folder, None, grey=False)
    assert read_images(folder, 4, grey=False)[0][0].shape == (7, 3, 4, 4)


def test_what_is_refused(folder, monkeypatch):
    with pytest.raises(DataError, match="has the class 'dog', which the images to train on do not have"):
        read_images(folder, None, grey=False, classes=["cat", "cow"])
    with pytest.raises(DataError, match="has 1 subfolders"):
        read_images(folder / "dog", None, grey=False)
    (folder / "cow").mkdir()
    with pytest.raises(DataError, match="cow has no image"):
        read_images(folder, None, grey=False)
    (folder / "cow/1.png").write_text("no image")
    with pytest.raises(DataError, match=r"cow/1.png cannot be read as an image"):
        read_images(folder, None, grey=False)
    monkeypatch.setattr(images, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="pass a smaller --image-size"):
        read_images(folder, None, grey=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install 'neural-linegraph\[images\]'"):
        read_images(folder, None, grey=False)
