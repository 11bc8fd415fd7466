"""A model on a network: the right-hand side, its Jacobian, and steps that cannot pass an equilibrium."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.edges import Block, blocks_of
from linegraph.dynamics.models import BalancedDynamics, Dynamics, FactoredDynamics
from linegraph.dynamics.terms import are_elementwise, is_of_library, slope_values, term_values
from linegraph.errors import UnsupportedOperationError
from linegraph.lazy import cached_property
from linegraph.linalg.gmres import RESTART

__all__ = ["Jacobian", "System"]

BLOCK = 1 << 15
"""States that a step handles at a time on a CPU: its temporaries stay in the processor's cache."""


class System:
    """F(x) = f(x) + Σ_j P_ij g(x_i, x_j) for states (n,) or blocks of states (n, k).

    Factored models cost one product with P. Others need explicit edges and cost one pass over them, in the order of
    their targets and in blocks, so that temporaries are few and stay in the processor's cache: three to five products
    for a simple pair term. The edges are sorted when first needed, as for a product.

    The terms of a model are evaluated here only, as tensors of the state's shape and precision, without a graph of
    autograd. The library's models take states of any shape; a user's model is called with one state (n,) at a time, so
    that its parameters may be tensors (n,).

    Raises:
        UnsupportedOperationError: if the pair term does not factor and P has no explicit edges.
    """

    def __init__(self, P: Coupling, model: Dynamics) -> None:
        if not isinstance(model, FactoredDynamics) and not isinstance(P, GraphCoupling):
            raise UnsupportedOperationError(
                f"the pair term of {type(model).__name__} does not factor into p(x) q(y), so it needs explicit edges; "
                f"{type(P).__name__} has none: use P.to_graph(), or write the model as a FactoredDynamics"
            )
        self.P = P
        self.model = model
        self._takes_blocks = is_of_library(model)

    @cached_property
    def nodes_are_alike(self) -> bool:
        """Whether the terms are the same for every node, so that they can be evaluated on some of the nodes alone."""
        n = self.P.num_nodes
        return self._takes_blocks or n < 2 or are_elementwise(self.model, torch.ones(n, device=self.P.device))

    @cached_property
    def keeps_order(self) -> bool:
        """Whether x ≤ y stays so under the flow: a cooperative model with no negative weight."""
        return self.model.cooperative and isinstance(self.P, GraphCoupling) and self.P.is_non_negative

    @cached_property
    def edges(self) -> list[Block]:
        """The edges of P, which must be explicit, in blocks."""
        assert isinstance(self.P, GraphCoupling)
        return blocks_of(self.P)

    def values(self, term: Callable[..., Any], *states: Tensor) -> Tensor:
        """A term of the model at states (n,) or (n, k), one number for each of their entries.

        Raises:
            DynamicsError: if the term gives another number of them.
        """
        x = states[0]
        if x.ndim == 2 and not self._takes_blocks:
            columns = [self.values(term, *each) for each in zip(*(state.unbind(1) for state in states), strict=True)]
            return torch.stack(columns, 1) if columns else torch.empty_like(x)
        return term_values(self.model, term, *states)

    def totals(self, x: Tensor) -> Tensor:
        """What each node receives: P q(x) for a factored model, else Σ_j P_ij g(x_i, x_j)."""
        if isinstance(self.model, FactoredDynamics):
            return self.P.matvec(self.values(self.model.sending, x))
        columns = x.T.contiguous() if x.ndim == 2 else x.unsqueeze(0)
        totals = torch.zeros_like(columns)
        for edges in self.edges:
            for state, total in zip(columns, totals, strict=True):
                edges.add_received(total, term_values(self.model, self.model.pair_term, *edges.ends(state)))
        return totals.T.contiguous() if x.ndim == 2 else totals[0]

    def velocity(self, x: Tensor, totals: Tensor) -> Tensor:
        """F(x), given the totals at x."""
        if isinstance(self.model, FactoredDynamics):
            return self.values(self.model.velocity, x, totals)
        return self.values(self.model.self_term, x) + totals

    def __call__(self, x: Tensor) -> Tensor:
        """F(x)."""
        return self.velocity(x, self.totals(x))

    def floor(self, x: Tensor, velocity: Tensor) -> float:
        """The rounding error of F(x), given the velocity F at x: 16 ε times its largest two terms."""
        alone = self.values(self.model.self_term, x)
        parts = largest(alone) + largest(velocity - alone)
        return 16 * torch.finfo(x.dtype).eps * parts

    def step(self, x: Tensor, totals: Tensor) -> Tensor:
        """A step from x towards the state that the present totals would hold, never past it.

        For cooperative models. With totals held, a node in state x moves to the next zero of its own velocity; the
        step goes there where that is known in closed form, else as far as the steepest slope −f' on the way allows.
        """
        if isinstance(self.model, BalancedDynamics):
            return self.values(self.model.balance, totals) - x
        nodes = max(1, BLOCK // (x[0].numel() if len(x) else 1))
        if x.device.type != "cpu" or len(x) <= nodes or not self.nodes_are_alike:
            return self._safe_step(x, totals)
        # Some nodes at a time: the temporaries stay in the processor's cache.
        return torch.cat([self._safe_step(*some) for some in zip(x.split(nodes), totals.split(nodes), strict=True)])

    def _safe_step(self, x: Tensor, totals: Tensor) -> Tensor:
        """The longest step found that is no longer than the velocity over the steepest slope −f' on the way."""
        velocity = self.velocity(x, totals)
        tiny = torch.finfo(x.dtype).tiny
        slope, direction, speed = self._steepness(x, totals), velocity.sign(), velocity.abs()
        reach = (speed / slope.abs().clamp_min_(tiny)).clamp_max_(_REACH)
        safe = torch.zeros_like(reach)
        for _ in range(5):  # narrows down, in proportions, the longest step that the slope on the way allows
            ahead = self._steepness(self.clamp(x + direction * reach), totals)
            allowed = speed / torch.maximum(slope, ahead).clamp_min_(tiny)
            short = torch.where(allowed < reach, allowed, reach)
            safe = torch.where(short > safe, short, safe)
            reach = reach.mul_(safe).sqrt_()
        return safe.mul_(direction)

    def _steepness(self, x: Tensor, totals: Tensor) -> Tensor:
        """How fast a node's velocity falls with its own state, the totals held: −f', and −p' · total where p falls."""
        alone = -self.values(self.model.self_slope, x)
        if not isinstance(self.model, FactoredDynamics):
            return alone
        return alone + (-self.values(self.model.receiving_slope, x) * totals).clamp_min(0)

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest admissible state."""
        return x.clamp(*self.model.domain)

    def jacobian(self, x: Tensor, totals: Tensor | None = None) -> Jacobian:
        """∂F/∂x at a state (n,), where the totals may be known."""
        return Jacobian(self, x, totals)


class Jacobian:
    """J = ∂F/∂x at a state x: a diagonal and the influence of the senders.

    Factored models multiply by J with one product with P. Others pass over the edges for each product, with the slopes
    ∂g/∂x_j that were found on the pass for the diagonal, if all of them take no more memory than the vectors of GMRES,
    which asks for the products; else the slopes are found anew.
    """

    def __init__(self, system: System, x: Tensor, totals: Tensor | None = None) -> None:
        self.system, self.x, self._kept = system, x, list[Tensor]()
        model = system.model
        if isinstance(model, FactoredDynamics):
            own = system.values(model.receiving_slope, x) * (system.totals(x) if totals is None else totals)
        else:
            own = torch.zeros_like(x)
            for edges in system.edges:
                by_receiver, by_sender = self._slopes(edges)
                edges.add_received(own, by_receiver)
                if system.P.num_edges <= RESTART * len(x):
                    self._kept.append(by_sender)
        self.diagonal = system.values(model.self_slope, x) + own
        """f'(x_i) + Σ_j P_ij ∂g/∂x_i, (n,); loops add to J_ii what is in ``senders``."""

    def matvec(self, v: Tensor) -> Tensor:
        """J v."""
        system, model = self.system, self.system.model
        if isinstance(model, FactoredDynamics):
            arriving = system.P.matvec(system.values(model.sending_slope, self.x) * v)
            return self.diagonal * v + system.values(model.receiving, self.x) * arriving
        product = self.diagonal * v
        for edges, slope in zip(system.edges, self._by_sender(), strict=True):
            edges.add_received(product, slope * v.index_select(0, edges.sources))
        return product

    def rmatvec(self, v: Tensor) -> Tensor:
        """Jᵀ v."""
        system, model = self.system, self.system.model
        if isinstance(model, FactoredDynamics):
            arriving = system.P.rmatvec(system.values(model.receiving, self.x) * v)
            return self.diagonal * v + system.values(model.sending_slope, self.x) * arriving
        product = self.diagonal * v
        for edges, slope in zip(system.edges, self._by_sender(), strict=True):
            edges.add_sent(product, slope * v.index_select(0, edges.targets))
        return product

    @cached_property
    def senders(self) -> GraphCoupling:
        """P_ij ∂g/∂x_j(x_i, x_j) on the edges of P, which must be explicit, in the order of their targets."""
        P = self.system.P
        assert isinstance(P, GraphCoupling)
        sources, targets, weight = P.by_target
        influences = (slope * edges.weight for edges, slope in zip(self.system.edges, self._by_sender(), strict=True))
        whole = torch.cat([weight[:0], *influences])
        return GraphCoupling.of_valid(torch.stack([sources, targets]).long(), whole, P.num_nodes, P.node_names)

    def _by_sender(self) -> Iterable[Tensor]:
        """∂g/∂x_j on the edges of each block."""
        system, model = self.system, self.system.model
        if not isinstance(model, FactoredDynamics):
            return self._kept or (self._slopes(edges)[1] for edges in system.edges)
        received, sent = system.values(model.receiving, self.x), system.values(model.sending_slope, self.x)
        return (e.without_zeros(received[e.targets] * sent[e.sources]) for e in system.edges)

    def _slopes(self, edges: Block) -> tuple[Tensor, Tensor]:
        """∂g/∂x_i and ∂g/∂x_j on some edges; 0 where the weight is 0."""
        by_receiver, by_sender = slope_values(self.system.model, *edges.ends(self.x))
        return edges.without_zeros(by_receiver), edges.without_zeros(by_sender)

    def to_dense(self) -> Tensor:
        """J as a matrix (n, n)."""
        if isinstance(self.system.P, GraphCoupling):
            return torch.diag(self.diagonal) + self.senders.to_dense()
        identity = torch.eye(len(self.x), dtype=self.x.dtype, device=self.x.device)
        return torch.stack([self.matvec(v) for v in identity], 1)


def largest(values: Tensor) -> float:
    """The largest of |values|: 0 for none, inf where one is not a number."""
    if not values.numel():
        return 0.0
    low, high = values.aminmax()  # one pass, with no copy of absolute values
    found = max(abs(float(low)), abs(float(high)))
    return found if found == found else float("inf")


_REACH = 1e6
"""Bound of a single step, where the slope gives none."""
