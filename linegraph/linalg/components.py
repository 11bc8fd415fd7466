"""Components and cycles of the graph of P, which decide part of the spectrum exactly.

A feed-forward network has an acyclic line graph. Then P is nilpotent, all its eigenvalues are 0 and a power
series in P ends. Solvers would return rounding noise instead (of a chain of d layers, eigenvalues of size ε^(1/d)), so
the structure is looked at first.
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
    """Whether the graph of P has no cycle, not even a self-loop; then P is nilpotent.

    Decided exactly by products: the number of nodes at which a walk of t steps ends falls with t until it is 0, or
    stays the same if there is a cycle.

    Cost: an explicit graph is searched in O(n + E); otherwise at most one product more than the longest path has nodes,
    in a network at most one more than the longest chain of layers.

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
    """Boolean (n,): nodes outside which P contributes eigenvalues 0 and nothing else.

    Those on cycles of an explicit graph; else those on walks from cycle to cycle. Ordered by walks, P is block
    triangular, and the blocks outside are nilpotent.
    """
    if isinstance(P, GraphCoupling):
        return _on_cycles(P)
    reached = _reached(P)
    return reached & _reached(P.T) if bool(reached.any()) else reached


def _reached(P: Coupling) -> Tensor:
    """Nodes at which walks of any length end."""
    # Weights drawn at random, so that couplings of both signs cancel nowhere.
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
    """A number for each node, (n,), int64: nodes of different numbers are joined by no chain of edges.

    From the edges of a graph, or the structure of a network; 0 for all nodes of other couplings.
    Cost: that of ``row_components`` and ``column_components``.
    """
    # A row and a column of one number share entries, perhaps through others; a node joins its row to its column.
    rows, columns = (part.cpu().numpy() for part in (P.row_components(), P.column_components()))
    count = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    joined = coo_array((np.ones(P.num_nodes, bool), (rows, columns)), shape=(count, count))
    found = component_numbers(joined.tocsr())[rows]
    return torch.from_numpy(found.astype(np.int64)).to(P.device)
