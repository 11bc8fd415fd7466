import warnings

import igraph
import numpy as np
import powerlaw
import pytest
import torch
from hypothesis import given, settings

import linegraph as lg
from linegraph.errors import DataError, NegativeCouplingError, NonFiniteError
from tests.metrics.graphs import empty, graphs, layered, random_graph


@settings(max_examples=60)
@given(graphs(signed=True))
def test_strengths_equal_igraph(G):
    found = lg.strengths(G)
    graph = G.to_igraph()
    weights = graph.es["weight"] if graph.ecount() else None
    for mode, mine in {"in": found.in_strength, "out": found.out_strength, "all": found.total}.items():
        assert np.allclose(mine, graph.strength(mode=mode, weights=weights), atol=1e-12)


@settings(max_examples=60)
@given(graphs(signed=True))
def test_ccdf_by_counting(G):
    for direction, mine in zip(("in", "out"), (G.in_strength(), G.out_strength()), strict=True):
        found = lg.strength_distribution(G, direction=direction)
        strengths = mine.numpy()
        every = np.repeat(found.values, found.counts)
        assert every == pytest.approx(np.sort(strengths))
        assert [np.mean(every >= x) for x in found.values] == pytest.approx(list(found.ccdf))


def test_distribution_of_one_layer():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
    data = torch.randn(8, 4).double(), torch.randn(8, 2).double()
    P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data, kind="magnitude")
    found = lg.strength_distribution(P, direction="in", layer="0.weight")
    expected = P.split(P.in_strength())["0.weight"].flatten().sort().values
    assert np.repeat(found.values, found.counts) == pytest.approx(expected.numpy())
    assert found.layer == "0.weight"
    transposed = lg.strength_distribution(P.T, direction="out", layer="0.weight")
    assert transposed.values == pytest.approx(found.values)
    with pytest.raises(DataError, match=r"no layer 'head'; this coupling has '0.weight', '2.weight'"):
        lg.strength_distribution(P, layer="head")


def test_arguments():
    with pytest.raises(ValueError, match="'in', 'out', 'total', got 'both'"):
        lg.strength_distribution(empty(2), direction="both")
    assert len(lg.strength_distribution(empty()).ccdf) == 0
    assert lg.strength_distribution(empty(2)).ccdf.tolist() == [1.0]


def loops(weight):
    return lg.GraphCoupling(torch.arange(len(weight)).expand(2, -1), torch.as_tensor(weight, dtype=torch.float64))


def pareto(n, alpha, scale=1.0, seed=0):
    """A star to itself: n self-loops whose weights are drawn from a power law."""
    weight = scale * (1 + np.random.default_rng(seed).pareto(alpha - 1, n))
    index = torch.arange(n).expand(2, n)
    return lg.GraphCoupling(index, torch.from_numpy(weight))


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_a_power_law_is_found_again(scale):
    found = lg.strength_distribution(pareto(2000, 2.5, scale), direction="in").power_law()
    assert found.alpha == pytest.approx(2.5, abs=4 * found.sigma)
    assert 0.01 < found.sigma < 0.1
    assert found.alternatives.loc["exponential", "ratio"] > 3
    assert found.alternatives.loc["exponential", "p"] < 0.01
    assert found.fitted == 2000
    # igraph fits the same tail by the same likelihood, written independently.
    strengths = pareto(2000, 2.5, scale).in_strength().numpy()
    other = igraph.power_law_fit(
        list(strengths / scale), xmin=found.x_min / scale, method="continuous", p_precision=0.5
    )
    assert found.alpha == pytest.approx(other.alpha, rel=1e-3)
    tail = strengths >= found.x_min
    assert found.tail == tail.sum()
    drawn = found.ccdf(np.array([found.x_min, 2 * found.x_min]), tail.mean())
    assert drawn[0] == pytest.approx(tail.mean())
    assert drawn[1] == pytest.approx(np.mean(strengths >= 2 * found.x_min), rel=0.1)


def test_an_exponential_is_not_taken_for_a_power_law():
    weight = torch.from_numpy(np.random.default_rng(0).exponential(size=2000))
    G = lg.GraphCoupling(torch.arange(2000).expand(2, 2000), weight)
    found = lg.strength_distribution(G, direction="in").power_law()
    assert found.alternatives.loc["stretched_exponential", "ratio"] < 0 or found.tail < 400


def test_a_fit_of_many_strengths_is_of_a_sample():
    distribution = lg.strength_distribution(pareto(3000, 2.5), direction="in")
    first, again, other = (distribution.power_law(sample=500, seed=s) for s in (0, 0, 1))
    assert first.fitted == 500
    assert first.alpha == pytest.approx(again.alpha)
    assert first.alpha != pytest.approx(other.alpha)


@pytest.mark.parametrize(
    ("G", "error", "message"),
    [
        (random_graph(20, 60, signed=True), NegativeCouplingError, "kind='magnitude'"),
        (layered(2, 2), DataError, "at least 10 positive strengths"),
        (loops([1.0] * 20), DataError, "20, of 1 values"),
        (loops([1.0] * 9 + [2.0]), DataError, "10, of 2 values"),
        (loops([1.0] * 50 + [2.0] * 50), DataError, "100, of 2 values"),
        (loops([1.0] * 9 + [1e9]), DataError, "10, of 2 values"),
        (loops(3.1 * (1 + 1e-15 * np.arange(50))), DataError, "50, of 1 values"),
        (loops([1 - 1e-7, 1.0, 1 + 1e-7, 2.0] * 5 + [3.0]), DataError, "21, of 3 values"),
    ],
)
def test_what_has_no_power_law(G, error, message):
    with pytest.raises(error, match=message):
        lg.strength_distribution(G, direction="in").power_law()


@pytest.mark.parametrize("weight", [[1.0] * 9 + [2, 3, 4], [1.0, 2, 3, 4] * 3, [1.0] * 9 + [2, 3, 1e9]])
def test_a_power_law_of_few_values_is_a_number(weight):
    found = lg.strength_distribution(loops(weight), direction="in").power_law()
    assert 1 < found.alpha < 1e3
    assert found.x_min in weight


def test_samples_and_values_that_cannot_be_fitted():
    distribution = lg.strength_distribution(pareto(100, 2.5), direction="in")
    for sample in (0, 5):
        with pytest.raises(ValueError, match=f"sample must be 10 or more, got {sample}"):
            distribution.power_law(sample=sample)
    counts = np.ones(12, dtype=int)
    infinite = lg.StrengthDistribution(np.r_[np.arange(1.0, 12), np.inf], counts, counts, "in", None)
    with pytest.raises(NonFiniteError, match="infinite"):
        infinite.power_law()


def test_every_alternative_that_powerlaw_fits_is_shown():
    distribution = lg.strength_distribution(pareto(1500, 2.5), direction="in")
    strengths = np.repeat(distribution.values, distribution.counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(strengths / np.median(strengths), verbose=False)
        found = distribution.power_law().alternatives
        for name, row in found.iterrows():
            expected = fit.distribution_compare("power_law", name, normalized_ratio=True)
            assert (row["ratio"], row["p"]) == pytest.approx(expected, nan_ok=True)
    assert found.notna().all(axis=None)


def test_overflow_names_the_node():
    G = lg.GraphCoupling(torch.tensor([[0, 1], [2, 2]]), torch.full((2,), 1.7e308, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="in_strength of node 2"):
        lg.strengths(G)
