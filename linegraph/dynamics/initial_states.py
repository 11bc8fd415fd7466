"""Initial states of a network: from names, numbers or tensors."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from linegraph.arguments import as_real, as_tensor
from linegraph.coupling.base import Coupling
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.system import largest
from linegraph.dynamics.terms import check_is_dynamics
from linegraph.errors import DataError, NonFiniteError
from linegraph.io.accept import without_names

__all__ = ["named_start", "starting_state"]


def named_start(model: Dynamics, start: float | str) -> float:
    """The number that a start's name stands for, or the number itself.

    Raises:
        DataError: if the name is unknown, or the number is none.
    """
    if not isinstance(start, str):
        return as_real("start", start)
    if start not in model.starts:
        known = ", ".join(map(repr, model.starts)) or "no named starts"
        name = type(model).__name__
        raise DataError(f"{name} has no start {start!r}, only {known}; or pass a number or a tensor (n,)")
    return model.starts[start]


def starting_state(P: Coupling, model: Dynamics, start: float | str | Tensor) -> Tensor:
    """A start as a tensor (n,) or (n, k) in P's precision: a name, one number for all nodes, or the state itself.

    Raises:
        ArgumentTypeError: if the model is no dynamics.
        DataError: if the name is unknown, the shape does not fit, or a state is complex or outside the model's domain.
        NonFiniteError: if a state is NaN or infinite.
    """
    check_is_dynamics(model)
    name = type(model).__name__
    if isinstance(start, str):
        start = named_start(model, start)
    start = without_names(P, start)
    if start.is_complex() if isinstance(start, Tensor) else np.iscomplexobj(start):
        raise DataError("the start is complex; states are real numbers")
    wanted = f"a name, a number or a tensor ({P.num_nodes},)"
    x = as_tensor("start", start, wanted, dtype=P.dtype, device=P.device)
    if x.ndim == 0:
        x = x.expand(P.num_nodes)
    if x.ndim > 2 or x.shape[0] != P.num_nodes:
        raise DataError(f"the start must be a number, ({P.num_nodes},) or ({P.num_nodes}, k), got {tuple(x.shape)}")
    if not math.isfinite(largest(x)):
        raise NonFiniteError(f"the start of node {_first(~x.isfinite())} is NaN or infinite")
    low, high = model.domain
    if x.numel() and (x.min() < low or x.max() > high):
        outside = (x < low) | (x > high)
        node = _first(outside)
        value = float(x[node] if x.ndim == 1 else x[node][outside[node]][0])
        raise DataError(f"the start of node {node} is {value:g}, outside the domain [{low:g}, {high:g}] of {name}")
    return x.clone()


def _first(where: Tensor) -> int:
    return int(where.nonzero()[0, 0])
