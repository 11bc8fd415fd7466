"""The operator P: the one interface that every metric, solver and plot is written against."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from linegraph.errors import NonFiniteError
from linegraph.numerics import double_sum, power_of_two

__all__ = ["MAX_EDGES", "Coupling", "Layer", "Walks"]

MAX_EDGES = 20_000_000
"""Default limit of explicit line graphs: 0.5 GiB of indices and weights."""


class Layer(NamedTuple):
    """Nodes that belong together, as the weights of one synapse tensor do.

    Attributes:
        name: of the parameter; "graph" for all nodes of a graph.
        op: the operation that the weights enter; "" for a graph.
        nodes: their numbers.
    """

    name: str
    op: str
    nodes: slice

    @property
    def size(self) -> int:
        """Number of nodes."""
        return int(self.nodes.stop - self.nodes.start)


class Walks(NamedTuple):
    """Sums over the walks of a coupling.

    Attributes:
        one: 1ᵀP1.
        two: 1ᵀPP1; 0 where ``size`` is.
        size: the sum of the absolute values of the terms of ``one``, as :meth:`Coupling.absolute_total` gives it.
    """

    one: float
    two: float
    size: float


class Coupling(ABC):
    """A square linear operator P, where ``P[i, j]`` is the influence of node j on node i.

    A subclass states ``num_nodes``, ``dtype`` and ``device`` and writes the two products
    ``_matmat`` and ``_rmatmat`` on blocks of shape (n, k). Everything else follows here: checked
    products with vectors and blocks, ``P @ v``, ``P.T``, strengths and the bridge to SciPy.

    Costs are counted in products: one ``matvec`` or ``rmatvec`` each.
    """

    @property
    @abstractmethod
    def num_nodes(self) -> int:
        """Number of nodes n."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Number type of P's entries and of the vectors it takes."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where P's products are computed."""

    @abstractmethod
    def _matmat(self, block: Tensor) -> Tensor:
        """P times a block (n, k) of the operator's own dtype and device."""

    @abstractmethod
    def _rmatmat(self, block: Tensor) -> Tensor:
        """Pᵀ times a block (n, k) of the operator's own dtype and device."""

    @abstractmethod
    def absolute_total(self) -> float:
        """Sum of the absolute values of the terms whose signed sum is 1ᵀP1.

        The yardstick for telling a denominator that vanishes from one that is small.
        """

    @property
    def is_non_negative(self) -> bool:
        """Whether it is known that no entry of P is negative."""
        return False

    def row_components(self) -> Tensor:
        """A number for each row, (n,), int32: rows of different numbers have no entry in a common column.

        They are the components of the bipartite graph whose two sides are the rows and the columns, as far as they
        are known; 0 everywhere where nothing is.
        """
        return torch.zeros(self.num_nodes, dtype=torch.int32, device=self.device)

    def column_components(self) -> Tensor:
        """A number for each column, (n,), int32: columns of different numbers have no entry in a common row."""
        return self.row_components()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Which nodes belong together: the synapse tensors of a network; one layer "graph" of all nodes otherwise."""
        return (Layer("graph", "", slice(0, self.num_nodes)),)

    @property
    def node_names(self) -> Sequence[Hashable] | None:
        """The names (n,) of the nodes in the graph that this was made of; None where they had none but numbers."""
        return None

    @property
    def is_view(self) -> bool:
        """Whether this is the transpose of another coupling, ``P.T``, whose own products may cost less."""
        return False

    @property
    def is_explicit(self) -> bool:
        """Whether the entries are in memory, so that :meth:`to_graph` costs nothing."""
        return False

    @property
    def counts_edges(self) -> bool:
        """Whether :attr:`num_edges` and :meth:`to_graph` are there for this coupling as it is here."""
        return False

    @property
    def num_edges(self) -> int:
        """Number of edges.

        Raises:
            TypeError: if this coupling is known by its products alone.
        """
        raise TypeError(f"{self._only_products}; the number of edges is known of graphs and of networks")

    def to_graph(self, max_edges: int = MAX_EDGES) -> Coupling:
        """P with all its entries.

        Raises:
            TooLargeError: if there are more than ``max_edges`` to build.
            TypeError: if this coupling is known by its products alone.
        """
        raise TypeError(
            f"{self._only_products}, and has no explicit graph; one is needed here, such as a GraphCoupling"
        )

    @property
    def _only_products(self) -> str:
        return f"a {type(self).__name__} is known by its products alone"

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return (self.num_nodes, self.num_nodes)

    @property
    def precision(self) -> float:
        """Relative rounding of the arithmetic behind P's entries (machine epsilon)."""
        return torch.finfo(self.dtype).eps

    @property
    def rounding(self) -> float:
        """Relative rounding of what P's entries are made of, as activations of a network in half precision are."""
        return self.precision

    def matvec(self, v: Tensor) -> Tensor:
        """P v for a vector (n,), or P V for a block (n, k) of column vectors.

        Raises:
            ValueError: if the length is not n, or the dtype or device are not P's.
        """
        return self._product(v, self._matmat)

    def rmatvec(self, v: Tensor) -> Tensor:
        """Pᵀ v for a vector (n,), or Pᵀ V for a block (n, k) of column vectors.

        Raises:
            ValueError: if the length is not n, or the dtype or device are not P's.
        """
        return self._product(v, self._rmatmat)

    def __matmul__(self, v: Tensor) -> Tensor:
        return self.matvec(v)

    @property
    def T(self) -> Coupling:
        """The transposed operator, a view of this one."""
        return _Transposed(self)

    def total(self, v: Tensor) -> float:
        """1ᵀ P v for a vector v (n,): divided by 1ᵀP1 it is the average L_P(v). At most one product.

        Raises:
            ValueError: if the length is not n, or the dtype or device are not P's.

        Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016), for L_P.
        """
        return float(double_sum(self.matvec(v)))

    def walks(self) -> Walks:
        """1ᵀP1 and 1ᵀPP1: all walks of one and of two steps, weighted by their couplings. At most two products.

        Raises:
            NonFiniteError: if 1ᵀPP1 is out of the range of double precision.
        """
        incoming, size = self.in_strength(), self.absolute_total()
        if not size:
            return Walks(float(double_sum(incoming)), 0.0, size)
        # In units of the largest strength, since the square of a small or large coupling may be no number of its type.
        unit = power_of_two(float(incoming.abs().max()), self.dtype)
        two = self.total(incoming / unit)
        if two and not sys.float_info.min < abs(two * unit) < math.inf:
            raise NonFiniteError(
                f"1ᵀPP1 = {two:.1e} · {unit:.1e} is out of the range of double precision; divide the couplings by "
                f"{unit:.0e}, and multiply what comes out"
            )
        return Walks(float(double_sum(incoming)), two * unit, size)

    def in_strength(self) -> Tensor:
        """δ_in = P 1, shape (n,): the total influence that each node receives. One product."""
        return self.matvec(self._ones())

    def out_strength(self) -> Tensor:
        """δ_out = Pᵀ 1, shape (n,): the total influence that each node exerts. One product."""
        return self.rmatvec(self._ones())

    def to_scipy(self) -> LinearOperator:
        """P as a :class:`scipy.sparse.linalg.LinearOperator`, in double precision if P is.

        Every product copies its vector to P's device and back.
        """
        dtype = np.dtype(str(self.dtype).removeprefix("torch."))

        def through_torch(product: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
            def apply(v: np.ndarray) -> np.ndarray:
                # SciPy hands columns over as (n, 1) at times; contiguous memory, so that torch can share it.
                v = np.ascontiguousarray(v, dtype=dtype)
                found: np.ndarray = product(torch.from_numpy(v).to(self.device)).cpu().numpy()
                return found

            return apply

        return LinearOperator(
            shape=self.shape,
            dtype=dtype,
            matvec=through_torch(self.matvec),
            rmatvec=through_torch(self.rmatvec),
            matmat=through_torch(self.matvec),
            rmatmat=through_torch(self.rmatvec),
        )

    def _ones(self) -> Tensor:
        return torch.ones(self.num_nodes, dtype=self.dtype, device=self.device)

    def _product(self, v: Tensor, multiply: Callable[[Tensor], Tensor]) -> Tensor:
        v = self._checked(v)
        return multiply(v.unsqueeze(1)).squeeze(1) if v.ndim == 1 else multiply(v)

    def _checked(self, v: Tensor) -> Tensor:
        n = self.num_nodes
        if not isinstance(v, Tensor):
            raise TypeError(
                f"a coupling multiplies torch tensors, got {type(v).__name__}; "
                "convert it with torch.as_tensor, or use to_scipy() for NumPy arrays"
            )
        if v.ndim not in (1, 2) or v.shape[0] != n:
            raise ValueError(f"expected a vector of shape ({n},) or a block ({n}, k), got {tuple(v.shape)}")
        if v.dtype != self.dtype:
            raise ValueError(f"this coupling is {self.dtype}, the vector {v.dtype}; convert it with v.to(P.dtype)")
        if v.device != self.device:
            raise ValueError(f"this coupling is on {self.device}, the vector on {v.device}; use v.to(P.device)")
        return v.detach()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, device='{self.device}')"


