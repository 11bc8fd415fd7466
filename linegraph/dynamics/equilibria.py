"""Equilibria of a dynamics on a network, reached from given starts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import pandas as pd
import torch
from torch import Tensor

from linegraph.arguments import check_number_of, check_tolerance
from linegraph.dynamics.consistency import check_model, check_order
from linegraph.dynamics.initial_states import starting_state
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.solvers.methods import check_applies, check_method, solve
from linegraph.dynamics.solvers.sweeps import Rest
from linegraph.dynamics.stability import judge, leading_eigenvalue
from linegraph.dynamics.system import System
from linegraph.errors import ConvergenceWarning, DataError
from linegraph.io.accept import AnyGraph, as_coupling, named_index
from linegraph.lazy import cached_property

__all__ = ["Equilibrium", "equilibrium", "solve_all"]


@dataclass(frozen=True)
class Equilibrium:
    """An equilibrium of a dynamics on a network.

    For a block of k starts every field but ``x`` and ``evaluations`` has one entry per start: a tensor (k,) of
    numbers, a tuple of k texts or truth values.

    Attributes:
        x: the state, (n,) or (n, k).
        residual: max_i |ẋ_i| there.
        converged: whether the residual is within the tolerance; if not, x is the best state found.
        evaluations: number of right-hand sides computed; those shared by several starts are counted once.
        reason: why it did not converge; None if it did.
    """

    x: Tensor
    residual: Any
    converged: Any
    evaluations: int
    reason: Any
    _system: System = field(repr=False, compare=False)

    @cached_property
    def leading_eigenvalue(self) -> Any:
        """The largest real part of an eigenvalue of the Jacobian at x; formed when first asked for.

        By strongly connected components where the edges are explicit (dense up to 400 nodes), else matrix-free. ±inf
        where slopes are infinite, as those of √x at 0; nan where infinite slopes compete, or nothing converges.
        """
        return self._of_each(lambda x: leading_eigenvalue(self._system.jacobian(x)))

    @cached_property
    def stability(self) -> Any:
        """``stable``, ``unstable``, ``marginal`` (the eigenvalue is 0 up to rounding, as at a fold) or ``unknown``."""
        values = iter(self.leading_eigenvalue if self.x.ndim == 2 else [self.leading_eigenvalue])
        return self._of_each(lambda x: judge(float(next(values)), self._system.jacobian(x)))

    @property
    def stable(self) -> Any:
        """True or False; None where marginal or unknown."""
        words = {"stable": True, "unstable": False}
        if self.x.ndim == 1:
            return words.get(self.stability)
        return tuple(words.get(word) for word in self.stability)

    def to_pandas(self) -> pd.Series | pd.DataFrame:
        """The state with the names of the nodes as index, or their numbers where they have none.

        ``x`` is a tensor whatever the network, as the next start or :func:`~linegraph.dynamics.reduce` takes it.

        Returns:
            A Series (n,), or a DataFrame (n, k) with a column for each start.

        Example:
            >>> import networkx as nx, linegraph as lg
            >>> pair = nx.Graph([("bee", "oak", {"weight": 2.5})])
            >>> lg.dynamics.equilibrium(pair, lg.dynamics.Regulatory(), "high").to_pandas().round(6).to_dict()
            {'bee': 2.0, 'oak': 2.0}
        """
        index, numbers = named_index(self._system.P), self.x.cpu().numpy()
        return pd.Series(numbers, index, name="x") if self.x.ndim == 1 else pd.DataFrame(numbers, index)

    def _of_each(self, function: Any) -> Any:
        if self.x.ndim == 1:
            return function(self.x)
        return tuple(function(x) for x in self.x.unbind(1))


@overload
def equilibrium(
    P: Sequence[AnyGraph],
    model: Dynamics,
    start: Any,
    *,
    method: str = ...,
    tol: float = ...,
    max_evaluations: int = ...,
) -> list[Equilibrium]: ...


@overload
def equilibrium(
    P: AnyGraph,
    model: Dynamics,
    start: float | str | Tensor,
    *,
    method: str = ...,
    tol: float = ...,
    max_evaluations: int = ...,
) -> Equilibrium: ...


def equilibrium(
    P: AnyGraph | Sequence[AnyGraph],
    model: Dynamics,
    start: Any,
    *,
    method: str = "auto",
    tol: float = 1e-8,
    max_evaluations: int = 20_000,
) -> Equilibrium | list[Equilibrium]:
    """The equilibrium that the flow ẋ_i = f(x_i) + Σ_j P_ij g(x_i, x_j) reaches from a start.

    ``method`` names the solver:

    - ``"sweeps"``: monotone sweeps. All nodes move at once towards the state in which their own rate would vanish if
      their neighbours stayed as they are, and never past it. Newton's method takes over where sweeps are slow, as near
      a fold. They arrive where the flow does, in some ten products. They need a flow that keeps the order of states: a
      cooperative model on explicit edges without negative weights. Several starts and graphs are swept together.
    - ``"flow"``: follows the flow in time (Dormand–Prince steps of ``torchdiffeq``). Newton's method gives the last
      digits once the state is near a stable equilibrium. For every model and network; some hundred right-hand sides or
      more.
    - ``"newton"``: Newton–Krylov steps from the start itself. For every model and network, and the fastest near an
      equilibrium. The root found may be unstable, or another than the one that the flow reaches: see ``stability``.
    - ``"auto"``: sweeps where the flow keeps the order of states, else the flow. A start from which the lower and the
      upper bound of the sweeps end apart also follows the flow, until sweeps from the state reached are decisive.

    The flow approaches an equilibrium at a fold like 1/t only; its x is accurate to √ε of the precision. The result
    does not depend on the unit of the states, if ``tol`` is given in the same unit.

    Args:
        P: any coupling or graph; or a list of them, such as perturbed copies of one network, which are solved
            together.
        model: the dynamics.
        start: ``"low"`` or ``"high"``, one number for all nodes, a state (n,), or a block of k starts (n, k): a
            tensor, an array, or a Series or DataFrame with the names of the nodes. For several graphs one start for all
            of them, or a list of one for each.
        method: ``"auto"``, ``"sweeps"``, ``"flow"`` or ``"newton"``.
        tol: bound of max |ẋ_i|, in units of the state per time. Where the precision of P does not reach it, the bound
            is the rounding error of ẋ, 16 ε times its largest terms. Equilibria closer to each other than ``tol`` are
            not told apart.
        max_evaluations: the largest number of right-hand sides in following the flow.

    Returns:
        An :class:`Equilibrium`; its stability is computed when first asked for. A list of them for several graphs.

    Raises:
        DataError: if P is no coupling, the method is unknown or does not apply, ``tol`` is not positive and finite,
            ``max_evaluations`` is no positive integer, or a start does not fit or lies outside the model's domain.
        NonFiniteError: if a start is NaN or infinite.
        UnsupportedOperationError: if the model needs explicit edges and P has none.
        DynamicsError: if a user's model contradicts itself, as where a slope is not the derivative of its term.

    Warns:
        ConvergenceWarning: if no equilibrium was reached; ``reason`` says why, for example that the flow leaves the
            model's domain, as it may with negative weights. The state of least residual comes back, with ``converged``
            False.

    Cost: some ten to a hundred products with P; memory of a few states beside P.

    Source: sweeps as in H. L. Smith, Monotone Dynamical Systems (1995); models of J. Gao, B. Barzel, A.-L. Barabási,
    Nature 530 (2016).

    Example:
        >>> import torch, linegraph as lg
        >>> pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.full((2,), 2.5).double())
        >>> found = lg.dynamics.equilibrium(pair, lg.dynamics.Regulatory(), "high")
        >>> found.x, found.stable  # the larger root of x² − 2.5 x + 1
        (tensor([2., 2.], dtype=torch.float64), True)
    """
    if isinstance(P, Sequence) and not isinstance(P, str):
        results = solve_all(P, model, start, method=method, tol=tol, max_evaluations=max_evaluations)
        _warn(results)
        return results
    results = solve_all([P], model, [start], method=method, tol=tol, max_evaluations=max_evaluations)
    _warn(results)
    return results[0]


def solve_all(
    graphs: Sequence[Any],
    model: Dynamics,
    start: Any,
    *,
    method: str = "auto",
    tol: float = 1e-8,
    max_evaluations: int = 20_000,
) -> list[Equilibrium]:
    """The equilibria of several graphs, as :func:`equilibrium` gives them, but without its warning."""
    check_method(method)
    check_tolerance(tol)
    check_number_of("max_evaluations", max_evaluations)
    starts = start if isinstance(start, list | tuple) else [start] * len(graphs)
    if len(starts) != len(graphs):
        raise DataError(f"there are {len(graphs)} graphs but {len(starts)} starts")
    if not graphs:
        return []
    graphs = [as_coupling(g) for g in graphs]
    states = [starting_state(g, model, s) for g, s in zip(graphs, starts, strict=True)]
    systems = [System(g, model) for g in graphs]
    for system in systems:
        check_applies(method, system)
    blocks = [x if x.ndim == 2 else x.unsqueeze(1) for x in states]
    looked_at = next((k for k, x in enumerate(states) if x.numel()), 0)
    check_model(systems[looked_at], states[looked_at])
    begin = blocks[looked_at][:, :1].clone()
    ends = solve(systems, blocks, method, tol, max_evaluations)
    if systems[looked_at].keeps_order and begin.numel():
        check_order(systems[looked_at], begin[:, 0], ends[looked_at][0].x)
    return [_result(s, end, batched=x.ndim == 2) for s, end, x in zip(systems, ends, states, strict=True)]


def _result(system: System, rests: list[Rest], *, batched: bool) -> Equilibrium:
    if not batched:
        rest = rests[0]
        return Equilibrium(rest.x, rest.residual, rest.reason is None, rest.evaluations, rest.reason, system)
    columns = [rest.x for rest in rests]
    P = system.P
    x = torch.stack(columns, 1) if columns else torch.empty(P.num_nodes, 0, dtype=P.dtype, device=P.device)
    return Equilibrium(
        x=x,
        residual=torch.tensor([rest.residual for rest in rests], dtype=torch.float64, device="cpu"),
        converged=torch.tensor([rest.reason is None for rest in rests], dtype=torch.bool, device="cpu"),
        evaluations=max((rest.evaluations for rest in rests), default=0),
        reason=tuple(rest.reason for rest in rests),
        _system=system,
    )


def _warn(results: list[Equilibrium]) -> None:
    reasons = [r for result in results for r in (result.reason if result.x.ndim == 2 else [result.reason])]
    failed = [reason for reason in reasons if reason is not None]
    if failed:
        which = "" if len(reasons) == 1 else f" from {len(failed)} of {len(reasons)} starts"
        warnings.warn(
            f"no equilibrium was reached{which}: {failed[0]}; the best state found is returned, converged=False",
            ConvergenceWarning,
            3,
        )
