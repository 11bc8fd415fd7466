"""Tables in CSV and Parquet as tensors: columns of numbers, or a column of images, and a column of targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from linegraph.cli.errors import closest
from linegraph.cli.images import decoded
from linegraph.errors import DataError

__all__ = ["read_table"]

TARGETS = ("label", "labels", "target", "targets", "y", "class")
OF_CLASSES = ("cross_entropy", "nll_loss", "multi_margin_loss")


def read_table(
    path: Path, target: str | None, loss: str, image_size: int | None, grey: bool
) -> tuple[tuple[Tensor, Tensor], str]:
    """Inputs and targets of a table.

    Args:
        path: a file .csv or .parquet.
        target: the column of the targets; by default the one with a usual name.
        loss: the name of the loss. For one of classes, whole numbers and texts become class indices (N,), in the order
            of their values; numbers with a fraction, and those for other losses, stay numbers (N, 1).
        image_size: of images, see :func:`~linegraph.cli.images.decoded`.
        grey: the same.

    Returns:
        The pair, with inputs float32 (N, columns), or images (N, channels, height, width); and what they are.

    Raises:
        DataError: if the file cannot be read, or a column is missing, has no numbers, or gaps; names it.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as a table: {' '.join(str(error).split())}") from None
    columns = list(map(str, table.columns))
    table.columns = pd.Index(columns)
    if target is None:
        target = next((name for name in TARGETS if name in columns), None)
        if target is None:
            raise DataError(f"{path} has the columns {', '.join(columns)}; which has the targets? Pass --target")
    elif target not in columns:
        raise DataError(f"{path} has no column {target!r}{closest(target, columns)}")
    if not len(table):
        raise DataError(f"{path} has no row")
    others = table.drop(columns=target)
    if (gaps := table.isna().sum()).any():
        raise DataError(f"{path} has {int(gaps.max())} gaps in the column {gaps.idxmax()!r}; fill them, or drop rows")
    targets, kind = _targets(table[target], loss)
    if images := [name for name in others if _has_images(others[name])]:
        cells = [cell["bytes"] if isinstance(cell, dict) else cell for cell in others[images[0]]]
        names = [f"row {row} of {path}" for row in range(len(cells))]
        return (decoded(cells, names, image_size, grey), targets), f"images with {kind}"
    if texts := [name for name in others if not pd.api.types.is_numeric_dtype(others[name])]:
        raise DataError(f"{path} has no numbers in the column {texts[0]!r}; leave it out, or write it as numbers")
    if not others.shape[1]:
        raise DataError(f"{path} has no column besides the targets, {target!r}")
    inputs = torch.from_numpy(others.to_numpy(np.float32, copy=True))
    return (inputs, targets), f"{others.shape[1]} columns with {kind} {target!r}"


def _targets(column: Any, loss: str) -> tuple[Tensor, str]:
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and (loss not in OF_CLASSES or pd.api.types.is_float_dtype(column)):
        return torch.from_numpy(column.to_numpy(np.float32, copy=True))[:, None], "numbers"
    classes, indices = np.unique(column.astype(str) if not is_number else column.to_numpy(), return_inverse=True)
    found = torch.from_numpy(indices.astype(np.int64))
    if loss in OF_CLASSES:
        return found, f"{len(classes)} classes"
    if len(classes) != 2:
        raise DataError(f"the loss {loss} takes numbers, and {column.name!r} has {len(classes)} different texts")
    return found.float()[:, None], f"targets 0 for {classes[0]} and 1 for {classes[1]}"


def _has_images(column: Any) -> bool:
    """Whether a column has files of images, as those of datasets of Hugging Face: bytes, or a dict with bytes."""
    cell = column.iloc[0]
    return isinstance(cell, bytes) or (isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes))
