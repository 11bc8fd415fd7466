"""Small tasks of real images for the selection benchmark: cut from CIFAR-10, MNIST and scikit-learn's digits.

Images are float32 (N, 3, size, size), standardised over all pixels of the training images; grey images have three equal
channels. Every task is a balanced random draw without repetition, the same for every network and seed.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

ANIMALS, VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)
SOURCE_CLASSES, OTHER_CLASSES = (0, 2, 4, 6, 8), (1, 3, 5, 7, 9)


@dataclass(frozen=True)
class Task:
    """Images of some classes of a collection, with a change that makes another task of them."""

    collection: str  # "cifar10", "mnist", "digits"
    classes: tuple[int, ...] = tuple(range(10))
    change: str = ""  # "rotation": the label is the quarter turn; "photographs": digits on photographs
    train: int | None = None  # numbers of images; None: those of the zoo
    valid: int | None = None
    is_source: bool = False  # our own sources and all other tasks have no image in common

    @property
    def num_classes(self):
        return 4 if self.change == "rotation" else len(self.classes)


TASKS = {
    "digits": Task("digits", train=1000, valid=750),
    "mnist-few": Task("mnist", train=1000),
    "cifar10": Task("cifar10"),
    "cifar-animals": Task("cifar10", ANIMALS),
    "cifar-vehicles": Task("cifar10", VEHICLES),
    "mnist-photographs": Task("mnist", change="photographs"),
    "cifar-rotation": Task("cifar10", change="rotation"),
    # sources of pre-training, and targets whose classes no source has
    "cifar-source": Task("cifar10", SOURCE_CLASSES, train=8000, valid=1000, is_source=True),
    "mnist-source": Task("mnist", SOURCE_CLASSES, train=8000, valid=1000, is_source=True),
    "cifar-others": Task("cifar10", OTHER_CLASSES),
    "mnist-others": Task("mnist", OTHER_CLASSES),
}


def load(name, size, data, train, valid):
    """The task's (train, valid), each (images, labels), from the folder ``data`` with ``cifar10`` and ``mnist``.

    ``train`` and ``valid`` are the numbers of images of a task that has none of its own.
    """
    task = TASKS[name]
    train, valid = task.train or train, task.valid or valid
    rng = np.random.default_rng([sum(name.encode()), 20])
    pixels, labels = collection(task.collection, str(data), task.is_source)
    keep = np.flatnonzero(np.isin(labels, task.classes))
    chosen = balanced(labels[keep], train + valid, rng)
    x, y = pixels[keep[chosen]], np.searchsorted(task.classes, labels[keep[chosen]])
    x = torch.as_tensor(x, dtype=torch.float32) / 255
    if task.change == "photographs":
        others, _ = collection("cifar10", str(data), task.is_source)
        back = torch.as_tensor(others[rng.permutation(len(others))[: len(x)]], dtype=torch.float32) / 255
        x = (F.interpolate(x, back.shape[-2:], mode="bilinear", antialias=True) - back).abs()
    if task.change == "rotation":
        y = rng.integers(4, size=len(x))
        x = torch.stack([torch.rot90(image, int(turns), (1, 2)) for image, turns in zip(x, y, strict=True)])
    x = F.interpolate(x.expand(-1, 3, -1, -1), (size, size), mode="bilinear", antialias=True)
    y = torch.as_tensor(y, dtype=torch.int64)
    mean, deviation = x[:train].mean(), x[:train].std()
    x = (x - mean) / deviation
    return (x[:train], y[:train]), (x[train:], y[train:])


def balanced(labels, number, rng):
    """Indices of ``number`` samples in random order, as many of each class as there are, up to one."""
    classes = np.unique(labels)
    by_class = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    rounds = max(map(len, by_class))
    turns = [np.array([part[k] for part in by_class if k < len(part)]) for k in range(min(rounds, number))]
    return rng.permutation(np.concatenate(turns)[:number])


@cache
def collection(name, data, for_sources):
    """Images (N, 1 or 3, H, W) of 8 bits and their labels; of CIFAR-10 and MNIST those kept for sources, or others."""
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return (images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8), labels
    from PIL import Image

    rows = slice(30_000) if for_sources else slice(30_000, 50_000)
    table = pd.read_parquet(Path(data) / name / "train.parquet").iloc[rows]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in table["image"]])
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels), table["label"].to_numpy()
