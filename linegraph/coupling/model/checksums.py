"""Checksums of tensors and batches, by which a change of a single number is found without a copy of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from linegraph.coupling.model.sources import held

__all__ = ["WIDTH", "ColumnSums", "Digest", "column_sums", "dense_parts", "digest", "pieces_of", "sketch"]

WIDTH = 4093
"""Integers in a sketch. A prime, so that a sketch changes if rows and columns of a tensor are exchanged."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def pieces_of(t: Tensor) -> list[Tensor]:
    """The bits of a tensor as integers, in pieces whose rows :func:`sketch` adds up.

    The pieces are views of the tensor if its layout allows it, else copies.
    """
    pieces: list[Tensor] = []
    for part in dense_parts(t):
        words = _words(part)
        if body := len(words) // WIDTH * WIDTH:
            pieces.append(words[:body].view(-1, WIDTH))
            words = words[body:]
        if words.numel():
            pieces.append(words)
    return pieces


def sketch(pieces: Sequence[Tensor]) -> Tensor:
    """At most :data:`WIDTH` integers for each piece, which change if a number in the piece changes or moves."""
    return torch.cat([piece.sum(0) if piece.ndim > 1 else piece for piece in pieces])


class ColumnSums:
    """At most 2 · :data:`WIDTH` sums of the numbers of a dense tensor; a change up to rounding moves them little.

    They are formed in the tensor's own precision, since torch adds up rows in double precision ten times more slowly.
    """

    def __init__(self, t: Tensor) -> None:
        self._sums = _columns(t)

    def are_near(self, t: Tensor, roundings: float) -> bool:
        """Whether the sums of a tensor as it is now differ from these by rounding errors only.

        Args:
            t: the tensor of which these sums were formed.
            roundings: the machine epsilons by which each number may differ, relative to its absolute value plus the
                mean absolute value of the tensor, so that a number that is 0 may differ too.
        """
        sizes = _columns(t.to(_type_of_sums(t)).abs())
        epsilon = torch.finfo(t.dtype).eps if t.is_floating_point() else 0.0
        bound = roundings * epsilon * (sizes + sizes.sum() / t.numel())
        return bool(((_columns(t) - self._sums).abs() <= bound).all())


def _columns(t: Tensor) -> Tensor:
    """The numbers of a dense tensor in rows of :data:`WIDTH` numbers, added up, and the numbers that fill no row."""
    flat, dtype = _in_memory_order(t), _type_of_sums(t)
    if not (body := len(flat) // WIDTH * WIDTH):
        return flat.to(dtype, copy=True)
    return torch.cat([flat[:body].view(-1, WIDTH).sum(0, dtype=dtype), flat[body:].to(dtype)])


def _type_of_sums(t: Tensor) -> torch.dtype:
    if not t.is_floating_point():
        return torch.int64
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def column_sums(t: Tensor) -> list[ColumnSums]:
    """The column sums of each dense tensor that stores a tensor, such as the indices and values of a sparse one."""
    return [ColumnSums(part) for part in dense_parts(t)]


Digest = tuple[tuple[str, ...], list[Tensor]]
"""Of a batch: all but the numbers of its tensors (types, shapes, devices, other objects); a checksum per device."""


def digest(batch: Any) -> Digest:
    """What identifies a batch: its layout, and checksums of its numbers.

    The checksums stay on their devices, so that the CPU does not wait for them.
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
        # Contiguous, since equal numbers in other strides are equal.
        for piece in pieces_of(t.contiguous() if t.layout == torch.strided else t):
            pieces.setdefault(piece.device, []).append(piece)
    sketches = [sketch(of_device) for of_device in pieces.values()]
    return tuple(layout), [(found * _factors(len(found), found.device)).sum() for found in sketches]


def _leaves(part: Any) -> Iterator[Tensor | str]:
    """The tensors in a part of a batch, also in objects of any class; and all else as text."""
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


def dense_parts(t: Tensor) -> list[Tensor]:
    """The dense tensors that store a tensor: those inside a subclass, or the indices and values of a sparse one."""
    if is_traceable_wrapper_subclass(t):
        inner = (getattr(t, name) for name in t.__tensor_flatten__()[0])  # tensors, and the mesh of a DTensor
        return [part for held in inner if isinstance(held, Tensor) for part in dense_parts(held)]
    t = t.detach()
    if t.is_quantized:
        return [t.int_repr()]
    if t.layout == torch.sparse_coo:
        return [t._indices(), *dense_parts(t._values())]
    if t.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [t.crow_indices(), t.col_indices(), *dense_parts(t.values())]
    if t.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [t.ccol_indices(), t.row_indices(), *dense_parts(t.values())]
    if t.is_nested:
        return [part for item in t.unbind() for part in dense_parts(item)]
    if t.layout != torch.strided or t.is_meta:
        return []
    return [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t.resolve_neg()]


def _words(t: Tensor) -> Tensor:
    """The bits of a dense tensor in memory order, as 64-bit integers if they fill such, else of its own item size."""
    flat = _in_memory_order(t)
    size = flat.element_size()
    whole = (flat.numel() * size) % 8 == 0 and (flat.storage_offset() * size) % 8 == 0
    return flat.view(torch.int64 if whole else _INTEGERS[size])


def _in_memory_order(t: Tensor) -> Tensor:
    """The numbers of a dense tensor as a vector; a view if its layout has no gaps, as channels last has none."""
    if not t.is_contiguous():
        strides = t.stride()
        t = t.permute(sorted(range(t.ndim), key=lambda d: (-strides[d], d))).contiguous()
    return t.view(-1)


@cache
def _numbers(length: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):
        return torch.randint(-(2**62), 2**62, (length,), generator=generator, device="cpu").mul_(2).add_(1).to(device)


def _factors(length: int, device: torch.device) -> Tensor:
    """Random odd factors, one for each place in a sketch, so that exchanged integers change their weighted sum."""
    return _numbers(1 << (length - 1).bit_length(), device)[:length]
