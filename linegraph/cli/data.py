"""Data by their names on the command line, split into a part for training and one that is held out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from linegraph import datasets
from linegraph.cli.images import read_images
from linegraph.cli.models import BUILT_IN, imported
from linegraph.cli.options import DataOptions
from linegraph.cli.tables import read_table
from linegraph.errors import DataError
from linegraph.randomness import preserved_randomness, seed_generators

__all__ = ["Data", "load"]

FORMS = (
    "digits, a folder of images with one subfolder for each class, a .csv, .parquet or .safetensors file, or "
    "module:function"
)
INPUTS = ("inputs", "input", "x", "images", "features", "data")
TARGETS = ("targets", "target", "y", "labels", "label")
OF_NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
"""Losses of which targets may be scaled: the R² that is reported does not depend on their unit."""
TRAIN = ("train", "training")
VALID = ("valid", "val", "validation", "test")


@dataclass(frozen=True)
class Data:
    """Data of a command.

    Attributes:
        train: a pair (inputs, targets), or batches of them.
        valid: held-out data of the same form; None if there are none.
        description: what they are, how they were scaled and split.
    """

    train: Any
    valid: Any
    description: str


def load(options: DataOptions, loss: str, models: Iterable[str] = ()) -> Data:
    """The data that ``--data`` names.

    Args:
        options: the data and how they are read.
        loss: the name of the loss, which tells whether numbers in a table are classes.
        models: names of models, whose data are taken if none are named.

    Raises:
        DataError: if there are no such data, or they cannot be read.
    """
    name = options.data
    if name is None:
        if not all(model.split("=", 1)[-1].startswith(BUILT_IN) for model in models):
            raise DataError(f"--data is needed for a network of your own: {FORMS}")
        name = "digits"
    path = Path(name)
    if name == "digits":
        whole = datasets.digits(valid_fraction=options.valid_fraction, seed=options.split_seed)
        return _standing(*whole, "digits of 8x8 pixels, standardised", _split_in_words(options, True))
    if path.is_dir():
        return _of_images(path, options)
    if path.suffix in (".csv", ".parquet"):
        return _of_table(path, options, loss)
    if path.suffix == ".safetensors":
        return _of_tensors(path, options)
    if path.is_file():
        raise DataError(f"{path} is no file of data that is read; data are {FORMS}")
    if ":" not in name:
        near = get_close_matches(name, ["digits", *(one.name for one in Path().iterdir())], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise DataError(f"there is no file or folder {name!r}{hint} data are {FORMS}")
    return _of_function(name, options)


def _standing(train: Any, valid: Any, what: str, how: str) -> Data:
    """Data with their numbers of samples in the description."""
    sizes = f"{_length(train):,} samples to train on, {_length(valid):,} held out"
    return Data(train, valid, f"{what}: {sizes} ({how})")


def _length(pair: Any) -> int:
    return int(tree_leaves(pair)[0].shape[0])


# splits and scales ----------------------------------------------------------------------------------------------------


def _split(pair: Any, options: DataOptions) -> tuple[Any, Any, str]:
    """A pair cut at random into training and held-out samples, stratified where targets are classes."""
    from sklearn.model_selection import train_test_split

    inputs, targets = pair
    count = len(targets)
    if any(leaf.shape[:1] != (count,) for leaf in tree_leaves(inputs)):
        raise DataError(f"inputs and targets are not of the same number of samples, {count}")
    of_classes = targets.ndim == 1 and not targets.is_floating_point()
    is_stratified = of_classes and int(targets.unique(return_counts=True)[1].min()) > 1
    try:
        kept, held = train_test_split(
            np.arange(count),
            test_size=options.valid_fraction,
            random_state=options.split_seed,
            stratify=targets.numpy() if is_stratified else None,
        )
    except ValueError as error:
        raise DataError(f"--valid-fraction {options.valid_fraction:g} of {count} samples: {error}") from None
    return _at(pair, kept), _at(pair, held), _split_in_words(options, is_stratified)


def _at(pair: Any, samples: np.ndarray) -> Any:
    chosen = torch.from_numpy(np.sort(samples))
    return tree_map(lambda leaf: leaf[chosen], pair)


def _split_in_words(options: DataOptions, is_stratified: bool) -> str:
    how = "stratified by class" if is_stratified else "at random"
    return f"split {how}, fraction {options.valid_fraction:g} held out, split seed {options.split_seed}"


def _standardised(train: Tensor, valid: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Both with mean 0 and standard deviation 1 over some axes of the training part; constants become 0."""
    mean, deviation = train.mean(axes, keepdim=True), train.std(axes, keepdim=True, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1)
    return (train - mean) / deviation, (valid - mean) / deviation


