"""Sums over the edges of a graph, some edges at a time, for pair terms that are evaluated on every edge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.sparse import in_rows
from linegraph.numerics import DEVICE_CHUNK

__all__ = ["Block", "blocks_of"]

BLOCK = 1 << 15
"""Edges that a thread of a CPU handles at a time: the temporaries of a pair term, some ten numbers an edge, stay in the
cache of its core. Times are the same from half to twice as many."""

SUMMED_BY_MATRIX = 1 << 13
"""Edges of a block from which on the sums are a sparse product: 0.5 ns an edge, against 1.4 to 2.5 ns with
``index_add_``, where each addition to a node waits for the one before. Of fewer edges the call takes longer."""


@dataclass(frozen=True)
class Block:
    """Some edges j → i of a graph, in the order of their targets.

    Attributes:
        sources: (m,), the senders j.
        targets: (m,), the receivers i.
        weight: (m,), P_ij.
        has_zeros: whether a weight is 0.
        rows: the range of the receivers.
        matrix: (receivers, m), the weight of each edge in the row of its receiver; None where sums do without.
    """

    sources: Tensor
    targets: Tensor
    weight: Tensor
    has_zeros: bool
    rows: slice
    matrix: Tensor | None

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The states of the receivers and of the senders, (m,) each, from those of all nodes (n,)."""
        return x.index_select(0, self.targets), x.index_select(0, self.sources)

    def add_received(self, total: Tensor, value: Tensor) -> None:
        """Add Σ_j P_ij value_ij to ``total`` (n,), for values (m,) on the edges."""
        if self.matrix is None:
            total.index_add_(0, self.targets, value * self.weight)
        else:
            total[self.rows] += self.matrix @ value.contiguous()

    def add_sent(self, total: Tensor, value: Tensor) -> None:
        """Add Σ_i P_ij value_ij to ``total`` (n,), for values (m,) on the edges."""
        total.index_add_(0, self.sources, value * self.weight)

    def without_zeros(self, value: Tensor) -> Tensor:
        """The values (m,), 0 on edges of weight 0: these have no influence, also where a slope is infinite."""
        return value.masked_fill(self.weight == 0, 0) if self.has_zeros else value


def blocks_of(P: GraphCoupling) -> list[Block]:
    """The edges of a graph in blocks, which share its memory but for the bounds of the rows."""
    on_cpu = P.device.type == "cpu"
    size = BLOCK * torch.get_num_threads() if on_cpu else DEVICE_CHUNK
    by_matrix = on_cpu and torch.backends.mkl.is_available()
    sources, targets, weight = P.by_target
    columns = torch.arange(min(size, len(weight)), dtype=targets.dtype, device=P.device)  # shared by the matrices
    return [
        _block(*edges, columns if by_matrix and len(edges[0]) >= SUMMED_BY_MATRIX else None)
        for edges in zip(sources.split(size), targets.split(size), weight.split(size), strict=True)
        if len(edges[0])
    ]


def _block(sources: Tensor, targets: Tensor, weight: Tensor, columns: Tensor | None) -> Block:
    rows, matrix = slice(int(targets[0]), int(targets[-1]) + 1), None
    if columns is not None:
        received = torch.bincount(targets - rows.start)
        ends = torch.cat([received[:1] * 0, received.cumsum(0)]).to(targets.dtype)
        matrix = in_rows(ends, columns[: len(weight)], weight, (len(received), len(weight)))
    return Block(sources, targets, weight, not bool(weight.all()), rows, matrix)
