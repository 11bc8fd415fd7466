"""Strongly connected components, whose spectra together are that of the whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from linegraph.linalg.components import strong_components
from linegraph.linalg.eigen import eigenpairs, first_eigenvalues
from linegraph.linalg.operators import DENSE, graph_of

__all__ = ["Parts", "blocks_of", "irreducible_parts", "irreducible_spectra"]


class Parts(NamedTuple):
    """Parts of a graph that are equally large, and within which walks lead from every node to every other.

    Attributes:
        nodes: (parts, size).
        values: (parts, up to k), complex, on the host: the first eigenvalues of each part by itself.
    """

    nodes: np.ndarray
    values: Tensor


def irreducible_spectra(matrix: csr_array, k: int, which: str, device: torch.device, **options: Any) -> list[Parts]:
    """All parts of a graph that hold a cycle, for every size of part; outside all eigenvalues are 0.

    Ordered by walks, the matrix is block triangular, and has the eigenvalues of its blocks. Those of blocks in a chain
    may be tied without as many eigenvectors, and no solver tells them well from the whole matrix.
    """
    found = []
    for nodes in irreducible_parts(matrix):
        size = nodes.shape[1]
        if size <= DENSE:
            values = first_eigenvalues(torch.linalg.eigvals(torch.from_numpy(blocks_of(matrix, nodes))), k, which)
        else:
            blocks = [graph_of(matrix[part][:, part], device) for part in nodes]
            values = torch.stack([eigenpairs(block, min(k, size), which, **options)[0].cpu() for block in blocks])
        found.append(Parts(nodes, values))
    return found


def irreducible_parts(matrix: csr_array) -> list[np.ndarray]:
    """The nodes (parts, size) of all parts that hold a cycle, for every size of part."""
    component = strong_components(matrix)
    sizes = np.bincount(component)
    cyclic = (sizes > 1)[component] | (matrix.diagonal() != 0)
    found = []
    for size in np.unique(sizes[component[cyclic]]):
        some = np.flatnonzero(cyclic & (sizes[component] == size))
        found.append(some[component[some].argsort(kind="stable")].reshape(-1, size))
    return found


def blocks_of(matrix: csr_array, nodes: np.ndarray) -> np.ndarray:
    """The matrices (parts, size, size) between the nodes (parts, size) of each part."""
    parts, size = nodes.shape
    place = np.full(matrix.shape[0], -1)
    place[nodes.ravel()] = np.arange(nodes.size)
    between = coo_array(matrix[nodes.ravel()])
    rows, columns = between.coords[0], place[between.coords[1]]
    inside = (columns >= 0) & (rows // size == columns // size)
    blocks = np.zeros((parts, size, size))
    blocks[rows[inside] // size, rows[inside] % size, columns[inside] % size] = between.data[inside]
    return blocks
