"""A model on a network: the right-hand side, its Jacobian, and steps that cannot pass an equilibrium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.models import BalancedDynamics, Dynamics, FactoredDynamics
from linegraph.dynamics.terms import are_elementwise, is_of_library, term_values
from linegraph.errors import UnsupportedOperationError
from linegraph.lazy import cached_property

__all__ = ["Jacobian", "System"]

CHUNK = 1 << 17
"""Edges handled at a time: their temporaries stay in the processor's cache."""


class System:
    """F(x) = f(x) + Σ_j P_ij g(x_i, x_j) for states (n,) or blocks of states (n, k).

    Factored models cost one product with P. Others need explicit edges and cost one pass over them, in pieces, so
    that no temporary is as long as the edge list.

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
        return self._edge_sum(x, self.model.pair_term)

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
        velocity = self.velocity(x, totals)
        tiny = torch.finfo(x.dtype).tiny
        slope = self._steepness(x, totals)
        reach = (velocity / slope.abs().clamp_min(tiny)).clamp(-_REACH, _REACH)
        safe = torch.zeros_like(reach)
        for _ in range(5):  # narrows down, in proportions, the longest step that the slope on the way allows
            ahead = self._steepness(self.clamp(x + reach), totals)
            allowed = velocity / torch.maximum(slope, ahead).clamp_min(tiny)
            short = torch.where(allowed.abs() < reach.abs(), allowed, reach)
            safe = torch.where(short.abs() > safe.abs(), short, safe)
            reach = safe.sign() * (safe.abs() * reach.abs()).sqrt()
        return safe

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

    def _edge_sum(self, x: Tensor, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Σ_j P_ij term(x_i, x_j)."""
        P = self.P
        assert isinstance(P, GraphCoupling)
        total = torch.zeros_like(x)
        columns = x[0].numel() if len(x) else 1
        for edges, weight in _pieces(P, max(1, CHUNK // max(1, columns))):
            sources, targets = edges
            value = torch.as_tensor(term(x[targets], x[sources]), dtype=x.dtype, device=x.device).detach()
            value = value * (weight if x.ndim == 1 else weight.unsqueeze(1))
            total.index_add_(0, targets, value.expand(-1, *x.shape[1:]))
        return total


class Jacobian:
    """J = ∂F/∂x at a state x: a diagonal and the influence of the senders.

    Factored models multiply by J with one product with P; others keep ∂g/∂x_j on every edge.
    """

    def __init__(self, system: System, x: Tensor, totals: Tensor | None = None) -> None:
        model = system.model
        self.system, self.x = system, x
        if isinstance(model, FactoredDynamics):
            own = system.values(model.receiving_slope, x) * (system.totals(x) if totals is None else totals)
        else:
            own = system._edge_sum(x, lambda a, b: model.pair_slopes(a, b)[0])
        self.diagonal = system.values(model.self_slope, x) + own
        """f'(x_i) + Σ_j P_ij ∂g/∂x_i, (n,); loops add to J_ii what is in ``senders``."""

    def matvec(self, v: Tensor) -> Tensor:
        """J v."""
        system, model = self.system, self.system.model
        if isinstance(model, FactoredDynamics):
            arriving = system.P.matvec(system.values(model.sending_slope, self.x) * v)
            return self.diagonal * v + system.values(model.receiving, self.x) * arriving
        return self.diagonal * v + self.senders.matvec(v)

    @cached_property
    def senders(self) -> GraphCoupling:
        """P_ij ∂g/∂x_j(x_i, x_j) on the edges of P, which must be explicit."""
        P, x, system, model = self.system.P, self.x, self.system, self.system.model
        assert isinstance(P, GraphCoupling)
        if isinstance(model, FactoredDynamics):
            received, sent = system.values(model.receiving, x), system.values(model.sending_slope, x)
        weight = torch.empty_like(P.weight)
        for (edges, old), new in zip(_pieces(P, CHUNK), weight.split(CHUNK), strict=True):
            sources, targets = edges
            if isinstance(model, FactoredDynamics):
                slope = received[targets] * sent[sources]
            else:
                slope = torch.as_tensor(model.pair_slopes(x[targets], x[sources])[1], dtype=x.dtype, device=x.device)
            new.copy_(
                torch.where(old == 0, 0, old * slope.detach())
            )  # an edge of weight 0 has no influence, also where the slope is infinite
        return GraphCoupling.of_valid(P.edge_index, weight, P.num_nodes, P.node_names)

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


def _pieces(P: GraphCoupling, size: int) -> zip[tuple[Tensor, Tensor]]:
    return zip(P.edge_index.split(size, 1), P.weight.split(size), strict=True)


_REACH = 1e6
"""Bound of a single step, where the slope gives none."""