class _Transposed(Coupling):
    """Pᵀ as a coupling of its own; calls only public members of P."""

    def __init__(self, coupling: Coupling) -> None:
        self._coupling = coupling

    def __repr__(self) -> str:
        return f"{self._coupling!r}.T"

    @property
    def num_nodes(self) -> int:
        return self._coupling.num_nodes

    @property
    def dtype(self) -> torch.dtype:
        return self._coupling.dtype

    @property
    def device(self) -> torch.device:
        return self._coupling.device

    @property
    def precision(self) -> float:
        return self._coupling.precision

    @property
    def rounding(self) -> float:
        return self._coupling.rounding

    @property
    def is_non_negative(self) -> bool:
        return self._coupling.is_non_negative

    @property
    def is_view(self) -> bool:
        return True

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._coupling.layers

    @property
    def node_names(self) -> Sequence[Hashable] | None:
        return self._coupling.node_names

    @property
    def counts_edges(self) -> bool:
        return self._coupling.counts_edges

    @property
    def num_edges(self) -> int:
        return self._coupling.num_edges

    def to_graph(self, max_edges: int = MAX_EDGES) -> Coupling:
        return self._coupling.to_graph(max_edges).T

    def row_components(self) -> Tensor:
        return self._coupling.column_components()

    def column_components(self) -> Tensor:
        return self._coupling.row_components()

    def _matmat(self, block: Tensor) -> Tensor:
        return self._coupling.rmatvec(block)

    def _rmatmat(self, block: Tensor) -> Tensor:
        return self._coupling.matvec(block)

    def absolute_total(self) -> float:
        return self._coupling.absolute_total()

    def walks(self) -> Walks:
        return self._coupling.walks()  # the same walks, run backwards

    def in_strength(self) -> Tensor:
        return self._coupling.out_strength()

    def out_strength(self) -> Tensor:
        return self._coupling.in_strength()

    @property
    def T(self) -> Coupling:
        return self._coupling
