"""Model selection: capacitance over the first epochs, predictions of the final accuracy, rankings of candidates.

Agreement of scores with final accuracies
    ``spearman``, ``kendall``, ``weighted_tau``, ``pearson``, ``regret``, ``pairwise_accuracy``, ``bootstrap_interval``

Importing the package fills the registry of methods: each family of methods registers its own.
"""

from linegraph.selection import regression, seen  # noqa: F401  (they register their methods)
from linegraph.selection.agreement import (
    bootstrap_interval,
    kendall,
    pairwise_accuracy,
    pearson,
    regret,
    spearman,
    weighted_tau,
)

__all__ = [
    "bootstrap_interval",
    "kendall",
    "pairwise_accuracy",
    "pearson",
    "regret",
    "spearman",
    "weighted_tau",
]
