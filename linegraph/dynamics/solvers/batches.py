"""Sweeps of several graphs together, as one disjoint union whose segments of nodes are the graphs.

In a :class:`~linegraph.dynamics.BalancedDynamics` a node's equilibrium follows from those of its senders. Nodes without
outgoing edges influence no other, so they are set aside, then the nodes that lead only to those, level by level; their
states follow once the rest has converged. In gene regulation most nodes are such: of the 1,550 of E. coli 1,384 have no
outgoing edge, and 23 lead to a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from linegraph.coupling.graph import GraphCoupling, induced
from linegraph.dynamics.models import BalancedDynamics, Dynamics
from linegraph.dynamics.solvers.sweeps import Rest, Sweeps
from linegraph.dynamics.system import System, largest

__all__ = ["rests_of_graphs"]

Alone = Callable[[System, Tensor], Rest]

TOGETHER = 1 << 18
"""Largest number of nodes of one disjoint union."""

ASIDE = 0.25
"""Least share of nodes without outgoing edges for which they are set aside."""

PIECE = 1 << 13
"""Least number of edges in one operation: fewer take no less time."""

CACHED = 1 << 14
"""Largest number of nodes that are swept together on a CPU; the states of more do not fit its cache."""


def rests_of_graphs(
    graphs: Sequence[GraphCoupling], model: Dynamics, starts: Sequence[Tensor], tol: float, alone: Alone
) -> list[list[Rest]]:
    """The ends of each graph from each of its starts (n, k).

    The model is cooperative, no weight is negative, and the graphs and starts have one precision, device and number k.
    Starts that sweeps do not bring to an equilibrium are passed to ``alone``, without the nodes that were set aside.
    """
    found = []
    for run in _runs([g.num_nodes for g in graphs], TOGETHER):
        found += _rests(graphs[run], model, starts[run], tol, alone)
    return found


def _disjoint_union(graphs: Sequence[GraphCoupling]) -> GraphCoupling:
    """Several graphs as one graph; each keeps the order of its nodes."""
    if len(graphs) == 1:
        return graphs[0]
    offsets = [0, *accumulate(g.num_nodes for g in graphs)]
    index = torch.cat([g.edge_index + offset for g, offset in zip(graphs, offsets, strict=False)], 1)
    return GraphCoupling.of_valid(index, torch.cat([g.weight for g in graphs]), offsets[-1])


def _rests(
    graphs: Sequence[GraphCoupling], model: Dynamics, starts: Sequence[Tensor], tol: float, alone: Alone
) -> list[list[Rest]]:
    union, sizes = _disjoint_union(graphs), [len(x) for x in starts]
    # Overwritten below: the starts are copies of the user's.
    state = starts[0] if len(starts) == 1 else torch.cat(list(starts))
    core = _core(union) if isinstance(model, BalancedDynamics) else None
    if core is None:
        return _swept(union, model, state, sizes, tol, alone)
    kept = core.nodes
    inside = [int(segment.sum()) for segment in kept.split(sizes)]
    rests = _swept(core.graph, model, state[kept], inside, tol, alone)
    state[kept] = torch.cat([torch.stack([rest.x for rest in segment], 1) for segment in rests])
    system = System(union, model)
    for _ in range(core.levels):
        state = torch.where(kept.unsqueeze(1), state, state + system.step(state, system.totals(state)))
    state = system.clamp(state)
    velocity = system(state)
    return [
        [
            _followed(system, rest, x, v, tol)._replace(evaluations=rest.evaluations + core.levels + 1)
            for rest, x, v in zip(segment, x.unbind(1), v.unbind(1), strict=True)
        ]
        for segment, x, v in zip(rests, state.split(sizes), velocity.split(sizes), strict=True)
    ]


def _followed(system: System, rest: Rest, x: Tensor, velocity: Tensor, tol: float) -> Rest:
    """The end of a segment once the nodes set aside have followed; their balance may lie outside the domain."""
    residual, reason = largest(velocity), rest.reason
    if reason is None and not residual <= max(tol, system.floor(x, velocity)):
        low, high = system.model.domain
        reason = (
            f"a node is driven out of the domain [{low:g}, {high:g}], at whose end it moves outward at {residual:g}"
        )
    return Rest(x.clone(), residual, rest.evaluations, reason)


def _swept(
    graph: GraphCoupling, model: Dynamics, starts: Tensor, sizes: list[int], tol: float, alone: Alone
) -> list[list[Rest]]:
    """The ends of the segments of a graph, swept in runs of segments that fit the processor's cache."""
    runs = _runs(sizes, CACHED if graph.device.type == "cpu" else len(starts))
    if len(runs) == 1:
        return _swept_once(graph, model, starts, sizes, tol, alone)

    def of_run(run: slice) -> list[list[Rest]]:
        first, end = sum(sizes[: run.start]), sum(sizes[: run.stop])
        segment = induced(graph, _range(graph, first, end))
        return _swept_once(segment, model, starts[first:end], sizes[run], tol, alone)

    # A run is too small for torch to split an operation over threads, so each thread takes a run.
    with ThreadPoolExecutor(min(len(runs), torch.get_num_threads())) as pool:
        return [rest for found in pool.map(of_run, runs) for rest in found]


