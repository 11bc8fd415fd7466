"""The flow in time, by adaptive Runge–Kutta steps of torchdiffeq.

Outside the model's domain the right-hand side is that of the nearest admissible state, so that a step which probes
beyond 0 meets no power of a negative number. A state at the end of the domain whose velocity points outward is where
the flow leaves it: the model says nothing of what follows, and neither does the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.dynamics.consistency import check_model
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.newton import newton, newton_step
from linegraph.dynamics.stability import judge, leading_eigenvalue
from linegraph.dynamics.starts import starting_state
from linegraph.dynamics.sweeps import Rest, Sweeps
from linegraph.dynamics.system import System, largest
from linegraph.errors import DataError, IntegrationError
from linegraph.metrics.requirements import as_coupling

__all__ = ["integrate", "settle", "trajectory"]

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
        P: any coupling or PyG ``Data`` for factored models, explicit edges for others.
        model: the dynamics.
        start: as for :func:`~linegraph.dynamics.equilibrium`; the state at ``times[0]``.
        times: rising or falling, two or more, finite.
        rtol: tolerance of each step, relative to the state.
        atol: absolute tolerance of each step; not both of them 0.

    Returns:
        (T, n), or (T, n, k) for a block of starts; on P's device and in its precision.

    Raises:
        DataError: if P is no coupling, or the start, the times or the tolerances do not fit.
        NonFiniteError: if a start is NaN or infinite.
        UnsupportedOperationError: if the model needs explicit edges and P has none.
        DynamicsError: if a model of one's own contradicts itself.
        IntegrationError: if the state leaves the model's domain or the range of numbers, or the equation is too stiff
            for explicit steps.

    Cost: six right-hand sides a step (Dormand–Prince of order 5), by ``torchdiffeq``.

    Example:
        >>> import torch, linegraph as lg
        >>> pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.full((2,), 3.0).double())
        >>> path = lg.dynamics.trajectory(pair, lg.dynamics.SIS(), "low", [0.0, 1.0, 20.0])
        >>> path[-1]
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """
    P = as_coupling(P)
    x = starting_state(P, model, start)
    t = times if isinstance(times, Tensor) else torch.tensor(list(times), dtype=torch.float64)
    t = t.to(device=x.device, dtype=torch.float64)
    steps = t.diff()
    if t.ndim != 1 or len(t) < 2 or not bool(t.isfinite().all() & ((steps > 0).all() | (steps < 0).all())):
        raise DataError("times must be two or more finite numbers, all rising or all falling")
    if not (0 <= rtol < math.inf and 0 <= atol < math.inf and rtol + atol > 0):
        raise DataError(f"rtol and atol must be finite, 0 or more and not both 0, got {rtol} and {atol}")
    if not x.numel():
        return x.expand(len(t), *x.shape)
    system = System(P, model)
    check_model(system, x)
    field = _Field(system, backwards=bool(steps[0] < 0))
    return field.system.clamp(integrate(field, x, t, rtol, atol))


