"""Components and cycles of the graph of P, which decide part of the spectrum exactly.

The line graph of a feed-forward network is acyclic. Then P is nilpotent, all its eigenvalues are 0 and a power series
in P has finitely many terms. A numerical solver would return rounding errors instead of 0 (eigenvalues of size ε^(1/d)
for a chain of d layers), so cycles are looked for before a solver runs.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.numerics import component_numbers

__all__ = ["cyclic_core", "is_acyclic", "weak_components"]


def is_acyclic(P: AnyGraph) -> bool:
    """Whether the graph of P has no cycle; a self-loop is a cycle. Then P is nilpotent.

    A graph with listed edges is searched for strongly connected components. For other couplings, products decide: let
    m(t) be the number of nodes at which a walk of t edges ends. In an acyclic graph m(t) decreases until it is 0; in a
    graph with a cycle it becomes constant above 0.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).

    Returns:
        A bool; True for the line graph of a feed-forward network, and for a graph without nodes.

    Cost: O(n + E) for a graph. Otherwise at most one product more than the longest path has nodes; for a network, at
    most one more than the longest chain of layers.

    Raises:
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: R. Tarjan, SIAM Journal on Computing 1 (1972), for strongly connected components.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.is_acyclic(lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]])))
        True
    """
    P = as_coupling(P)
    if isinstance(P, GraphCoupling):
        return not bool(_on_cycles(P).any())
    return not bool(_reached(P).any())


def cyclic_core(P: Coupling) -> Tensor:
    """Boolean (n,): the nodes whose submatrix of P has all eigenvalues of P that are not 0.

    They are the nodes on cycles if the edges of P are listed; otherwise the nodes on walks that start on a cycle and
    end on a cycle. With the nodes in the order of walks, P is block triangular, and the blocks of all other nodes are
    nilpotent.
    """
    if isinstance(P, GraphCoupling):
        return _on_cycles(P)
    reached = _reached(P)
    return reached & _reached(P.T) if bool(reached.any()) else reached


def _reached(P: Coupling) -> Tensor:
    """Boolean (n,): the nodes at which walks of every length end."""
    # Random weights, so that couplings of opposite signs do not cancel.
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(P.num_nodes, generator=generator, dtype=P.dtype, device="cpu").add_(1).to(P.device)
    alive = torch.ones(P.num_nodes, dtype=torch.bool, device=P.device)
    left = P.num_nodes
    while left:
        alive &= P.matvec(weights * alive) != 0
        before, left = left, int(alive.sum())
        if left == before:
            break
    return alive


def _on_cycles(G: GraphCoupling) -> Tensor:
    matrix = G.to_scipy_sparse()
    matrix.sum_duplicates()
    component = component_numbers(matrix, "strong")
    on_cycle = np.bincount(component)[component] > 1 if G.num_nodes else np.zeros(0, dtype=bool)
    return torch.from_numpy(on_cycle | (matrix.diagonal() != 0)).to(G.device)


def weak_components(P: Coupling) -> Tensor:
    """The number of the weakly connected component of each node, (n,), int64.

    Computed from the edges of a graph, or from the structure of a network; 0 for all nodes of other couplings.
    Cost: that of ``row_components`` and ``column_components``.
    """
    # Rows and columns with the same number are connected by entries of P; each node connects its row and its column.
    rows, columns = (part.cpu().numpy() for part in (P.row_components(), P.column_components()))
    count = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    joined = coo_array((np.ones(P.num_nodes, bool), (rows, columns)), shape=(count, count))
    found = component_numbers(joined.tocsr())[rows]
    return torch.from_numpy(found.astype(np.int64)).to(P.device)
