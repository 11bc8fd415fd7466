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
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from linegraph.dynamics.newton import newton
from linegraph.dynamics.parts import Parts
from linegraph.dynamics.system import System, largest

__all__ = ["Rest", "Sweeps"]

SWEEPS = 64
"""Sweeps before Newton's method is tried; only slow convergence, near a fold, needs more."""

LONGEST = 4096
"""Sweeps before the flow itself is followed."""

OVERSHOOT, OVERSHOOT_BELOW = 3.0, 2e-3
"""Steps of an enclosing state below the second, relative to the state, are lengthened by the first."""

FAST = 0.8
"""Steps that shrink at least by this factor come to rest soon; near a fold they do not."""

SLOW = 1e-2
"""Nodes whose step is at least this share of the largest are those that are waited for."""

SETTLED = 1e-6
"""Relative change of every node below which an enclosing state counts as one with F of a single sign, and relative
distance of every node below which two sequences have met; the tolerance is added, which decides where a state is 0."""

MOST = 0.85
"""Once this share of a batch is done, the rest is left to be finished apart."""


class Rest(NamedTuple):
    """Where one start ends: its state, max |F| there, right-hand sides formed, and why it is no equilibrium if so."""

    x: Tensor
    residual: float
    evaluations: int
    reason: str | None = None


