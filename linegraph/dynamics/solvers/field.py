"""The velocity field of a network, and its integration by torchdiffeq."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from linegraph.dynamics.solvers.newton import newton
from linegraph.dynamics.solvers.sweeps import Rest
from linegraph.dynamics.system import System
from linegraph.errors import IntegrationError

__all__ = ["integrate"]


def integrate(field: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor, rtol: float, atol: float) -> Tensor:
    """The states of ẋ = field(t, x) at given times, (T, ...), by Dormand–Prince steps.

    Raises:
        IntegrationError: if a step becomes 0 or a state infinite.
    """
    from torchdiffeq import odeint

    try:
        with torch.no_grad():
            return odeint(field, x, times, method="dopri5", rtol=rtol, atol=atol, options={"norm": _of_worst_column})
    except AssertionError as error:  # raised by torchdiffeq where a step underflows
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
    """The right-hand side for torchdiffeq, up to a number of evaluations; raises where the flow leaves the domain."""

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
        """Called by torchdiffeq with the time at which a step began; the last evaluation was at its end."""
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
