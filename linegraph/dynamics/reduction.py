"""The one-dimensional theory: the state of a network as one number, x_eff, and its prediction from β_eff."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from linegraph.arguments import as_real, as_tensor
from linegraph.dynamics.consistency import check_theory
from linegraph.dynamics.initial_states import named_start
from linegraph.dynamics.models import Dynamics, EdgeDynamics
from linegraph.dynamics.roots import Scalar, _all_roots, _roots, _vanishes
from linegraph.dynamics.terms import check_is_dynamics, term_values
from linegraph.errors import DataError
from linegraph.io.accept import AnyGraph, as_coupling, without_names
from linegraph.metrics.neural_capacitance import capacitance

__all__ = [
    "Bifurcation",
    "Branch",
    "Reduced",
    "bifurcations",
    "branch_curves",
    "branches",
    "mean_field_state",
    "reduce",
    "tipping_points",
]

SAMPLES = 4_000
"""Points per sign of x between which roots are bracketed: 200 a decade."""

_EPS = float(np.finfo(np.float64).eps)


class Reduced(NamedTuple):
    """A network's state and its coupling, each reduced to one number; what :func:`reduce` returns.

    Attributes:
        x_eff: (1ᵀPx)/(1ᵀP1), the mean of the states weighted by out-strength, in units of the state; a float, or (k,)
            for a block of k states.
        beta_eff: (1ᵀPP1)/(1ᵀP1), the effective coupling, in units of P.
    """

    x_eff: float | Tensor
    beta_eff: float


class Branch(NamedTuple):
    """A root of f(x) + β g(x, x) = 0, an equilibrium of the one-dimensional theory.

    Attributes:
        x: the root, in units of the state.
        stable: whether the derivative by x there is negative; None where it vanishes, at a fold.
    """

    x: float
    stable: bool | None


class Bifurcation(NamedTuple):
    """Where a state of the one-dimensional theory appears or disappears.

    Attributes:
        beta: the critical β.
        x: the state.
        kind: ``fold``, where two branches meet and end; ``transcritical``, where a branch crosses the one that
            holds for every β, such as that of nobody infected, or ends on it at the end of the domain; ``pitchfork``,
            where two branches leave that one towards the same side of β.
    """

    beta: float
    x: float
    kind: str


def reduce(P: AnyGraph, x: Tensor) -> Reduced:
    """The mean-field reduction of a network in state x.

        x_eff = (1ᵀ P x)/(1ᵀ P 1) = Σ_j δ_out,j x_j / Σ_j δ_out,j,    β_eff = (1ᵀ P P 1)/(1ᵀ P 1)

    The state of the whole network then approximately follows ẋ_eff = f(x_eff) + β_eff g(x_eff, x_eff).

    Args:
        P: any coupling or graph.
        x: a state (n,), or a block (n, k): a tensor, an array, or a Series or DataFrame with the names of the nodes.

    Returns:
        :class:`Reduced`; both numbers are nan where 1ᵀP1 vanishes.

    Raises:
        DataError: if P is no coupling or the state does not fit.

    Warns:
        DegenerateCapacitanceWarning: if 1ᵀP1 vanishes.

    Cost: two products.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]]), torch.ones(4).double())
        >>> lg.dynamics.reduce(star, torch.tensor([3.0, 1.0, 1.0]).double())
        Reduced(x_eff=2.0, beta_eff=1.5)
    """
    P = as_coupling(P)
    wanted = f"a state ({P.num_nodes},) or a block ({P.num_nodes}, k)"
    x = as_tensor("x", without_names(P, x), wanted, dtype=torch.float64, device=P.device)
    if x.ndim not in (1, 2) or x.shape[0] != P.num_nodes:
        raise DataError(f"expected a state ({P.num_nodes},) or a block ({P.num_nodes}, k), got {tuple(x.shape)}")
    found = capacitance(P)
    if math.isnan(found.beta_eff):
        return Reduced(math.nan if x.ndim == 1 else x.new_full(x.shape[1:], math.nan), math.nan)
    weighted = P.out_strength().to(torch.float64) @ x / found.denominator
    return Reduced(float(weighted) if x.ndim == 1 else weighted, found.beta_eff)


def branches(model: Dynamics, beta: float) -> list[Branch]:
    """All roots of f(x) + β g(x, x) = 0 in the model's domain, in ascending order, with their stability.

    The function is evaluated at 200 points a decade of |x| from 10⁻¹⁰ to 10¹⁰. Brent's method refines each root between
    two points of opposite sign, and each extremum between two points; an extremum of value 0 is a root at a fold.

    Args:
        model: the dynamics, whose parameters are numbers.
        beta: the coupling β, in units of P.

    Returns:
        A list of :class:`Branch`; empty if there is no root.

    Raises:
        DataError: if β is not finite, or the drive of :class:`~linegraph.dynamics.EdgeDynamics` is not one number.
        DynamicsError: if a user's model contradicts itself, as where a slope is not the derivative of its term.

    Cost: a few thousand evaluations of f and g; some milliseconds.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import linegraph as lg
        >>> [(round(x, 4), stable) for x, stable in lg.dynamics.branches(lg.dynamics.Regulatory(), 2.5)]
        [(0.0, True), (0.5, False), (2.0, True)]
    """
    check_is_dynamics(model)
    beta = as_real("beta", beta)
    roots = _all_roots(_flow(model, beta), _slope(model, beta), _points(model))
    return [Branch(root, _stable(model, beta, root)) for root in roots]


def bifurcations(model: Dynamics) -> list[Bifurcation]:
    """The β ≥ 0 at which equilibria of ẋ = f(x) + β g(x, x) appear or disappear, in ascending order.

    Along a branch β(x) = −f(x)/g(x, x). A fold is a root of dβ/dx, that is of f' g − f dg/dx, which Brent's method
    finds without a grid over β. A state at which f and g both vanish is an equilibrium for every β. Another branch
    meets it at the limit of β(x): −f'/(dg/dx) if these are finite and not both 0, else extrapolated from either side.

    Args:
        model: the dynamics, whose parameters are numbers.

    Returns:
        A list of :class:`Bifurcation`.

    Raises:
        DataError: if the drive of :class:`~linegraph.dynamics.EdgeDynamics` is not one number.
        DynamicsError: if a user's model contradicts itself, as where a slope is not the derivative of its term.

    Cost: some thousand evaluations of f and g; some milliseconds.

    Source: S. H. Strogatz, Nonlinear Dynamics and Chaos (1994), chapter 3.

    Example:
        >>> import linegraph as lg
        >>> lg.dynamics.bifurcations(lg.dynamics.SIS())
        [Bifurcation(beta=1.0, x=0.0, kind='transcritical')]
    """
    check_is_dynamics(model)

    def turning(x: np.ndarray) -> np.ndarray:
        f, f_slope, g, g_slope = _terms(model, x)
        with np.errstate(invalid="ignore"):
            one, other = f_slope * g, f * g_slope
            value = one - other
            return np.where(np.abs(value) <= 32 * _EPS * (np.abs(one) + np.abs(other)), 0, value)

    everywhere = _permanent(model)
    found = [b for state in everywhere for b in _meetings(model, state)]
    for root in _roots(turning, _points(model)):
        alone, _, pair, _ = (float(term[0]) for term in _terms(model, np.array([root])))
        if pair != 0 and not any(abs(root - z) <= 1e-4 * max(abs(z), 1e-4) for z in everywhere):
            found.append(Bifurcation(-alone / pair, root, "fold"))
    return sorted(b for b in found if math.isfinite(b.beta) and b.beta >= 0)


def tipping_points(model: Dynamics) -> list[float]:
    """The critical β ≥ 0 at which states of the one-dimensional theory appear or disappear, in ascending order.

    :func:`bifurcations` tells the states and the kinds too.

    Args:
        model: the dynamics, whose parameters are numbers.

    Returns:
        A list of numbers, in units of P.

    Raises:
        DataError: if the drive of :class:`~linegraph.dynamics.EdgeDynamics` is not one number.
        DynamicsError: if a user's model contradicts itself.

    Cost: that of :func:`bifurcations`.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import linegraph as lg
        >>> [round(beta, 6) for beta in lg.dynamics.tipping_points(lg.dynamics.Regulatory())]  # minimum of x + 1/x
        [2.0]
    """
    return [b.beta for b in bifurcations(model)]


def mean_field_state(model: Dynamics, beta: float, start: float | str) -> float:
    """The equilibrium that ẋ = f(x) + β g(x, x) reaches from a start: the one-dimensional prediction of x_eff.

    Args:
        model: the dynamics, whose parameters are numbers.
        beta: the coupling β, such as the ``beta_eff`` of a network, in units of P.
        start: one of the model's named starts, such as ``"high"``, or a state.

    Returns:
        The state; nan if the flow reaches no equilibrium.

    Raises:
        DataError: if the model has no start of that name, the start lies outside its domain, or β is not finite.
        DynamicsError: if a user's model contradicts itself.

    Cost: that of :func:`branches`.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016).

    Example:
        >>> import linegraph as lg
        >>> round(lg.dynamics.mean_field_state(lg.dynamics.Regulatory(), 2.5, "high"), 6)
        2.0
    """
    check_is_dynamics(model)
    x = named_start(model, start)
    low, high = model.domain
    if not low <= x <= high:
        raise DataError(f"the start {x:g} is outside the domain [{low:g}, {high:g}] of {type(model).__name__}")
    roots = [branch.x for branch in branches(model, beta)]
    alone, _, pair, _ = (float(term[0]) for term in _terms(model, np.array([x])))
    velocity, rounding = alone + beta * pair, 16 * _EPS
    if abs(velocity) <= rounding * (abs(alone) + abs(beta * pair)):
        return x
    if at := [root for root in roots if abs(root - x) <= rounding * abs(x)]:
        return at[0]
    ahead = [root for root in roots if (root > x if velocity > 0 else root < x)]
    return (min(ahead) if velocity > 0 else max(ahead)) if ahead else math.nan


def branch_curves(model: Dynamics, beta_max: float) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """The branches as curves for 0 ≤ β ≤ ``beta_max``: pieces of (β, x, stable), cut where the stability changes.

    Along a branch β(x) = −f(x)/g(x, x), which needs no roots; states that are equilibria for every β are lines.
    """
    ends = [b.x for beta in (0.0, beta_max) for b in branches(model, beta)]
    everywhere = _permanent(model)
    x = np.setdiff1d(np.r_[_points(model), [b.x for b in bifurcations(model)], ends], everywhere)
    f, f_slope, g, g_slope = _terms(model, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = -f / g
        slack = 1e-9 * beta_max
        inside = np.isfinite(beta) & (beta >= -slack) & (beta <= beta_max + slack)
        stable = f_slope + np.where(inside, beta, 0) * g_slope < 0
    pieces = []
    for run in np.split(np.arange(len(x)), np.flatnonzero(np.diff(inside * 2 + (inside & stable))) + 1):
        if inside[run[0]] and len(run) > 1:
            pieces.append((beta[run], x[run], bool(stable[run[0]])))
    for state in everywhere:
        betas = np.linspace(0, beta_max, 1001)
        stable = _attracts(model, state, betas)
        for part in np.split(np.arange(len(betas)), np.flatnonzero(np.diff(stable)) + 1):
            if len(part) > 1:
                pieces.append((betas[part], np.full(len(part), state), bool(stable[part[0]])))
    return pieces


def _attracts(model: Dynamics, state: float, betas: np.ndarray) -> np.ndarray:
    """For which β a state that is an equilibrium for every β is stable.

    Decided by the derivative or, where that is 0 or nan, by the direction of the flow on both sides.
    """
    low, high = model.domain
    away = 1e-4 * abs(state) or 1e-8
    beside = np.array([x for x in (state - away, state + away) if low <= x <= high])
    _, f_slope, _, g_slope = _terms(model, np.array([state]))
    f, _, g, _ = _terms(model, beside)
    with np.errstate(invalid="ignore"):
        slope = f_slope + betas * g_slope
    back = ((f + betas[:, None] * g) * (beside - state) < 0).all(1)
    attracts: np.ndarray = np.where(np.isnan(slope) | (slope == 0), back, slope < 0)
    return attracts


def _permanent(model: Dynamics) -> list[float]:
    """The states at which f and g both vanish, which are equilibria for every β."""

    def alone(x: np.ndarray) -> np.ndarray:
        return _terms(model, x)[0]

    def pair(x: np.ndarray) -> np.ndarray:
        return _terms(model, x)[2]

    x = _points(model)
    if not pair(x).any():  # without coupling, β says nothing of any state
        return []
    roots = np.array(_all_roots(pair, lambda x: _terms(model, x)[3], x))
    states: list[float] = roots[_vanishes(alone, roots, x[0], x[-1])].tolist()
    return states


def _meetings(model: Dynamics, state: float) -> list[Bifurcation]:
    """Where branches meet a state that is an equilibrium for every β: at the limits of −f/g on either side."""
    _, f_slope, _, g_slope = (float(term[0]) for term in _terms(model, np.array([state])))
    exact = math.nan
    if math.isfinite(f_slope) and (f_slope or g_slope):
        exact = -f_slope / g_slope if g_slope else math.inf
    low, high = model.domain
    away = abs(state) * np.array([1e-2, 1e-3, 1e-4]) if state else np.array([1e-6, 1e-8, 1e-10])
    sides = [x for x in (state - away, state + away) if low <= x.min() and x.max() <= high]
    limits, ahead = [], []
    for x in sides:
        f, _, g, _ = _terms(model, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            beta = -f / g
        limits.append(_limit(beta) if math.isnan(exact) else exact)
        ahead.append(np.sign(beta[0] - limits[-1]))
    if len(limits) == 2 and math.isclose(*limits, rel_tol=1e-6):
        return [Bifurcation(limits[0], state, "pitchfork" if ahead[0] == ahead[1] else "transcritical")]
    return [Bifurcation(limit, state, "transcritical") for limit in limits]


def _limit(values: np.ndarray) -> float:
    """The limit of three values at geometrically shrinking distances (Aitken); 0 or nan for power laws."""
    first, second, third = values
    if not np.isfinite(values).all() or abs(third - second) > 0.1 * abs(third):
        return 0.0 if abs(third) < 0.9 * abs(second) < 0.81 * abs(first) else math.nan
    before, last = second - first, third - second
    return float(third - (last * last / (last - before) if abs(last) < abs(before) else 0))


def _terms(model: Dynamics, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """f, f', g(x, x) and its derivative along the diagonal."""
    state = torch.from_numpy(np.asarray(x, dtype=np.float64))

    def pair_slope(x: Tensor) -> Tensor:
        by_receiver, by_sender = model.pair_slopes(x, x)
        return by_receiver + by_sender

    def pair_term(x: Tensor) -> Tensor:
        return model.pair_term(x, x)

    terms = (model.self_term, model.self_slope, pair_term, pair_slope)
    return tuple(term_values(model, term, state).numpy() for term in terms)  # type: ignore[return-value]


