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

import numpy as np
import torch
from torch import Tensor

from linegraph.dynamics.solvers.newton import newton
from linegraph.dynamics.solvers.segments import Segments
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


class _End(NamedTuple):
    """What tells whether states are at rest.

    Attributes:
        residual: max |F|, (segments, m).
        bound: that of the residual.
        moving: whether the last steps were not much shorter than the tolerance, (segments, m).
        met: whether lower and upper sequences are in one place, (segments, starts).
    """

    residual: np.ndarray
    bound: float
    moving: np.ndarray
    met: np.ndarray


class Sweeps:
    """Sequences of states: one for each start whose F has a single sign, a lower and an upper one for the others.

    Args:
        system: a cooperative model on a network without negative weights.
        starts: (n, k).
        segments: the number of nodes of each disjoint graph that the network is made of; each comes to rest by itself.
            One graph by default.

    Attributes:
        states: (n, m), the present state of every sequence.
        evaluations: right-hand sides formed.
    """

    def __init__(self, system: System, starts: Tensor, segments: Sequence[int] | None = None) -> None:
        self.system = system
        self._segments = Segments([len(starts)] if segments is None else segments, starts.device)
        totals = system.totals(starts)
        step = system.step(starts, totals)
        mixed = self._mixed(starts, step)
        k = starts.shape[1]
        self._lower = list(range(k))
        self._upper = self._lower.copy()
        for extra, start in enumerate(mixed):
            self._upper[start] = k + extra
        # +1 where a sequence may only rise so far, −1 where it may only fall, 0 where it is free; by segment.
        direction = np.zeros(k + len(mixed))
        direction[mixed], direction[k:] = -1, 1
        self._direction = np.tile(direction, (len(self._segments), 1))
        self._allowed: tuple[Tensor, Tensor] | None = None
        self._sizes = np.full_like(self._direction, np.inf)
        self._left_out = np.zeros((len(self._segments), k), dtype=bool)
        twice = [*range(k), *mixed]
        self.states = starts[:, twice] if len(mixed) else starts
        self._totals: Tensor | None = totals[:, twice] if len(mixed) else totals
        self._last = self._before = self._sizes  # of the last two steps, the largest by segment
        self._end: _End | None = None
        self.evaluations = 1

    def _mixed(self, starts: Tensor, step: Tensor) -> list[int]:
        """The starts from which some nodes rise and others fall; steps of a few roundings have no sign."""
        least, most = step.aminmax() if step.numel() else (0, 0)
        if not least < 0 < most:
            return []
        signed = step.masked_fill(step.abs() <= starts.abs().mul_(4 * torch.finfo(starts.dtype).eps), 0)
        up, down = (self._segments.largest(clamped(0)).any(0) for clamped in (signed.clamp_min, signed.clamp_max))
        return np.flatnonzero(up & down).tolist()

    @property
    def guided(self) -> bool:
        """Whether enclosing states are still being looked for."""
        return bool(self._direction.any())

    def run(self, tol: float, sweeps: int = SWEEPS, *, leave: bool = False) -> None:
        """Sweep until every sequence rests with max |F| ≤ tol and has met its partner, or ``sweeps`` times.

        Lower and upper sequences that rest apart end it too. With ``leave``, a few segments of a batch may still move.
        """
        if not self.states.numel():
            return
        eps = torch.finfo(self.states.dtype).eps
        guided = self.guided and not self._mostly_free()
        leave = leave and len(self._segments) > 1
        self._end = None
        looked, before = 1, math.inf
        for sweep in range(sweeps):
            totals, self._totals = self._totals, None
            if totals is None:
                totals = self.system.totals(self.states)
                self.evaluations += 1
            step = self.system.step(self.states, totals)
            if sweep % 16 == 0:
                reach = self._segments.largest(self.states)
                bound = np.maximum(4 * eps * reach, tol)
                widest = float(bound.max())
            if guided:
                # The directions are looked at after every second step, which is as good and cheaper.
                step.clamp_(*self._allowed_steps())
                if sweep % 2:
                    guided = self._guide(step, reach, tol)
                else:
                    self.states = step.add_(self.states)
                continue
            longest = largest(step)
            if not math.isfinite(longest):
                return
            # Of every segment and sequence the last two steps are needed, and only where the next one may be the last.
            near = longest * longest <= 4 * widest * before or longest <= widest
            looked = looked + 1 if near or sweep >= sweeps - 2 or (leave and sweep % 8 >= 6) else 0
            before = longest
            if looked:
                self._before, self._last = self._last, self._segments.largest(step)
            if looked > 1 and ((self._last <= bound).all() or (leave and sweep % 8 == 7)):
                end = self._measured(totals, tol)
                # Partners that still move may meet yet.
                over = self._of_both(end.residual <= end.bound) & (end.met | self._of_both(~end.moving))
                if over.all() or (leave and over.all(1).mean() >= MOST):
                    self._end = end
                    return
            self.states = step.add_(self.states)

    def rests(self, tol: float) -> list[list[Rest | None]]:
        """By segment, the end of every start whose sequences have come to rest in one place of the domain."""
        if self._end is None:
            self._end = self._measured(self.system.totals(self.states), tol)
            self.evaluations += 1
        end, x = self._end, self.states[:, : len(self._lower)]
        inside, residual = self.system.clamp(x), end.residual[:, self._lower]
        # A last step much shorter than the tolerance, or steps that shrink: else the end may still be far.
        shrinking = (self._last <= 0.9 * self._before) & (self._direction == 0)
        there = (residual <= end.bound) & (self._segments.largest(inside - x) <= end.bound)
        there &= self._of_both(shrinking | ~end.moving) & end.met & ~self._left_out
        return [
            [
                Rest(x.clone(), float(r), self.evaluations) if is_there else None
                for x, r, is_there in zip(*each, strict=True)
            ]
            for each in zip(
                (segment.unbind(1) for segment in inside.split(self._segments.sizes)),
                residual,
                there,
                strict=True,
            )
        ]

    def best(self) -> tuple[Tensor, float]:
        """The state (n,) of the sequence with the smallest max |F|, within the domain, and that number."""
        x = self.system.clamp(self.states)
        residuals = [largest(v) for v in self.system(x).unbind(1)]
        self.evaluations += 1
        k = int(np.argmin(residuals))
        return x[:, k].clone(), residuals[k]

    def _measured(self, totals: Tensor, tol: float) -> _End:
        """What tells whether the present states, of given totals, are at rest."""
        velocity = self.system.velocity(self.states, totals)
        bound = max(tol, self.system.floor(self.states, velocity))
        rounding = 4 * torch.finfo(self.states.dtype).eps * self._segments.largest(self.states)
        return _End(
            residual=self._segments.largest(velocity),
            bound=bound,
            moving=self._last > np.maximum(rounding, 1e-3 * tol),
            met=self._met(bound),
        )

    def _of_both(self, of_sequences: np.ndarray) -> np.ndarray:
        """By start, whether what is said of sequences (segments, m) holds of the lower and the upper one."""
        return of_sequences[:, self._lower] & of_sequences[:, self._upper]

    def finish(self, tol: float) -> list[list[Rest | None]]:
        """The ends of all starts in every segment, by sweeps and Newton's method in turn.

        None where the flow may end in one of several places, or too late to tell.
        """
        starts = range(len(self._lower))
        found: list[list[Rest | None]] = [[None for _ in starts] for _ in self._segments.sizes]
        sweeps = SWEEPS
        while sweeps <= LONGEST:
            earlier = self.states
            self.run(tol, sweeps // 2)
            self._extrapolate(tol, earlier)
            earlier = self.states
            self.run(tol, sweeps // 2)
            found = _first_of(found, self.rests(tol))
            if any(None in rests for rests in found):
                found = _first_of(found, self._heading(tol, earlier))
            open_ = np.array([[rest is None for rest in rests] for rests in found])
            if not (open_ & ~self._undecided(tol)).any():
                break
            sweeps *= 2
        return found

    def _met(self, tol: float) -> np.ndarray:
        """Where lower and upper sequences are in one place, (segments, starts)."""
        if self._lower == self._upper:
            return np.ones_like(self._left_out)
        low, high = self.states[:, : len(self._lower)], self.states[:, self._upper]
        return self._segments.within(high - low, _near(high, tol))

    def _undecided(self, tol: float) -> np.ndarray:
        """Where lower and upper sequences are apart, or still to be found, (segments, starts)."""
        return ~self._met(tol) | self._left_out | ~self._of_both(self._direction == 0)

    def _extrapolate(self, tol: float, earlier: Tensor) -> None:
        """Bring nodes that come to rest too slowly there by Newton's method, the others held.

        Near a fold such nodes approach their place like 1/t. The place must lie in the direction allowed, and no
        further than twice the way from the ``earlier`` states (n, m) to the present ones.
        """
        found = self.states.clone()
        for sequence, x in enumerate(self.states.unbind(1)):
            direction = self._segments.spread(self._direction[:, sequence], x)
            step = self.system.step(x, self.system.totals(x))
            self.evaluations += 1
            step = torch.where(step * direction < 0, 0, step)
            size = self._segments.spread(self._segments.largest(step), x)
            waited_for = (size > tol) & (step.abs() >= SLOW * size)
            if not bool(waited_for.any()):
                continue
            root = newton(self.system, x, tol, ~waited_for, self._segments)
            self.evaluations += root.evaluations
            moved = root.x - x
            ways = torch.stack([(moved * -direction).clamp_min(0), moved, x - earlier[:, sequence]], 1)
            against, far, before = self._segments.largest(ways).T
            rounding = 1e-9 * self._segments.largest(x)
            there = root.found & (against <= rounding) & (far <= 2 * before + rounding)
            found[:, sequence] = torch.where(self._segments.spread(there, x), root.x, x)
        self.states = found
        self._totals = self._end = None

    def _heading(self, tol: float, earlier: Tensor) -> list[list[Rest | None]]:
        """The roots that Newton's method finds from all sequences of a start alike, if they are heading there.

        Where they are heading is no further than twice what the sweeps since the ``earlier`` states have moved.
        """
        roots = [newton(self.system, x, tol, segments=self._segments) for x in self.states.unbind(1)]
        self.evaluations += sum(root.evaluations for root in roots)
        ends, found = torch.stack([r.x for r in roots], 1), np.stack([r.found for r in roots], 1)
        residual = np.stack([r.residual for r in roots], 1)
        size, far, before = (
            self._segments.largest(v) for v in (self.states, ends - self.states, self.states - earlier)
        )
        there = found & (far <= 2 * before + 1e-9 * size) & (self._direction == 0)
        low, high = self._lower, self._upper
        alike = self._segments.within(ends[:, low] - ends[:, high], 1e-5 * ends[:, low].abs() + tol)
        fine = (self._of_both(there) & alike & ~self._left_out).tolist()
        better = [[a if r[a] <= r[b] else b for a, b in zip(low, high, strict=True)] for r in residual.tolist()]
        return [
            [
                Rest(x[:, k].clone(), float(r[k]), self.evaluations) if is_fine else None
                for k, is_fine in zip(columns, row, strict=True)
            ]
            for x, r, columns, row in zip(ends.split(self._segments.sizes), residual, better, fine, strict=True)
        ]

    def _guide(self, step: Tensor, reach: np.ndarray, tol: float) -> bool:
        """A step in the directions allowed, and whether some sequence still has such steps to take.

        Late steps are lengthened, to go past the enclosing state and not up to it: a lower state below the largest one
        with F ≥ 0 still has the start above it, and one with F ≥ 0 strictly is reached in finitely many steps. Not so
        where steps shrink slowly: past a fold is another equilibrium.
        """
        directed = self._direction != 0
        before, self._sizes = self._sizes, self._segments.largest(step)
        failed = np.isinf(self._sizes)
        settled = (failed | (self._sizes <= np.maximum(SETTLED * reach, tol))) & directed
        if settled.any():
            settled &= failed | self._segments.within(step, _near(self.states, tol))
        late = (self._sizes < np.minimum(OVERSHOOT_BELOW * reach, FAST**2 * before)) & directed
        longer = np.where(late, OVERSHOOT, 1.0)
        self._before, self._last = self._last, self._sizes * longer
        if late.any():
            self.states = self.system.clamp(self._segments.multiply_(step, longer).add_(self.states))
        else:
            self.states = step.add_(self.states)
        if not settled.any():
            return True
        self._direction[settled], self._allowed = 0, None
        return self.guided and not self._mostly_free()

    def _allowed_steps(self) -> tuple[Tensor, Tensor]:
        """The least and the largest step that the directions allow, for every node."""
        if self._allowed is None:
            limits = np.where(self._direction > 0, 0, -np.inf), np.where(self._direction < 0, 0, np.inf)
            self._allowed = self._segments.spread(limits[0], self.states), self._segments.spread(limits[1], self.states)
        return self._allowed

    def _mostly_free(self) -> bool:
        free = ~(self._direction != 0).any(1)
        if len(free) == 1 or free.mean() < MOST:
            return False
        self._left_out |= ~free[:, None]
        self._direction[:] = 0
        return True


def _near(x: Tensor, tol: float) -> Tensor:
    """The distance from every node's state within which two states are one."""
    return x.abs().mul_(max(SETTLED, 32 * torch.finfo(x.dtype).eps)).add_(tol)


def _first_of(rests: list[list[Rest | None]], others: list[list[Rest | None]]) -> list[list[Rest | None]]:
    """The first of two ends that there is."""
    return [[one or other for one, other in zip(*both, strict=True)] for both in zip(rests, others, strict=True)]
