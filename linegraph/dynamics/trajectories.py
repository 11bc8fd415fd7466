"""The path of a network's state in time."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from linegraph.arguments import as_real, as_tensor
from linegraph.dynamics.consistency import check_model
from linegraph.dynamics.initial_states import starting_state
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.solvers.field import _Field, integrate
from linegraph.dynamics.system import System
from linegraph.errors import DataError
from linegraph.io.accept import AnyGraph, as_coupling

__all__ = ["trajectory"]


def trajectory(
    P: AnyGraph,
    model: Dynamics,
    start: float | str | Tensor,
    times: Iterable[float] | Tensor,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Tensor:
    """The states x(t) at given times, from ẋ_i = f(x_i) + Σ_j P_ij g(x_i, x_j).

    Args:
        P: any coupling or graph for factored models, explicit edges for others.
        model: the dynamics.
        start: as for :func:`~linegraph.dynamics.equilibrium`; the state at ``times[0]``.
        times: rising or falling, two or more, finite.
        rtol: tolerance of each step, relative to the state.
        atol: absolute tolerance of each step; not both of them 0.

    Returns:
        (T, n), or (T, n, k) for a block of starts; on P's device and in its precision. A tensor also where nodes have
        names, in the order of ``node_names``.

    Raises:
        DataError: if P is no coupling, or the start, the times or the tolerances do not fit.
        NonFiniteError: if a start is NaN or infinite.
        UnsupportedOperationError: if the model needs explicit edges and P has none.
        DynamicsError: if a user's model contradicts itself.
        IntegrationError: if the state leaves the model's domain or the range of numbers, or the equation is too stiff
            for explicit steps.

    Cost: six right-hand sides a step, by ``torchdiffeq``.

    Source: J. R. Dormand, P. J. Prince, Journal of Computational and Applied Mathematics 6 (1980).

    Example:
        >>> import torch, linegraph as lg
        >>> pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.full((2,), 3.0).double())
        >>> path = lg.dynamics.trajectory(pair, lg.dynamics.SIS(), "low", [0.0, 1.0, 20.0])
        >>> path[-1]
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """
    P = as_coupling(P)
    x = starting_state(P, model, start)
    wanted = "two or more finite numbers, all rising or all falling"
    times = list(times) if isinstance(times, Iterable) and not hasattr(times, "__array__") else times
    t = as_tensor("times", times, wanted, dtype=torch.float64, device=x.device)
    steps = t.diff() if t.ndim == 1 else t
    if t.ndim != 1 or len(t) < 2 or not bool(t.isfinite().all() & ((steps > 0).all() | (steps < 0).all())):
        raise DataError(f"times must be {wanted}")
    rtol, atol = as_real("rtol", rtol, 0), as_real("atol", atol, 0)
    if not rtol + atol > 0:
        raise DataError("rtol and atol are both 0; one of them must be positive")
    if not x.numel():
        return x.expand(len(t), *x.shape)
    system = System(P, model)
    check_model(system, x)
    field = _Field(system, backwards=bool(steps[0] < 0))
    return field.system.clamp(integrate(field, x, t, rtol, atol))
