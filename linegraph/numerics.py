"""Sums in double precision, limits of rounding, new tensors, and connected components."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

__all__ = [
    "CANCELLATION_ROUNDINGS",
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

CPU_CHUNK = 1 << 17
"""Entries of a vector that a sum on the CPU takes at a time. They fit in the processor's cache: a copy in double
precision of a whole vector, of up to 10⁹ entries, would cost more than the product that gave the vector."""

DEVICE_CHUNK = 1 << 21
"""Entries of a vector that :func:`pieces` takes at a time on other devices: enough to keep a GPU busy."""


def pieces(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split vectors of one length: tuples of their first pieces, of their second ones, and so on."""
    size = CPU_CHUNK if vectors[0].is_cpu else DEVICE_CHUNK
    return zip(*(v.split(size) for v in vectors), strict=True)


def double_sum(v: Tensor) -> Tensor:
    """Σ v_i, a scalar tensor: pieces are summed in the precision of v, their sums in double precision."""
    if not v.is_cpu or len(v) <= CPU_CHUNK:
        return v.sum(dtype=torch.float64)
    return torch.stack([piece.sum() for piece in v.split(CPU_CHUNK)]).sum(dtype=torch.float64)


def absolute_sum(v: Tensor) -> Tensor:
    """Σ |v_i|, summed as in :func:`double_sum`; NaN or infinite if an entry is."""
    if not v.is_cpu or len(v) <= CPU_CHUNK:
        return torch.linalg.vector_norm(v, 1, dtype=torch.float64)
    room = v.new_empty(CPU_CHUNK)
    sums = [torch.abs(piece, out=room[: len(piece)]).sum() for piece in v.split(CPU_CHUNK)]
    return torch.stack(sums).sum(dtype=torch.float64)


def double_dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a_i b_i, a scalar tensor, in double precision."""
    if not a.is_cpu or len(a) <= CPU_CHUNK:
        return a.double() @ b.double()
    return torch.stack([x.double() @ y.double() for x, y in pieces(a, b)]).sum()


def once(t: Tensor) -> Tensor:
    """A view that holds every number of an expanded tensor once: expanded dimensions have size 1."""
    for d in range(t.ndim):
        if t.stride(d) == 0 and t.shape[d] > 1:
            t = t.narrow(d, 0, 1)
    return t


def power_of_two(size: float, dtype: torch.dtype = torch.float64) -> float:
    """The next power of two above ``size``, by which a division is exact; 1 for 0.

    It is bounded so that it and its reciprocal are in the range of ``dtype``.
    """
    limits = torch.finfo(dtype)
    return 2.0 ** math.frexp(min(max(size, 4 * limits.tiny), limits.max / 8))[1] if size else 1.0


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The number type in which numbers of ``dtype`` are summed: single precision for half, else ``dtype`` itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


ROUNDING = 32
"""A sum counts as 0 if it is at most this many machine epsilons times the sum of the absolute values of its
terms."""

CANCELLATION_ROUNDINGS = 100
"""A gradient signal that cancels in the backward pass of a normalisation counts as 0 if it is at most this many machine
epsilons times as large as before: the rounding errors that remain of it are of about that size."""


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, zero: bool = False) -> Tensor:
    """A large new tensor, uninitialised unless ``zero``.

    On the CPU NumPy allocates it, which asks for large pages: the first write is several times faster than in torch.
    """
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
