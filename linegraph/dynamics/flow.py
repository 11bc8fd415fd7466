"""The flow in time, by adaptive Runge–Kutta steps of torchdiffeq."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.newton import newton
from linegraph.dynamics.stability import judge, leading_eigenvalue
from linegraph.dynamics.starts import starting_state
from linegraph.dynamics.sweeps import Rest, Sweeps
from linegraph.dynamics.system import System, largest
from linegraph.errors import DataError, IntegrationError

__all__ = ["settle", "trajectory"]

ENCLOSING = 64
"""Sweeps after each span of the flow, to see whether what lies ahead is decided."""

BEYOND = 1e12
"""A state that has grown by this factor has no equilibrium ahead."""


def trajectory(
    P: Coupling,
    model: Dynamics,
    start: float | str | Tensor,
    times: Iterable[float] | Tensor,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Tensor:
    """The states x(t) at given times, from ẋ_i = f(x_i) + Σ_j P_ij g(x_i, x_j).

    Args:
        P: any coupling for factored models, explicit edges for others.
        model: the dynamics.
        start: as for :func:`~linegraph.dynamics.equilibrium`; the state at ``times[0]``.
        times: rising or falling, two or more.
        rtol: tolerance of each step, relative to the state.
        atol: absolute tolerance of each step.

    Returns:
        (T, n), or (T, n, k) for a block of starts; on P's device and in its precision.

    Raises:
        DataError: if the start or the times do not fit.
        IntegrationError: if the state leaves the range of numbers, or the equation is too stiff for explicit steps.

    Cost: six right-hand sides a step (Dormand–Prince of order 5), by ``torchdiffeq``.

    Example:
        >>> import torch, linegraph as lg
        >>> pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.full((2,), 3.0).double())
        >>> path = lg.dynamics.trajectory(pair, lg.dynamics.SIS(), "low", [0.0, 1.0, 20.0])
        >>> path[-1]
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """
    x = starting_state(P, model, start)
    t = times if isinstance(times, Tensor) else torch.tensor(list(times), dtype=torch.float64)
    t = t.to(device=x.device, dtype=torch.float64)
    steps = t.diff()
    if t.ndim != 1 or len(t) < 2 or not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise DataError("times must be two or more numbers, all rising or all falling")
    if not x.numel():
        return x.expand(len(t), *x.shape)
    return _integrate(System(P, model), x, t, rtol, atol)


def settle(system: System, x: Tensor, tol: float, evaluations: int) -> Rest:
    """Follow the flow from x (n,) over spans of doubling length until the state ahead is found.

    After each span, by sweeps where the flow keeps the order of states, and by Newton's method: its root is taken for
    the state ahead if it is close by, or, where the order is not kept, if the span has come at least 30 % nearer to it
    and the velocity points there (within 60°); and if it is not unstable. Ends with a reason and the state of least
    residual after the given number of right-hand sides.
    """
    best, residual = x, system.residual(x)
    limited = _Limited(system, evaluations)
    limit = BEYOND * (1 + largest(x))
    span, reason = 1.0, None
    while residual > max(tol, system.floor(x, system.totals(x))):
        try:
            times = torch.tensor([0.0, span], dtype=torch.float64, device=x.device)
            after = _integrate(limited, x, times, rtol=1e-7, atol=1e-9)[-1]
        except _Exhausted:
            reason = f"the state still moves after {evaluations:,} right-hand sides"
            break
        except IntegrationError as error:
            reason = str(error)
            break
        before, x, span = x, after, 2 * span
        if largest(system.clamp(x) - x) > 1e-6 * (1 + largest(x)):
            reason = f"the flow leaves the domain {list(system.model.domain)} of {type(system.model).__name__}"
            break
        if largest(x) > limit:
            reason = "the state grows without bound"
            break
        if (here := system.residual(x)) < residual:
            best, residual = x, here
        if ahead := _ahead(limited, before, system.clamp(x), tol):
            return ahead
    return Rest(best, residual, limited.count, reason)


def _ahead(limited: _Limited, before: Tensor, x: Tensor, tol: float) -> Rest | None:
    """The equilibrium that the flow from one state to the other is heading for, if it can be told."""
    system = limited.system
    if system.keeps_order:
        sweeps = Sweeps(system, x.unsqueeze(1))
        sweeps.run(tol, ENCLOSING, merge=True)
        limited.count += sweeps.evaluations
        if rest := sweeps.rested(0, tol):
            return rest._replace(evaluations=limited.count)
    root = newton(system, x, tol)
    if not bool(root.found):
        return None
    limited.count += root.evaluations
    way, velocity = root.x - x, system(x)
    near = largest(way) <= 1e-3 * (1 + largest(x))
    nearer = largest(way) <= 0.7 * largest(root.x - before)
    towards = float(velocity @ way) >= 0.5 * float(velocity.norm() * way.norm())
    # Where the order is kept, what sweeps do not enclose is still undecided, however well the flow aims at a root.
    aimed = nearer and towards and not system.keeps_order
    if not (near or aimed) or not _attracts(system, root.x):
        return None
    return Rest(root.x, float(root.residual), limited.count)


def _attracts(system: System, x: Tensor) -> bool:
    J = system.jacobian(x)
    return judge(leading_eigenvalue(J), J) != "unstable"


def _integrate(system: System | _Limited, x: Tensor, times: Tensor, rtol: float, atol: float) -> Tensor:
    from torchdiffeq import odeint

    try:
        with torch.no_grad():
            return odeint(lambda _, y: system(y), x, times, method="dopri5", rtol=rtol, atol=atol)
    except AssertionError as error:  # torchdiffeq's way to say that a step became 0 or a state infinite
        raise IntegrationError(
            f"the integration broke down ({str(error).split('{')[0].strip()}): the state leaves the range of numbers, "
            "or the equation is too stiff for explicit steps"
        ) from None


class _Exhausted(Exception):
    """The right-hand sides allowed are used up."""


class _Limited:
    """The right-hand side, up to a number of evaluations."""

    def __init__(self, system: System, evaluations: int) -> None:
        self.system, self.left, self.count = system, evaluations, 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.count >= self.left:
            raise _Exhausted
        self.count += 1
        return self.system(x)
