"""Decides by finite differences which side is wrong if P w + b and −∇C by autograd differ.

The difference d = P w + b + ∇C is a direction in the space of weights. Along it, P and autograd predict slopes of the
loss that differ by ‖d‖. A third slope comes from the loss itself, by finite differences in double precision. If it is
that of autograd, P is wrong; if it is that of P, autograd is wrong, as some of its formulas are for some shapes. If it
is neither, and both are about equally far from the gradient in double precision, both have rounding errors only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from math import isfinite, sqrt

import torch
from torch import Tensor

from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.tracing.tape import Tape
from linegraph.coupling.verification.plain_gradient import PlainGradient, Slope, in_double_precision, slope
from linegraph.errors import GradientWarning, IdentityError, PrecisionWarning
from linegraph.processes import gathered_results

__all__ = ["Dispute", "length"]

NEAR = 0.25
"""A slope counts as that of a side if it is within this fraction of ‖d‖ of it."""

ROUNDED_ALIKE = 4.0
"""Rounding errors of two gradients count as equal if one is at most this factor times the other."""


class Dispute:
    """A difference between P w + b and −∇C by autograd, larger than the expected rounding errors.

    Args:
        P: the coupling.
        plain: the gradient by autograd.
        differences: P w + b + ∇C for the weights, by name, where it is too large.
        what: these weights and the size of the difference, in words, for messages.
    """

    def __init__(self, P: RecordedNetwork, plain: PlainGradient, differences: Mapping[str, Tensor], what: str) -> None:
        self._P, self._plain, self._differences, self._what = P, plain, differences, what
        self._size = length(differences.values())

    def settle(self) -> None:
        """Decide which side is wrong; warn if it is autograd, or if both have rounding errors only.

        Warns:
            GradientWarning: if autograd is wrong.
            PrecisionWarning: if both have rounding errors only.

        Raises:
            IdentityError: if P is wrong, or if it cannot be decided which side is.

        Cost: a training step and 4 to 12 forward passes in double precision.
        """
        if not isfinite(self._size):
            raise self._undecided("one of them is not finite")
        if self._is_rounding_of_sums():
            return
        if self._P.passes.is_sharded:
            raise self._undecided("the weights are sharded over processes, and finite differences need whole copies")
        exact = in_double_precision(self._P.passes, self._P.chosen)
        if exact is not None and not self._is_same_loss(exact[1].loss):
            exact = None
        copy, gradient = exact if exact is not None else (self._P.passes.copy(None), self._plain)
        direction = {self._P.chosen[name]: d / self._size for name, d in self._differences.items()}
        found = slope(self._P.passes, copy, direction, gradient.rounding, NEAR / 2 * self._size)
        theirs = self._along(self._plain.by_name)
        ours = theirs - self._size
        slopes = f"the loss has the slope {found.value:.4g} there, P gives {ours:.4g}, autograd {theirs:.4g}"
        is_derivative = self._is(self._along(gradient.by_name), found)
        if exact is not None and is_derivative and (verdict := self._by_distances(gradient)):
            self._announce(verdict, slopes)
        elif found.error > NEAR * self._size:
            raise self._undecided(
                f"finite differences find no certain slope of the loss there (about {found.value:.4g})"
            )
        elif self._is(theirs, found):
            self._announce("P", slopes)
        elif self._plain.custom:
            names = ", ".join(sorted(self._plain.custom))
            raise self._undecided(f"the backward of a custom function ({names}) need not be the derivative of the loss")
        elif self._is(ours, found):
            self._announce("autograd", slopes)
        else:
            raise self._undecided(slopes)

    def _is(self, side: float, found: Slope) -> bool:
        return abs(side - found.value) <= NEAR * self._size

    def _along(self, gradient: Mapping[str, Tensor]) -> float:
        """The slope along the difference that a gradient predicts."""
        products = ((gradient[name].double() * d).sum() for name, d in self._differences.items())
        return float(sum(products)) / self._size

    def _by_distances(self, exact: PlainGradient) -> str:
        """The side that is further from the gradient in double precision, "P" or "autograd"; "both" if equally far."""
        theirs = {name: self._plain.by_name[name] - exact.by_name[name] for name in self._differences}
        ours = {name: d - theirs[name] for name, d in self._differences.items()}
        a, b = length(ours.values()), length(theirs.values())
        if max(a, b) <= ROUNDED_ALIKE * min(a, b):
            return "both"
        return "P" if a > b else "autograd"

    def _is_same_loss(self, loss: float) -> bool:
        """Whether the loss in double precision is the same, so that both passes drew the same numbers."""
        rounding = self._plain.rounding * sqrt(self._plain.depth)
        return abs(loss - self._plain.loss) <= 4 * rounding * abs(self._plain.loss)

    def _is_rounding_of_sums(self) -> bool:
        """Whether the differences are rounding errors of sums whose terms cancel; the terms add up to ‖x‖ ‖g‖ at most.

        Terms of all weights count: they may cancel in the backward pass before they reach the weights that differ.
        """
        sizes: list[float] = []

        def add(tape: Tape) -> None:
            calls = zip(tape.calls, tape.gradients, strict=True)
            sizes.extend(length([call.input()]) * length([g]) for call, g in calls if g is not None)

        divisor = self._P.passes.over(add)
        terms = sum(gathered_results(lambda: sum(sizes))) / divisor
        return self._size <= self._P.precision * sqrt(self._plain.depth) * terms

    def _announce(self, wrong: str, slopes: str) -> None:
        """Raise an error if P is wrong, and warn otherwise."""
        if wrong == "P":
            raise IdentityError(
                f"P w + b is not −∇C: it differs {self._what}, and P is wrong: along the difference {slopes}. P does "
                "not follow the way of these weights, or of their outputs, to the loss. Please report the model, and "
                "leave these weights out with include="
            )
        if wrong == "autograd":
            warnings.warn(
                f"autograd's gradient is wrong: it differs from P {self._what}, and along the difference {slopes}. P "
                "is right, but training follows the wrong gradient: write the operation that causes it in another way, "
                "or pass more samples in a batch",
                GradientWarning,
                stacklevel=5,
            )
            return
        warnings.warn(
            f"P w + b differs from −∇C {self._what}, by rounding: both are about equally far from the gradient in "
            "double precision. Couple model.double() if you need more digits",
            PrecisionWarning,
            stacklevel=5,
        )

    def _undecided(self, why: str) -> IdentityError:
        return IdentityError(
            f"P w + b is not −∇C as autograd gives it: they differ {self._what}, and it cannot be told which of "
            f"them is wrong: {why}. Leave these weights out with include=, or verify P at other weights or data, in "
            "double precision (model.double()) and without operations that have no derivative"
        )


def length(parts: Iterable[Tensor]) -> float:
    """The Euclidean norm of all tensors together, in double precision."""
    return sqrt(sum(float(torch.linalg.vector_norm(part.detach(), dtype=torch.float64)) ** 2 for part in parts))
