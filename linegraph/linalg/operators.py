"""Operators made from P's products: normalised, symmetrised, normal, restricted, rescaled; none becomes a matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import TooLargeError, UnsupportedOperationError
from linegraph.io.convert import from_scipy
from linegraph.linalg.limits import DENSE_PRODUCTS, LISTED_EDGES, MULTIPLIED_EDGES
from linegraph.linalg.options import check_finite
from linegraph.numerics import power_of_two

__all__ = [
    "Derived",
    "dense",
    "entries",
    "explicit",
    "for_products",
    "graph_of",
    "keeps_apart",
    "normal",
    "normalized",
    "rescaled",
    "restricted",
    "symmetrized",
]

SUM_ROUNDINGS = 1000
"""Rounding error of a sum over many neighbours, in units of the precision."""

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
        """Not defined: the products do not show the single entries."""
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
    """PᵀP; two products each. Pass a :func:`normalized` coupling: squares of others may overflow or underflow."""

    def multiply(block: Tensor) -> Tensor:
        return P.rmatvec(P.matvec(block))

    return Derived(P, multiply, multiply)


def normalized(P: Coupling, metric: str) -> tuple[Coupling, float]:
    """P/s, whose largest rows have norms of about 1, and s, a power of two, by which division is exact.

    Methods that square couplings, or compare them with a fixed number, use P/s, so that the result does not depend on
    the unit of the loss. s is 0 where P is 0; P is returned unchanged then. Cost: one product with a random vector.

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
    """Whether A ≥ 0 has no entry between nodes of different components.

    Components that were found from one batch may be joined by entries of another batch. One product decides: if v is
    multiplied by a random number for each component, then A v must be multiplied by the same numbers.

    Args:
        A: the coupling.
        component: the number (n,) of the component of each node.
        v: a vector (n,) ≥ 0.
        image: A v.
    """
    if not len(component) or not bool(component.any()):
        return True
    numbers = torch.rand(int(component.max()) + 1, generator=torch.Generator().manual_seed(0), device="cpu") + 1
    number = numbers.to(v.device, v.dtype)[component]
    expected = image * number  # each entry is accurate, since terms ≥ 0 do not cancel
    return bool(((A.matvec(number * v) - expected).abs() <= SUM_ROUNDINGS * A.precision * expected).all())


def dense(P: Coupling) -> Tensor:
    """P as a matrix (n, n), by n products in one block."""
    return P.matvec(torch.eye(P.num_nodes, dtype=P.dtype, device=P.device))


def entries(P: Coupling) -> csr_array | None:
    """P as a sparse matrix of doubles, with parallel edges summed, if it is cheap to form; else None.

    It is cheap for graphs, for couplings of up to 256 nodes, and for networks whose line graph has up to a million
    edges.
    """
    if _has_edges_up_to(LISTED_EDGES, P):
        matrix = explicit(P).to_scipy_sparse().astype(float)
    elif P.num_nodes <= DENSE_PRODUCTS:
        matrix = csr_array(dense(P).double().cpu().numpy())
    else:
        return None
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def graph_of(matrix: csr_array, device: torch.device) -> GraphCoupling:
    """A matrix from :func:`entries`, or a submatrix, as a coupling."""
    graph = from_scipy(matrix)
    return GraphCoupling.of_valid(graph.edge_index.to(device), graph.weight.to(device), graph.num_nodes)


def for_products(P: Coupling) -> Coupling:
    """P for many products: the explicit graph of a network that has few edges, else P itself."""
    return explicit(P) if _has_edges_up_to(MULTIPLIED_EDGES, P) else P


def _has_edges_up_to(most: int, P: Coupling) -> bool:
    """Whether P is an explicit graph, or has no more edges than that."""
    if P.is_explicit or not P.counts_edges:
        return P.is_explicit
    try:
        return P.num_edges <= most
    except TooLargeError:
        return False


def explicit(P: Coupling) -> GraphCoupling:
    """P as an explicit graph: P itself if it is one, else built from it.

    Raises:
        TooLargeError: if there are too many to build.
        TypeError: if this coupling has no explicit form.
    """
    graph = P.to_graph()
    assert isinstance(graph, GraphCoupling)
    return graph
