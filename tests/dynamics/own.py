"""Models of one's own that use what the base classes offer, each beside the same equations written out in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from linegraph import dynamics


class Crowded(dynamics.BalancedDynamics):
    """p = 1/(1 + x), which falls; every slope is left to automatic differentiation."""

    domain = (0.0, math.inf)
    starts: ClassVar = {"low": 0.0, "high": 9.0}
    cooperative = True

    def self_term(self, x):
        return -x

    def receiving(self, x):
        return 1 / (1 + x)

    def sending(self, y):
        return y**2 / (1 + y**2)

    def balance(self, total):
        return (torch.sqrt(1 + 4 * total) - 1) / 2


class CrowdedByHand(Crowded):
    """The same with every slope, the velocity and the products written out."""

    def self_slope(self, x):
        return -1.0

    def receiving_slope(self, x):
        return -1 / (1 + x) ** 2

    def sending_slope(self, y):
        return 2 * y / (1 + y**2) ** 2

    def velocity(self, x, total):
        return total / (1 + x) - x

    def pair_term(self, x, y):
        return y**2 / ((1 + x) * (1 + y**2))

    def pair_slopes(self, x, y):
        return -(y**2) / ((1 + x) ** 2 * (1 + y**2)), 2 * y / ((1 + x) * (1 + y**2) ** 2)


class CrowdedAlongTheFlow(dynamics.FactoredDynamics):
    """The same without its balance, and not said to be cooperative."""

    domain = (0.0, math.inf)
    starts: ClassVar = {"low": 0.0, "high": 9.0}

    self_term = Crowded.self_term
    receiving = Crowded.receiving
    sending = Crowded.sending


class CrowdedWithoutBalance(CrowdedAlongTheFlow):
    """Cooperative, with p falling and no balance known."""

    cooperative = True


class Eager(dynamics.FactoredDynamics):
    """p = 0.2 + x², which rises, with parameters that are tensors, one of them learnable."""

    domain = (0.0, math.inf)
    starts: ClassVar = {"low": 0.0, "high": 4.0}
    cooperative = True

    def __init__(self):
        self.decay = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.offset = torch.tensor(0.2, dtype=torch.float64)

    def self_term(self, x):
        return 0.1 - self.decay * x - 0.5 * x**3

    def receiving(self, x):
        return self.offset + x**2

    def sending(self, y):
        return y / (1 + y)


class Saturated(dynamics.BalancedDynamics):
    """p = (1 − x)², between two finite ends of the domain."""

    domain = (0.0, 1.0)
    starts: ClassVar = {"low": 0.02, "high": 1.0}
    cooperative = True

    def self_term(self, x):
        return -x

    def receiving(self, x):
        return (1 - x) ** 2

    def sending(self, y):
        return y

    def balance(self, total):
        return 2 * total / (2 * total + 1 + torch.sqrt(4 * total + 1))


class Waves(dynamics.FactoredDynamics):
    """States of both signs, p = exp(−x²/4) and q = tanh y; for weights of both signs."""

    starts: ClassVar = {"low": -2.0, "high": 2.0}

    def self_term(self, x):
        return 0.3 - x

    def receiving(self, x):
        return torch.exp(-(x**2) / 4)

    def sending(self, y):
        return torch.tanh(y)

    def receiving_slope(self, x):
        return -x / 2 * torch.exp(-(x**2) / 4)


class Feeding(dynamics.Dynamics):
    """A pair term that does not factor, cooperative, with nothing else written out."""

    domain = (0.0, math.inf)
    starts: ClassVar = {"low": 0.0, "high": 6.0}
    cooperative = True

    def self_term(self, x):
        return 0.2 + x * (1 - x / 4) * (x - 1)

    def pair_term(self, x, y):
        return x * y / (3 + x + y)


class Competing(dynamics.Dynamics):
    """A pair term that does not factor and falls, with slopes that are plain numbers where they are constant."""

    domain = (0.0, math.inf)
    starts: ClassVar = {"low": 0.1, "high": 3.0}

    def self_term(self, x):
        return x * (2 - x)

    def self_slope(self, x):
        return 2 - 2 * x

    def pair_term(self, x, y):
        return -x * y / (4 + y)

    def pair_slopes(self, x, y):
        return -y / (4 + y), -4 * x / (4 + y) ** 2


class Own(NamedTuple):
    """A model, its f and g(x, y) for numbers and arrays, and whether weights of both signs belong to it."""

    model: dynamics.Dynamics
    f: Callable
    g: Callable
    signed: bool = False


def crowded(x, y):
    return y**2 / (1 + y**2) / (1 + x)


MODELS = {
    "crowded": Own(Crowded(), lambda x: -x, crowded),
    "by hand": Own(CrowdedByHand(), lambda x: -x, crowded),
    "along the flow": Own(CrowdedAlongTheFlow(), lambda x: -x, crowded),
    "no balance": Own(CrowdedWithoutBalance(), lambda x: -x, crowded),
    "eager": Own(Eager(), lambda x: 0.1 - 1.5 * x - 0.5 * x**3, lambda x, y: (0.2 + x**2) * y / (1 + y)),
    "saturated": Own(Saturated(), lambda x: -x, lambda x, y: (1 - x) ** 2 * y),
    "waves": Own(Waves(), lambda x: 0.3 - x, lambda x, y: np.exp(-(x**2) / 4) * np.tanh(y), True),
    "feeding": Own(Feeding(), lambda x: 0.2 + x * (1 - x / 4) * (x - 1), lambda x, y: x * y / (3 + x + y)),
    "competing": Own(Competing(), lambda x: x * (2 - x), lambda x, y: -x * y / (4 + y)),
}


def edges_of(own, n, seed, scale=1.0, density=3.0):
    """Random edges (source, target, weight), parallel ones and loops among them."""
    rng = np.random.default_rng(seed)
    count = int(density * n)
    weight = rng.uniform(0.2, 1.5, count) * scale
    if own.signed:
        weight *= rng.choice([-1, 1], count)
    return [*zip(rng.integers(0, n, count).tolist(), rng.integers(0, n, count).tolist(), weight.tolist(), strict=True)]


def velocity(own, edges, x):
    """F(x), edge by edge."""
    sources, targets, weights = (np.array(part) for part in zip(*edges, strict=True))
    found = np.array(own.f(x) + 0 * x)
    np.add.at(found, targets, weights * own.g(x[targets], x[sources]))
    return found


def jacobian(own, edges, x, step=1e-6):
    """∂F/∂x by central differences of F."""
    columns = []
    for node in range(len(x)):
        away = np.zeros(len(x))
        away[node] = step
        columns.append((velocity(own, edges, x + away) - velocity(own, edges, x - away)) / (2 * step))
    return np.array(columns).T


def flow(own, edges, start, times):
    """x at given times, (T, n), by LSODA."""
    found = solve_ivp(
        lambda _, x: velocity(own, edges, x),
        (times[0], times[-1]),
        start,
        method="LSODA",
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
    )
    assert found.success
    return found.y.T


def roots(own, beta, x):
    """Roots of f + β g(x, x) between neighbours of a grid x, with the sign of the slope there."""

    def F(x):
        return own.f(x) + beta * own.g(x, x)

    values = F(x)
    found = [float(at) for at in x[values == 0]]
    for a, b in pairwise(x):
        if F(a) * F(b) < 0:
            found.append(brentq(F, a, b, xtol=1e-14))
    return [(root, F(root + 1e-6) < F(root - 1e-6)) for root in sorted(found)]