def settle(system: System, x: Tensor, tol: float, evaluations: int) -> Rest:
    """Follow the flow from x (n,) over spans of doubling length until the state ahead is found.

    After each span, by sweeps where the flow keeps the order of states, and by Newton's method: its root is taken for
    the state ahead if it is close by, or, where the order is not kept, if the span has come at least 30 % nearer to it
    and the flow on the way there is nearly linear; and if it is not unstable, or the flow has been beside it for so
    long that it must end there. Ends with a reason and the state of least residual after the given number of
    right-hand sides.
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
        if ahead := _ahead(field, before, x, span, tol):
            return ahead
        time, span = time + span, 2 * span
    return _beside(field, x, reach, tol) or Rest(x, here, field.count)


def _ahead(field: _Field, before: Tensor, x: Tensor, span: float, tol: float) -> Rest | None:
    """The equilibrium that the flow from one state to the other is heading for, if it can be told."""
    system = field.system
    if system.keeps_order:
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
    # Where the order is kept, what sweeps do not enclose is still undecided, however well the flow aims at a root; and
    # on the way to one at the end of the domain it may leave that.
    low, high = system.model.domain
    inside = bool(((root.x > low) & (root.x < high)).all())
    if near or (nearer and inside and not system.keeps_order and _nearly_linear(system, x, root.x)):
        return root if _attracts(system, root.x, span if near and _near(before, root.x, tol) else 0.0) else None
    return None


def _beside(field: _Field, x: Tensor, reach: float, tol: float) -> Rest | None:
    """The equilibrium that a state at rest within the tolerance is heading for, if it is not within that, too.

    Where the flow is slow, a small residual does not mean a small distance; at a multiple root it is a power of that.
    """
    root = field.root(x, tol)
    if root is None or not tol < largest(root.x - x) <= 1e-2 * reach:
        return None
    return root if _towards(field.system, x, root.x) and _attracts(field.system, root.x) else None


def _near(x: Tensor, root: Tensor, tol: float) -> bool:
    return bool(((root - x).abs() <= 1e-3 * x.abs() + tol).all())


def _nearly_linear(system: System, x: Tensor, root: Tensor) -> bool:
    """Whether one Newton step goes from x to the root, to a tenth; where it does not, basins of others may begin."""
    way = root - x
    return largest(way - newton_step(system, x)) <= 0.1 * largest(way)


def _towards(system: System, x: Tensor, root: Tensor) -> bool:
    way, velocity = root - x, system(x)
    return float(velocity @ way) >= 0.5 * float(velocity.norm() * way.norm())


def _attracts(system: System, x: Tensor, beside: float = 0.0) -> bool:
    """Whether an equilibrium is not unstable, or the flow stayed beside it longer than a rounding would.

    The flow ends on a saddle from states that are alike, or 0, where it is unstable towards others only.
    """
    J = system.jacobian(x)
    value = leading_eigenvalue(J)
    return judge(value, J) != "unstable" or value * beside > -math.log(torch.finfo(x.dtype).eps)


def integrate(field: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor, rtol: float, atol: float) -> Tensor:
    """The states of ẋ = field(t, x) at given times, (T, ...), by Dormand–Prince steps.

    Raises:
        IntegrationError: if a step becomes 0 or a state infinite.
    """
    from torchdiffeq import odeint

    try:
        with torch.no_grad():
            return odeint(field, x, times, method="dopri5", rtol=rtol, atol=atol, options={"norm": _of_worst_column})
    except AssertionError as error:  # torchdiffeq's way to say so
        raise IntegrationError(
            f"the integration broke down ({str(error).split('{')[0].strip()}): the state leaves the range of numbers, "
            "or the equation is too stiff for explicit steps"
        ) from None


def _of_worst_column(errors: Tensor) -> Tensor:
    """The root mean square over nodes, so that each state of a block (n, k) is as accurate as alone."""
    return errors.square().mean(0).sqrt().max()


class _Exhausted(Exception):
    """The right-hand sides allowed are used up."""


class _Field:
    """The right-hand side as torchdiffeq calls it, up to a number of evaluations; it tells where the domain is left."""

    def __init__(
        self, system: System, tol: float = 0.0, evaluations: float = math.inf, *, backwards: bool = False
    ) -> None:
        self.system, self.left, self.count = system, evaluations, 0
        self._tol, self._sign = tol, -1 if backwards else 1
        self._bounded = any(map(math.isfinite, system.model.domain))

    def __call__(self, time: Tensor, x: Tensor) -> Tensor:
        if self.count >= self.left:
            raise _Exhausted
        self.count += 1
        velocity = self.system(self.system.clamp(x) if self._bounded else x)
        self._x, self._velocity = x, velocity
        if self.count == 1:
            self._watch(float(time))
        return velocity

    def root(self, x: Tensor, tol: float) -> Rest | None:
        """The root that Newton's method finds from x."""
        found = newton(self.system, x, tol)
        self.count += found.evaluations
        return Rest(found.x, float(found.residual[0]), self.count) if found.found[0] else None

    def callback_accept_step(self, time: Tensor, _: Tensor, step: Tensor) -> None:
        """Called by torchdiffeq with the begin of a step; what was evaluated last is its end."""
        self._watch(float(time) + self._sign * float(step))

    def _watch(self, time: float) -> None:
        if not self._bounded:
            return
        low, high = self.system.model.domain
        ahead = self._sign * self._velocity
        outward = torch.where(self._x <= low, -ahead, 0) + torch.where(self._x >= high, ahead, 0)
        fastest = float(outward.max())
        if not fastest > self._tol:
            return
        x = self.system.clamp(self._x)
        if fastest > self.system.floor(x, self._velocity):
            node = int(outward.argmax()) // (x.shape[1] if x.ndim == 2 else 1)
            name = type(self.system.model).__name__
            raise IntegrationError(
                f"the flow leaves the domain [{low:g}, {high:g}] of {name}: at t = {time:g} "
                f"node {node} is at its end and moves outward at {fastest:g}"
            )
