"""Operators made from P's products: symmetrised, normal, restricted, rescaled. None is ever built."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import UnsupportedOperationError

__all__ = ["Derived", "dense", "normal", "rescaled", "restricted", "symmetrized"]

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


def normal(P: Coupling, scale: float = 1.0) -> Coupling:
    """PᵀP / scale²; two products each. A scale of the size of ‖P‖ keeps squares within the range of the numbers."""

    def multiply(block: Tensor) -> Tensor:
        return P.rmatvec(P.matvec(block).div_(scale)).div_(scale)

    return Derived(P, multiply, multiply)


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


def dense(P: Coupling) -> Tensor:
    """P as a matrix (n, n), by n products in one block."""
    return P.matvec(torch.eye(P.num_nodes, dtype=P.dtype, device=P.device))
