"""Monotone sweeps: the equilibrium that a cooperative flow reaches, without following the flow.

A sweep moves all nodes at once: each towards the state in which its own rate would vanish if its neighbours stayed as
they are, and never past it.

The flow keeps the order of states if g does not fall with x_j and no weight is negative (Kamke, Müller). Then a state
with F ≤ 0 in every node flows down to the largest equilibrium below it, a state with F ≥ 0 up to the smallest
equilibrium above it, and sweeps arrive at the same one in a few products. A start where F has both signs is enclosed
between two sequences: one from the largest state below it with F ≥ 0, one from the smallest state above it with F ≤ 0.
If both end at the same equilibrium, the flow from the start ends there too.

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
"""Number of sweeps before Newton's method is tried; only slow convergence, near a fold, needs more."""

LONGEST = 4096
"""Number of sweeps in one round after which sweeping is given up."""

OVERSHOOT, OVERSHOOT_BELOW = 3.0, 2e-3
"""Factor by which a step of an enclosing state is lengthened, and the step relative to the state below which it is."""

FAST = 0.8
"""Ratio of successive steps up to which convergence counts as fast; near a fold the ratio tends to 1."""

SLOW = 1e-2
"""Share of the largest step from which on a node counts as slow, and is moved by Newton's method."""

SETTLED = 1e-6
"""Relative change of every node below which an enclosing state counts as one with F of a single sign, and relative
distance of every node below which two sequences have met; the tolerance is added, which decides where a state is 0."""

MOST = 0.85
"""Once this share of the graphs has converged, the others are finished separately."""


class Rest(NamedTuple):
    """The end of one start.

    Attributes:
        x: the state (n,).
        residual: max |F| there.
        evaluations: number of right-hand sides computed.
        reason: why the state is no equilibrium; None if it is one.
    """

    x: Tensor
    residual: float
    evaluations: int
    reason: str | None = None


class _End(NamedTuple):
    """Measures by which the present states are judged to be equilibria or not.

    Attributes:
        residual: max |F|, (segments, m).
        bound: the largest residual of an equilibrium.
        moving: whether the last steps were not much shorter than the tolerance, (segments, m).
        met: whether the lower and the upper sequence have the same state, (segments, starts).
    """

    residual: np.ndarray
    bound: float
    moving: np.ndarray
    met: np.ndarray


class Sweeps:
    """Sequences of states under sweeps: one a start where F has one sign, a lower and an upper one for the others.

    Args:
        system: a cooperative model on a network without negative weights.
        starts: (n, k).
        segments: the number of nodes of each disjoint graph that the network is made of; each comes to rest by itself.
            One graph by default.

    Attributes:
        states: (n, m), the present state of every sequence.
        evaluations: number of right-hand sides computed.
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
        """Sweep until every sequence has converged with max |F| ≤ tol, but at most ``sweeps`` times.

        The lower and the upper sequence of a start must have met, or both have stopped moving. With ``leave`` it is
        enough that most segments have converged (:data:`MOST`).
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
                # The directions are checked after every second step only, which is cheaper and as good.
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
        """For each segment the ends of all starts; None where the sequences have not converged to one state."""
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
        """The measures of the present states, whose totals are given."""
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
        """For each start, whether a condition on sequences (segments, m) holds for its lower and its upper one."""
        return of_sequences[:, self._lower] & of_sequences[:, self._upper]

    def finish(self, tol: float) -> list[list[Rest | None]]:
        """For each segment the ends of all starts, by sweeps and Newton's method in turn.

        None where the lower and the upper sequence end apart, so that the flow may end at one of several equilibria,
        and where convergence is too slow.
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
        """Where the lower and the upper sequence have the same state, (segments, starts)."""
        if self._lower == self._upper:
            return np.ones_like(self._left_out)
        low, high = self.states[:, : len(self._lower)], self.states[:, self._upper]
        return self._segments.within(high - low, _near(high, tol))

    def _undecided(self, tol: float) -> np.ndarray:
        """Where the lower and the upper sequence differ or are still to be enclosing, (segments, starts)."""
        return ~self._met(tol) | self._left_out | ~self._of_both(self._direction == 0)

    def _extrapolate(self, tol: float, earlier: Tensor) -> None:
        """Move the nodes that converge slowly to a root by Newton's method, with the other nodes held.

        Near a fold such nodes converge like 1/t. The root must lie in the direction allowed, and no further than twice
        the distance between the ``earlier`` states (n, m) and the present ones.
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
        """The root that Newton's method finds from both sequences of a start, if it finds the same one from both.

        It counts only if it is no further than twice the distance moved since the ``earlier`` states (n, m).
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
        """Apply a step in the directions allowed; return whether enclosing states are still looked for.

        Small steps are lengthened, so that a sequence goes past the enclosing state in finitely many steps instead of
        converging to it: a state below the largest one with F ≥ 0 still encloses the start. Where steps shrink slowly
        they are not lengthened, since another equilibrium may lie past a fold.
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
    """The distance from each node's state within which two states count as equal."""
    return x.abs().mul_(max(SETTLED, 32 * torch.finfo(x.dtype).eps)).add_(tol)


def _first_of(rests: list[list[Rest | None]], others: list[list[Rest | None]]) -> list[list[Rest | None]]:
    """For each start the first of two ends, or the second where the first is None."""
    return [[one or other for one, other in zip(*both, strict=True)] for both in zip(rests, others, strict=True)]
