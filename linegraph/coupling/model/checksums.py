"""Whether tensors hold the same numbers as before, bit by bit, without a copy of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from linegraph.coupling.model.sources import held

__all__ = ["ColumnSums", "Digest", "column_sums", "digest", "pieces_of", "sketch"]

WIDTH = 4093
"""Words of a sketch: a prime, so that rows and columns that change places are noticed."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def pieces_of(t: Tensor) -> list[Tensor]:
    """The bits of a tensor as integers, in pieces whose rows :func:`sketch` sums; views, where the layout allows it."""
    pieces: list[Tensor] = []
    for part in _dense(t.detach()):
        words = _words(part)
        if body := len(words) // WIDTH * WIDTH:
            pieces.append(words[:body].view(-1, WIDTH))
            words = words[body:]
        if words.numel():
            pieces.append(words)
    return pieces


def sketch(pieces: Sequence[Tensor]) -> Tensor:
    """At most :data:`WIDTH` integers for each piece, which change if a number in it does, or its place."""
    return torch.cat([piece.sum(0) if piece.ndim > 1 else piece for piece in pieces])


class ColumnSums:
    """Sums of the numbers of a dense tensor, at most :data:`WIDTH` of them; of a short one the numbers themselves."""

    def __init__(self, t: Tensor) -> None:
        flat = t.reshape(-1)
        self._epsilon = torch.finfo(t.dtype).eps if t.is_floating_point() else 0.0
        self._sizes: Tensor | None = None
        if len(flat) <= WIDTH:
            self._sums = flat.to(torch.float64, copy=True)
            return
        rows = torch.nn.functional.pad(flat, (0, -len(flat) % WIDTH)).view(-1, WIDTH)
        self._sums = rows.sum(0, dtype=torch.float64)
        if self._epsilon:
            self._sizes = torch.linalg.vector_norm(rows, 1, dim=0, dtype=torch.float64)

    def is_near(self, now: ColumnSums, roundings: float) -> bool:
        """Whether other sums of this tensor differ by some roundings of each number, of one that is 0 too."""
        sizes = self._sums.abs() if self._sizes is None else self._sizes
        bound = roundings * self._epsilon * (sizes + sizes.mean())
        return bool(((now._sums - self._sums).abs() <= bound).all())


def column_sums(t: Tensor) -> list[ColumnSums]:
    """The sums of each dense tensor that a tensor is made of, in the order of its entries."""
    return [ColumnSums(part) for part in _dense(t.detach()) if part.numel()]


Digest = tuple[tuple[str, ...], list[Tensor]]
"""The layout of a batch with what is no tensor, and a checksum of the tensors on each device."""


def digest(batch: Any) -> Digest:
    """What tells a batch from others.

    The checksums stay on their devices, so that nobody waits for them.
    """
    layout: list[str] = []
    tensors: list[Tensor] = []
    for leaf in _leaves(batch):
        if isinstance(leaf, Tensor):
            layout.append(f"{leaf.dtype} {tuple(leaf.shape)} {leaf.device}")
            tensors.append(leaf)
        else:
            layout.append(leaf)
    pieces: dict[torch.device, list[Tensor]] = {}
    for t in tensors:
        for piece in pieces_of(t.contiguous() if t.layout == torch.strided else t):  # numbers count, not strides
            pieces.setdefault(piece.device, []).append(piece)
    sketches = [sketch(of_device) for of_device in pieces.values()]
    return tuple(layout), [(found * _factors(len(found), found.device)).sum() for found in sketches]


def _leaves(part: Any) -> Iterator[Tensor | str]:
    """Tensors, in objects of any class too, and what else there is, in words."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, np.ndarray):
        yield from _leaves(
            torch.from_numpy(np.ascontiguousarray(part)) if part.dtype.kind in "biufc" else part.tolist()
        )
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield f"{key!r}:"
            yield from _leaves(value)
    elif isinstance(part, list | tuple):
        yield f"{type(part).__name__} of {len(part)}"
        for item in part:
            yield from _leaves(item)
    elif part is None or isinstance(part, str | bytes | int | float | complex):
        yield repr(part)
    else:
        yield type(part).__qualname__
        for thing in held(part, (Tensor, np.ndarray), code=False):
            yield from _leaves(thing)


def _dense(t: Tensor) -> list[Tensor]:
    """The dense tensors that a tensor is made of."""
    if is_traceable_wrapper_subclass(t):
        return [part for name in t.__tensor_flatten__()[0] for part in _dense(getattr(t, name))]
    if t.is_quantized:
        return [t.int_repr()]
    if t.layout == torch.sparse_coo:
        return [t._indices(), *_dense(t._values())]
    if t.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [t.crow_indices(), t.col_indices(), *_dense(t.values())]
    if t.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [t.ccol_indices(), t.row_indices(), *_dense(t.values())]
    if t.is_nested:
        return [part for item in t.unbind() for part in _dense(item)]
    if t.layout != torch.strided or t.is_meta:
        return []
    return [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t.resolve_neg()]


def _words(t: Tensor) -> Tensor:
    """The bits of a dense tensor in the order of its memory, as the longest integers that they make."""
    if not t.is_contiguous():  # channels may come last in memory
        strides = t.stride()
        t = t.permute(sorted(range(t.ndim), key=lambda d: (-strides[d], d))).contiguous()
    flat = t.view(-1)
    size = flat.element_size()
    whole = (flat.numel() * size) % 8 == 0 and (flat.storage_offset() * size) % 8 == 0
    return flat.view(torch.int64 if whole else _INTEGERS[size])


@cache
def _numbers(length: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):
        return torch.randint(-(2**62), 2**62, (length,), generator=generator, device="cpu").mul_(2).add_(1).to(device)


def _factors(length: int, device: torch.device) -> Tensor:
    """Odd numbers by which words in other places count otherwise."""
    return _numbers(1 << (length - 1).bit_length(), device)[:length]
