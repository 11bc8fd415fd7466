"""Named errors and warnings.

Every error says what was wrong, where, and what to do. All errors derive from :class:`LinegraphError`; those about
arguments are also ``ValueError`` or ``TypeError``, so that code that knows nothing of this package can catch them.
"""

__all__ = [
    "AmbiguousSolutionError",
    "ArgumentTypeError",
    "BatchWeightWarning",
    "ConvergenceError",
    "ConvergenceWarning",
    "CoverageWarning",
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
    "RecordWarning",
    "ResumeWarning",
    "RuleError",
    "StaleCouplingError",
    "SynapseSelectionError",
    "TooLargeError",
    "UnsupportedOperationError",
    "WeightNameWarning",
]


class LinegraphError(Exception):
    """Base class of the errors of this package."""


class AmbiguousSolutionError(LinegraphError, ValueError):
    """The requested result does not exist or is not unique, such as the leading eigenvector of an acyclic graph."""


class ConvergenceError(LinegraphError, RuntimeError):
    """An iteration stopped before its residual reached the tolerance.

    Attributes:
        iterations: number of iterations made.
        residual: the residual reached, in the norm that the documentation of the metric names; nan if unknown.
        tolerance: the tolerance that was requested.
    """

    def __init__(self, message: str, *, iterations: int, residual: float, tolerance: float) -> None:
        super().__init__(message)
        self.iterations = iterations
        self.residual = residual
        self.tolerance = tolerance


class DataError(LinegraphError, ValueError):
    """An argument cannot be used.

    Data are empty, of the wrong form or dtype, or on another device; or an option is outside its range.
    """


class ArgumentTypeError(DataError, TypeError):
    """An argument is not of the required type; the message says which type that is."""


class DynamicsError(LinegraphError, ValueError):
    """A user-defined dynamics is inconsistent, for instance a slope is not the derivative of its term."""


class IdentityError(LinegraphError, ArithmeticError):
    """P does not satisfy P w + b = −∇C on a network, or Pᵀ is not its transpose."""


class IntegrationError(LinegraphError, ArithmeticError):
    """The integration of a flow in time failed."""


class LossError(LinegraphError, ValueError):
    """The loss is not a finite scalar that depends on the model's outputs."""


class NegativeCouplingError(LinegraphError, ValueError):
    """A metric that is defined only for couplings ≥ 0 was given a negative one."""


class NonFiniteError(LinegraphError, ValueError):
    """A number that has to be finite is NaN or infinite."""


class NonFiniteWeightError(DataError, NonFiniteError):
    """A weight in a file is NaN, infinite, or too large for double precision."""


class NotAGraphError(ArgumentTypeError):
    """The argument is not a graph of the required type; the message names the function that converts it."""


class NoSynapseError(LinegraphError, ValueError):
    """The network has no trainable weight that can be a node of its line graph."""


class RuleError(LinegraphError, ValueError):
    """The rule of a weighted operation does not describe the operation."""


class StaleCouplingError(LinegraphError, RuntimeError):
    """Weights or buffers of a network have changed since its coupling was made."""


class SynapseSelectionError(LinegraphError, ValueError):
    """``include=`` names a parameter that the model does not have, or that cannot be a synapse."""


class TooLargeError(LinegraphError, ValueError):
    """An explicit graph would exceed its size limit; matrix-free operators have no limit."""


class UnsupportedOperationError(LinegraphError, ValueError):
    """An operation of the network has no rule for the requested computation."""

    # Not a TypeError: on a TypeError, Python's binary operators try the method of the other operand.


class LinegraphWarning(UserWarning):
    """Base class of the warnings of this package."""


class BatchWeightWarning(LinegraphWarning):
    """Batches are weighted by their numbers of samples, but the loss may not be a mean over samples."""


class CoverageWarning(LinegraphWarning):
    """Weights that are nodes by default are left out, since they are used in a way for which there is no rule."""


class DegenerateCapacitanceWarning(LinegraphWarning):
    """β_eff is 0/0: its denominator 1ᵀP1 is 0 in exact arithmetic."""


class GradientWarning(LinegraphWarning):
    """The gradient from autograd differs from the derivative of the loss, with which P agrees."""


class NameClashWarning(LinegraphWarning):
    """An unrelated distribution called ``linegraph`` is installed, whose package has the same name as this one."""


class PrecisionWarning(LinegraphWarning):
    """A result is inaccurate, as activations are in half precision: their rounding changes β_eff by more than 2 %."""


class IncompleteHistoryWarning(LinegraphWarning):
    """A predictor replaces columns that a training history does not have by means over recorded runs."""


class RecordWarning(LinegraphWarning):
    """A record of a training run lacks a metric that was not logged, or is missing, as numbers are not finite."""


class ResumeWarning(LinegraphWarning):
    """A stored run cannot be resumed, since its file lacks a state that training reads; it starts anew."""


class ConvergenceWarning(LinegraphWarning):
    """An iteration ended before it converged; the result is the best found, and states that it has not converged."""


class WeightNameWarning(LinegraphWarning):
    """A file has no edge attribute of the name of the weight; the only attribute of numbers is taken instead."""
