"""The terms of a model as tensors of one shape and precision, also where a user's model returns plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from linegraph.arguments import check_type
from linegraph.dynamics.models import BalancedDynamics, Dynamics, FactoredDynamics
from linegraph.errors import DynamicsError

__all__ = ["are_elementwise", "check_is_dynamics", "is_of_library", "name_of", "states_near", "term_values"]

GOLDEN = 0.618033988749895
"""The golden ratio less 1, whose multiples modulo 1 are evenly spread."""


def check_is_dynamics(model: Any) -> None:
    """Check that a model is an instance of a dynamics.

    Raises:
        ArgumentTypeError: if it is not.
    """
    check_type("model", model, Dynamics, "a dynamics, such as lg.dynamics.Regulatory()")


def is_of_library(model: Dynamics) -> bool:
    """Whether a model is one of linegraph's, whose terms are tested and take states of any shape."""
    return type(model).__module__ == Dynamics.__module__


def term_values(model: Dynamics, term: Callable[..., Any], *states: Tensor) -> Tensor:
    """A term of a model, one number for each entry of the states, in their precision and without a graph of autograd.

    Raises:
        DynamicsError: if the term gives another number of them.
    """
    x = states[0]
    value = torch.as_tensor(term(*states), dtype=x.dtype, device=x.device).detach()
    if value.shape == x.shape:
        return value
    if value.numel() != 1:
        raise DynamicsError(
            f"{name_of(term)} of {type(model).__name__} gives {tuple(value.shape)} at a state {tuple(x.shape)}; a term "
            "is one number, or one for every entry of the state"
        )
    return value.reshape(()).expand_as(x)


def name_of(term: Callable[..., Any]) -> str:
    """What a term is called in messages."""
    return getattr(term, "__name__", type(term).__name__)


def states_near(model: Dynamics, x: Tensor, draw: int = 0) -> Tensor:
    """States (n,) of the domain in double precision, from a hundredth to ten times as large as those of x (n,)."""
    low, high = model.domain
    places = torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device) + draw * len(x)
    share = (places * GOLDEN).frac()
    if max(abs(low), abs(high)) < float("inf"):
        return low + (high - low) * (0.02 + 0.96 * share)
    named = max((abs(float(start)) for start in model.starts.values()), default=0.0)
    size = (float(x.abs().max()) or named or 1.0) * 10 ** (3 * share - 2)
    if abs(low) < float("inf"):
        return low + size
    return high - size if abs(high) < float("inf") else torch.where(x < 0, -size, size)


def are_elementwise(model: Dynamics, x: Tensor) -> bool:
    """Whether the terms of a node depend on its own state only; not so where parameters are tensors (n,)."""
    terms: list[Callable[..., Any]] = [model.self_term]
    if isinstance(model, FactoredDynamics):
        terms += [model.receiving, model.sending]
    if isinstance(model, BalancedDynamics):
        terms.append(model.balance)
    x = states_near(model, x)
    for term in terms:
        try:
            whole, part = (term_values(model, term, state) for state in (x, x[1:]))
        except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
            return False
        if not torch.allclose(whole[1:], part, equal_nan=True):
            return False
    return True
