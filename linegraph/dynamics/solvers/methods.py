"""The methods by which :func:`linegraph.dynamics.equilibrium` finds an equilibrium, by name, and where each applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.solvers.batches import rests_of_graphs
from linegraph.dynamics.solvers.flow import settle
from linegraph.dynamics.solvers.newton import newton
from linegraph.dynamics.solvers.sweeps import Rest, Sweeps
from linegraph.dynamics.system import System
from linegraph.errors import DataError

__all__ = ["METHODS", "check_applies", "check_method", "solve"]

Solver = Callable[[System, Tensor, float, int], Rest]
"""From a system, a start (n,), a tolerance and the largest number of right-hand sides to where the start ends."""


def automatic(system: System, x: Tensor, tol: float, limit: int) -> Rest:
    """Sweeps where the flow keeps the order of states; the flow where it does not, or where sweeps do not decide."""
    if not system.keeps_order:
        return settle(system, x, tol, limit)
    sweeps = Sweeps(system, x.unsqueeze(1))
    ((rest,),) = sweeps.finish(tol)
    if rest is not None:
        return rest
    end = settle(system, x, tol, limit)
    return end._replace(evaluations=sweeps.evaluations + end.evaluations)


def by_sweeps(system: System, x: Tensor, tol: float, limit: int) -> Rest:
    """Monotone sweeps and, where these are slow, Newton's method within the bounds that they set."""
    sweeps = Sweeps(system, x.unsqueeze(1))
    ((rest,),) = sweeps.finish(tol)
    if rest is not None:
        return rest
    state, residual = sweeps.best()
    reason = "sweeps from below and from above did not end in one place; method='flow' follows the flow to its end"
    return Rest(state, residual, sweeps.evaluations, reason)


def by_flow(system: System, x: Tensor, tol: float, limit: int) -> Rest:
    """The flow in time, then Newton's method once the state is near an equilibrium."""
    return settle(system, x, tol, limit, sweeping=False)


def by_newton(system: System, x: Tensor, tol: float, limit: int) -> Rest:
    """Newton–Krylov steps from the start itself."""
    root = newton(system, x, tol)
    velocity = system(root.x)
    residual, evaluations = float(root.residual[0]), root.evaluations + 1
    if residual <= max(tol, system.floor(root.x, velocity)):
        return Rest(root.x, residual, evaluations)
    reason = f"Newton's method came to a stop where max |F| = {residual:.3g}; method='flow' follows the flow"
    return Rest(root.x, residual, evaluations, reason)


METHODS: dict[str, Solver] = {"auto": automatic, "sweeps": by_sweeps, "flow": by_flow, "newton": by_newton}
"""The names that ``method`` takes."""

SWEEPING = {"auto", "sweeps"}
"""Methods that solve all starts and graphs by the same sweeps where the flow keeps the order of states."""


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        DataError: lists the methods.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise DataError(f"unknown method {method!r}; choose one of {', '.join(map(repr, METHODS))}")


def check_applies(method: str, system: System) -> None:
    """Refuse sweeps where the flow does not keep the order of states, on which they rely.

    Raises:
        DataError: says what stands against the method, and lists those that apply.
    """
    if method != "sweeps" or system.keeps_order:
        return
    model, P = type(system.model).__name__, system.P
    if not system.model.cooperative:
        why = f"{model} is not cooperative: the rate of a node may fall with the state of a neighbour"
    elif not isinstance(P, GraphCoupling):
        why = f"{type(P).__name__} has no explicit edges, so that the signs of its weights are not known"
    else:
        why = f"the smallest weight is {float(P.weight.min()):g}, and no weight may be negative"
    others = ", ".join(repr(name) for name in METHODS if name != "sweeps")
    raise DataError(f"method 'sweeps' does not apply: {why}; choose one of {others}")


def solve(systems: Sequence[System], starts: Sequence[Tensor], method: str, tol: float, limit: int) -> list[list[Rest]]:
    """Where each system ends from each column of its starts (n, k).

    Args:
        systems: one model on one or more networks.
        starts: a block (n, k) for each system; overwritten.
        method: one of :data:`METHODS` that applies to every system.
        tol: bound of max |F|.
        limit: right-hand sides after which following the flow is given up.

    Returns:
        For each system a list of k ends.
    """
    alone = METHODS[method]

    def one_start(system: System, x: Tensor) -> Rest:
        return alone(system, x, tol, limit)

    def swept(some: Sequence[System], blocks: Sequence[Tensor]) -> list[list[Rest]]:
        graphs: list[Any] = [system.P for system in some]
        model: Dynamics = some[0].model
        return rests_of_graphs(graphs, model, blocks, tol, one_start)

    def together(system: System) -> bool:
        return method in SWEEPING and system.keeps_order and system.nodes_are_alike

    alike = len({(s.P.dtype, s.P.device, x.shape[1]) for s, x in zip(systems, starts, strict=True)}) == 1
    if alike and starts[0].shape[1] and any(len(x) for x in starts) and all(map(together, systems)):
        return swept(systems, starts)
    ends = []
    for system, block in zip(systems, starts, strict=True):
        if not len(block):
            ends.append([Rest(x, 0.0, 0) for x in block.unbind(1)])
        elif together(system):
            ends += swept([system], [block])
        else:
            ends.append([one_start(system, x) for x in block.unbind(1)])
    return ends
