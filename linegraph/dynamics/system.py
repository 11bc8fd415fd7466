"""A model on a network: the right-hand side, its Jacobian, and steps that cannot pass an equilibrium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import Edges, GraphCoupling
from linegraph.dynamics.models import BalancedDynamics, Dynamics, FactoredDynamics
from linegraph.dynamics.terms import are_elementwise, is_of_library, term_values
from linegraph.errors import UnsupportedOperationError
from linegraph.lazy import cached_property
from linegraph.linalg.gmres import RESTART
from linegraph.numerics import DEVICE_CHUNK

__all__ = ["Jacobian", "System"]

BLOCK = 1 << 15
"""Edges that a thread of a CPU handles at a time: the temporaries of a pair term, some ten numbers an edge, stay in the
cache of its core. Times are the same from half to twice as many."""


class System:
    """F(x) = f(x) + Σ_j P_ij g(x_i, x_j) for states (n,) or blocks of states (n, k).

    Factored models cost one product with P. Others need explicit edges and cost one pass over them, in the order of
    their targets and in blocks, so that temporaries are few and stay in the processor's cache: three to four products
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
        for edges in self.blocks_of_edges():
            for state, total in zip(columns, totals, strict=True):
                total.index_add_(0, edges.targets, self.on_edges(self.model.pair_term, state, edges))
        return totals.T.contiguous() if x.ndim == 2 else totals[0]

    def blocks_of_edges(self) -> Iterator[Edges]:
        """The edges of P, which must be explicit, in the order of their targets, some at a time."""
        P = self.P
        assert isinstance(P, GraphCoupling)
        size = BLOCK * torch.get_num_threads() if P.device.type == "cpu" else DEVICE_CHUNK
        return map(Edges, *(of_edges.split(size) for of_edges in P.by_target))

    def on_edges(self, term: Callable[..., Any], x: Tensor, edges: Edges) -> Tensor:
        """P_ij term(x_i, x_j) on some edges, for a state (n,)."""
        receivers, senders = x.index_select(0, edges.targets), x.index_select(0, edges.sources)
        return term_values(self.model, term, receivers, senders) * edges.weight

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

    Factored models multiply by J with one product with P. Others pass over the edges for each product, unless the
    slopes on all edges take no more memory than the basis of the Krylov method that asks for the products: then these
    are computed once, and a product costs one with P.
    """

    def __init__(self, system: System, x: Tensor, totals: Tensor | None = None) -> None:
        model = system.model
        self.system, self.x = system, x
        if isinstance(model, FactoredDynamics):
            own = system.values(model.receiving_slope, x) * (system.totals(x) if totals is None else totals)
        else:
            own = torch.zeros_like(x)
            for edges in system.blocks_of_edges():
                own.index_add_(0, edges.targets, self._slopes(0, edges))
        self.diagonal = system.values(model.self_slope, x) + own
        """f'(x_i) + Σ_j P_ij ∂g/∂x_i, (n,); loops add to J_ii what is in ``senders``."""

    def matvec(self, v: Tensor) -> Tensor:
        """J v."""
        system, model = self.system, self.system.model
        if isinstance(model, FactoredDynamics):
            arriving = system.P.matvec(system.values(model.sending_slope, self.x) * v)
            return self.diagonal * v + system.values(model.receiving, self.x) * arriving
        if self._keeps_slopes:
            return self.diagonal * v + self.senders.matvec(v)
        product = self.diagonal * v
        for edges in system.blocks_of_edges():
            product.index_add_(0, edges.targets, self._slopes(1, edges) * v.index_select(0, edges.sources))
        return product

    def rmatvec(self, v: Tensor) -> Tensor:
        """Jᵀ v."""
        system, model = self.system, self.system.model
        if isinstance(model, FactoredDynamics):
            arriving = system.P.rmatvec(system.values(model.receiving, self.x) * v)
            return self.diagonal * v + system.values(model.sending_slope, self.x) * arriving
        product = self.diagonal * v
        for edges in system.blocks_of_edges():
            product.index_add_(0, edges.sources, self._slopes(1, edges) * v.index_select(0, edges.targets))
        return product

    @property
    def _keeps_slopes(self) -> bool:
        return self.system.P.num_edges <= RESTART * len(self.x)

    @cached_property
    def senders(self) -> GraphCoupling:
        """P_ij ∂g/∂x_j(x_i, x_j) on the edges of P, which must be explicit."""
        P = self.system.P
        assert isinstance(P, GraphCoupling)
        slopes = torch.empty_like(P.by_target.weight)
        first = 0
        for edges in self.system.blocks_of_edges():
            slopes[first : first + len(edges.weight)] = self._slopes(1, edges)
            first += len(edges.weight)
        return P.with_weights_by_target(slopes)

    def _slopes(self, by_sender: int, edges: Edges) -> Tensor:
        """P_ij ∂g/∂x_i on some edges, or ∂g/∂x_j: 0 where the weight is 0, also where the slope is infinite."""
        model = self.system.model

        def pair_slope(receiver: Tensor, sender: Tensor) -> Any:
            return model.pair_slopes(receiver, sender)[by_sender]

        return self.system.on_edges(pair_slope, self.x, edges).masked_fill_(edges.weight == 0, 0)

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
