"""Provenance: for each element of a tensor, the synapse output neurons from which a path leads to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.numerics import once

__all__ = [
    "Provenance",
    "as_integers",
    "at_inputs",
    "broadcasts_to",
    "compressed",
    "merged",
    "no_provenance",
    "no_sources",
    "reduced_dimensions",
    "united_over",
    "united_over_all_but",
    "widened",
]


@dataclass(frozen=True)
class Provenance:
    """The source neurons of each element of a tensor, stored by label, since many elements share theirs.

    Attributes:
        labels: an integer for each element, in the tensor's shape, as float64 so that every operation moves it.
        sources: boolean (labels, output neurons): row l holds the source neurons of label l. Row 0 is empty: label 0
            means that no synapse leads to the element.
    """

    labels: Tensor
    sources: csr_array

    def scalar(self) -> Provenance:
        """The same provenance, of one element, with a label without dimensions."""
        return Provenance(self.labels.reshape(()), self.sources)


def no_provenance(size: int) -> Provenance:
    """The provenance of a vector (size,) to which no synapse leads."""
    return Provenance(torch.zeros(size, dtype=torch.float64, device="cpu"), no_sources(0))


def no_sources(width: int) -> csr_array:
    """The ``sources`` of label 0 alone: one empty row over ``width`` output neurons."""
    return csr_array((1, width), dtype=bool)


def widened(sources: csr_array, width: int) -> csr_array:
    """The same rows over ``width`` output neurons: later calls have added neurons since they were noted."""
    return csr_array((sources.data, sources.indices, sources.indptr), shape=(sources.shape[0], width))


def merged(parts: Sequence[Provenance], width: int) -> Provenance:
    """The provenance of a result that combines tensors of one shape element by element: the union of their sources."""
    unique = list({id(p.labels): p for p in parts}.values())
    if len(unique) == 1:
        return Provenance(unique[0].labels, widened(unique[0].sources, width))
    shape = unique[0].labels.shape
    narrow = torch.broadcast_tensors(*(once(p.labels) for p in unique))
    codes = np.stack([as_integers(labels) for labels in narrow], 1)
    combinations, inverse = np.unique(codes, axis=0, return_inverse=True)
    combinations, inverse = _with_zero_first(combinations, inverse.reshape(-1))
    sources = sum(
        _indicator(np.arange(len(combinations)), column, (len(combinations), p.sources.shape[0])).astype(np.int32)
        @ widened(p.sources, width).astype(np.int32)
        for column, p in zip(combinations.T, unique, strict=True)
    )
    labels = torch.from_numpy(inverse.astype(np.float64)).view(narrow[0].shape)
    return Provenance(labels.expand(shape), csr_array(sources).astype(bool))


def united_over(p: Provenance, dims: Iterable[int]) -> Provenance:
    """The provenance of a reduction over ``dims``, which are kept with size 1: the union of the sources along them."""
    dims = sorted(set(dims))
    labels = once(p.labels)
    shape = [1 if d in dims else n for d, n in enumerate(p.labels.shape)]
    if all(labels.shape[d] == 1 for d in dims):
        return Provenance(labels.expand(shape), p.sources)
    kept = [d for d in range(labels.ndim) if d not in dims]
    rows = np.sort(as_integers(labels.permute(*kept, *dims).reshape(-1)).reshape(_count(labels, kept), -1), axis=1)
    sets, inverse = np.unique(rows, axis=0, return_inverse=True)
    sets, inverse = _with_zero_first(sets, inverse.reshape(-1))
    members = _indicator(
        np.repeat(np.arange(len(sets)), sets.shape[1]), sets.reshape(-1), (len(sets), p.sources.shape[0])
    )
    found = (members.astype(np.int32) @ p.sources.astype(np.int32)).astype(bool)
    united = torch.from_numpy(inverse.astype(np.float64)).view([labels.shape[d] for d in kept])
    for d in dims:
        united = united.unsqueeze(d)
    return Provenance(united.expand(shape), csr_array(found))


def united_over_all_but(p: Provenance, dim: int) -> Provenance:
    """The provenance of a reduction over all dimensions but ``dim``, as a vector."""
    keep = dim % p.labels.ndim
    united = united_over(p, [d for d in range(p.labels.ndim) if d != keep])
    return Provenance(united.labels.reshape(-1), united.sources)


def at_inputs(p: Provenance, dim: int | None, size: int) -> Provenance:
    """What arrives at each of the ``size`` input neurons of a synapse call, whose input has its features along ``dim``.

    Without such a dimension the input scales the rows of a look-up, and may scale any of them.
    """
    if dim is not None:
        return united_over_all_but(p, dim)
    everything = united_over(p, range(p.labels.ndim))
    return Provenance(everything.labels.reshape(1).expand(size), everything.sources)


def broadcasts_to(shape: Sequence[int], into: Sequence[int]) -> bool:
    """Whether a tensor of ``shape`` expands to the shape ``into`` without new dimensions."""
    return len(shape) == len(into) and all(a in (1, b) for a, b in zip(shape, into, strict=True))


def compressed(p: Provenance) -> Provenance:
    """The same provenance with labels stored once along every dimension on which they do not depend."""
    labels = once(p.labels)
    for d in range(labels.ndim):
        if labels.shape[d] > 1 and bool((labels == labels.narrow(d, 0, 1)).all()):
            labels = labels.narrow(d, 0, 1)
    return Provenance(labels.expand(p.labels.shape), p.sources)


def _with_zero_first(rows: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put a row of zeros first, unless there is one, so that label 0 still means "no source"."""
    if len(rows) and not rows[0].any():
        return rows, inverse
    return np.concatenate([np.zeros((1, rows.shape[1]), dtype=rows.dtype), rows]), inverse + 1


def as_integers(labels: Tensor) -> np.ndarray:
    """Labels as a flat array of integers."""
    return labels.reshape(-1).numpy().astype(np.int64)


def _indicator(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    matrix = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
    return matrix.astype(bool)


def _count(labels: Tensor, dims: Sequence[int]) -> int:
    return int(np.prod([labels.shape[d] for d in dims], dtype=np.int64))


def reduced_dimensions(dims: Any, ndim: int) -> list[int]:
    """The dimensions that an argument ``dim=`` of torch names, all of them for None and (), as numbers ≥ 0."""
    if dims is None or dims in ((), []):
        return list(range(ndim))
    return [d % ndim for d in (dims if isinstance(dims, tuple | list) else [dims])]
