"""The flow in time, by adaptive Runge–Kutta steps of torchdiffeq.

Outside the model's domain the right-hand side is that of the nearest admissible state, so that a trial step beyond 0
takes no power of a negative number. The integration stops where a state at the end of the domain has a velocity that
points outward: the model does not hold beyond.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from linegraph.dynamics.solvers.field import _Exhausted, _Field, integrate
from linegraph.dynamics.solvers.newton import newton_step
from linegraph.dynamics.solvers.sweeps import Rest, Sweeps
from linegraph.dynamics.stability import judge, leading_eigenvalue
from linegraph.dynamics.system import System, largest
from linegraph.errors import IntegrationError

__all__ = ["settle"]

BEYOND = 1e12
"""Growth of the state at which it counts as unbounded."""


def settle(system: System, x: Tensor, tol: float, evaluations: int, *, sweeping: bool = True) -> Rest:
    """Follow the flow from a state x (n,) over time spans of doubling length until it is near an equilibrium.

    After each span the equilibrium ahead is looked for by sweeps where the flow keeps the order of states (unless
    ``sweeping`` is False), then by Newton's method. Newton's root counts as the equilibrium ahead if it is not unstable
    and

    - it is close to the present state, or
    - the order is not kept, the span has come at least 30 % nearer to it, and the flow on the way is nearly linear.

    An unstable root counts if the flow has stayed close to it for so long that it must end there. After ``evaluations``
    right-hand sides the state of least residual comes back, with a reason.
    """
    velocity = system(x)
    here = residual = largest(velocity)
    best = x
    field = _Field(system, tol, evaluations)
    time, span, reach = 0.0, 1.0, largest(x)
    while here > max(tol, system.floor(x, velocity)):
        try:
            times = torch.tensor([time, time + span], dtype=torch.float64, device=x.device)
            after = system.clamp(integrate(field, x, times, rtol=1e-7, atol=0.1 * tol)[-1])
        except _Exhausted:
            return Rest(best, residual, field.count, f"the state still moves after {evaluations:,} right-hand sides")
        except IntegrationError as error:
            return Rest(best, residual, field.count, str(error))
        before, x = x, after
        reach = reach or largest(x)
        if largest(x) > BEYOND * reach:
            return Rest(best, residual, field.count, "the state grows without bound")
        velocity = system(x)
        here = largest(velocity)
        if here < residual:
            best, residual = x, here
        if ahead := _ahead(field, before, x, span, tol, sweeping=sweeping):
            return ahead
        time, span = time + span, 2 * span
    return _beside(field, x, reach, tol) or Rest(x, here, field.count)


def _ahead(field: _Field, before: Tensor, x: Tensor, span: float, tol: float, *, sweeping: bool) -> Rest | None:
    """The equilibrium that the flow from ``before`` to x approaches, if that can be decided."""
    system = field.system
    if sweeping and system.keeps_order:
        sweeps = Sweeps(system, x.unsqueeze(1))
        ((rest,),) = sweeps.finish(tol)
        field.count += sweeps.evaluations
        if rest:
            return rest._replace(evaluations=field.count)
    root = field.root(x, tol)
    if root is None:
        return None
    near = _near(x, root.x, tol)
    nearer = largest(root.x - x) <= 0.7 * largest(root.x - before)
    # Where the order is kept and sweeps from both sides have not met, a root ahead may still be passed by. On the way
    # to a root at the end of the domain the flow may leave the domain.
    low, high = system.model.domain
    inside = bool(((root.x > low) & (root.x < high)).all())
    if near or (nearer and inside and not system.keeps_order and _nearly_linear(system, x, root.x)):
        return root if _attracts(system, root.x, span if near and _near(before, root.x, tol) else 0.0) else None
    return None


def _beside(field: _Field, x: Tensor, reach: float, tol: float) -> Rest | None:
    """The equilibrium near a state of small residual, if it is further away than the tolerance.

    Where the flow is slow, a small residual does not mean a small error; at a multiple root it is a power of the error.
    """
    root = field.root(x, tol)
    if root is None or not tol < largest(root.x - x) <= 1e-2 * reach:
        return None
    return root if _towards(field.system, x, root.x) and _attracts(field.system, root.x) else None


def _near(x: Tensor, root: Tensor, tol: float) -> bool:
    return bool(((root - x).abs() <= 1e-3 * x.abs() + tol).all())


def _nearly_linear(system: System, x: Tensor, root: Tensor) -> bool:
    """Whether one Newton step leads from x to the root, up to a tenth; else another equilibrium may be ahead."""
    way = root - x
    return largest(way - newton_step(system, x)) <= 0.1 * largest(way)


def _towards(system: System, x: Tensor, root: Tensor) -> bool:
    way, velocity = root - x, system(x)
    return float(velocity @ way) >= 0.5 * float(velocity.norm() * way.norm())


def _attracts(system: System, x: Tensor, beside: float = 0.0) -> bool:
    """Whether an equilibrium is not unstable, or the flow stayed near it longer than a rounding error takes to grow.

    The flow does end at a saddle from starts on its stable manifold, as from equal states in all nodes.
    """
    J = system.jacobian(x)
    value = leading_eigenvalue(J)
    return judge(value, J) != "unstable" or value * beside > -math.log(torch.finfo(x.dtype).eps)
