"""Named errors and warnings.

Every error says what was wrong, where, and what to do. All errors derive from
:class:`LinegraphError`; those about arguments are also ``ValueError`` or ``TypeError``, so that
code that knows nothing of this package can catch them.
"""

__all__ = [
    "AmbiguousSolutionError",
    "BatchWeightWarning",
    "ConvergenceError",
    "ConvergenceWarning",
    "DataError",
    "DegenerateCapacitanceWarning",
    "DynamicsError",
    "GradientWarning",
    "IdentityError",
    "IntegrationError",
    "LinegraphError",
    "LinegraphWarning",
    "LossError",
    "NameClashWarning",
    "NegativeCouplingError",
    "NoSynapseError",
    "NonFiniteError",
    "NonFiniteWeightError",
    "NotAGraphError",
    "PrecisionWarning",
    "ResumeWarning",
    "StaleCouplingError",
    "SynapseSelectionError",
    "TooLargeError",
    "UnsupportedOperationError",
    "WeightNameWarning",
]


class LinegraphError(Exception):
    """Base of all errors that linegraph raises on purpose."""


class AmbiguousSolutionError(LinegraphError, ValueError):
    """What was asked for does not exist or is not unique, as the leading eigenvector of an acyclic graph."""


class ConvergenceError(LinegraphError, RuntimeError):
    """An iteration stopped before its residual reached the tolerance.

    Attributes:
        iterations: how many were made.
        residual: what was reached, in the norm that the metric's documentation names; nan where it is not known.
        tolerance: what was asked for.
    """

    def __init__(self, message: str, *, iterations: int, residual: float, tolerance: float) -> None:
        super().__init__(message)
        self.iterations = iterations
        self.residual = residual
        self.tolerance = tolerance


class DataError(LinegraphError, ValueError):
    """The data cannot be used: empty, of the wrong form or dtype, or on another device."""


class DynamicsError(LinegraphError, ValueError):
    """A dynamics of one's own contradicts itself: a slope is not that of its term, or a term is not what it must be."""


class IdentityError(LinegraphError, ArithmeticError):
    """P does not satisfy P w + b = −∇C on a network, or Pᵀ is not its transpose."""


class IntegrationError(LinegraphError, ArithmeticError):
    """A flow in time could not be followed."""


class LossError(LinegraphError, ValueError):
    """The loss is not a finite scalar that depends on the model's outputs."""


class NegativeCouplingError(LinegraphError, ValueError):
    """A metric that is defined for couplings ≥ 0 met a negative one."""


class NonFiniteError(LinegraphError, ValueError):
    """NaN or infinite numbers where finite ones are needed."""


class NonFiniteWeightError(DataError, NonFiniteError):
    """A weight in a file is NaN, infinite, or too large for double precision."""


class NotAGraphError(DataError, TypeError):
    """Something else than a certain graph was given; names the function that makes one of it."""


class NoSynapseError(LinegraphError, ValueError):
    """The network has no trainable weight that could be a node of its line graph."""


class StaleCouplingError(LinegraphError, RuntimeError):
    """Weights or buffers of a network have changed since its coupling was made."""


class SynapseSelectionError(LinegraphError, ValueError):
    """``include=`` names something that the model does not have or that cannot be a synapse."""


class TooLargeError(LinegraphError, ValueError):
    """An explicit graph would exceed its limit; the matrix-free operator has none."""


class UnsupportedOperationError(LinegraphError, ValueError):
    """An operation has no rule for what was asked of it."""

    # Not a TypeError: torch's operators take those for a request to try the other operand.


class LinegraphWarning(UserWarning):
    """Base of all warnings that linegraph gives."""


class BatchWeightWarning(LinegraphWarning):
    """Batches are weighted by their numbers of samples, and the loss may be a mean over something else."""


class DegenerateCapacitanceWarning(LinegraphWarning):
    """β_eff is 0/0: its denominator 1ᵀP1 vanishes in exact arithmetic."""


class GradientWarning(LinegraphWarning):
    """The gradient that torch gives is not the derivative of the loss, which P agrees with."""


class NameClashWarning(LinegraphWarning):
    """An unrelated distribution called ``linegraph`` is installed, whose package has the same name as this one."""


class PrecisionWarning(LinegraphWarning):
    """What comes back is made of activations in half precision, whose rounding changes it: β_eff by more than 2 %."""


class ResumeWarning(LinegraphWarning):
    """A stored run cannot be gone on with, since its file lacks a state that training reads; it starts anew."""


class ConvergenceWarning(LinegraphWarning):
    """An iteration ended without reaching its goal; what comes back is the best found, and says so."""


class WeightNameWarning(LinegraphWarning):
    """A file has no weights under that name; the only attribute of its edges that holds numbers is taken for them."""
