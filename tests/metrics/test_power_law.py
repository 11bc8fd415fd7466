"""Power laws of degrees and of other strengths that are multiples of one number, against the likelihood written out."""

import warnings
from dataclasses import replace

import networkx as nx
import numpy as np
import powerlaw
import pytest
import torch
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar
from scipy.special import erfc, zeta

import linegraph as lg
from linegraph.metrics.power_law import lattice_unit


def loops(weight, dtype=torch.float64):
    """Self-loops with given weights: the strengths are the weights."""
    return lg.GraphCoupling(torch.arange(len(weight)).expand(2, -1), torch.as_tensor(weight, dtype=dtype))


def out_degrees(degrees, weight=None, dtype=torch.float64):
    """A graph whose nodes send so many links of one weight, or of the default one."""
    sources = np.repeat(np.arange(len(degrees)), degrees)
    targets = np.random.default_rng(1).integers(0, len(degrees), len(sources))
    weights = None if weight is None else torch.full((len(sources),), weight, dtype=dtype)
    return lg.GraphCoupling(np.stack([sources, targets]), weights, num_nodes=len(degrees))


def law_of(G, direction="out"):
    return lg.strength_distribution(G, direction=direction).power_law()


def exponent(k):
    """By the discrete likelihood, Clauset et al. 2009, eq. 3.7."""

    def cost(alpha):
        return alpha * np.log(k).mean() + np.log(zeta(alpha, k.min()))

    return minimize_scalar(cost, bounds=(1.01, 20), method="bounded", options={"xatol": 1e-10}).x


def distance(k):
    """Kolmogorov and Smirnov's, over every integer of the tail."""
    places = np.arange(k.min(), k.max() + 1)
    share = np.searchsorted(np.sort(k), places, side="right") / len(k)
    law = 1 - zeta(exponent(k), places + 1) / zeta(exponent(k), k.min())
    return np.abs(share - law).max()


def zipf(alpha, n=1000, seed=0):
    return np.random.default_rng(seed).zipf(alpha, n).clip(max=10**6)


@pytest.mark.parametrize("alpha", [1.8, 2.2, 2.6, 3.4, 5.0])
def test_the_exponent_of_degrees(alpha):
    k = zipf(alpha) if alpha > 2 else zipf(alpha).clip(max=3000)
    found = law_of(out_degrees(k) if alpha > 2 else loops(k))
    tail = k[k >= found.x_min]
    assert (found.discrete, found.unit, found.tail) == (True, 1.0, len(tail))
    assert found.alpha == pytest.approx(exponent(tail), rel=1e-6)
    assert found.alpha == pytest.approx(alpha, abs=4 * found.sigma)
    assert found.distance == pytest.approx(distance(tail), rel=1e-5)
    cost = [np.log(zeta(found.alpha + step, found.x_min)) for step in (-1e-3, 0, 1e-3)]
    assert found.sigma == pytest.approx(1e-3 / np.sqrt(len(tail) * (cost[0] - 2 * cost[1] + cost[2])), rel=1e-3)
    if found.alpha < 2.99:  # beyond 3 powerlaw has no exponent
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = powerlaw.Fit(k, discrete=True, estimate_discrete=False, xmin=found.x_min, verbose=0).power_law
        assert found.alpha == pytest.approx(other.alpha, abs=1e-3)


def test_degrees_with_few_values():
    counts = {1: 233, 2: 33, 3: 13, 4: 10, 5: 2, 6: 3, 7: 2, 8: 2, 9: 1, 11: 1, 15: 1, 18: 1}
    found = law_of(out_degrees(np.repeat(list(counts), list(counts.values()))))
    assert (found.x_min, round(found.alpha, 2)) == (1, 2.59)


