"""Model selection: capacitance over the first epochs, predictions of the final accuracy, rankings of candidates.

Transferability of pre-trained networks
    ``logme``, ``h_score``, ``leep``, ``nce``
Agreement of scores with final accuracies
    ``spearman``, ``kendall``, ``weighted_tau``, ``pearson``, ``regret``, ``pairwise_accuracy``, ``bootstrap_interval``

Importing the package fills the registry of methods: each family of methods registers its own.
"""

from linegraph.selection import extrapolation, regression, seen  # noqa: F401  (they register their methods)
from linegraph.selection.agreement import (
    bootstrap_interval,
    kendall,
    pairwise_accuracy,
    pearson,
    regret,
    spearman,
    weighted_tau,
)
from linegraph.selection.transferability import h_score, leep, logme, nce

__all__ = [
    "bootstrap_interval",
    "h_score",
    "kendall",
    "leep",
    "logme",
    "nce",
    "pairwise_accuracy",
    "pearson",
    "regret",
    "spearman",
    "weighted_tau",
]
