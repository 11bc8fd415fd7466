"""Networks that lose nodes, links or weight."""

from __future__ import annotations

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError, UnsupportedOperationError

__all__ = ["perturb"]


def perturb(
    P: Coupling,
    *,
    nodes: float = 0.0,
    links: float = 0.0,
    weights: float = 0.0,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> GraphCoupling:
    """A copy of a network with nodes or links removed at random, or its weights scaled down.

    The three experiments of Gao et al.; several losses are applied in this order, each to what the one before left.

    Args:
        P: a network with explicit edges.
        nodes: how many nodes go, with their links; the others keep their order. A float is a fraction of the nodes,
            from 0.0 to 1.0, rounded to whole nodes; an int is a number of nodes.
        links: how many links go: a fraction, or a number. Where the network is symmetric, a link is both directions.
        weights: the fraction that every weight loses.
        jitter: spread of the weights before that: each is multiplied by a factor drawn evenly from 1 ± ``jitter``, and
            all by one number that restores their sum. Gao et al. use 0.5.
        generator: of the random choices. The same seed removes the same nodes or links first, whatever their number,
            so that growing losses follow one history.

    Raises:
        DataError: if more is to be removed than there is, or a number is out of range.
        UnsupportedOperationError: if P has no explicit edges.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import torch, networkx as nx, linegraph as lg
        >>> web = lg.from_networkx(nx.karate_club_graph())
        >>> lg.dynamics.perturb(web, nodes=0.5, generator=torch.Generator().manual_seed(0)).num_nodes
        17
    """
    if not isinstance(P, GraphCoupling):
        raise UnsupportedOperationError(
            f"only explicit edges can be removed; {type(P).__name__} has none: P.to_graph()"
        )
    if not 0 <= weights <= 1:
        raise DataError(f"weights is the fraction lost, from 0 to 1, got {weights}")
    if not 0 <= jitter < 1:
        raise DataError(f"jitter must be at least 0 and below 1, got {jitter}")
    P = _without_nodes(P, nodes, generator)
    P = _without_links(P, links, generator)
    weight = P.weight
    if jitter:
        links_of, count = _links(P)
        factor = 1 + jitter * (2 * _uniform(count, generator).to(weight) - 1)
        spread = weight * factor[links_of]
        weight = spread * (weight.sum() / spread.sum()) if bool(spread.sum() != 0) else spread
    if weights:
        weight = weight * (1 - weights)
    return GraphCoupling(P.edge_index, weight, num_nodes=P.num_nodes)


def _without_nodes(P: GraphCoupling, amount: float, generator: torch.Generator | None) -> GraphCoupling:
    gone = _chosen(amount, P.num_nodes, "nodes", generator).to(P.device)
    if not bool(gone.any()):
        return P
    kept = ~gone
    number = kept.cumsum(0) - 1
    sources, targets = P.edge_index
    left = kept[sources] & kept[targets]
    return GraphCoupling(number[P.edge_index[:, left]], P.weight[left], num_nodes=int(kept.sum()))


def _without_links(P: GraphCoupling, amount: float, generator: torch.Generator | None) -> GraphCoupling:
    links_of, count = _links(P) if amount else (None, P.num_edges)
    gone = _chosen(amount, count, "links", generator).to(P.device)
    if links_of is None or not bool(gone.any()):
        return P
    left = ~gone[links_of]
    return GraphCoupling(P.edge_index[:, left], P.weight[left], num_nodes=P.num_nodes)


def _chosen(amount: float, available: int, what: str, generator: torch.Generator | None) -> Tensor:
    """Which of the available go, (available,); the first of one random order."""
    if isinstance(amount, bool) or amount != amount or amount < 0:
        raise DataError(f"{what} must be a fraction from 0.0 to 1.0 or a number of {what}, got {amount!r}")
    if isinstance(amount, int):
        if amount > available:
            raise DataError(f"{amount} {what} are to be removed, but there are only {available}")
        count = amount
    else:
        if amount > 1:
            raise DataError(
                f"a fraction {amount} of the {what} is to be removed, but there are no more than all (1.0); "
                f"to remove a number of {what}, pass an int"
            )
        count = round(amount * available)
    gone = torch.zeros(available, dtype=torch.bool, device="cpu")
    if count:
        device = generator.device if generator is not None else "cpu"
        gone[torch.randperm(available, generator=generator, device=device)[:count].cpu()] = True
    return gone


def _links(P: GraphCoupling) -> tuple[Tensor, int]:
    """The link that each edge belongs to, and their number: both directions are one where P is symmetric."""
    matrix = P.to_scipy_sparse()
    if P.num_edges == 0 or abs(matrix - matrix.T).max() > 0:
        return torch.arange(P.num_edges, device=P.device), P.num_edges
    low, high = P.edge_index.aminmax(dim=0)
    links, of = torch.unique(low * P.num_nodes + high, return_inverse=True)
    return of, len(links)


def _uniform(count: int, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else "cpu"
    return torch.rand(count, generator=generator, device=device, dtype=torch.float64)
