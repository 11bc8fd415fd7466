import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from linegraph.errors import DataError
from linegraph.selection.agreement import (
    bootstrap_interval,
    kendall,
    pairwise_accuracy,
    pearson,
    regret,
    spearman,
    weighted_tau,
)

MEASURES = [kendall, pairwise_accuracy, pearson, regret, spearman, weighted_tau]
CORRELATIONS = {
    kendall: scipy.stats.kendalltau,
    pearson: scipy.stats.pearsonr,
    spearman: scipy.stats.spearmanr,
    weighted_tau: scipy.stats.weightedtau,
}
pairs = st.integers(2, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 6).map(lambda k: k / 8), min_size=n, max_size=n)] * 2)
)


@given(pairs)
def test_correlations_are_those_of_scipy_with_ties(pair):
    scores, finals = pair
    for measure, reference in CORRELATIONS.items():
        found = measure(scores, finals)
        if len(set(scores)) == 1 or len(set(finals)) == 1:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(reference(scores, finals).statistic, abs=1e-12)
            assert measure([-s for s in scores], finals) <= 1


@given(pairs)
def test_pairwise_accuracy_is_that_of_somers_d(pair):
    scores, finals = pair
    found = pairwise_accuracy(scores, finals)
    if len(set(finals)) == 1:
        assert math.isnan(found)
    elif len(set(scores)) == 1:
        assert found == 0.5
    else:
        assert found == pytest.approx((1 + scipy.stats.somersd(finals, scores).statistic) / 2)
        assert pairwise_accuracy(np.negative(scores), finals) == pytest.approx(1 - found)


def test_a_wrong_order_is_negative():
    for measure in CORRELATIONS:
        assert measure([1, 2, 3], [0.3, 0.2, 0.1]) == pytest.approx(-1)


def test_pairs_within_the_gap_are_not_counted():
    finals = [0.5, 0.52, 0.9]
    assert pairwise_accuracy([2, 1, 3], finals) == pytest.approx(2 / 3)
    assert pairwise_accuracy([2, 1, 3], finals, gap=0.1) == 1
    assert pairwise_accuracy([1, 1, 1], finals) == 0.5
    assert math.isnan(pairwise_accuracy([2, 1, 3], finals, gap=0.5))


def test_regret_is_what_the_choice_loses():
    assert regret([1, 5, 2], [0.9, 0.6, 0.7]) == pytest.approx(0.3)
    assert regret([1, 1, 1], [0.9, 0.6, 0.6]) == pytest.approx(0.2)
    assert regret([3, 1, 2], [0.9, 0.6, 0.7]) == 0


def test_infinite_scores_have_an_order():
    scores, finals = [-math.inf, 1, math.inf, math.inf], [0.1, 0.2, 0.3, 0.4]
    for measure in (kendall, spearman, weighted_tau):
        assert measure(scores, finals) == pytest.approx(measure([0, 1, 2, 2], finals))
    assert pairwise_accuracy(scores, finals) == pytest.approx(5.5 / 6)
    assert math.isnan(pearson(scores, finals))


@pytest.mark.parametrize("measure", MEASURES)
def test_what_has_no_order_is_nan(measure):
    assert math.isnan(measure([1, math.nan, 2], [0.1, 0.2, 0.3]))
    assert math.isnan(measure([], []))
    for wrong in ([0.1, 0.2], [[0.1, 0.2, 0.3]], "abc", None, 3):
        with pytest.raises(DataError, match=r"finals|shape"):
            measure([1, 2, 3], wrong)


def test_tiny_and_huge_numbers_do_not_overflow():
    finals = np.array([0.1, 0.5, 0.3])
    for unit in (1e-200, 1e200):
        assert pearson(finals * unit, finals) == pytest.approx(1)


def test_intervals_are_those_of_scipy_on_average():
    rng = np.random.default_rng(0)
    finals = rng.normal(size=60)
    scores = finals + rng.normal(size=60)
    low, high = bootstrap_interval(pearson, scores, finals, resamples=2000, seed=1)
    found = scipy.stats.bootstrap(
        (scores, finals),
        lambda x, y: pearson(x, y),
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=rng,
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(found), abs=0.03)
    assert low < pearson(scores, finals) < high
    assert bootstrap_interval(pearson, scores, finals, resamples=20) == bootstrap_interval(
        pearson, scores, finals, resamples=20
    )


def test_differences_of_two_methods_are_paired():
    finals = np.arange(10.0)
    both = np.stack([finals, finals], axis=1)
    assert bootstrap_interval(lambda s, f: spearman(s[:, 0], f) - spearman(s[:, 1], f), both, finals, resamples=50) == (
        pytest.approx(0, abs=1e-12),
        pytest.approx(0, abs=1e-12),
    )


def test_intervals_that_do_not_exist():
    assert np.isnan(bootstrap_interval(spearman, [1, 1], [0.1, 0.2], resamples=10)).all()
    assert np.isnan(bootstrap_interval(spearman, [], [], resamples=10)).all()
    for wrong in ({"level": 1}, {"resamples": 0}, {"seed": -1}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            bootstrap_interval(spearman, [1, 2], [0.1, 0.2], **wrong)
    with pytest.raises(TypeError, match="measure must be a function"):
        bootstrap_interval(None, [1, 2], [0.1, 0.2])
