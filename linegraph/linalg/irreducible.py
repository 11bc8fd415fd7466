"""Spectra of strongly connected components, which together are the spectrum of the graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from linegraph.linalg.eigen import eigenpairs, first_eigenvalues
from linegraph.linalg.limits import DENSE_PRODUCTS
from linegraph.linalg.operators import graph_of
from linegraph.numerics import component_numbers

__all__ = ["ComponentSpectra", "blocks_of", "irreducible_parts", "irreducible_spectra"]


class ComponentSpectra(NamedTuple):
    """The strongly connected components of one size that hold a cycle, and their first eigenvalues.

    Attributes:
        nodes: (components, size).
        values: (components, up to k), complex, on the host: the first eigenvalues of each component.
    """

    nodes: np.ndarray
    values: Tensor


def irreducible_spectra(
    matrix: csr_array, k: int, which: str, device: torch.device, **options: Any
) -> list[ComponentSpectra]:
    """The first k eigenvalues of every strongly connected component that holds a cycle, by size of component.

    With its components in topological order the matrix is block triangular, so its eigenvalues are those of the blocks,
    and 0 for each node that is not on a cycle. If several components in a chain have the same eigenvalue, it may have
    fewer eigenvectors than copies, and no solver computes it accurately from the whole matrix.
    """
    found = []
    for nodes in irreducible_parts(matrix):
        size = nodes.shape[1]
        if size <= DENSE_PRODUCTS:
            values = first_eigenvalues(torch.linalg.eigvals(torch.from_numpy(blocks_of(matrix, nodes))), k, which)
        else:
            blocks = [graph_of(matrix[part][:, part], device) for part in nodes]
            values = torch.stack([eigenpairs(block, min(k, size), which, **options)[0].cpu() for block in blocks])
        found.append(ComponentSpectra(nodes, values))
    return found


def irreducible_parts(matrix: csr_array) -> list[np.ndarray]:
    """The nodes (components, size) of the strongly connected components that hold a cycle, by size of component."""
    component = component_numbers(matrix, "strong")
    sizes = np.bincount(component)
    cyclic = (sizes > 1)[component] | (matrix.diagonal() != 0)
    found = []
    for size in np.unique(sizes[component[cyclic]]):
        some = np.flatnonzero(cyclic & (sizes[component] == size))
        found.append(some[component[some].argsort(kind="stable")].reshape(-1, size))
    return found


def blocks_of(matrix: csr_array, nodes: np.ndarray) -> np.ndarray:
    """The submatrices (components, size, size) of given nodes (components, size)."""
    parts, size = nodes.shape
    place = np.full(matrix.shape[0], -1)
    place[nodes.ravel()] = np.arange(nodes.size)
    between = coo_array(matrix[nodes.ravel()])
    rows, columns = between.coords[0], place[between.coords[1]]
    inside = (columns >= 0) & (rows // size == columns // size)
    blocks = np.zeros((parts, size, size))
    blocks[rows[inside] // size, rows[inside] % size, columns[inside] % size] = between.data[inside]
    return blocks
