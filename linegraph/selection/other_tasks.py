"""The static ranking: how a network ranks on other tasks, whatever the task at hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from linegraph.arguments import check_type
from linegraph.errors import DataError
from linegraph.selection.methods import register_method

__all__ = ["static_ranking"]


def static_ranking(results: pd.DataFrame, *, task: Any = None) -> pd.Series:
    """The mean rank of each network on other tasks, from 0, the worst, to 1, the best.

    A predictor that does not beat this ranking has learnt nothing about the task at hand.

    Args:
        results: final accuracies, a row per network and a column per task; nan where there is none.
        task: the task at hand, whose column is left out; None if the table does not have it.

    Returns:
        A Series by the names of the networks: the mean over tasks of (rank − 1)/(number of networks − 1), where the
        highest rank is that of the highest accuracy, and ties share their mean rank. nan for a network without
        a result on another task. Tasks with fewer than two networks are left out.

    Raises:
        ArgumentTypeError: if ``results`` is not a DataFrame.
        DataError: if it has other values than numbers, a name twice, no column of ``task``, or no other task.

    Cost: none.

    Source: after P. Singh, S. Hess, J. Vanschoren, arXiv 2510.06448, where a fixed list of networks is the baseline
    that transferability scores have to beat.

    Example:
        >>> import pandas as pd
        >>> from linegraph.selection import static_ranking
        >>> results = pd.DataFrame({"digits": [0.9, 0.8], "birds": [0.6, 0.7]}, index=["resnet", "vit"])
        >>> static_ranking(results, task="birds").to_dict()
        {'resnet': 1.0, 'vit': 0.0}
    """
    check_type("results", results, pd.DataFrame, "a pandas DataFrame, a row per network and a column per task")
    if task is not None and not _has(results, task):
        raise DataError(f"results have no task {task!r}; they have {', '.join(map(str, results.columns)) or 'none'}")
    if not results.index.is_unique or not results.columns.is_unique:
        twice = [*results.index[results.index.duplicated()], *results.columns[results.columns.duplicated()]]
        raise DataError(f"results have {twice[0]!r} twice; a row per network and a column per task are needed")
    others = results if task is None else results.drop(columns=[task])
    try:
        others = others.astype(float)
    except (TypeError, ValueError) as error:
        raise DataError(f"results must be final accuracies, numbers ({error})") from None
    counts = others.notna().sum()
    others = others.loc[:, counts >= 2]
    if others.empty:
        raise DataError("results have no other task with two networks or more")
    return ((others.rank() - 1) / (others.notna().sum() - 1)).mean(axis=1)


def _has(results: pd.DataFrame, task: Any) -> bool:
    try:
        return task in results.columns
    except TypeError:
        return False


def of_network(name: str, results: pd.DataFrame) -> float:
    """The static rank of one network.

    Raises:
        DataError: as :func:`static_ranking`, or if the network has no result.
    """
    value = float(static_ranking(results).get(name, math.nan))
    if np.isnan(value):
        raise DataError(f"there is no result of {name!r} on other tasks")
    return value


register_method(
    "static_ranking",
    of_network,
    needs=["other tasks"],
    formula="mean over other tasks of (rank − 1)/(networks − 1)",
    source="after Singh, Hess, Vanschoren, arXiv 2510.06448",
)
