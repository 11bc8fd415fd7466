"""Operators made from P's products: normalised, symmetrised, normal, restricted, rescaled. None is ever built."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import TooLargeError, UnsupportedOperationError
from linegraph.io.convert import from_scipy
from linegraph.linalg.options import check_finite
from linegraph.numerics import power_of_two

__all__ = [
    "DENSE",
    "Derived",
    "dense",
    "entries",
    "explicit",
    "graph_of",
    "keeps_apart",
    "normal",
    "normalized",
    "rescaled",
    "restricted",
    "symmetrized",
]

DENSE = 256
"""Nodes of which P is written down whatever it is, by as many products."""

ROUNDED = 1000
"""Roundings that a sum over many neighbours may have."""

WRITTEN = 1_000_000
"""Edges up to which the line graph of a network is written down to know a figure exactly: some seconds at most."""

Product = Callable[[Tensor], Tensor]


class Derived(Coupling):
    """A coupling whose products are made from those of another."""

    def __init__(self, P: Coupling, multiply: Product, transposed: Product, num_nodes: int | None = None) -> None:
        self._parent = P
        self._multiply, self._transposed = multiply, transposed
        self._num_nodes = P.num_nodes if num_nodes is None else num_nodes

    @property
    def num_nodes(self) -> int:
        """Number of nodes n."""
        return self._num_nodes

    @property
    def dtype(self) -> torch.dtype:
        """That of the coupling it is made from."""
        return self._parent.dtype

    @property
    def device(self) -> torch.device:
        """That of the coupling it is made from."""
        return self._parent.device

    @property
    def precision(self) -> float:
        """That of the coupling it is made from."""
        return self._parent.precision

    def absolute_total(self) -> float:
        """Not defined: products do not tell the terms that they sum."""
        raise UnsupportedOperationError("an operator made from products does not know the absolute terms it sums")

    def _matmat(self, block: Tensor) -> Tensor:
        return self._multiply(block)

    def _rmatmat(self, block: Tensor) -> Tensor:
        return self._transposed(block)


def symmetrized(P: Coupling) -> Coupling:
    """(P + Pᵀ)/2; two products each."""

    def multiply(block: Tensor) -> Tensor:
        return P.matvec(block).add_(P.rmatvec(block)).mul_(0.5)

    return Derived(P, multiply, multiply)


def normal(P: Coupling) -> Coupling:
    """PᵀP; two products each. Of a coupling not :func:`normalized`, squares may leave the range of the numbers."""

    def multiply(block: Tensor) -> Tensor:
        return P.rmatvec(P.matvec(block))

    return Derived(P, multiply, multiply)


def normalized(P: Coupling, metric: str) -> tuple[Coupling, float]:
    """P/s, whose strongest rows have norms of about 1, and s, a power of two, so that no digit is lost on the way.

    What squares couplings, or compares them with a fixed number as solvers do, does so with P/s: the units of a loss
    do not show in the result. s is 0 where P is 0, which stays as it is. Cost: one product with a random vector.

    Raises:
        NonFiniteError: if the product is NaN or infinite; names the metric.
    """
    if not P.num_nodes:
        return P, 1.0
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(P.num_nodes, generator=generator, dtype=P.dtype, device="cpu").sub_(0.5).to(P.device)
    size = float(P.matvec(v).abs().max())
    check_finite(size, metric)
    if not size:
        return P, 0.0
    scale = power_of_two(size, P.dtype)

    def over(product: Product) -> Product:
        return lambda block: product(block).div_(scale)

    return Derived(P, over(P.matvec), over(P.rmatvec)), scale


def rescaled(P: Coupling, left: Tensor, right: Tensor) -> Coupling:
    """diag(left) P diag(right), for vectors (n,); one product each."""
    left, right = left.unsqueeze(1), right.unsqueeze(1)
    return Derived(P, lambda block: left * P.matvec(right * block), lambda block: right * P.rmatvec(left * block))


def restricted(P: Coupling, nodes: Tensor) -> Coupling:
    """P between the nodes of a boolean mask (n,), numbered in their order; one product each."""

    def between(product: Product) -> Product:
        def multiply(block: Tensor) -> Tensor:
            whole = block.new_zeros(P.num_nodes, block.shape[1])
            whole[nodes] = block
            return product(whole)[nodes]

        return multiply

    return Derived(P, between(P.matvec), between(P.rmatvec), int(nodes.sum()))


def keeps_apart(A: Coupling, component: Tensor, v: Tensor, image: Tensor) -> bool:
    """Whether A ≥ 0 joins no two of the components whose numbers (n,) are told, for some v ≥ 0 and its image A v.

    They may be those of one batch. Decided by a product with numbers that differ from one component to the next.
    """
    if not len(component) or not bool(component.any()):
        return True
    numbers = torch.rand(int(component.max()) + 1, generator=torch.Generator().manual_seed(0), device="cpu") + 1
    number = numbers.to(v.device, v.dtype)[component]
    expected = image * number  # sums of terms ≥ 0 are right in each entry
    return bool(((A.matvec(number * v) - expected).abs() <= ROUNDED * A.precision * expected).all())


def dense(P: Coupling) -> Tensor:
    """P as a matrix (n, n), by n products in one block."""
    return P.matvec(torch.eye(P.num_nodes, dtype=P.dtype, device=P.device))


def entries(P: Coupling) -> csr_array | None:
    """P as a matrix of doubles, parallel edges added up, where that costs little; else None.

    Of a graph; of any coupling of up to 256 nodes; and of a network whose line graph has up to a million edges.
    """
    if _has_few_edges(P):
        matrix = explicit(P).to_scipy_sparse().astype(float)
    elif P.num_nodes <= DENSE:
        matrix = csr_array(dense(P).double().cpu().numpy())
    else:
        return None
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def graph_of(matrix: csr_array, device: torch.device) -> GraphCoupling:
    """What :func:`entries` gives, or a part of it, as a coupling."""
    graph = from_scipy(matrix)
    return GraphCoupling.of_valid(graph.edge_index.to(device), graph.weight.to(device), graph.num_nodes)


def _has_few_edges(P: Coupling) -> bool:
    if P.is_explicit or not P.counts_edges:
        return P.is_explicit
    try:
        return P.num_edges <= WRITTEN
    except TooLargeError:
        return False


def explicit(P: Coupling) -> GraphCoupling:
    """P with its edges: itself if it has them, else built.

    Raises:
        TooLargeError: if there are too many to build.
        TypeError: if this coupling has no explicit form.
    """
    graph = P.to_graph()
    assert isinstance(graph, GraphCoupling)
    return graph