@pytest.mark.parametrize("seed", range(2))
def test_the_tail_begins_where_the_distance_is_least(seed):
    """Uniform degrees below 6, a law from there on."""
    rng = np.random.default_rng(seed)
    law = (places := np.arange(6, 2_000)) ** -2.4
    k = np.r_[rng.integers(1, 6, 300), rng.choice(places, 700, p=law / law.sum())]
    values = np.unique(k)[:-2]
    distances = [distance(k[k >= value]) for value in values]
    found = law_of(loops(k))
    assert found.x_min == values[int(np.argmin(distances))]
    assert found.distance == pytest.approx(min(distances), rel=1e-5)
    assert found.alpha == pytest.approx(2.4, abs=4 * found.sigma)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("unit", [0.5, 3.0, 0.1, 1 / 3, 0.7, 2e-7])
def test_links_of_one_weight_have_the_law_of_their_number(unit, dtype):
    k = zipf(2.3, 600).clip(max=400)
    number, weighted = law_of(out_degrees(k)), law_of(out_degrees(k, unit, dtype))
    assert weighted.unit == pytest.approx(unit, rel=1e-5)
    assert weighted.x_min == pytest.approx(unit * number.x_min, rel=1e-5)
    assert weighted.alpha == pytest.approx(number.alpha)
    assert weighted.sigma == pytest.approx(number.sigma)
    np.testing.assert_allclose(weighted.alternatives, number.alternatives, rtol=1e-6, atol=1e-9)
    x = np.array([1.0, 2.0, 7.0])
    np.testing.assert_allclose(weighted.ccdf(x * weighted.unit, 0.3), number.ccdf(x, 0.3))


def test_both_directions_of_a_link_are_one():
    """The total strength of an undirected network is twice its degree, and never odd."""
    graph = nx.barabasi_albert_graph(400, 2, seed=1)
    total = law_of(lg.from_networkx(graph), "total")
    received = law_of(lg.from_networkx(graph), "in")
    assert (total.unit, received.unit) == (2, 1)
    assert total.alpha == pytest.approx(received.alpha)
    assert total.x_min == 2 * received.x_min


def test_weights_of_two_kinds_have_a_common_unit():
    rng = np.random.default_rng(0)
    halves = 0.5 * rng.integers(1, 3, 800) * rng.zipf(2.5, 800).clip(max=1000)
    assert law_of(loops(halves)).unit == 0.5
    assert law_of(loops(0.3 * rng.integers(1, 5, 200) + 0.2 * rng.integers(0, 5, 200))).unit == pytest.approx(0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_strength_that_is_no_multiple_makes_the_law_continuous(dtype):
    k = zipf(2.5, 500).astype(float).clip(max=1000)
    k[7] = np.sqrt(2)
    found = law_of(loops(k, dtype))
    assert (found.discrete, found.unit) == (False, None)
    tail = k[k >= found.x_min * (1 - 1e-6)]
    assert found.alpha == pytest.approx(1 + len(tail) / np.log(tail / tail.min()).sum(), rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e8, 1e-5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_strengths_are_continuous(scale, dtype):
    """In single precision all of the large ones are whole numbers."""
    for seed in range(20):
        x = (scale * (1 + np.random.default_rng(seed).pareto(1.5, 12))).astype(dtype).astype(float)
        assert lattice_unit(x) is None


@pytest.mark.parametrize("alpha", [1.3, 2.0, 2.9, 3.5, 5.0, 9.0])
def test_the_exponent_of_continuous_strengths(alpha):
    """In closed form, beyond 3 as well."""
    x = 1 + np.random.default_rng(2).pareto(alpha - 1, 800)
    found = law_of(loops(x))
    tail = x[x >= found.x_min]
    assert found.alpha == pytest.approx(1 + len(tail) / np.log(tail / tail.min()).sum())
    assert found.sigma == pytest.approx((found.alpha - 1) / np.sqrt(len(tail)))
    assert found.alpha == pytest.approx(alpha, abs=5 * found.sigma)
    below = np.arange(len(tail)) / len(tail)
    assert found.distance == pytest.approx(np.abs(1 - (np.sort(tail) / tail.min()) ** (1 - found.alpha) - below).max())


def test_values_that_rounding_tells_apart_are_one():
    """The largest of them are one value, at which no tail begins."""
    x = np.r_[1 + np.random.default_rng(0).pareto(1.5, 60), 500 * (1 + 1e-14 * np.arange(20))]
    found = law_of(loops(x))
    assert found.alpha < 10
    assert found.x_min < 499


def test_samples_are_compared_one_by_one():
    """A random sample comes in no order; the variance of likelihood ratios pairs what is of one strength."""
    x = 1 + np.random.default_rng(2).pareto(1.5, 900)
    found = lg.strength_distribution(loops(x), direction="in").power_law(sample=899, seed=1)
    whole = law_of(loops(x), "in")
    np.testing.assert_allclose(found.alternatives["ratio"], whole.alternatives["ratio"], atol=0.3)


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.1])
def test_narrow_degrees_have_a_steep_law(weight):
    """Where the zeta function itself would be 0 in double precision."""
    k = np.random.default_rng(0).poisson(2000, 500)
    found = law_of(loops(k * weight))
    assert found.unit == weight
    tail, found = k[k * weight >= found.x_min], replace(found, x_min=found.x_min / weight, unit=1.0)
    assert found.discrete
    assert found.alpha == pytest.approx(1 + len(tail) / np.log(tail / (found.x_min - 0.5)).sum(), rel=1e-2)
    assert 0 < found.sigma < found.alpha
    assert found.ccdf([found.x_min], 1.0) == pytest.approx([1])


