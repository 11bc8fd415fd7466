"""Sparse matrices in compressed rows, of torch or SciPy, and their products."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.quiet import ignoring

__all__ = ["in_rows", "multiplied", "quietly", "threaded"]


def quietly() -> AbstractContextManager[None]:
    """Without two warnings of torch: that CSR is in beta, and that ``check_invariants`` was not given globally."""
    return ignoring("Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)")


def threaded(matrix: csr_array) -> Tensor | csr_array:
    """The matrix as one of torch that shares its memory, if torch has MKL: with 32-bit indices 2 to 4 times faster."""
    if not torch.backends.mkl.is_available():
        return matrix
    ends, columns, values = map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))
    return in_rows(ends, columns, values, matrix.shape)


def in_rows(ends: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A matrix in compressed rows, which end at ``ends`` (rows + 1,); it shares the memory of the tensors."""
    with quietly():
        return torch.sparse_csr_tensor(ends, columns, values, shape, device=values.device, check_invariants=False)


def multiplied(matrix: Tensor | csr_array, block: Tensor) -> Tensor:
    """A matrix times a block (n, k)."""
    vector = block.shape[1] == 1  # both libraries have a faster product for vectors
    v = block.squeeze(1) if vector else block
    product = matrix @ v if isinstance(matrix, Tensor) else torch.from_numpy(matrix @ v.numpy())
    return product.unsqueeze(1) if vector else product
