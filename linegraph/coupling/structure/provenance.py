"""From which outputs of synapse calls the entries of a tensor come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.numerics import once

__all__ = ["Provenance"]


@dataclass(frozen=True)
class Provenance:
    """Labels of elements and the source neurons of each label: row l of ``sources``; label 0 has none."""

    labels: Tensor
    sources: csr_array

    def scalar(self) -> Provenance:
        """A provenance of one element, without dimensions."""
        return Provenance(self.labels.reshape(()), self.sources)


def _nothing(size: int) -> Provenance:
    return Provenance(torch.zeros(size, dtype=torch.float64, device="cpu"), _no_source(0))


def _no_source(width: int) -> csr_array:
    return csr_array((1, width), dtype=bool)


def _widened(sources: csr_array, width: int) -> csr_array:
    return csr_array((sources.data, sources.indices, sources.indptr), shape=(sources.shape[0], width))


def _merge(parts: Sequence[Provenance], width: int) -> Provenance:
    """Element by element, the union of several provenances of one shape."""
    unique = list({id(p.labels): p for p in parts}.values())
    if len(unique) == 1:
        return Provenance(unique[0].labels, _widened(unique[0].sources, width))
    shape = unique[0].labels.shape
    narrow = torch.broadcast_tensors(*(once(p.labels) for p in unique))
    codes = np.stack([_integers(labels) for labels in narrow], 1)
    combinations, inverse = np.unique(codes, axis=0, return_inverse=True)
    combinations, inverse = _with_zero_first(combinations, inverse.reshape(-1))
    sources = sum(
        _indicator(np.arange(len(combinations)), column, (len(combinations), p.sources.shape[0])).astype(np.int32)
        @ _widened(p.sources, width).astype(np.int32)
        for column, p in zip(combinations.T, unique, strict=True)
    )
    labels = torch.from_numpy(inverse.astype(np.float64)).view(narrow[0].shape)
    return Provenance(labels.expand(shape), csr_array(sources).astype(bool))


def _union(p: Provenance, dims: Iterable[int]) -> Provenance:
    """The union over dimensions, which are kept with size 1."""
    dims = sorted(set(dims))
    labels = once(p.labels)
    shape = [1 if d in dims else n for d, n in enumerate(p.labels.shape)]
    if all(labels.shape[d] == 1 for d in dims):
        return Provenance(labels.expand(shape), p.sources)
    kept = [d for d in range(labels.ndim) if d not in dims]
    rows = np.sort(_integers(labels.permute(*kept, *dims).reshape(-1)).reshape(_count(labels, kept), -1), axis=1)
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


def _union_but(p: Provenance, dim: int) -> Provenance:
    """The union over all dimensions but one, as a vector."""
    keep = dim % p.labels.ndim
    united = _union(p, [d for d in range(p.labels.ndim) if d != keep])
    return Provenance(united.labels.reshape(-1), united.sources)


def _at_inputs(p: Provenance, dim: int | None, size: int) -> Provenance:
    """What arrives at each of ``size`` input neurons; the scale of a look-up may be that of any of its rows."""
    if dim is not None:
        return _union_but(p, dim)
    everything = _union(p, range(p.labels.ndim))
    return Provenance(everything.labels.reshape(1).expand(size), everything.sources)


def _fits(shape: Sequence[int], into: Sequence[int]) -> bool:
    return len(shape) == len(into) and all(a in (1, b) for a, b in zip(shape, into, strict=True))


def _compressed(p: Provenance) -> Provenance:
    """Store labels once along every dimension on which they do not depend."""
    labels = once(p.labels)
    for d in range(labels.ndim):
        if labels.shape[d] > 1 and bool((labels == labels.narrow(d, 0, 1)).all()):
            labels = labels.narrow(d, 0, 1)
    return Provenance(labels.expand(p.labels.shape), p.sources)


def _with_zero_first(rows: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put a row of zeros (no source) first, so that label 0 keeps its meaning."""
    if len(rows) and not rows[0].any():
        return rows, inverse
    return np.concatenate([np.zeros((1, rows.shape[1]), dtype=rows.dtype), rows]), inverse + 1


def _integers(labels: Tensor) -> np.ndarray:
    return labels.reshape(-1).numpy().astype(np.int64)


def _indicator(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    matrix = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
    return matrix.astype(bool)


def _count(labels: Tensor, dims: Sequence[int]) -> int:
    return int(np.prod([labels.shape[d] for d in dims], dtype=np.int64))


def _dimensions(dims: Any, ndim: int) -> list[int]:
    if dims is None or dims in ((), []):
        return list(range(ndim))
    return [d % ndim for d in (dims if isinstance(dims, tuple | list) else [dims])]
