"""``Coupling``, the operator P: the interface that every metric, solver and plot works with."""

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

from linegraph.errors import ArgumentTypeError, DataError, NonFiniteError
from linegraph.numerics import double_sum, power_of_two

__all__ = ["MAX_EDGES", "Coupling", "Layer", "Walks"]

MAX_EDGES = 20_000_000
"""Default limit of the edges of explicit line graphs: indices and weights of about 0.5 GiB."""


class Layer(NamedTuple):
    """A range of nodes that belong together, such as the weights of one parameter of a network.

    Attributes:
        name: the name of the parameter; "graph" for all nodes of a graph.
        op: the operation that the parameter enters, such as "linear"; "" for a graph.
        nodes: the slice of node numbers.
    """

    name: str
    op: str
    nodes: slice

    @property
    def size(self) -> int:
        """Number of nodes."""
        return int(self.nodes.stop - self.nodes.start)


class Walks(NamedTuple):
    """Sums over all walks of one and of two steps in the graph of a coupling.

    Attributes:
        one: 1ᵀP1, the sum of all couplings.
        two: 1ᵀPP1; 0 if ``size`` is 0.
        size: the sum of the absolute values of the terms of ``one``, as :meth:`Coupling.absolute_total` returns it; or,
            where what is left of them is rounding error, an upper bound of the terms before they cancelled.
    """

    one: float
    two: float
    size: float


def times_unit(two: float, unit: float) -> float:
    """1ᵀPP1 from 1ᵀPP1 in a unit.

    Raises:
        NonFiniteError: if it is out of the range of double precision.
    """
    if two and not sys.float_info.min < abs(two * unit) < math.inf:
        raise NonFiniteError(
            f"1ᵀPP1 = {two:.1e} · {unit:.1e} is out of the range of double precision; divide the couplings by "
            f"{unit:.0e}, and multiply the results by it"
        )
    return two * unit


