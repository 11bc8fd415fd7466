"""What every room needs of numbers: sums in double precision, units, new tensors, connected components."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

__all__ = [
    "ROUNDING",
    "absolute_sum",
    "accumulation_dtype",
    "component_numbers",
    "double_dot",
    "double_sum",
    "empty",
    "once",
    "pieces",
    "power_of_two",
]

PIECE = 1 << 17
"""Entries at a time: in the processor's cache, since there may be 10⁹ and a copy in double precision of all of them
would cost more than what they are the sums of. Other devices read a vector of any length once."""

LAUNCH = 1 << 21
"""Entries at a time on other devices, where copies are made of them: enough to keep a GPU busy."""


def pieces(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Vectors of one length, some entries at a time."""
    size = PIECE if vectors[0].is_cpu else LAUNCH
    return zip(*(v.split(size) for v in vectors), strict=True)


def double_sum(v: Tensor) -> Tensor:
    """Σ v_i: pieces in the precision of v, their sums in double precision."""
    if not v.is_cpu or len(v) <= PIECE:
        return v.sum(dtype=torch.float64)
    return torch.stack([piece.sum() for piece in v.split(PIECE)]).sum(dtype=torch.float64)


def absolute_sum(v: Tensor) -> Tensor:
    """Σ |v_i|, likewise; NaN or infinite if an entry is."""
    if not v.is_cpu or len(v) <= PIECE:
        return torch.linalg.vector_norm(v, 1, dtype=torch.float64)
    room = v.new_empty(PIECE)
    sums = [torch.abs(piece, out=room[: len(piece)]).sum() for piece in v.split(PIECE)]
    return torch.stack(sums).sum(dtype=torch.float64)


def double_dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a_i b_i, in double precision."""
    if not a.is_cpu or len(a) <= PIECE:
        return a.double() @ b.double()
    return torch.stack([x.double() @ y.double() for x, y in pieces(a, b)]).sum()


def once(t: Tensor) -> Tensor:
    """A tensor without the repetitions of an expanded one."""
    for d in range(t.ndim):
        if t.stride(d) == 0 and t.shape[d] > 1:
            t = t.narrow(d, 0, 1)
    return t


def power_of_two(size: float, dtype: torch.dtype = torch.float64) -> float:
    """The power of two above ``size``, so that dividing by it costs no digit; 1 for 0.

    It and its reciprocal are in the range of ``dtype``.
    """
    limits = torch.finfo(dtype)
    return 2.0 ** math.frexp(min(max(size, 4 * limits.tiny), limits.max / 8))[1] if size else 1.0


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision is summed in single."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


ROUNDING = 32
"""A denominator below this many roundings of the terms it is made of is taken for 0."""


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, zero: bool = False) -> Tensor:
    """A large new tensor. On the CPU through NumPy, which asks for large pages: first touch is several times faster."""
    if device.type != "cpu" or dtype == torch.bfloat16:
        return (torch.zeros if zero else torch.empty)(shape, dtype=dtype, device=device)
    return torch.from_numpy((np.zeros if zero else np.empty)(shape, dtype=str(dtype).removeprefix("torch.")))


def component_numbers(matrix: csr_array, connection: str = "weak") -> np.ndarray:
    """The number of each node's connected component, (n,), from 0 on; stored zeros of the matrix (n, n) join nothing.

    Args:
        matrix: an entry in row i and column j is an edge between nodes i and j.
        connection: ``"weak"``: joined by a chain of edges of any direction; ``"strong"``: by walks both ways.

    Cost: O(n + E), by ``scipy.sparse.csgraph.connected_components``.
    """
    if not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return connected_components(matrix, directed=True, connection=connection)[1]