def _flow(model: Dynamics, beta: float) -> Scalar:
    def flow(x: np.ndarray) -> np.ndarray:
        f, _, g, _ = _terms(model, x)
        return f + beta * g

    return flow


def _slope(model: Dynamics, beta: float) -> Scalar:
    def slope(x: np.ndarray) -> np.ndarray:
        _, f, _, g = _terms(model, x)
        with np.errstate(invalid="ignore"):  # infinite slopes that compete
            return f + beta * g

    return slope


def _stable(model: Dynamics, beta: float, x: float) -> bool | None:
    points = np.clip([x, 0.99 * x, 1.01 * x], *model.domain)
    _, f, _, g = _terms(model, points)
    with np.errstate(invalid="ignore"):
        g = beta * g if beta else np.zeros_like(g)
        slopes = f + g
    slope = float(slopes[0])
    if math.isinf(slope):
        return slope < 0
    # At a fold x is known to √ε only, and the slope vanishes no better.
    if not abs(slope) > max(1e-6 * (abs(f[0]) + abs(g[0])), 1e-5 * np.abs(slopes[1:]).min()):
        return None
    return slope < 0


def _points(model: Dynamics) -> np.ndarray:
    """Points of the domain, 200 a decade of |x|."""
    if isinstance(model, EdgeDynamics) and torch.as_tensor(model.drive).ndim:
        raise DataError("the one-dimensional theory has one equation for all nodes: the drive must be one number")
    away = np.logspace(-10, 10, SAMPLES)
    low, high = model.domain
    points = np.r_[-away[::-1], 0, away]
    inside = points[(points > low) & (points < high)]
    moderate = inside[(np.abs(inside) > 1e-3) & (np.abs(inside) < 1e3)]
    check_theory(model, torch.from_numpy(moderate[7::20]))
    found: np.ndarray = np.r_[[low] if math.isfinite(low) else [], inside, [high] if math.isfinite(high) else []]
    return found