# what data may be -----------------------------------------------------------------------------------------------------


def _of_images(folder: Path, options: DataOptions) -> Data:
    inner = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    given = [next((inner[name] for name in names if name in inner), None) for names in (TRAIN, VALID)]
    if given[0] is not None and given[1] is not None:
        train, names = read_images(given[0], options.image_size, options.grey)
        valid, _ = read_images(given[1], (train[0].shape[2], train[0].shape[3]), options.grey, names)
        how = f"the folders {given[0].name} and {given[1].name}"
    else:
        pair, names = read_images(folder, options.image_size, options.grey)
        train, valid, how = _split(pair, options)
    x, held = _standardised(train[0], valid[0], (0, 2, 3))
    size = "x".join(map(str, x.shape[1:]))
    what = f"images {size} of {len(names)} classes in {folder}, channels standardised"
    return _standing((x, train[1]), (held, valid[1]), what, how)


def _of_table(path: Path, options: DataOptions, loss: str) -> Data:
    pair, what = read_table(path, options.target, loss, options.image_size, options.grey)
    train, valid, how = _split(pair, options)
    x, held = _standardised(train[0], valid[0], (0, 2, 3) if train[0].ndim == 4 else (0,))
    y, known = train[1], valid[1]
    if loss in OF_NUMBERS and y.is_floating_point():
        y, known = _standardised(y, known, (0,))
        what += ", both"
    return _standing((x, y), (held, known), f"{what}, standardised, in {path}", how)


def _of_tensors(path: Path, options: DataOptions) -> Data:
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        tensors = load_file(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as safetensors: {error}") from None
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        words = [word for word in re.split(r"[._/ -]", key.lower()) if word]
        part = "train" if {*words} & {*TRAIN} else "valid" if {*words} & {*VALID} else "all"
        role = "inputs" if {*words} & {*INPUTS} else "targets" if {*words} & {*TARGETS} else None
        if role is None or role in parts.setdefault(part, {}):
            raise DataError(
                f"{path} has a tensor {key!r}, which is not understood; names are inputs and targets (or x and y, "
                "images and labels), alone, or with train_ and valid_ before them"
            )
        parts[part][role] = tensor
    whole = {name: (found["inputs"], found["targets"]) for name, found in parts.items() if len(found) == 2}
    if whole.keys() == {"train", "valid"} == parts.keys():
        return _standing(whole["train"], whole["valid"], f"tensors in {path}", "as the file has them")
    if whole.keys() == {"all"} == parts.keys():
        train, valid, how = _split(whole["all"], options)
        return _standing(train, valid, f"tensors in {path}", how)
    raise DataError(
        f"{path} has the tensors {', '.join(tensors)}; it takes inputs and targets, or train_inputs, train_targets, "
        "valid_inputs and valid_targets"
    )


def _of_function(name: str, options: DataOptions) -> Data:
    found: Any = imported(name, options.split_seed)
    if callable(found) and not hasattr(found, "__iter__"):
        try:
            with preserved_randomness():
                seed_generators(options.split_seed)
                found = found()
        except Exception as error:
            raise DataError(f"{name}() failed: {type(error).__name__}: {error}") from error
    if isinstance(found, tuple) and len(found) == 2:
        if not isinstance(found[1], Tensor):
            return Data(*found, f"training and held-out data of {name}")
        train, valid, how = _split(found, options)
        return _standing(train, valid, f"data of {name}", how)
    return Data(found, None, f"data of {name}")
