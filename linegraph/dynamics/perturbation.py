"""Copies of a network without some of its nodes, links, weight or partners."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from linegraph.arguments import as_real, check_choice, check_generator
from linegraph.coupling.graph import GraphCoupling, induced
from linegraph.errors import DataError, NonFiniteError, UnsupportedOperationError
from linegraph.io.accept import AnyGraph, as_coupling, is_of
from linegraph.numerics import component_numbers

__all__ = ["largest_component", "perturb", "projection", "with_edges"]


def perturb(
    P: AnyGraph,
    *,
    nodes: float = 0.0,
    links: float = 0.0,
    weights: float = 0.0,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> GraphCoupling:
    """A copy of a network with nodes or links removed at random, or its weights scaled down.

    Several losses are applied in this order, each to what the one before left. Gao et al. go on with the largest
    component after nodes are lost (:func:`largest_component`), and in mutualistic webs lose partners of the other side
    where other networks lose links (:func:`projection`).

    Args:
        P: a graph, or a coupling with explicit edges, such as a :class:`~linegraph.GraphCoupling`.
        nodes: how many nodes go, with their links; the others keep their order. A float is a fraction of the nodes,
            from 0.0 to 1.0, rounded to whole nodes; an integer, of Python, NumPy or torch, is a number of nodes.
        links: how many links go: a fraction, or a number. Where the network is symmetric up to rounding (64 ε), a link
            is both directions.
        weights: the fraction that every weight loses.
        jitter: spread of the weights before that: each is multiplied by a factor drawn evenly from 1 ± ``jitter``, and
            all by one number that restores the sum of their absolute values. Gao et al. use 0.5.
        generator: of the random choices. The same seed removes nodes or links in the same order, so that growing
            losses are nested.

    Returns:
        A new :class:`~linegraph.GraphCoupling`.

    Raises:
        DataError: if P is no coupling, more is to be removed than there is, or a number is out of range.
        UnsupportedOperationError: if P has no explicit edges.

    Cost: O(n + E).

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import torch, networkx as nx, linegraph as lg
        >>> web = nx.karate_club_graph()
        >>> lg.dynamics.perturb(web, nodes=0.5, generator=torch.Generator().manual_seed(0)).num_nodes
        17
    """
    graph = with_edges(P)
    weights = as_real("weights", weights, 0, 1)
    jitter = as_real("jitter", jitter, 0)
    check_generator(generator)
    if not jitter < 1:
        raise DataError(f"jitter must be at least 0 and below 1, got {jitter}")
    graph = _without_nodes(graph, nodes, generator)
    graph = _without_links(graph, links, generator)
    weight = graph.weight
    if jitter:
        links_of, count = _links(graph)
        factor = 1 + jitter * (2 * _uniform(count, generator).to(weight) - 1)
        spread = weight * factor[links_of]
        weight = spread * (weight.abs().sum() / spread.abs().sum()) if bool(spread.any()) else spread
    if weights:
        weight = weight * (1 - weights)
    return graph.with_edges(graph.edge_index, weight)


def largest_component(P: AnyGraph, connection: str = "weak") -> GraphCoupling:
    """The largest connected component of a network; its nodes keep their order.

    Gao et al. analyse this component after nodes or partners are lost: the weak one of mutualistic webs, the strong one
    of gene networks. Edges of weight 0 connect nothing. Of components of one size the one with the first node is taken.

    Args:
        P: a graph, or a coupling with explicit edges, such as a :class:`~linegraph.GraphCoupling`.
        connection: ``"weak"``: joined by edges of any direction; ``"strong"``: by walks both ways.

    Returns:
        A :class:`~linegraph.GraphCoupling` of the component's nodes and the edges between them.

    Raises:
        DataError: if P is no coupling, or ``connection`` neither.
        UnsupportedOperationError: if P has no explicit edges.

    Cost: O(n + E).

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import torch, linegraph as lg
        >>> apart = lg.GraphCoupling(torch.tensor([[0, 2, 3], [1, 3, 4]]))
        >>> lg.dynamics.largest_component(apart).edge_index.tolist()
        [[0, 1], [1, 2]]
    """
    check_choice("connection", connection, ("weak", "strong"))
    graph = with_edges(P)
    matrix = graph.to_scipy_sparse()
    if not graph.num_nodes:
        return graph
    label = component_numbers(matrix, connection)
    size = np.bincount(label)[label]
    return induced(graph, torch.from_numpy(label == label[size.argmax()]).to(graph.device))


def projection(
    web: Tensor | np.ndarray | sp.sparray | sp.spmatrix | pd.DataFrame | Any,
    *,
    partners: float = 0.0,
    generator: torch.Generator | None = None,
) -> GraphCoupling:
    """The network of the species of one side of a bipartite web, coupled by the partners they share.

        A_jk = Σ_i (M_ji + M_ki) / Σ_l M_li    over the partners i of both j and k ≠ j

    so that a partner with d species gives 2 (d − 1) of weight in all. Of the symmetric matrix, positive entries are
    edges. To lose partners is the loss of links of Gao et al. for mutualistic webs: weights fall, links go where the
    last shared partner went.

    Args:
        web: M, (species, partners), numbers of visits or 1 and 0: an array, a tensor, a sparse matrix, or a DataFrame
            whose index names the species. The other side is projected from its transpose. Or a bipartite graph of
            networkx, whose species have the node attribute ``bipartite=0``, or of igraph, whose species have the vertex
            attribute ``type=False``.
        partners: how many partners are lost at random: a fraction, or a number, as in :func:`perturb`.
        generator: of the random choice; the same seed loses the same partners first.

    Raises:
        DataError: if M is no matrix, holds negative or complex entries, or more partners are to be lost than there are.
        NonFiniteError: if M holds NaN or infinite numbers.

    Returns:
        A :class:`~linegraph.GraphCoupling` in double precision, one node per species.

    Cost: a product of sparse matrices: Σ d² over the partners, of d species each.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016); the weights are those of their published webs.

    Example:
        >>> import numpy as np, linegraph as lg
        >>> lg.dynamics.projection(np.array([[1, 0], [1, 3], [0, 1]])).to_dense()
        tensor([[0., 1., 0.],
                [1., 0., 1.],
                [0., 1., 0.]], dtype=torch.float64)
    """
    check_generator(generator)
    M, names = _web(web)
    if isinstance(web, Tensor):
        dense = web.detach().cpu().to_dense()
        M = (dense if dense.is_complex() else dense.double()).numpy()
    if np.iscomplexobj(M):
        raise DataError("a bipartite web holds numbers of visits or weights, which are not complex")
    if np.ndim(M) != 2:
        raise DataError(f"a bipartite web is a matrix (species, partners), got {np.ndim(M)} dimensions")
    M = sp.csc_array(M, dtype=np.float64, copy=True)
    if not np.isfinite(M.data).all():
        raise NonFiniteError("the bipartite web holds NaN or infinite numbers")
    if (M.data < 0).any():
        raise DataError("a bipartite web holds numbers of visits or weights, which are not negative")
    M.eliminate_zeros()
    M = M[:, ~_chosen(partners, M.shape[1], "partners", generator).numpy()]
    shares = M @ sp.diags_array(1 / np.where(M.sum(axis=0) > 0, M.sum(axis=0), 1))
    visits = (M != 0).astype(np.float64)
    one_way = shares @ visits.T
    A = sp.coo_array(one_way + one_way.T)
    off = A.row != A.col
    index = torch.from_numpy(np.stack([A.col[off], A.row[off]]).astype(np.int64))
    return GraphCoupling(index, torch.from_numpy(A.data[off]), num_nodes=M.shape[0], node_names=names)


def _web(web: Any) -> tuple[Any, list[Any] | None]:
    """The matrix of a bipartite web (species, partners), and the names of the species."""
    if isinstance(web, pd.DataFrame):
        return web.to_numpy(), list(web.index)
    if not (is_of(web, "networkx") or is_of(web, "igraph")):
        return web, None
    attribute: str
    if is_of(web, "networkx"):
        attribute, species, partners = "bipartite", 0, 1
        sides = [side for _, side in web.nodes(attribute)]
    else:
        attribute, species, partners = "type", False, True
        known = attribute in web.vs.attributes()
        sides = list(web.vs[attribute]) if known else [None] * web.vcount()
    if not set(sides) <= {0, 1}:
        raise DataError(
            f"a bipartite graph says of every node which side it is on, {attribute}={species!r} for species and "
            f"{attribute}={partners!r} for partners; this one does not"
        )
    graph = with_edges(web)
    first = [node for node, side in enumerate(sides) if side == species]
    second = [node for node, side in enumerate(sides) if side == partners]
    entries = graph.to_scipy_sparse()
    if entries[first][:, first].nnz or entries[second][:, second].nnz:
        raise DataError("an edge of this bipartite graph joins two nodes of one side")
    M = entries[first][:, second] if not web.is_directed() else entries[first][:, second] + entries[second][:, first].T
    names = graph.node_names
    return M, None if names is None else [names[node] for node in first]


def with_edges(P: Any) -> GraphCoupling:
    """A graph, or a coupling that has explicit edges, as a coupling.

    Raises:
        NotAGraphError: if it is neither; names the function that makes a coupling of it.
        UnsupportedOperationError: if it has no explicit edges.
    """
    graph = as_coupling(P)
    if not isinstance(graph, GraphCoupling):
        raise UnsupportedOperationError(
            f"only explicit edges can be lost, or connect; {type(P).__name__} has none: pass P.to_graph()"
        )
    return graph


def _without_nodes(P: GraphCoupling, amount: float, generator: torch.Generator | None) -> GraphCoupling:
    gone = _chosen(amount, P.num_nodes, "nodes", generator).to(P.device)
    if not bool(gone.any()):
        return P
    return induced(P, ~gone)


def _without_links(P: GraphCoupling, amount: float, generator: torch.Generator | None) -> GraphCoupling:
    links_of, count = _links(P) if amount else (None, P.num_edges)
    gone = _chosen(amount, count, "links", generator).to(P.device)
    if links_of is None or not bool(gone.any()):
        return P
    left = ~gone[links_of]
    return P.with_edges(P.edge_index[:, left], P.weight[left])


def _chosen(amount: float, available: int, what: str, generator: torch.Generator | None) -> Tensor:
    """Which of the available go, (available,); the first of one random order."""
    value: Any = amount
    if isinstance(value, Tensor | np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    known = isinstance(value, Real) and not isinstance(value, bool)
    if not known or not value >= 0:
        raise DataError(f"{what} must be a fraction from 0.0 to 1.0 or a number of {what}, got {amount!r}")
    whole = isinstance(value, Integral)
    if whole:
        if value > available:
            raise DataError(f"{value} {what} are to be removed, but there are only {available}")
        count = int(value)
    else:
        if value > 1:
            raise DataError(
                f"a fraction {value} of the {what} is to be removed, but there are no more than all (1.0); "
                f"to remove a number of {what}, pass an int"
            )
        count = round(float(value) * available)
    gone = torch.zeros(available, dtype=torch.bool, device="cpu")
    if count:
        device = generator.device if generator is not None else "cpu"
        gone[torch.randperm(available, generator=generator, device=device)[:count].cpu()] = True
    return gone


def _links(P: GraphCoupling) -> tuple[Tensor, int]:
    """The link that each edge belongs to, and their number: both directions are one where P is symmetric."""
    matrix = P.to_scipy_sparse()
    rounding = 64 * torch.finfo(P.dtype).eps
    if P.num_edges == 0 or (abs(matrix - matrix.T) - rounding * abs(matrix)).max() > 0:
        return torch.arange(P.num_edges, device=P.device), P.num_edges
    low, high = P.edge_index.aminmax(dim=0)
    links, of = torch.unique(low * P.num_nodes + high, return_inverse=True)
    return of, len(links)


def _uniform(count: int, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else "cpu"
    return torch.rand(count, generator=generator, device=device, dtype=torch.float64)