class Coupling(ABC):
    """A square linear operator P, where ``P[i, j]`` is the influence of node j on node i.

    This is the base class of :class:`~linegraph.NeuralCoupling`, for neural networks, and of
    :class:`~linegraph.GraphCoupling`, for explicit graphs. A subclass of your own defines ``num_nodes``, ``dtype``,
    ``device``, ``absolute_total``, and the products ``_matmat`` and ``_rmatmat`` with blocks (n, k). This class adds
    all else: products with checked vectors and blocks, ``P @ v``, ``P.T``, strengths, and conversion to SciPy.

    Cost: methods state theirs in products; a product is one ``matvec`` or ``rmatvec`` of a vector.

    Example:
        >>> import torch, linegraph as lg
        >>> class Diagonal(lg.Coupling):
        ...     num_nodes, dtype, device = 2, torch.float64, torch.device("cpu")
        ...     def _matmat(self, block):
        ...         return torch.tensor([[2.0], [3.0]], dtype=self.dtype) * block
        ...     _rmatmat = _matmat
        ...     def absolute_total(self):
        ...         return 5.0
        >>> Diagonal().in_strength()
        tensor([2., 3.], dtype=torch.float64)
    """

    @property
    @abstractmethod
    def num_nodes(self) -> int:
        """Number of nodes n."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Number type of P's entries, and of the vectors that P multiplies."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the vectors that P multiplies."""

    @abstractmethod
    def _matmat(self, block: Tensor) -> Tensor:
        """P times a block (n, k), which has P's dtype and device."""

    @abstractmethod
    def _rmatmat(self, block: Tensor) -> Tensor:
        """Pᵀ times a block (n, k), which has P's dtype and device."""

    @abstractmethod
    def absolute_total(self) -> float:
        """Sum of the absolute values of the terms whose signed sum is 1ᵀP1.

        The subclass decides which terms these are: the entries of P, or the products whose sums are the entries.
        Metrics compare a denominator such as 1ᵀP1 with this sum, to distinguish a small one from one that is 0 up to
        rounding.

        Returns:
            The sum, ≥ 0, in units of P.

        Raises:
            NonFiniteError: if the sum is NaN or infinite.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([2.0, -2.0])).absolute_total()
            4.0
        """

    @property
    def is_non_negative(self) -> bool:
        """Whether P is known to have no negative entry."""
        return False

    def row_components(self) -> Tensor:
        """Component number of each row, (n,), int32: rows with different numbers have no entry in a common column.

        The components are those of the bipartite graph between rows and columns, with an edge for each entry of P.

        Returns:
            The numbers; 0 for all rows where the components are not known.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0, 1], [2, 3]])).row_components().unique().numel()
            4
        """
        return torch.zeros(self.num_nodes, dtype=torch.int32, device=self.device)

    def column_components(self) -> Tensor:
        """Component number of each column, (n,), int32: columns with different numbers have no entry in a common row.

        Returns:
            The numbers, in the numbering of :meth:`row_components`; 0 for all columns where they are not known.

        Example:
            >>> import torch, linegraph as lg
            >>> P = lg.GraphCoupling(torch.tensor([[0], [1]]))
            >>> bool(P.column_components()[0] == P.row_components()[1])
            True
        """
        return self.row_components()

    @property
    def covered(self) -> float:
        """The share of a network's trainable weights that are nodes; nan for a graph, which has no other weights."""
        return math.nan

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The nodes by parameter, for a network; one layer "graph" of all nodes otherwise."""
        return (Layer("graph", "", slice(0, self.num_nodes)),)

    @property
    def node_names(self) -> Sequence[Hashable] | None:
        """The names of the n nodes in the graph that this was made from; None if they have only their numbers."""
        return None

    @property
    def is_view(self) -> bool:
        """Whether this is ``P.T`` of another coupling P, and computes its products by those of P."""
        return False

    @property
    def is_explicit(self) -> bool:
        """Whether the entries of P are in memory, so that :meth:`to_graph` is free."""
        return False

    @property
    def counts_edges(self) -> bool:
        """Whether :attr:`num_edges` and :meth:`to_graph` are available.

        They are not where a coupling has products only, nor for networks whose data are distributed over processes.
        """
        return False

    @property
    def num_edges(self) -> int:
        """Number of edges of the graph of P.

        Raises:
            TypeError: if this coupling has products only, and no known edges.
        """
        raise TypeError(f"{self._only_products}; its number of edges is not known. Graphs and networks have one")

    def to_graph(self, max_edges: int = MAX_EDGES) -> Coupling:
        """P as an explicit graph, with all its entries as edges.

        Args:
            max_edges: the largest number of edges to form.

        Returns:
            A :class:`~linegraph.GraphCoupling` of the same n nodes.

        Raises:
            TooLargeError: if P has more than ``max_edges`` edges.
            TypeError: if this coupling has products only, and no known edges.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]])).to_graph().num_edges
            1
        """
        raise TypeError(f"{self._only_products}, and no explicit graph; pass a GraphCoupling or a NeuralCoupling here")

    @property
    def _only_products(self) -> str:
        return f"a {type(self).__name__} has products only"

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, n) of the matrix."""
        return (self.num_nodes, self.num_nodes)

    @property
    def precision(self) -> float:
        """Machine epsilon of the arithmetic in which P's entries are summed."""
        return torch.finfo(self.dtype).eps

    @property
    def rounding(self) -> float:
        """Relative rounding error of what P's entries are computed from, such as activations in half precision."""
        return self.precision

    def matvec(self, v: Tensor) -> Tensor:
        """The product P v.

        Args:
            v: a vector (n,), or a block (n, k) of column vectors, of P's dtype, on P's device.

        Returns:
            P v, in the shape of ``v``.

        Raises:
            ArgumentTypeError: if ``v`` is no tensor.
            DataError: if its length is not n, or its dtype or device is not P's.

        Cost: one product for each column.

        Example:
            >>> import torch, linegraph as lg
            >>> P = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0]))
            >>> P.matvec(torch.ones(2)), P.rmatvec(torch.ones(2))
            (tensor([0., 2.]), tensor([2., 0.]))
        """
        return self._product(v, self._matmat)

    def rmatvec(self, v: Tensor) -> Tensor:
        """The product Pᵀ v with the transpose.

        Args:
            v: a vector (n,), or a block (n, k) of column vectors, of P's dtype, on P's device.

        Returns:
            Pᵀ v, in the shape of ``v``.

        Raises:
            ArgumentTypeError: if ``v`` is no tensor.
            DataError: if its length is not n, or its dtype or device is not P's.

        Cost: one product for each column.

        Example:
            >>> import torch, linegraph as lg
            >>> P = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0]))
            >>> P.rmatvec(torch.ones(2))
            tensor([2., 0.])
        """
        return self._product(v, self._rmatmat)

    def __matmul__(self, v: Tensor) -> Tensor:
        return self.matvec(v)

    @property
    def T(self) -> Coupling:
        """The transpose Pᵀ as a view: its ``matvec`` is the ``rmatvec`` of P."""
        return _Transposed(self)

    def total(self, v: Tensor) -> float:
        """The sum 1ᵀ P v of all entries of P v. Divided by 1ᵀP1 it is the weighted average L_P(v).

        Args:
            v: a vector (n,), of P's dtype, on P's device.

        Returns:
            1ᵀ P v, summed in double precision.

        Raises:
            ArgumentTypeError: if ``v`` is no tensor.
            DataError: if its length is not n, or its dtype or device is not P's.

        Cost: at most one product.

        Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016), 307–312, for L_P.

        Example:
            >>> import torch, linegraph as lg
            >>> P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([2.0, 3.0]))
            >>> P.total(torch.tensor([1.0, 10.0]))
            32.0
        """
        return float(double_sum(self.matvec(v)))

    def walks(self) -> Walks:
        """The sums 1ᵀP1 and 1ᵀPP1 over all walks of one and of two steps, whose ratio is β_eff.

        Returns:
            Both sums, and the sum of the absolute values of the terms of the first.

        Raises:
            NonFiniteError: if 1ᵀPP1 is out of the range of double precision.

        Cost: at most two products.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0])).walks()
            Walks(one=5.0, two=6.0, size=5.0)
        """
        incoming, size = self.in_strength(), self.absolute_total()
        if not size:
            return Walks(float(double_sum(incoming)), 0.0, size)
        # In units of the largest strength: the square of a small or large coupling may be out of the range of its type.
        unit = power_of_two(float(incoming.abs().max()), self.dtype)
        return Walks(float(double_sum(incoming)), times_unit(self.total(incoming / unit), unit), size)

    def in_strength(self) -> Tensor:
        """The in-strengths δ_in = P 1, shape (n,): the total influence that each node receives.

        Returns:
            δ_in (n,), in units of P.

        Cost: one product.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0])).in_strength()
            tensor([0., 2., 3.])
        """
        return self.matvec(self._ones())

    def out_strength(self) -> Tensor:
        """The out-strengths δ_out = Pᵀ 1, shape (n,): the total influence that each node exerts.

        Returns:
            δ_out (n,), in units of P.

        Cost: one product.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0])).out_strength()
            tensor([2., 3., 0.])
        """
        return self.rmatvec(self._ones())

    def to_scipy(self) -> LinearOperator:
        """P as a linear operator of SciPy.

        Returns:
            A :class:`scipy.sparse.linalg.LinearOperator` of shape (n, n) and P's number type. Its products take NumPy
            arrays, which they copy to P's device and back.

        Example:
            >>> import numpy as np, torch, linegraph as lg
            >>> P = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0]))
            >>> P.to_scipy() @ np.ones(2, np.float32)
            array([0., 2.], dtype=float32)
        """
        dtype = np.dtype(str(self.dtype).removeprefix("torch."))

        def through_torch(product: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
            def apply(v: np.ndarray) -> np.ndarray:
                # SciPy passes some columns in shape (n, 1). Torch shares contiguous memory only.
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
            raise ArgumentTypeError(
                f"a coupling multiplies torch tensors, got {type(v).__name__}; "
                "convert it with torch.as_tensor, or use to_scipy() for NumPy arrays"
            )
        if v.ndim not in (1, 2) or v.shape[0] != n:
            raise DataError(f"expected a vector of shape ({n},) or a block ({n}, k), got {tuple(v.shape)}")
        if v.dtype != self.dtype:
            raise DataError(f"this coupling is {self.dtype}, the vector {v.dtype}; convert it with v.to(P.dtype)")
        if v.device != self.device:
            raise DataError(f"this coupling is on {self.device}, the vector on {v.device}; use v.to(P.device)")
        return v.detach()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, device='{self.device}')"


class _Transposed(Coupling):
    """Pᵀ as a coupling, by the public methods of P."""

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
    def covered(self) -> float:
        return self._coupling.covered

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
        return self._coupling.walks()  # the same walks, in the opposite direction

    def in_strength(self) -> Tensor:
        return self._coupling.out_strength()

    def out_strength(self) -> Tensor:
        return self._coupling.in_strength()

    @property
    def T(self) -> Coupling:
        return self._coupling
