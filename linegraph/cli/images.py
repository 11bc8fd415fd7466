"""Images as tensors: folders with one subfolder for each class, and images in the cells of a table."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linegraph.errors import DataError
from linegraph.progress import is_watched, shown

__all__ = ["decoded", "read_images"]

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}

MOST_BYTES = 4 * 2**30
"""Bytes of all images together, as single-precision numbers, above which they are refused."""

Size = int | tuple[int, int] | None


def read_images(
    folder: Path, size: Size, grey: bool, classes: Iterable[str] | None = None
) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """The images in the subfolders of a folder, each of which is a class.

    Args:
        folder: has one subfolder for each class; folders within it are searched too.
        size: height and width to resize to; None if all images have one size.
        grey: read grey levels, one channel, instead of three colours.
        classes: names of the classes; by default those of the subfolders, sorted.

    Returns:
        The pair of images, float32 (N, channels, height, width) from 0 to 1, and class indices (N,); and the names of
        the classes.

    Raises:
        DataError: if there is no class, or none in a class, or a file is no image; names it.
    """
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = there if classes is None else list(classes)
    if extra := [name for name in there if name not in names]:
        raise DataError(f"{folder} has the class {extra[0]!r}, which the images to train on do not have")
    if len(names) < 2:
        raise DataError(f"{folder} has {len(names)} subfolders; images lie in one subfolder for each class")
    paths: list[Path] = []
    labels: list[int] = []
    for name in there:
        found = [path for path in sorted((folder / name).rglob("*")) if _is_image(path)]
        if not found:
            raise DataError(f"{folder / name} has no image ({', '.join(sorted(ENDINGS))})")
        paths += found
        labels += [names.index(name)] * len(found)
    return (decoded(paths, list(map(str, paths)), size, grey), torch.tensor(labels)), names


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.is_file()


def decoded(images: list[Any], names: list[str], size: Size, grey: bool) -> Tensor:
    """Images as a tensor, float32 (N, channels, height, width) from 0 to 1.

    Args:
        images: paths, or bytes of files.
        names: of the images, for messages.
        size: height and width to resize to; None if all images have one size.
        grey: grey levels instead of colours.

    Raises:
        DataError: if pillow is missing, an image cannot be read, sizes differ, or all are too large.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError("images need pillow; pip install 'neural-linegraph[images]'") from None
    shape = (size, size) if isinstance(size, int) else size
    found: list[Any] = []
    for image, name in zip(shown(images, is_watched(), desc="reading images", unit="image"), names, strict=True):
        try:
            with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
                one = opened.convert("L" if grey else "RGB")
        except Exception as error:
            raise DataError(f"{name} cannot be read as an image: {error}") from None
        if shape is not None and one.size != (shape[1], shape[0]):
            one = one.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        pixels = np.atleast_3d(np.asarray(one, np.uint8))
        if found and found[0].shape != pixels.shape:
            first, other = ("x".join(map(str, p.shape[:2])) for p in (found[0], pixels))
            raise DataError(f"images have several sizes: {names[0]} {first}, {name} {other}; resize with --image-size")
        if pixels.size * len(images) * 4 > MOST_BYTES:
            raise DataError(
                f"{len(images):,} images of {pixels.shape[0]}x{pixels.shape[1]} pixels take more than "
                f"{MOST_BYTES / 2**30:g} GiB; pass a smaller --image-size, or --data module:function with a DataLoader"
            )
        found.append(pixels)
    return torch.from_numpy(np.stack(found)).movedim(-1, 1).float().div_(255)
