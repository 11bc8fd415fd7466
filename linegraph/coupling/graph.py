"""``GraphCoupling``, the operator P of an explicit graph: sparse edges on any device."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.arguments import check_number_of
from linegraph.coupling.base import Coupling
from linegraph.errors import DataError, NonFiniteError
from linegraph.lazy import cached_property
from linegraph.numerics import accumulation_dtype, component_numbers
from linegraph.pyg import new_data
from linegraph.quiet import ignoring

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["GraphCoupling", "induced"]

MIN_EDGES_FOR_THREADS = 1 << 13
"""Edges from which a product is shared among threads. Of fewer edges, it takes less time than to wait for busy
threads."""


class GraphCoupling(Coupling):
    """The coupling operator of a directed, weighted graph.

    The edge j → i of weight a gives ``P[i, j] = a``: influence flows from source to target. Parallel edges add up.

    Args:
        edge_index: integers (2, E), a tensor or what ``torch.as_tensor`` takes; row 0 holds the sources j, row 1 the
            targets i.
        weight: numbers (E,) of any sign; ones by default. Integers become torch's default float type, half precision
            becomes single precision.
        num_nodes: n; by default the largest index plus one, which leaves out isolated nodes of larger numbers.
        node_names: (n,), one for each node, all different; results of metrics have them as their index. Products know
            nodes by their numbers.

    Attributes:
        edge_index: the sources and targets, int64 (2, E).
        weight: the weights (E,).

    Cost: one product is one sparse matrix product, O(E k) for a block of k columns.

    Raises:
        DataError: if shapes, types, devices, indices or names do not fit.
        NonFiniteError: if a weight is NaN or infinite.

    Example:
        >>> import torch, linegraph as lg
        >>> G = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
        >>> G @ torch.ones(3)  # what 0, 1 and 2 receive
        tensor([0., 2., 3.])
    """

    _node_names: tuple[Hashable, ...] | None = None

    def __init__(
        self,
        edge_index: Any,
        weight: Any = None,
        *,
        num_nodes: int | None = None,
        node_names: Iterable[Hashable] | None = None,
    ) -> None:
        edge_index = _tensor(edge_index, "edge_index")
        if edge_index.ndim != 2 or edge_index.shape[0] != 2:
            turned = "; a list of edges is transposed" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else ""
            raise DataError(f"edge_index must have shape (2, E), got {tuple(edge_index.shape)}{turned}")
        if edge_index.is_floating_point() or edge_index.dtype == torch.bool:
            raise DataError(f"edge_index must hold integers, got {edge_index.dtype}")
        edge_index = edge_index.detach().long()
        num_edges = edge_index.shape[1]
        if weight is None:
            weight = torch.ones(num_edges, device=edge_index.device)
        weight = _tensor(weight, "weight")
        if weight.shape != (num_edges,):
            raise DataError(f"weight must have shape ({num_edges},), one per edge, got {tuple(weight.shape)}")
        if weight.device != edge_index.device:
            raise DataError(f"edge_index is on {edge_index.device}, weight on {weight.device}; move one of them")
        if weight.is_complex():
            raise DataError(f"weight must be real, got {weight.dtype}; pass its modulus, or its real part")
        real = weight.dtype if weight.is_floating_point() else torch.get_default_dtype()
        weight = weight.detach().to(accumulation_dtype(real))
        if not weight.isfinite().all():
            raise NonFiniteError(f"the weight of edge {int((~weight.isfinite()).nonzero()[0])} is NaN or infinite")
        top = int(edge_index.max()) + 1 if num_edges else 0
        if num_edges and int(edge_index.min()) < 0:
            raise DataError("edge_index holds a negative node index")
        if num_nodes is not None:
            check_number_of("num_nodes", num_nodes, least=0)
        if num_nodes is not None and num_nodes < top:
            raise DataError(f"edge_index names node {top - 1}, but num_nodes is {num_nodes}")
        self.edge_index = edge_index
        self.weight: Tensor = weight
        self._num_nodes = top if num_nodes is None else num_nodes
        if node_names is not None:
            self._node_names = _names(node_names, self._num_nodes)

    @classmethod
    def of_valid(
        cls, edge_index: Tensor, weight: Tensor, num_nodes: int, node_names: tuple[Hashable, ...] | None = None
    ) -> GraphCoupling:
        """A graph whose edges are known to be valid, made without checking them.

        Args:
            edge_index: int64 (2, E), row 0 the sources, row 1 the targets, from 0 to ``num_nodes`` − 1.
            weight: finite numbers (E,) in single or double precision, on the same device.
            num_nodes: n.
            node_names: the names (n,) of the nodes.

        Returns:
            The graph; it shares the memory of both tensors.
        """
        graph = cls.__new__(cls)
        graph.edge_index, graph.weight, graph._num_nodes = edge_index, weight, num_nodes
        if node_names is not None:
            graph._node_names = node_names
        return graph

    def __repr__(self) -> str:
        edges = f"shape={self.shape}, num_edges={self.num_edges}"
        return f"{type(self).__name__}({edges}, dtype={self.dtype}, device='{self.device}')"

    def __getstate__(self) -> dict[str, Any]:
        """The edges, without the matrices that products have made of them; a copy makes its own."""
        kept = "edge_index", "weight", "_num_nodes", "_node_names"
        return {name: value for name, value in vars(self).items() if name in kept}

    @property
    def num_nodes(self) -> int:
        """Number of nodes n."""
        return self._num_nodes

    @property
    def node_names(self) -> tuple[Hashable, ...] | None:
        """The names (n,) of the nodes; None where they are known by their numbers alone."""
        return self._node_names

    @property
    def num_edges(self) -> int:
        """Number of edges E; each of several parallel edges counts."""
        return len(self.weight)

    @property
    def is_explicit(self) -> bool:
        """True: the edges are in memory."""
        return True

    @property
    def counts_edges(self) -> bool:
        """True: edges are listed."""
        return True

    def to_graph(self, max_edges: int | None = None) -> GraphCoupling:
        """The graph itself.

        Args:
            max_edges: not used, since nothing is formed.

        Returns:
            This graph.
        """
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights."""
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the edges and weights."""
        return self.weight.device

    @property
    def is_non_negative(self) -> bool:
        """Whether no weight is negative."""
        return not self.num_edges or not bool(self.weight.min() < 0)

    def absolute_total(self) -> float:
        """Sum of the absolute values of all weights."""
        return float(self.weight.abs().sum(dtype=torch.float64))

    @property
    def T(self) -> GraphCoupling:
        """The graph of the reversed edges, in the same order. It shares the matrices of this one."""
        return _Turned(self)

    def row_components(self) -> Tensor:
        """Component number of each row, (n,), int32: rows with different numbers have no entry in a common column.

        Cost: O(n + E), once.
        """
        return self._components[0]

    def column_components(self) -> Tensor:
        """Component number of each column, (n,), int32: columns with different numbers have no entry in a common row.

        Cost: O(n + E), once.
        """
        return self._components[1]

    @cached_property
    def _components(self) -> tuple[Tensor, Tensor]:
        n, (sources, targets) = self.num_nodes, self.edge_index.cpu().numpy()
        edges = csr_array((np.ones(len(sources), bool), (targets, sources + n)), shape=(2 * n, 2 * n))
        numbers = torch.from_numpy(component_numbers(edges)).int().to(self.device)
        return numbers[:n], numbers[n:]

    def _matmat(self, block: Tensor) -> Tensor:
        return _multiplied(self._receiving, block)

    def _rmatmat(self, block: Tensor) -> Tensor:
        return _multiplied(self._sending, block)

    @cached_property
    def _receiving(self) -> Tensor | csr_array:
        return self._compressed(self.edge_index.flip(0))

    @cached_property
    def _sending(self) -> Tensor | csr_array:
        return self._compressed(self.edge_index)

    def _compressed(self, indices: Tensor) -> Tensor | csr_array:
        if self.device.type == "cpu" and self.dtype in (torch.float32, torch.float64):
            short = max(self.num_nodes, self.num_edges) < 2**31
            rows, columns = indices.to(torch.int32 if short else torch.int64).numpy()
            matrix = csr_array((self.weight.numpy(), (rows, columns)), shape=self.shape)
            return matrix if self.num_edges < MIN_EDGES_FOR_THREADS else _threaded(matrix)
        with _sparse_without_warnings():
            return torch.sparse_coo_tensor(
                indices, self.weight, self.shape, device=self.device, check_invariants=False
            ).to_sparse_csr()

    def to(self, *where: Any, **options: Any) -> GraphCoupling:
        """The graph on another device, in another precision, or both.

        Args:
            *where: a device, a floating-point type or both, as :meth:`torch.Tensor.to` takes them.
            **options: likewise.

        Returns:
            A graph with such weights, or this one if nothing changes. Half precision becomes single, as in the
            constructor.

        Raises:
            DataError: if the type is not a floating-point one.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0])).to(torch.float64).dtype
            torch.float64
        """
        weight = self.weight.to(*where, **options)
        if not weight.is_floating_point():
            raise DataError(f"weights are real numbers, which {weight.dtype} cannot hold; pass a floating-point type")
        if weight is self.weight:
            return self
        return self.with_edges(self.edge_index.to(weight.device), weight)

    def with_edges(self, edge_index: Tensor, weight: Tensor) -> GraphCoupling:
        """A graph of the same nodes, with their names, and other edges.

        Args:
            edge_index: integers (2, E); row 0 holds the sources j, row 1 the targets i.
            weight: numbers (E,).

        Returns:
            The new graph.

        Raises:
            DataError: as the constructor does.
            NonFiniteError: if a weight is NaN or infinite.

        Example:
            >>> import torch, linegraph as lg
            >>> web = lg.GraphCoupling(torch.tensor([[0], [1]]), node_names=["ant", "oak"])
            >>> web.with_edges(torch.tensor([[1], [0]]), torch.tensor([0.5])).node_names
            ('ant', 'oak')
        """
        return GraphCoupling(edge_index, weight, num_nodes=self.num_nodes, node_names=self.node_names)

    def to_dense(self) -> Tensor:
        """P as a dense matrix.

        Returns:
            P (n, n), in which parallel edges are added up.

        Cost: memory for n² numbers.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0])).to_dense().tolist()
            [[0.0, 0.0], [2.0, 0.0]]
        """
        dense = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        return dense.index_put_((self.edge_index[1], self.edge_index[0]), self.weight, accumulate=True)

    def to_pyg(self) -> Data:
        """The graph as a PyG ``Data``.

        Returns:
            A :class:`torch_geometric.data.Data` with ``edge_index``, ``edge_weight`` and ``num_nodes``, which share the
            memory of this graph. Names of nodes are left out.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]])).to_pyg()
            Data(edge_index=[2, 1], edge_weight=[1], num_nodes=2)
        """
        return new_data(edge_index=self.edge_index, edge_weight=self.weight, num_nodes=self.num_nodes)

    def to_igraph(self) -> Any:
        """The graph as a graph of igraph.

        Returns:
            A directed :class:`igraph.Graph` with the edge attribute ``weight``, and the vertex attribute ``name`` if
            the nodes have names.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0])).to_igraph().es["weight"]
            [2.0]
        """
        import igraph

        edges = np.ascontiguousarray(self.edge_index.T.cpu().numpy())
        weights = {"weight": self.weight.tolist()}
        names = {} if self.node_names is None else {"name": self.node_names}
        return igraph.Graph(n=self.num_nodes, edges=edges, directed=True, edge_attrs=weights, vertex_attrs=names)

    def to_networkx(self) -> Any:
        """The graph as a graph of networkx.

        Returns:
            A :class:`networkx.DiGraph` with the edge attribute ``weight``; a :class:`networkx.MultiDiGraph` if edges
            are parallel. Its nodes are the names of the nodes, or their numbers if they have no names.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]]), node_names=["ant", "oak"]).to_networkx().edges
            OutEdgeView([('ant', 'oak')])
        """
        import networkx as nx

        edges = self.edge_index.T.tolist()
        parallel = len({tuple(edge) for edge in edges}) < len(edges)
        graph = nx.MultiDiGraph() if parallel else nx.DiGraph()
        names = self.node_names or range(self.num_nodes)
        graph.add_nodes_from(names)
        weights = zip(edges, self.weight.tolist(), strict=True)
        graph.add_weighted_edges_from((names[u], names[v], w) for (u, v), w in weights)
        return graph

    def to_scipy_sparse(self) -> csr_array:
        """P as a sparse array of SciPy.

        Returns:
            A :class:`scipy.sparse.csr_array` (n, n), in which entry [i, j] is the weight of j → i, and parallel edges
            are added up.

        Example:
            >>> import torch, linegraph as lg
            >>> lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0])).to_scipy_sparse().toarray().tolist()
            [[0.0, 0.0], [2.0, 0.0]]
        """
        sources, targets = self.edge_index.cpu().numpy()
        return csr_array((self.weight.cpu().numpy(), (targets, sources)), shape=self.shape)


class _Turned(GraphCoupling):
    """A graph with reversed edges, whose products use the matrices of the original."""

    def __init__(self, graph: GraphCoupling) -> None:
        self._graph, self.weight, self._num_nodes = graph, graph.weight, graph.num_nodes
        if graph.node_names is not None:
            self._node_names = graph.node_names

    def __repr__(self) -> str:
        return f"{self._graph!r}.T"

    def __reduce__(self) -> Any:
        return GraphCoupling.of_valid, (self.edge_index, self.weight, self.num_nodes, self.node_names)

    @cached_property
    def edge_index(self) -> Tensor:
        given: Tensor = self._graph.edge_index
        return given.flip(0)

    @property
    def T(self) -> GraphCoupling:
        return self._graph

    @property
    def _components(self) -> tuple[Tensor, Tensor]:
        rows, columns = self._graph._components
        return columns, rows

    @property
    def _receiving(self) -> Tensor | csr_array:
        return self._graph._sending

    @property
    def _sending(self) -> Tensor | csr_array:
        return self._graph._receiving


def _tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values  # stays on its device, whatever the default device
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} must be a tensor, got {type(values).__name__} ({error})") from None


def _names(given: Iterable[Hashable], n: int) -> tuple[Hashable, ...]:
    """The names of n nodes, which tell them apart."""
    try:
        names = tuple(given)
        different = len(set(names))
    except TypeError as error:
        raise DataError(f"node_names must be a list of names that can be keys of a dict ({error})") from None
    if isinstance(given, str) or len(names) != n:
        raise DataError(f"node_names must have one name for each of the {n} nodes, got {len(names)}")
    if different < n:
        raise DataError(f"node_names must be all different, and of the {n} names only {different} are")
    return names


def _sparse_without_warnings() -> AbstractContextManager[None]:
    """Without two warnings of torch: that CSR is in beta, and that ``check_invariants`` was not given globally."""
    return ignoring("Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)")


def _threaded(matrix: csr_array) -> Tensor | csr_array:
    """The matrix as one of torch that shares its memory, if torch has MKL: with 32-bit indices 2 to 4 times faster."""
    if not torch.backends.mkl.is_available():
        return matrix
    rows, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with _sparse_without_warnings():
        return torch.sparse_csr_tensor(rows, columns, values, matrix.shape, device="cpu", check_invariants=False)


def _multiplied(matrix: Tensor | csr_array, block: Tensor) -> Tensor:
    vector = block.shape[1] == 1  # both libraries have a faster product for vectors
    v = block.squeeze(1) if vector else block
    product = matrix @ v if isinstance(matrix, Tensor) else torch.from_numpy(matrix @ v.numpy())
    return product.unsqueeze(1) if vector else product


def induced(graph: GraphCoupling, kept: Tensor) -> GraphCoupling:
    """The induced subgraph on some of the nodes, which keep their order and their names.

    Args:
        graph: n nodes.
        kept: boolean (n,), which nodes to keep.

    Returns:
        The graph of the kept nodes, numbered anew from 0, and of the edges between them.
    """
    inside = kept[graph.edge_index].all(0)
    number = kept.cumsum(0) - 1
    names = graph.node_names
    left = None if names is None else tuple(names[node] for node in kept.nonzero().squeeze(1).tolist())
    return GraphCoupling.of_valid(number[graph.edge_index[:, inside]], graph.weight[inside], int(kept.sum()), left)