class Sweeps:
    """Sequences of states: one for each start whose F has a single sign, a lower and an upper one for the others.

    Args:
        system: a cooperative model on a network without negative weights.
        starts: (n, k).
        parts: numbers of nodes of the disjoint parts of the network, which come to rest each on its own; one part by
            default.

    Attributes:
        states: (n, m), the present state of every sequence.
        evaluations: right-hand sides formed.
    """

    def __init__(self, system: System, starts: Tensor, parts: Sequence[int] | None = None) -> None:
        self.system = system
        self._parts = Parts([len(starts)] if parts is None else parts, starts.device)
        totals = system.totals(starts)
        step = system.step(starts, totals)
        slack = 4 * torch.finfo(starts.dtype).eps * starts.abs()
        mixed = ((step > slack).any(0) & (step < -slack).any(0)).nonzero().squeeze(1)
        k = starts.shape[1]
        self._lower = list(range(k))
        self._upper = self._lower.copy()
        for extra, start in enumerate(mixed.tolist()):
            self._upper[start] = k + extra
        # +1 where a sequence may only rise so far, −1 where it may only fall, 0 where it is free; by part.
        direction = torch.zeros(k + len(mixed), dtype=starts.dtype, device=starts.device)
        direction[mixed], direction[k:] = -1, 1
        self._direction = direction.repeat(len(self._parts), 1)
        self._directed = self._direction != 0
        self._allowed: tuple[Tensor, Tensor] | None = None  # bounds of steps by the directions, for every node
        self._sizes = torch.full_like(self._direction, math.inf)
        self._left_out = torch.zeros(len(self._parts), k, dtype=torch.bool, device=starts.device)
        twice = [*range(k), *mixed.tolist()]
        self.states = starts[:, twice] if len(mixed) else starts
        self._totals: Tensor | None = totals[:, twice] if len(mixed) else totals
        self._last = self._before = self._sizes  # of the last two steps, the largest by part
        self._velocity: Tensor | None = None
        self._floor = 0.0
        self.evaluations = 1

    @property
    def guided(self) -> bool:
        """Whether enclosing states are still being looked for."""
        return bool(self._direction.any())

    def run(self, tol: float, sweeps: int = SWEEPS, *, leave: bool = False) -> None:
        """Sweep until every sequence rests with max |F| ≤ tol and has met its partner, or ``sweeps`` times.

        Lower and upper sequences that rest apart end it too. With ``leave``, a few parts of a batch may still move.
        """
        if not self.states.numel():
            return
        eps = torch.finfo(self.states.dtype).eps
        guided = self.guided and not self._mostly_free()
        self._velocity = None
        for sweep in range(sweeps):
            totals, self._totals = self._totals, None
            if totals is None:
                totals = self.system.totals(self.states)
                self.evaluations += 1
            step = self.system.step(self.states, totals)
            if sweep % 16 == 0:
                reach = self._parts.largest(self.states)
                bound = (4 * eps * reach).clamp_min(tol)
            if guided:
                guided = self._guide(step, reach, tol)
                continue
            sizes = self._parts.largest(step)
            longest = float((sizes / bound).max())
            if not math.isfinite(longest):
                return
            self._before, self._last = self._last, sizes
            if longest <= 1 or (leave and sweep % 8 == 7 and len(self._parts) > 1):
                velocity = self.system.velocity(self.states, totals)
                floor = self.system.floor(self.states, totals)
                moving = sizes > (4 * eps * reach).clamp_min(1e-3 * tol)
                done = self._parts.largest(velocity) <= max(tol, floor)
                # Partners that still move may meet yet.
                ended = self._met(max(tol, floor)) | ~(moving[:, self._lower] | moving[:, self._upper])
                done = done[:, self._lower] & done[:, self._upper] & ended
                if bool(done.all()) or (leave and float(done.all(1).double().mean()) >= MOST):
                    self._velocity, self._floor = velocity, floor
                    return
            self.states = step.add_(self.states)

    def rested(self, start: int, tol: float, part: int = 0) -> Rest | None:
        """The end of one start in one part, if its sequences have come to rest in one place of the domain."""
        rows = self._parts.slice(part)
        low, high = self._lower[start], self._upper[start]
        x = self.states[rows, low]
        if not x.numel():
            return Rest(x, 0.0, self.evaluations)
        if bool(self._left_out[part, start]):
            return None
        eps = torch.finfo(x.dtype).eps
        scale = largest(x)
        for sequence in {low, high}:
            # A last step much shorter than the tolerance, or steps that shrink: else the end may still be far.
            last, before = float(self._last[part, sequence]), float(self._before[part, sequence])
            if last > max(1e-3 * tol, 4 * eps * scale) and (
                last > 0.9 * before or bool(self._direction[part, sequence])
            ):
                return None
        if self._velocity is None:
            totals = self.system.totals(self.states)
            self._velocity = self.system.velocity(self.states, totals)
            self._floor = self.system.floor(self.states, totals)
            self.evaluations += 1
        residual, bound = largest(self._velocity[rows, low]), max(tol, self._floor)
        inside = self.system.clamp(x)
        if residual > bound or largest(inside - x) > bound or not bool(self._met(bound)[part, start]):
            return None
        return Rest(inside.clone(), residual, self.evaluations)

    def finish(self, tol: float) -> list[list[Rest | None]]:
        """The ends of all starts in every part, by sweeps and Newton's method in turn.

        None where the flow may end in one of several places, or too late to tell.
        """
        starts = range(len(self._lower))
        found: list[list[Rest | None]] = [[None for _ in starts] for _ in self._parts.sizes]
        sweeps = SWEEPS
        while sweeps <= LONGEST:
            earlier = self.states
            self.run(tol, sweeps // 2)
            self._extrapolate(tol, earlier)
            earlier = self.states
            self.run(tol, sweeps // 2)
            found = _first_of(found, [[self.rested(k, tol, part) for k in starts] for part in range(len(self._parts))])
            if any(None in rests for rests in found):
                found = _first_of(found, self._heading(tol, earlier))
            open_ = torch.tensor([[rest is None for rest in rests] for rests in found], device="cpu")
            if not bool((open_ & ~self._undecided(tol).cpu()).any()):
                break
            sweeps *= 2
        return found

    def _met(self, tol: float) -> Tensor:
        """Where lower and upper sequences are in one place, (parts, starts)."""
        if self._lower == self._upper:
            return torch.ones_like(self._left_out)
        low, high = self.states[:, self._lower], self.states[:, self._upper]
        return self._parts.within(high - low, _near(high, tol))

    def _undecided(self, tol: float) -> Tensor:
        """Where lower and upper sequences are apart, or still to be found, (parts, starts)."""
        enclosing = (self._direction[:, self._lower] != 0) | (self._direction[:, self._upper] != 0)
        return ~self._met(tol) | self._left_out | enclosing

    def _extrapolate(self, tol: float, earlier: Tensor) -> None:
        """Bring nodes that come to rest too slowly there by Newton's method, the others held.

        Near a fold such nodes approach their place like 1/t. The place must lie in the direction allowed, and no
        further than twice the way from the ``earlier`` states (n, m) to the present ones.
        """
        found = self.states.clone()
        for sequence, x in enumerate(self.states.unbind(1)):
            direction = self._parts.spread(self._direction[:, sequence])
            step = self.system.step(x, self.system.totals(x))
            self.evaluations += 1
            step = torch.where(step * direction < 0, 0, step)
            size = self._parts.spread(self._parts.largest(step))
            waited_for = (size > tol) & (step.abs() >= SLOW * size)
            if not bool(waited_for.any()):
                continue
            root = newton(self.system, x, tol, ~waited_for, self._parts)
            self.evaluations += root.evaluations
            moved = root.x - x
            ways = torch.stack([(moved * -direction).clamp_min(0), moved, x - earlier[:, sequence]], 1)
            against, far, before = self._parts.largest(ways).unbind(1)
            rounding = 1e-9 * self._parts.largest(x)
            there = root.found & (against <= rounding) & (far <= 2 * before + rounding)
            found[:, sequence] = torch.where(self._parts.spread(there), root.x, x)
        self.states = found
        self._totals = self._velocity = None

    def _heading(self, tol: float, earlier: Tensor) -> list[list[Rest | None]]:
        """The roots that Newton's method finds from all sequences of a start alike, if they are heading there.

        Where they are heading is no further than twice what the sweeps since the ``earlier`` states have moved.
        """
        roots = [newton(self.system, x, tol, parts=self._parts) for x in self.states.unbind(1)]
        self.evaluations += sum(root.evaluations for root in roots)
        ends, found = torch.stack([r.x for r in roots], 1), torch.stack([r.found for r in roots], 1)
        residual = torch.stack([r.residual for r in roots], 1)
        size, far, before = (self._parts.largest(v) for v in (self.states, ends - self.states, self.states - earlier))
        there = found & (far <= 2 * before + 1e-9 * size) & (self._direction == 0)
        low, high = self._lower, self._upper
        alike = self._parts.within(ends[:, low] - ends[:, high], 1e-5 * ends[:, low].abs() + tol)
        fine = (there[:, low] & there[:, high] & alike & ~self._left_out).tolist()
        better = [[a if r[a] <= r[b] else b for a, b in zip(low, high, strict=True)] for r in residual.tolist()]
        return [
            [
                Rest(x[:, k].clone(), float(r[k]), self.evaluations) if is_fine else None
                for k, is_fine in zip(columns, row, strict=True)
            ]
            for x, r, columns, row in zip(ends.split(self._parts.sizes), residual, better, fine, strict=True)
        ]

    def _guide(self, step: Tensor, reach: Tensor, tol: float) -> bool:
        """Steps in the directions allowed, until there are none; whether some sequence still has such steps to take.

        Late steps are lengthened, to go past the enclosing state and not up to it: a lower state below the largest one
        with F ≥ 0 still has the start above it, and one with F ≥ 0 strictly is reached in finitely many steps. Not so
        where steps shrink slowly: past a fold is another equilibrium.
        """
        if self._allowed is None:
            limits = torch.where(self._direction > 0, 0, -math.inf), torch.where(self._direction < 0, 0, math.inf)
            low, high = (self._parts.spread(limit.to(step.dtype)) for limit in limits)
            self._allowed = low, high
        step.clamp_(*self._allowed)
        before, self._sizes = self._sizes, self._parts.largest(step)
        settled = ~(self._sizes > (SETTLED * reach).clamp_min(tol)) & self._directed
        if bool(settled.any()):
            settled &= self._parts.within(step, _near(self.states, tol)) | ~self._sizes.isfinite()
        late = (self._sizes < torch.minimum(OVERSHOOT_BELOW * reach, FAST * before)) & self._directed
        if bool(late.any()):
            longer = torch.where(late, OVERSHOOT, 1.0).to(step.dtype)
            self._before, self._last = self._last, self._sizes * longer
            self.states = self.system.clamp(self._parts.times(step, longer).add_(self.states))
        else:
            self._before, self._last = self._last, self._sizes
            self.states = step.add_(self.states)
        if not bool(settled.any()):
            return True
        self._direction[settled] = 0
        self._directed, self._allowed = self._direction != 0, None
        return self.guided and not self._mostly_free()

    def _mostly_free(self) -> bool:
        free = ~self._directed.any(1)
        if len(free) == 1 or float(free.double().mean()) < MOST:
            return False
        self._left_out |= ~free.unsqueeze(1)
        self._direction.zero_()
        self._directed.zero_()
        return True


def _near(x: Tensor, tol: float) -> Tensor:
    """The distance from every node's state within which two states are one."""
    return max(SETTLED, 32 * torch.finfo(x.dtype).eps) * x.abs() + tol


def _first_of(rests: list[list[Rest | None]], others: list[list[Rest | None]]) -> list[list[Rest | None]]:
    """The first of two ends that there is."""
    return [[one or other for one, other in zip(*both, strict=True)] for both in zip(rests, others, strict=True)]
