"""The line graph of any graph: its edges become nodes, joined where they meet."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from linegraph.errors import DataError, TooLargeError
from linegraph.numerics import empty
from linegraph.pyg import new_data

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["line_digraph"]

RUN = 4096
"""Smallest mean number of line-graph edges per run of edges of equal degree, for which runs are written as blocks."""


def line_digraph(data: Data, *, directed: bool | None, max_edges: int) -> Data:
    """The line graph of a PyG graph; see :func:`linegraph.line_graph`."""
    index = data.edge_index
    if index is None:
        raise DataError("this PyG Data has no edge_index")
    if index.ndim != 2 or index.shape[0] != 2 or index.is_floating_point() or index.dtype == torch.bool:
        raise DataError(f"edge_index must be integers of shape (2, E), got {index.dtype} {tuple(index.shape)}")
    index, n = index.long(), int(data.num_nodes)
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < n:
        raise DataError(f"edge_index names nodes {int(index.min())} to {int(index.max())}, but there are {n} nodes")
    attributes = _attributes(data)
    if directed is None:
        directed = not _is_undirected(index, n, attributes.values())
    elif not directed and not _is_undirected(index, n, attributes.values()):
        raise DataError(
            "an undirected graph stores every edge in both directions, with the same weight and attributes, and this "
            "one does not: take directed=True, or torch_geometric.utils.to_undirected first"
        )
    kept = (
        torch.arange(index.shape[1], device=index.device) if directed else (index[0] <= index[1]).nonzero().squeeze(1)
    )
    ends = index[:, kept]
    edges = _follow(ends, n, max_edges) if directed else _share(ends, n, max_edges)
    result = new_data(edge_index=edges, num_nodes=len(kept), endpoints=ends.T, origin=kept)
    carried = {name: values[kept] for name, values in attributes.items()}
    if "edge_weight" in carried:
        result.node_weight = carried["edge_weight"]
        result.x = result.node_weight.unsqueeze(1)
    if "edge_attr" in carried:
        result.x = carried["edge_attr"]
    return result


def _attributes(data: Data) -> dict[str, Tensor]:
    """``edge_weight`` and ``edge_attr``, each if the graph has it."""
    count = data.edge_index.shape[1]
    found = {name: data[name] for name in ("edge_weight", "edge_attr") if data.get(name) is not None}
    for name, values in found.items():
        if not values.ndim or len(values) != count:
            raise DataError(f"{name} must have one entry for each of the {count} edges, got {tuple(values.shape)}")
    return found


def _is_undirected(index: Tensor, n: int, attributes: Iterable[Tensor]) -> bool:
    """Whether every edge u → v has a counterpart v → u with the same weight and attributes."""
    u, v = index
    there, back = (u < v).nonzero().squeeze(1), (u > v).nonzero().squeeze(1)
    if len(there) != len(back):
        return False
    key = torch.where(u < v, u * n + v, v * n + u)
    if not torch.equal(key[there].sort().values, key[back].sort().values):
        return False
    from torch_geometric.utils import lexsort

    columns = [column for values in attributes for column in values.reshape(len(values), prod(values.shape[1:])).T]
    for order in ([key], [*columns, key]):  # the counterparts of parallel edges may be stored in another order
        first, second = (way[lexsort([values[way] for values in order])] for way in (there, back))
        if all(torch.equal(values[first], values[second]) for values in columns):
            return True
    return False


def _follow(ends: Tensor, n: int, max_edges: int) -> Tensor:
    """Edge e to edge f wherever the head of e is the tail of f."""
    tail, head = ends
    leaving, first, order = _grouped(tail, n)
    _check(int(leaving[head].sum()), max_edges)
    return _joined(torch.arange(len(head), device=ends.device), head, leaving, first, order)


def _share(ends: Tensor, n: int, max_edges: int) -> Tensor:
    """Edges in both directions between any two different edges that share a node."""
    u, v = ends
    count = len(u)
    edge = torch.arange(count, device=ends.device)
    proper = u != v
    incident, first, order = _grouped(torch.cat([u, v[proper]]), n + 1)
    owner = torch.cat([edge, edge[proper]])[order]
    parallel = bool((torch.unique(u * n + v, return_counts=True)[1] > 1).any())
    pairs = int((incident * (incident - 1)).sum())
    # Parallel edges meet at both ends, and are joined once.
    _check(-(-pairs // 2) if parallel else pairs, max_edges, "at least " * parallel)
    # An edge meets others at both of its ends. A self-loop has one end; its second is node n, which has no edges.
    at = torch.stack([u, torch.where(proper, v, n)], 1).flatten()
    index = _joined(edge.repeat_interleave(2), at, incident, first, owner)
    index = index[:, index[0] != index[1]]
    if parallel:
        key = torch.unique(index[0] * count + index[1])
        index = torch.stack([key // count, key % count])
        _check(index.shape[1], max_edges)
    return index


def _joined(edge: Tensor, at: Tensor, count: Tensor, first: Tensor, order: Tensor) -> Tensor:
    """Join each ``edge`` to all edges at the node ``at``, which are ``order[first[at] : first[at] + count[at]]``."""
    size = count[at]
    total = int(size.sum())
    index = empty((2, total), torch.int64, edge.device)
    ends = torch.cat([(size.diff() != 0).nonzero().squeeze(1) + 1, torch.tensor([len(size)], device=size.device)])
    if total and total >= RUN * len(ends):
        _join_runs(index, edge, at, count, first, order, ends.tolist())
        return index
    index[0] = _repeated(edge, size, total)
    place = _repeated(first[at] - (size.cumsum(0) - size), size, total)
    place += torch.arange(total, device=edge.device)
    torch.index_select(order, 0, place, out=index[1])
    return index


def _join_runs(
    index: Tensor, edge: Tensor, at: Tensor, count: Tensor, first: Tensor, order: Tensor, ends: list[int]
) -> None:
    """The same for long runs of edges with equally many successors, as between layers of a network: dense blocks."""
    begin, start = 0, 0
    for end in ends:
        width = int(count[at[begin]])
        nodes, row = torch.unique(at[begin:end], return_inverse=True)
        members = order[first[nodes].unsqueeze(1) + torch.arange(width, device=order.device)] if width else None
        stop = start + (end - begin) * width
        if members is not None:
            index[0, start:stop].view(-1, width).copy_(edge[begin:end].unsqueeze(1))
            torch.index_select(members, 0, row, out=index[1, start:stop].view(-1, width))
        begin, start = end, stop


def _repeated(values: Tensor, size: Tensor, total: int) -> Tensor:
    if values.device.type == "cpu":  # NumPy asks for large pages
        return torch.from_numpy(np.repeat(values.numpy(), size.numpy()))
    return values.repeat_interleave(size, output_size=total)


def _grouped(group: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Members of every group: how many, where they begin, and all of them in order of groups."""
    count = torch.bincount(group, minlength=n)
    return count, count.cumsum(0) - count, torch.argsort(group, stable=True)


def _check(total: int, max_edges: int, bound: str = "") -> None:
    if total > max_edges:
        raise TooLargeError(
            f"this line graph has {bound}{total:,} edges, more than max_edges={max_edges:,}; raise the limit if memory "
            "allows (16 bytes an edge)"
        )
