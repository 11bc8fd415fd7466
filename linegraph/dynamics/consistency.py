"""Checks of a user's model: its slopes are the derivatives of its terms, and its velocity is the sum of its terms.

A wrong slope leaves the equilibrium right and its stability wrong. A term that is wrongly declared cooperative leads
sweeps to another equilibrium than that of the flow. Both are therefore compared with the terms at some states of the
domain, before and after a user's model is solved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.models import BalancedDynamics, Dynamics, FactoredDynamics
from linegraph.dynamics.system import System
from linegraph.dynamics.terms import is_of_library, name_of, slope_values, states_near, term_values
from linegraph.errors import DynamicsError

__all__ = ["check_model", "check_order", "check_theory"]

POINTS = 64
"""States at which the terms of small networks are compared."""

EDGES = 4096
"""Edges on which a cooperative model is checked."""

STEP = 1e-5
"""Step of finite differences, relative to the distance from 0 and from the ends of the domain."""

CLOSE = 1e-3
"""Relative difference from finite differences beyond which a slope counts as wrong."""

AT_REST = 1e-6
"""Relative difference up to which two numbers that should be equal count as equal."""


def check_model(system: System, start: Tensor) -> None:
    """Compare a model's terms, slopes and velocity on a network, at states near a start (n,) or (n, k).

    Raises:
        DynamicsError: names the term, the state and the contradiction.
    """
    model = system.model
    _check_domain(model)
    if is_of_library(model) or not start.numel():
        return
    start = start if start.ndim == 1 else start[:, 0]
    for draw in range(max(1, POINTS // len(start))):
        x = states_near(model, start, draw)
        _check_slope(model, model.self_term, model.self_slope, x)
        if isinstance(model, FactoredDynamics):
            _check_slope(model, model.receiving, model.receiving_slope, x)
            _check_slope(model, model.sending, model.sending_slope, x)
            _check_velocity(system, model, x)
        else:
            assert isinstance(system.P, GraphCoupling)
            sources, targets = system.P.edge_index[:, :POINTS]
            _check_pair(model, x[targets], x[sources])


def check_order(system: System, start: Tensor, end: Tensor) -> None:
    """Whether a model was cooperative on the way from a start (n,) to an end (n,), as sweeps take it to be.

    Raises:
        DynamicsError: if a term falls there that must not, or ``balance`` is not the one state to which a node moves.
    """
    model, P = system.model, system.P
    if is_of_library(model) or not isinstance(P, GraphCoupling) or not start.numel():
        return
    share = states_near(model, start)
    share = (share - share.min()) / ((share.max() - share.min()) or 1)
    x = (start + share.to(start) * (end - start)).clamp(*model.domain)
    sources, targets = P.edge_index[:, :EDGES]
    if isinstance(model, FactoredDynamics):
        slopes = [system.values(model.receiving, x)[targets] * system.values(model.sending_slope, x)[sources]]
    else:
        slopes = [*slope_values(model, x[targets], x[sources])[::-1]]
    for by, slope in zip(("sender", "receiver"), slopes, strict=False):
        falls = slope < -AT_REST * slope.abs().max() if len(slope) else slope.bool()
        if bool(falls.any()):
            edge = int(falls.nonzero()[0])
            a, b = float(x[targets[edge]]), float(x[sources[edge]])
            _refuse(
                model,
                f"its pair term falls with the state of the {by}, by {float(slope[edge]):.3g} at a receiver in state "
                f"{a:.6g} and a sender in {b:.6g}; a cooperative model's never does: set cooperative = False",
            )
    if isinstance(model, BalancedDynamics):
        total = system.totals(x)
        velocity, way = system.velocity(x, total), system.values(model.balance, total) - x
        slack = AT_REST * (system.values(model.self_term, x).abs() + x.abs())
        away = (velocity * way < 0) & (velocity.abs() > slack) & (way.abs() > slack)
        if bool(away.any()):
            node = int(away.nonzero()[0])
            _refuse(
                model,
                f"a node in state {float(x[node]):.6g} with the total {float(total[node]):.6g} moves away from its "
                f"balance, {float(x[node] + way[node]):.6g}; where a total holds several states, none of them can be "
                "the balance: make it a FactoredDynamics",
            )


def check_theory(model: Dynamics, x: Tensor) -> None:
    """Compare a model's terms and slopes for the one-dimensional theory, at states x (m,) inside its domain.

    Raises:
        DynamicsError: names the term, the state and the contradiction.
    """
    _check_domain(model)
    if is_of_library(model):
        return
    _check_slope(model, model.self_term, model.self_slope, x)
    _check_pair(model, x, x)
    if isinstance(model, FactoredDynamics):
        given = term_values(model, model.pair_term, x, x)
        parts = [term_values(model, term, x) for term in (model.receiving, model.sending)]
        differing = (given - parts[0] * parts[1]).abs() > AT_REST * given.abs()
        if bool(differing.any()):
            state = float(x[differing.nonzero()[0, 0]])
            _refuse(model, f"its pair_term is not receiving · sending, at {state:.6g}")


def _check_domain(model: Dynamics) -> None:
    low, high = model.domain
    if not low < high:
        _refuse(model, f"its domain ({low}, {high}) holds no states; the first number must be the smaller")


def _check_pair(model: Dynamics, x: Tensor, y: Tensor) -> None:
    _check_slope(model, model.pair_term, _part(model.pair_slopes, 0), x, y)
    _check_slope(model, _turned(model.pair_term), _part(model.pair_slopes, 1, turned=True), y, x)
    if len(x) > 1:
        whole, part = (_called(model, model.pair_term, *states) for states in ((x, y), (x[1:], y[1:])))
        if not torch.allclose(whole[1:], part, equal_nan=True):
            _refuse(model, "its pair_term of two states depends on others; it must be elementwise")


def _part(slopes: Callable[..., Any], k: int, *, turned: bool = False) -> Callable[..., Any]:
    def pair_slopes(x: Tensor, y: Tensor) -> Any:
        return slopes(*((y, x) if turned else (x, y)))[k]

    return pair_slopes


def _turned(term: Callable[..., Any]) -> Callable[..., Any]:
    def pair_term(y: Tensor, x: Tensor) -> Any:
        return term(x, y)

    return pair_term


def _check_slope(
    model: Dynamics, term: Callable[..., Any], slope: Callable[..., Any], x: Tensor, *others: Tensor
) -> None:
    """Whether a slope is the derivative of a term by x, to what finite differences of two widths agree on."""
    low, high = model.domain
    step = STEP * torch.stack([x.abs(), x - low, high - x]).amin(0)

    def differences(width: Tensor) -> tuple[Tensor, Tensor]:
        ahead, behind = (_called(model, term, state, *others) for state in (x + width, x - width))
        return (ahead - behind) / (2 * width), torch.maximum(ahead.abs(), behind.abs())

    (coarse, size), (fine, _) = differences(step), differences(step / 2)
    given = _called(model, slope, x, *others)
    found = (4 * fine - coarse) / 3
    slack = CLOSE * torch.maximum(given.abs(), found.abs()) + 2 * (fine - coarse).abs()
    slack = slack + 16 * _rounding(term(x, *others)) * size / step
    differing = (given - found).abs() > slack  # never where one of them is no finite number
    if bool(differing.any()):
        at = int(differing.nonzero()[0])
        where = ", ".join(f"{float(state[at]):.6g}" for state in (x, *others))
        _refuse(
            model,
            f"its {name_of(slope)} is {float(given[at]):.6g} at {where}, where {name_of(term)} changes by "
            f"{float(found[at]):.6g}; leave the slope out, and automatic differentiation finds it if the term is "
            "written in torch's operations",
        )


def _rounding(value: Any) -> float:
    precise = isinstance(value, Tensor) and value.is_floating_point()
    return torch.finfo(value.dtype if precise else torch.float64).eps


def _check_velocity(system: System, model: FactoredDynamics, x: Tensor) -> None:
    """Whether the velocity is f(x) + p(x) · total, and vanishes at the balance."""
    total = system.totals(x.to(system.P.dtype)).double()
    alone = _called(model, model.self_term, x)
    arriving = _called(model, model.receiving, x) * total
    given = _called(model, model.velocity, x, total)
    bound = max(AT_REST, 1e3 * _rounding(model.self_term(x))) * (alone.abs() + arriving.abs())
    differing = (given - alone - arriving).abs() > bound
    if bool(differing.any()):
        at = int(differing.nonzero()[0])
        _refuse(
            model,
            f"its velocity is {float(given[at]):.6g} at {float(x[at]):.6g} with the total {float(total[at]):.6g}, "
            f"where self_term + receiving · total is {float(alone[at] + arriving[at]):.6g}",
        )
    if isinstance(model, BalancedDynamics) and system.keeps_order:
        rest = _called(model, model.balance, total)
        low, high = model.domain
        parts = [_called(model, term, rest) for term in (model.self_term, model.receiving)]
        left = (parts[0] + parts[1] * total).abs()
        bound = AT_REST * (parts[0].abs() + (parts[1] * total).abs()) + AT_REST * (rest * parts[1]).abs()
        moving = (left > bound) & (rest >= low) & (rest <= high)
        if bool(moving.any()):
            at = int(moving.nonzero()[0])
            _refuse(
                model,
                f"its balance with the total {float(total[at]):.6g} is {float(rest[at]):.6g}, where self_term + "
                f"receiving · total is {float(parts[0][at] + parts[1][at] * total[at]):.6g}, not 0",
            )


def _called(model: Dynamics, term: Callable[..., Any], *states: Tensor) -> Tensor:
    """A term's values, of the shape of the states; the term must not change the states in place."""
    own = [state.clone() for state in states]
    try:
        value = term_values(model, term, *own)
    except RuntimeError as error:
        raise DynamicsError(
            f"{name_of(term)} of {type(model).__name__} fails at a state {tuple(states[0].shape)}: {error}; a "
            "parameter is one number or, on a network, one for each of its nodes"
        ) from error
    if not all(torch.equal(a, b) for a, b in zip(own, states, strict=True)):
        _refuse(model, f"its {name_of(term)} changes its argument in place; work on a copy of it")
    return value


def _refuse(model: Dynamics, why: str) -> NoReturn:
    raise DynamicsError(f"{type(model).__name__} contradicts itself: {why}")