def _swept_once(
    graph: GraphCoupling, model: Dynamics, starts: Tensor, sizes: list[int], tol: float, alone: Alone
) -> list[list[Rest]]:
    """The ends of segments: most by the same sweeps, slower ones with Newton's method, the last few one by one."""
    swept = Sweeps(System(graph, model), starts, sizes)
    swept.run(tol, leave=True)
    found = swept.rests(tol)
    ends = [*accumulate(sizes)]
    slow = {
        segment: _range(graph, ends[segment] - sizes[segment], ends[segment])
        for segment, rests in enumerate(found)
        if None in rests
    }
    if len(slow) > 1:
        nodes = torch.stack([*slow.values()]).any(0)
        left = Sweeps(System(induced(graph, nodes), model), starts[nodes], [sizes[segment] for segment in slow])
        for segment, rests in zip(slow, left.finish(tol), strict=True):
            found[segment] = [
                old or (new and new._replace(evaluations=swept.evaluations + new.evaluations))
                for old, new in zip(found[segment], rests, strict=True)
            ]
    for segment, nodes in slow.items():
        system = System(induced(graph, nodes), model)
        found[segment] = [
            rest or alone(system, x) for rest, x in zip(found[segment], starts[nodes].unbind(1), strict=True)
        ]
    return found  # type: ignore[return-value]


def _runs(sizes: Sequence[int], room: int) -> list[slice]:
    """Runs of consecutive segments with at most ``room`` nodes in all, or of one larger segment."""
    runs, first, nodes = [], 0, 0
    for i, size in enumerate(sizes):
        if i > first and nodes + size > room:
            runs.append(slice(first, i))
            first, nodes = i, 0
        nodes += size
    return [*runs, slice(first, len(sizes))]


class _Core(NamedTuple):
    """The nodes from which a walk of ``levels`` steps starts, as a mask (n,), and the graph on them."""

    nodes: Tensor
    graph: GraphCoupling
    levels: int


_CORES: WeakKeyDictionary[GraphCoupling, _Core | None] = WeakKeyDictionary()


def _core(graph: GraphCoupling) -> _Core | None:
    """The nodes that are left once others are set aside; None if none is. Computed once for a graph."""
    if graph not in _CORES:
        nodes, levels = _leading_on(graph)
        _CORES[graph] = _Core(nodes, induced(graph, nodes), levels) if levels else None
    return _CORES[graph]


def _leading_on(graph: GraphCoupling) -> tuple[Tensor, int]:
    """The nodes from which a walk of some number of steps starts, and that number, raised while it pays."""
    sources, targets = graph.edge_index
    kept, levels = torch.ones(graph.num_nodes, dtype=torch.bool, device=graph.device), 0
    count = graph.num_nodes
    while count:
        leading = torch.zeros_like(kept)
        # In pieces, so that the search stops early where most nodes have outgoing edges.
        for some in sources.split(max(count, PIECE)):
            leading[some] = True
            now = int(leading.sum())
            if now > (1 - ASIDE) * count:
                return kept, levels
        kept, levels, count = leading, levels + 1, now
        going_on = kept[targets]
        sources, targets = sources[going_on], targets[going_on]
    return kept, levels


def _range(graph: GraphCoupling, first: int, end: int) -> Tensor:
    """A range of nodes as a mask."""
    nodes = torch.arange(graph.num_nodes, device=graph.device)
    return (nodes >= first) & (nodes < end)
