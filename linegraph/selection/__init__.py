"""Model selection: capacitance over the first epochs, predictions of the final accuracy, rankings of candidates.

Networks at initialisation
    ``grad_norm``, ``snip``, ``grasp``, ``synflow``, ``fisher``, ``jacobian_covariance``, ``num_parameters``, ``flops``
Results on other tasks
    ``static_ranking``
Transferability of pre-trained networks
    ``logme``, ``h_score``, ``leep``, ``nce``
Agreement of scores with final accuracies
    ``spearman``, ``kendall``, ``weighted_tau``, ``pearson``, ``regret``, ``pairwise_accuracy``, ``bootstrap_interval``,
    ``rank_correlations``

Importing the package fills the registry of methods: each family of methods registers its own.
"""

from linegraph.selection import combined, extrapolation, regression, seen  # noqa: F401  (they register their methods)
from linegraph.selection.agreement import (
    bootstrap_interval,
    kendall,
    pairwise_accuracy,
    pearson,
    regret,
    spearman,
    weighted_tau,
)
from linegraph.selection.other_tasks import static_ranking
from linegraph.selection.ranking import rank_correlations
from linegraph.selection.saliency import fisher, grad_norm, grasp, jacobian_covariance, snip, synflow
from linegraph.selection.sizes import flops, num_parameters
from linegraph.selection.transferability import h_score, leep, logme, nce

__all__ = [
    "bootstrap_interval",
    "fisher",
    "flops",
    "grad_norm",
    "grasp",
    "h_score",
    "jacobian_covariance",
    "kendall",
    "leep",
    "logme",
    "nce",
    "num_parameters",
    "pairwise_accuracy",
    "pearson",
    "rank_correlations",
    "regret",
    "snip",
    "spearman",
    "static_ranking",
    "synflow",
    "weighted_tau",
]
