"""Couplings of whatever graph a user passes, and results with the names of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
import torch
from scipy.sparse import issparse
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import DataError
from linegraph.io.convert import from_igraph, from_networkx, from_pyg, from_scipy, unexpected
from linegraph.pyg import is_data

if TYPE_CHECKING:
    import igraph
    import networkx as nx
    from scipy.sparse import sparray, spmatrix
    from torch_geometric.data import Data

__all__ = ["AnyGraph", "as_coupling", "is_of", "labelled", "named_index", "without_names"]

AnyGraph: TypeAlias = "Coupling | Data | igraph.Graph | nx.Graph[Any] | sparray | spmatrix"
"""What :func:`as_coupling` takes; a string, since PyG, igraph and networkx are imported only where they are used."""


def as_coupling(P: AnyGraph) -> Coupling:
    """The coupling that a function computes with; every function that takes a graph calls this first.

    Args:
        P: a coupling, which comes back as it is; a PyG ``Data`` with its ``edge_weight``; an igraph or networkx graph
            with its edge attribute ``weight``; a square SciPy sparse matrix or array m, with m[i, j] the weight of
            j → i. Edges without weights weigh 1. For other attributes call ``from_pyg``, ``from_igraph`` or
            ``from_networkx``.

    Returns:
        The coupling. Its ``node_names`` are the nodes of a networkx graph, unless these are 0, 1, 2, ... in this order,
        and the vertex attribute ``name`` of an igraph graph, where every vertex has one of its own; else None.

    Raises:
        DataError: if the graph cannot be a coupling: a matrix is not square, or weights are not numbers.
        NonFiniteError: if a weight is NaN or infinite.
        NotAGraphError: for anything else; names the function that makes a coupling of it.
    """
    if isinstance(P, Coupling):
        return P
    if is_data(P):
        return from_pyg(P)
    if issparse(P):
        return from_scipy(P)
    # A graph of networkx or igraph has a base class of its library, so neither has to be imported to recognise it.
    if is_of(P, "networkx"):
        return from_networkx(P)
    if is_of(P, "igraph"):
        return from_igraph(P)
    raise unexpected(P, "a coupling or a graph (PyG Data, igraph, networkx, SciPy sparse matrix)")


def is_of(graph: Any, library: str) -> bool:
    """Whether the type of a graph, or one of its base classes, is of a library, without importing it."""
    return any(base.__module__.partition(".")[0] == library for base in type(graph).__mro__)


def named_index(P: Coupling) -> pd.Index | None:
    """The names of the nodes as an index, (n,); None if they have no names."""
    if P.node_names is None:
        return None
    return pd.Index(P.node_names, name="node", tupleize_cols=False)  # a tuple is one name, as in a grid of networkx


def labelled(P: Coupling, values: Tensor, name: str) -> Any:
    """Results for all nodes, labelled with the names of the nodes if they have names.

    Args:
        P: the coupling.
        values: (n,), or (n, k).
        name: of the Series.

    Returns:
        ``values`` if nodes have no names; else a Series (n,), or a DataFrame (n, k), whose index holds the names.
    """
    index = named_index(P)
    if index is None:
        return values
    numbers = values.detach().cpu().numpy()
    return pd.Series(numbers, index, name=name) if values.ndim == 1 else pd.DataFrame(numbers, index)


def without_names(P: Coupling, values: Any) -> Any:
    """The values of a Series or DataFrame, whose index holds the names of the nodes, in the order of P's nodes.

    Returns:
        A tensor (n,) or (n, k). Values without an index are returned unchanged. If P's nodes have no names, the order
        of the values is kept.

    Raises:
        DataError: if the index does not hold the name of every node once.
    """
    if not isinstance(values, pd.Series | pd.DataFrame):
        return values
    index = named_index(P)
    if index is not None:
        if len(values) != len(index) or not values.index.is_unique or not index.isin(values.index).all():
            raise DataError(
                f"the index of this {type(values).__name__} does not hold the names of the {len(index)} nodes"
            )
        values = values.loc[list(index)] if not values.index.equals(index) else values
    return torch.from_numpy(values.to_numpy(copy=True))
