"""How well scores order candidates: measures of (scores, finals), and their bootstrap intervals.

Scores and final accuracies are arrays with one number per candidate, and higher is better in both; negate scores of
which lower is better. A negative value says that the order is wrong, and is never turned into a positive one. A nan
among scores or finals makes the measure nan: leave the candidate out of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linegraph.arguments import as_real, check_number_of, check_seed, check_type
from linegraph.errors import DataError

__all__ = ["bootstrap_interval", "kendall", "pairwise_accuracy", "pearson", "regret", "spearman", "weighted_tau"]

Array = NDArray[np.float64]


def spearman(scores: ArrayLike, finals: ArrayLike) -> float:
    """Spearman's ρ: the correlation of the ranks, ties at their mean rank.

    Args:
        scores: (N,), higher is better.
        finals: final accuracies (N,).

    Returns:
        ρ in [−1, 1]; nan if one of the two is constant or has a nan, or N < 2.

    Raises:
        DataError: if the arguments are not two sequences of numbers of equal length.

    Cost: O(N log N).

    Source: C. Spearman, American Journal of Psychology 15 (1904).

    Example:
        >>> from linegraph.selection import spearman
        >>> round(spearman([1, 2, 3, 4], [0.2, 0.1, 0.5, 0.9]), 6)
        0.8
    """
    from scipy.stats import rankdata

    x, y = _pair(scores, finals)
    return math.nan if _is_undefined(x, y) else _correlation(rankdata(x), rankdata(y))


def pearson(scores: ArrayLike, finals: ArrayLike) -> float:
    """Pearson's r, the correlation of scores and final accuracies themselves.

    Args:
        scores: (N,), higher is better.
        finals: final accuracies (N,).

    Returns:
        r in [−1, 1]; nan if one of the two is constant or has a nan or infinite number, or N < 2.

    Raises:
        DataError: if the arguments are not two sequences of numbers of equal length.

    Cost: O(N).

    Source: K. Pearson, Proceedings of the Royal Society of London 58 (1895).

    Example:
        >>> from linegraph.selection import pearson
        >>> round(pearson([1, 2, 3], [0.2, 0.4, 0.6]), 6)
        1.0
    """
    x, y = _pair(scores, finals)
    infinite = not (np.isfinite(x).all() and np.isfinite(y).all())
    return math.nan if infinite or _is_undefined(x, y) else _correlation(x, y)


def kendall(scores: ArrayLike, finals: ArrayLike) -> float:
    """Kendall's τ_b: (C − D) / √((P − T_s)(P − T_f)).

    C and D count the pairs of candidates in equal and in opposite order, P all pairs, and T_s, T_f the pairs with equal
    scores and with equal finals.

    Args:
        scores: (N,), higher is better.
        finals: final accuracies (N,).

    Returns:
        τ_b in [−1, 1]; nan if one of the two is constant or has a nan, or N < 2.

    Raises:
        DataError: if the arguments are not two sequences of numbers of equal length.

    Cost: O(N²).

    Source: M. Kendall, Biometrika 33 (1945).

    Example:
        >>> from linegraph.selection import kendall
        >>> round(kendall([1, 2, 3, 4], [0.2, 0.1, 0.5, 0.9]), 4)
        0.6667
    """
    x, y = _pair(scores, finals)
    if _is_undefined(x, y):
        return math.nan
    a, b = _signs(x), _signs(y)
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def weighted_tau(scores: ArrayLike, finals: ArrayLike) -> float:
    """Vigna's weighted τ with additive hyperbolic weights: an exchange counts more where candidates rank high.

    The weight of a pair is 1/(r+1) + 1/(s+1) for its ranks r and s from 0. Weights by the rank of the score and by that
    of the final accuracy are both taken, and the two values averaged.

    Args:
        scores: (N,), higher is better.
        finals: final accuracies (N,).

    Returns:
        τ_w in [−1, 1]; nan if one of the two is constant or has a nan, or N < 2.

    Raises:
        DataError: if the arguments are not two sequences of numbers of equal length.

    Cost: O(N log N).

    Source: S. Vigna, WWW 2015, arXiv 1404.3325; the measure of the papers of LogME and LEEP.

    Example:
        >>> from linegraph.selection import weighted_tau
        >>> round(weighted_tau([1, 2, 3, 4], [0.1, 0.2, 0.5, 0.9]), 6)
        1.0
    """
    from scipy.stats import rankdata, weightedtau

    x, y = _pair(scores, finals)
    if _is_undefined(x, y):
        return math.nan
    return float(weightedtau(rankdata(x), rankdata(y)).statistic)  # of ranks, since it adds up the values


def regret(scores: ArrayLike, finals: ArrayLike) -> float:
    """Top-1 regret: the highest final accuracy minus that of the candidate with the highest score.

    Args:
        scores: (N,), higher is better.
        finals: final accuracies (N,).

    Returns:
        The regret, at least 0, in the unit of the finals. Candidates that tie for the highest score are equally likely
        to be chosen, so that a constant score has the regret of a random choice. nan if there is a nan, or N = 0.

    Raises:
        DataError: if the arguments are not two sequences of numbers of equal length.

    Cost: O(N).

    Source: the usual simple regret of choosing the best of N arms.

    Example:
        >>> from linegraph.selection import regret
        >>> round(regret([3, 2, 1], [0.7, 0.9, 0.1]), 6)
        0.2
    """
    x, y = _pair(scores, finals)
    if not len(x) or np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    return float(y.max() - y[x == x.max()].mean())


def pairwise_accuracy(scores: ArrayLike, finals: ArrayLike, gap: float = 0.0) -> float:
    """The fraction of pairs of candidates that the scores order as the final accuracies do.

    Args:
        scores: (N,), higher is better.
        finals: final accuracies (N,).
        gap: only pairs whose final accuracies differ by more than this are counted.

    Returns:
        The fraction in [0, 1]; a pair with equal scores counts one half, so that a constant score gets 0.5. nan if no
        pair is counted, or there is a nan.

    Raises:
        DataError: if the arguments are not two sequences of numbers of equal length, or ``gap`` is negative.

    Cost: O(N²).

    Source: F. Harrell et al., JAMA 247 (1982), the concordance index, for gap = 0, where it is (1 + Somers' D) / 2.

    Example:
        >>> from linegraph.selection import pairwise_accuracy
        >>> pairwise_accuracy([1, 2, 3, 4], [0.11, 0.1, 0.5, 0.9], gap=0.05)
        1.0
    """
    gap = as_real("gap", gap, 0)
    x, y = _pair(scores, finals)
    if np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    with np.errstate(invalid="ignore"):
        counted = y[:, None] - y[None, :] > gap
    if not counted.any():
        return math.nan
    return float((1 + _signs(x)[counted].mean()) / 2)


def bootstrap_interval(
    measure: Callable[[Any, Any], float],
    scores: ArrayLike,
    finals: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of a measure, by resampling candidates.

    Scores and finals of a candidate are drawn together. For the difference of two methods pass scores (N, 2) and a
    measure such as ``lambda s, f: spearman(s[:, 0], f) - spearman(s[:, 1], f)``.

    Args:
        measure: a function of (scores, finals), such as :func:`spearman`.
        scores: (N,) or (N, ...), one row per candidate.
        finals: final accuracies (N,).
        level: the probability that the interval covers, in (0, 1).
        resamples: number of resamples.
        seed: seed of the resampling.

    Returns:
        The lower and the upper end. Resamples for which the measure is nan, as where all candidates are the same one,
        are left out; both ends are nan if none is left.

    Raises:
        DataError: if the lengths differ, or a number is out of its range.
        ArgumentTypeError: if ``measure`` is not a function.

    Cost: ``resamples`` evaluations of the measure.

    Source: B. Efron, Annals of Statistics 7 (1979).

    Example:
        >>> from linegraph.selection import bootstrap_interval, spearman
        >>> low, high = bootstrap_interval(spearman, range(20), range(20))
        >>> round(low, 6), round(high, 6)
        (1.0, 1.0)
    """
    check_type("measure", measure, Callable, "a function of (scores, finals), such as spearman")  # type: ignore[arg-type]
    if not 0 < as_real("level", level) < 1:
        raise DataError(f"level must be above 0 and below 1, got {level}")
    check_number_of("resamples", resamples)
    check_seed(seed)
    x, y = _numbers("scores", scores), _numbers("finals", finals)
    _check_lengths(x, y)
    if not len(y):
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(y), size=(int(resamples), len(y)))
    found = np.array([measure(x[rows], y[rows]) for rows in draws])
    found = found[~np.isnan(found)]
    if not len(found):
        return math.nan, math.nan
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pair(scores: ArrayLike, finals: ArrayLike) -> tuple[Array, Array]:
    x, y = _numbers("scores", scores), _numbers("finals", finals)
    for name, values in (("scores", x), ("finals", y)):
        if values.ndim != 1:
            raise DataError(f"{name} must be one number per candidate (N,), got an array of shape {values.shape}")
    _check_lengths(x, y)
    return x, y


def _numbers(name: str, given: ArrayLike) -> Array:
    try:
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers, one per candidate ({error})") from None
    if not values.ndim:
        raise DataError(f"{name} must be numbers, one per candidate, got one number")
    return values


def _check_lengths(x: Array, y: Array) -> None:
    if len(x) != len(y):
        raise DataError(f"there are {len(x)} scores and {len(y)} finals; pass one of each per candidate")


def _is_undefined(x: Array, y: Array) -> bool:
    """Whether the order is undefined: fewer than two candidates, a nan, or a constant."""
    return len(x) < 2 or any(np.isnan(v).any() or bool((v == v[0]).all()) for v in (x, y))


def _correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    # Each is scaled first, so that squares neither overflow nor vanish.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()), -1, 1))


def _signs(values: Array) -> Array:
    """The sign of the difference of every pair; comparisons, since ∞ − ∞ has none."""
    rows, columns = values[:, None], values[None, :]
    return (rows > columns).astype(float) - (rows < columns)
