"""P of an ordinary network: explicit sparse edges on any device."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import DataError, NonFiniteError
from linegraph.lazy import cached_property
from linegraph.numerics import accumulation_dtype, component_numbers
from linegraph.pyg import new_data
from linegraph.quiet import ignoring

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["GraphCoupling", "induced"]

THREADED = 1 << 13
"""Edges from which a product is worth sharing among threads: where other work keeps them, they are waited for."""


class GraphCoupling(Coupling):
    """The coupling operator of a directed, weighted graph.

    The edge j → i of weight a gives ``P[i, j] = a``: influence flows from source to target. Parallel edges add up.

    Args:
        edge_index: integers (2, E), a tensor or what becomes one; row 0 holds the sources j, row 1 the targets i.
        weight: (E,), any sign; ones by default. Integers become the default float type, half precision single.
        num_nodes: n; by default the largest index plus one, which forgets isolated nodes at the end.
        node_names: (n,), one for each node, all different; results of metrics have them as their index. The products
            know nodes by their numbers.

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
        """A graph whose edges are known to be right: none of them is looked at."""
        graph = cls.__new__(cls)
        graph.edge_index, graph.weight, graph._num_nodes = edge_index, weight, num_nodes
        if node_names is not None:
            graph._node_names = node_names
        return graph

    def __repr__(self) -> str:
        edges = f"shape={self.shape}, num_edges={self.num_edges}"
        return f"{type(self).__name__}({edges}, dtype={self.dtype}, device='{self.device}')"

    def __getstate__(self) -> dict[str, Any]:
        """The edges; matrices made of them for products are made anew where a copy needs them."""
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
        """Number of edges, parallel ones counted each."""
        return len(self.weight)

    @property
    def is_explicit(self) -> bool:
        """True: the edges are in memory."""
        return True

    @property
    def counts_edges(self) -> bool:
        """True."""
        return True

    def to_graph(self, max_edges: int | None = None) -> GraphCoupling:
        """The graph itself, whatever its size."""
        return self

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        """That of the edges."""
        return self.weight.device

    @property
    def is_non_negative(self) -> bool:
        """Whether no weight is negative."""
        return not self.num_edges or not bool(self.weight.min() < 0)

    def absolute_total(self) -> float:
        """Σ |weight|."""
        return float(self.weight.abs().sum(dtype=torch.float64))

    @property
    def T(self) -> GraphCoupling:
        """The graph with its edges turned, in their order; what products need is shared with this one."""
        return _Turned(self)

    def row_components(self) -> Tensor:
        """A number for each row, (n,): rows of different numbers have no entry in a common column. O(n + E)."""
        return self._components[0]

    def column_components(self) -> Tensor:
        """A number for each column, (n,): columns of different numbers have no entry in a common row. O(n + E)."""
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
            return matrix if self.num_edges < THREADED else _threaded(matrix)
        with _sparse_without_warnings():
            return torch.sparse_coo_tensor(
                indices, self.weight, self.shape, device=self.device, check_invariants=False
            ).to_sparse_csr()

    def to(self, *where: Any, **options: Any) -> GraphCoupling:
        """The graph on another device, in another precision, or both: what :meth:`torch.Tensor.to` takes.

        Itself, where nothing changes. Half precision is single, as in the constructor.
        """
        weight = self.weight.to(*where, **options)
        if not weight.is_floating_point():
            raise DataError(f"weights are real numbers, and {weight.dtype} holds none; name a floating-point type")
        if weight is self.weight:
            return self
        return self.with_edges(self.edge_index.to(weight.device), weight)

    def with_edges(self, edge_index: Tensor, weight: Tensor) -> GraphCoupling:
        """A graph of the same nodes, with their names, and other edges.

        Raises:
            DataError: as the constructor does.
            NonFiniteError: if a weight is NaN or infinite.
        """
        return GraphCoupling(edge_index, weight, num_nodes=self.num_nodes, node_names=self.node_names)

    def to_dense(self) -> Tensor:
        """P as a dense matrix (n, n)."""
        dense = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        return dense.index_put_((self.edge_index[1], self.edge_index[0]), self.weight, accumulate=True)

    def to_pyg(self) -> Data:
        """As :class:`torch_geometric.data.Data` with ``edge_index``, ``edge_weight`` and ``num_nodes``."""
        return new_data(edge_index=self.edge_index, edge_weight=self.weight, num_nodes=self.num_nodes)

    def to_igraph(self) -> Any:
        """As a directed :class:`igraph.Graph` with the edge attribute ``weight``, and the vertex attribute ``name``."""
        import igraph

        edges = np.ascontiguousarray(self.edge_index.T.cpu().numpy())
        weights = {"weight": self.weight.tolist()}
        names = {} if self.node_names is None else {"name": self.node_names}
        return igraph.Graph(n=self.num_nodes, edges=edges, directed=True, edge_attrs=weights, vertex_attrs=names)

    def to_networkx(self) -> Any:
        """As a :class:`networkx.DiGraph` with the edge attribute ``weight``; a multigraph if edges are parallel.

        Nodes are their names, or their numbers where they have none.
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
        """As a :class:`scipy.sparse.csr_array` m with ``m[i, j]`` the weight of j → i."""
        sources, targets = self.edge_index.cpu().numpy()
        return csr_array((self.weight.cpu().numpy(), (targets, sources)), shape=self.shape)


class _Turned(GraphCoupling):
    """A graph with its edges turned, which are written down when first asked for: products need the graph alone."""

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
        return values  # where it is, whatever the default device
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
    """Whether checks are asked for is said at the call, and CSR has been in beta for years."""
    return ignoring("Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)")


def _threaded(matrix: csr_array) -> Tensor | csr_array:
    """The same memory as a matrix of torch, where that has MKL: with 32-bit indices two to four times faster."""
    if not torch.backends.mkl.is_available():
        return matrix
    rows, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with _sparse_without_warnings():
        return torch.sparse_csr_tensor(rows, columns, values, matrix.shape, device="cpu", check_invariants=False)


def _multiplied(matrix: Tensor | csr_array, block: Tensor) -> Tensor:
    vector = block.shape[1] == 1  # for which either library has a faster product
    v = block.squeeze(1) if vector else block
    product = matrix @ v if isinstance(matrix, Tensor) else torch.from_numpy(matrix @ v.numpy())
    return product.unsqueeze(1) if vector else product


def induced(graph: GraphCoupling, kept: Tensor) -> GraphCoupling:
    """The graph on some of the nodes, in their order and with their names."""
    inside = kept[graph.edge_index].all(0)
    number = kept.cumsum(0) - 1
    names = graph.node_names
    left = None if names is None else tuple(names[node] for node in kept.nonzero().squeeze(1).tolist())
    return GraphCoupling.of_valid(number[graph.edge_index[:, inside]], graph.weight[inside], int(kept.sum()), left)
