import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import linegraph as lg
from linegraph.errors import NonFiniteError
from tests.metrics.graphs import Implicit, empty, graphs, random_graph


@settings(max_examples=60)
@given(graphs(signed=True))
def test_small_ones_are_exact(G):
    dense = G.to_dense().numpy()
    size = max(1.0, np.abs(dense).max())
    symmetric, singular = lg.spectral_density(G), lg.singular_value_density(G)
    np.testing.assert_allclose(symmetric.nodes, np.linalg.eigvalsh((dense + dense.T) / 2), atol=1e-12 * size)
    np.testing.assert_allclose(singular.nodes, np.linalg.svd(dense)[1][::-1], atol=1e-12 * size)
    for found in (symmetric, singular):
        assert found.probes == 0
        np.testing.assert_allclose(found.weights, 1 / len(dense))


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(257, 400))
def test_support_and_mass_of_estimates(seed, n):
    G = random_graph(n, 4 * n, signed=True)
    found = lg.spectral_density(G, probes=3, steps=n + 1, generator=torch.Generator().manual_seed(seed))
    dense = G.to_dense()
    exact = torch.linalg.eigvalsh((dense + dense.mT) / 2)
    assert found.probes == 3
    assert found.weights.sum() == pytest.approx(1)
    assert (found.weights >= 0).all()
    assert exact[0] - 1e-7 <= found.nodes[0]
    assert found.nodes[-1] <= exact[-1] + 1e-7
    assert (np.diff(found.nodes) >= 0).all()


def test_the_line_graph_of_a_small_network_is_built(monkeypatch):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 12), torch.nn.Tanh(), torch.nn.Linear(12, 8)).double()
    inputs = torch.randn(30, 20, dtype=torch.float64)
    P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, (inputs, inputs[:, :8]), kind="magnitude")
    computed = {
        "eigenvalues": lambda: lg.spectral_density(P, probes=2).moment(2),
        "singular values": lambda: lg.singular_value_density(P, probes=2).moment(2),
        "the largest": lambda: lg.singular_values(P, 3).numpy(),
    }
    monkeypatch.setattr("linegraph.linalg.operators.MULTIPLIED_EDGES", 0)
    by_passes = {name: compute() for name, compute in computed.items()}
    monkeypatch.undo()
    monkeypatch.setattr(lg.NeuralCoupling, "matvec", None)  # no pass of the network is needed
    monkeypatch.setattr(lg.NeuralCoupling, "rmatvec", None)
    for name, compute in computed.items():
        assert compute() == pytest.approx(by_passes[name], rel=1e-8), name


@pytest.mark.parametrize("which", ["symmetric", "singular"])
def test_density_equals_the_exact_one(which):
    G = random_graph(500, 5000, signed=True)
    dense = G.to_dense()
    if which == "symmetric":
        exact = torch.linalg.eigvalsh((dense + dense.mT) / 2).numpy()
        found = lg.spectral_density(Implicit(G), probes=60, steps=60)
    else:
        exact = torch.linalg.svdvals(dense).numpy()
        found = lg.singular_value_density(Implicit(G), probes=60, steps=60)
    points = np.linspace(exact.min() - 0.2, exact.max() + 0.2, 200)
    width = (exact.max() - exact.min()) / 20
    bumps = np.exp(-0.5 * ((points[:, None] - exact) / width) ** 2).mean(1) / (width * np.sqrt(2 * np.pi))
    drawn = found.density(points, width=width)
    assert np.trapezoid(drawn, points) == pytest.approx(1, abs=0.02)
    # A bump holds about a tenth of the 500 values, whose random weights vary by √2: √(2/(50 · 60)) = 2.6 %.
    assert np.abs(drawn - bumps).max() < 0.1 * bumps.max()
    assert found.moment(0) == pytest.approx(1)
    for power in (1, 2, 4):
        spread = np.std(exact**power) * np.sqrt(2 / (500 * 60))
        assert found.moment(power) == pytest.approx(np.mean(exact**power), abs=5 * spread)


def test_few_steps_take_few_products():
    P = Implicit(random_graph(300, 3000))
    lg.spectral_density(P, probes=2, steps=10)
    assert P.products == 2 * 2 * 10 + 1  # one for the units


def test_a_graph_of_nothing_is_a_peak_at_zero():
    found = lg.spectral_density(empty(3))
    assert not found.nodes.any()
    assert found.density(np.zeros(1))[0] == pytest.approx(1 / (0.01 * np.sqrt(2 * np.pi)))
    with pytest.raises(ValueError, match="0 nodes"):
        lg.spectral_density(empty())
    with pytest.raises(ValueError, match="probes must be 1 or more"):
        lg.spectral_density(empty(3), probes=0)
    with pytest.raises(ValueError, match="width"):
        found.density(np.zeros(1), width=0.0)


def test_overflow_is_named():
    index = torch.tensor([[0], [1]]).expand(2, 100)
    G = lg.GraphCoupling(index, torch.full((100,), 1.7e308, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="spectral density"):
        lg.singular_value_density(G)
