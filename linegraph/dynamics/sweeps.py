"""Monotone sweeps: the equilibrium that a cooperative flow reaches, without following the flow.

Where the flow keeps the order of states (g does not fall with x_j, no negative weight; Kamke, Müller), a state with
F ≤ 0 everywhere flows down to the largest equilibrium below it, a state with F ≥ 0 up to the smallest above it, and
steps that never pass an equilibrium arrive at the same one in a few products. A start with mixed signs is enclosed:
from the largest state below it with F ≥ 0 and the smallest above it with F ≤ 0 the flow ends where the start's does, if
both end at the same place.

Source: H. L. Smith, Monotone Dynamical Systems (1995); H. Amann, SIAM Review 18 (1976), for the iteration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from linegraph.dynamics.system import System, largest

__all__ = ["Rest", "Sweeps"]

OVERSHOOT, OVERSHOOT_BELOW = 3.0, 1e-2
"""Steps of an enclosing state below the second, relative to the state, are lengthened by the first."""

SETTLED = 1e-6
"""Relative change below which an enclosing state counts as one with F of a single sign."""


class Rest(NamedTuple):
    """Where one start ends: its state, max |F| there, right-hand sides formed, and why it is no equilibrium if so."""

    x: Tensor
    residual: float
    evaluations: int
    reason: str | None = None


@dataclass
class Sweeps:
    """Sequences of states: one for each start whose F has a single sign, a lower and an upper one for the others.

    Attributes:
        system: a cooperative model on a network without negative weights.
        states: (n, m), the present state of every sequence.
        lower: for each start its sequence, the lower one where there are two.
        upper: the other one, or the same.
        direction: (m,), +1 where a sequence may only rise so far, −1 where it may only fall, 0 where it is free.
        change: (n, m), the last step.
        ratio: size of the last step relative to the one before, over all sequences.
        evaluations: right-hand sides formed.
    """

    system: System
    states: Tensor
    lower: list[int]
    upper: list[int]
    direction: Tensor
    change: Tensor
    ratio: float = 1.0
    evaluations: int = 1

    @classmethod
    def begin(cls, system: System, starts: Tensor) -> Sweeps:
        """From starts (n, k)."""
        step = system.step(starts, system.totals(starts))
        slack = 4 * torch.finfo(starts.dtype).eps * starts.abs()
        mixed = ((step > slack).any(0) & (step < -slack).any(0)).nonzero().squeeze(1)
        k = starts.shape[1]
        lower = list(range(k))
        upper = lower.copy()
        for extra, start in enumerate(mixed.tolist()):
            upper[start] = k + extra
        direction = torch.zeros(k + len(mixed), dtype=starts.dtype, device=starts.device)
        direction[mixed], direction[k:] = -1, 1
        states = torch.cat([starts, starts[:, mixed]], 1) if len(mixed) else starts
        return cls(system, states, lower, upper, direction, torch.zeros_like(states))

    def run(self, tol: float, sweeps: int, *, merge: bool = False) -> None:
        """Sweep until every sequence rests with max |F| ≤ tol, or ``sweeps`` times.

        With ``merge``, lower and upper sequences become one when they are within 0.001 of each other: where sweeps
        converge fast, no two equilibria are so close.
        """
        eps = torch.finfo(self.states.dtype).eps
        guided = bool(self.direction.any())
        longest = math.inf
        for sweep in range(sweeps):
            totals = self.system.totals(self.states)
            step = self.system.step(self.states, totals)
            self.evaluations += 1
            if sweep % 16 == 0:
                reach = 1 + largest(self.states)
            if guided:
                guided = self._guide(step, reach)
                longest = math.inf
                continue
            before, longest = longest, largest(step)
            self.ratio = longest / before if longest else 0.0
            if longest <= max(tol, 4 * eps * reach):
                velocity = self.system.velocity(self.states, totals)
                if largest(velocity) <= max(tol, self.system.floor(self.states, totals)):
                    self.change = step
                    return
            if not math.isfinite(longest):
                return
            self.states, self.change = self.states + step, step
            if merge and sweep % 4 == 0 and self.lower != self.upper:
                self._merge(reach)

    def rested(self, start: int, tol: float, rows: slice = slice(None), system: System | None = None) -> Rest | None:
        """The end of one start, if its sequences have come to rest in one place.

        Of a network that is a part of this one, give its rows and its system.
        """
        system = system or self.system
        low, high = self.lower[start], self.upper[start]
        x = self.states[rows, low]
        if not x.numel():
            return Rest(x, 0.0, self.evaluations)
        if largest(self.states[rows, high] - x) > SETTLED * (1 + largest(x)):
            return None
        eps = torch.finfo(x.dtype).eps
        for sequence in {low, high}:
            # A last step much shorter than the tolerance, or steps that shrink: else the end may still be far.
            short = largest(self.change[rows, sequence]) <= max(1e-3 * tol, 4 * eps * (1 + largest(x)))
            if not short and (self.ratio > 0.9 or bool(self.direction[sequence])):
                return None
        totals = system.totals(x)
        residual = largest(system.velocity(x, totals))
        if residual > max(tol, system.floor(x, totals)):
            return None
        return Rest(x.clone(), residual, self.evaluations)

    def _guide(self, step: Tensor, reach: float) -> bool:
        """Steps in the directions allowed, until there are none; whether some sequence still has such steps to take.

        Late steps are lengthened, to go past the enclosing state and not up to it: a lower state below the largest one
        with F ≥ 0 still has the start above it, and one with F ≥ 0 strictly is reached in finitely many steps.
        """
        bound = torch.full_like(self.direction, math.inf)
        step = step.clamp(torch.where(self.direction > 0, 0, -bound), torch.where(self.direction < 0, 0, bound))
        sizes = step.abs().amax(0)
        late = (sizes < OVERSHOOT_BELOW * reach) & (self.direction != 0)
        longer = torch.where(late, OVERSHOOT, 1.0).to(step.dtype)
        after = self.system.clamp(self.states + longer * step)
        self.states, self.change = after, after - self.states
        self.direction[~(sizes > SETTLED * reach)] = 0
        return bool(self.direction.any())

    def _merge(self, reach: float) -> None:
        if largest(self.states[:, self.upper] - self.states[:, self.lower]) <= 1e-3 * reach:
            self.upper = self.lower
            self.states, self.change = self.states[:, self.lower].clone(), self.change[:, self.lower]
            self.direction = self.direction[self.lower]