def test_the_ccdf_adds_up_the_probabilities():
    found = law_of(out_degrees(zipf(2.6)))
    k = np.arange(found.x_min, 2_000_000)
    p = k**-found.alpha / zeta(found.alpha, found.x_min)
    for x in (found.x_min, found.x_min + 1, found.x_min + 6.5, 40.0):
        assert found.ccdf(np.array([x]), 0.7)[0] == pytest.approx(0.7 * p[k >= x].sum(), rel=1e-4)


@pytest.mark.parametrize("draw", ["zipf", "geometric"])
def test_alternatives_of_degrees_are_discrete_too(draw):
    """The exponential one has a closed form: p(k) = (1 − z) z^(k − k_min) with z from the mean."""
    rng = np.random.default_rng(3)
    k = zipf(2.2) if draw == "zipf" else rng.geometric(0.3, 1500)
    found = law_of(loops(k))
    tail = k[k >= found.x_min].astype(float)
    power = -found.alpha * np.log(tail) - np.log(zeta(found.alpha, found.x_min))
    z = 1 - 1 / (1 + (tail - found.x_min).mean())
    exponential = np.log(1 - z) + (tail - found.x_min) * np.log(z)
    difference = power - exponential
    ratio = difference.sum() / np.sqrt(len(tail) * difference.var())
    assert found.alternatives.loc["exponential", "ratio"] == pytest.approx(ratio, abs=0.02)
    assert found.alternatives.loc["exponential", "p"] == pytest.approx(erfc(abs(ratio) / np.sqrt(2)), abs=0.02)
    assert found.alternatives.notna().all(axis=None)
    assert bool(ratio > 2) is (draw == "zipf")


def test_the_line_of_a_discrete_law_stands_on_its_values():
    distribution = lg.strength_distribution(out_degrees(zipf(2.4), 0.5), direction="out")
    fit = distribution.power_law()
    line = lg.plot.strength_ccdf(distribution, Figure().add_subplot(), fit=fit).lines[1]
    x, y = line.get_xdata(), line.get_ydata()
    assert (x[0], y[0]) == (pytest.approx(fit.x_min), pytest.approx(fit.tail / 1000))
    assert np.allclose(x / 0.5, np.rint(x / 0.5))
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(y / y[0], zeta(fit.alpha, x / 0.5) / zeta(fit.alpha, x[0] / 0.5))
