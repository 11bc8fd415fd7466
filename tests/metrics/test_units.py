"""The units of a loss do not show: figures of c · P are those of P, times c or as they were."""

import warnings

import pytest
import torch

import linegraph as lg
from linegraph.errors import NonFiniteError
from tests.metrics.graphs import Implicit, random_graph, times

LINEAR = {
    "beta_eff": lambda P: lg.capacitance(P).beta_eff,
    "mean_strength": lambda P: lg.capacitance(P).mean_strength,
    "heterogeneity": lambda P: lg.capacitance(P).heterogeneity,
    "singular_values": lambda P: lg.singular_values(P, 3),
    "left_over": lambda P: (P @ lg.singular_triplets(P, 3).right).norm(dim=0, dtype=torch.float64),
    "eigenvalues": lambda P: lg.eigenvalues(P, 3).abs(),
    "symmetrized": lambda P: lg.eigenvalues(P, 3, symmetrize=True).abs(),
    "spectral_radius": lg.spectral_radius,
    "spectral_norm": lg.spectral_norm,
    "spectral_density": lambda P: lg.spectral_density(P, probes=1, steps=8).moment(1),
    "singular_value_density": lambda P: lg.singular_value_density(P, probes=1, steps=8).moment(1),
    "strengths": lambda P: lg.strengths(P).in_strength,
    "in_strength": lambda P: lg.diagnose(P)["in_strength"].item(),
    "layer_pairs": lambda P: lg.layer_pairs(P).iloc[0, 0],
}
INVARIANT = {
    "symmetry": lambda P: lg.capacitance(P).symmetry,
    "density": lg.density,
    "reciprocity": lg.reciprocity,
    "assortativity": lg.assortativity,
    "spectral_gap": lg.spectral_gap,
    "stable_rank": lg.stable_rank,
    "effective_degree": lambda P: lg.diagnose(P)["effective_degree"].item(),
    "stable_rank_of_a_layer": lambda P: lg.diagnose(P)["stable_rank"].item(),
    "effective_degree_error": lambda P: lg.diagnose(P)["effective_degree_error"].item(),
    "share": lambda P: lg.diagnose(P)["share"].item(),
    "pagerank": lg.pagerank,
    "hubs": lambda P: lg.hits(P).hubs,
    "authorities": lambda P: lg.hits(P).authorities,
    "eigenvector_centrality": lg.eigenvector_centrality,
    "laplacian_eigenvalues": lambda P: lg.laplacian_eigenvalues(P, 3),
    "katz": lambda P: lg.katz(P, alpha=0.5 / lg.spectral_radius(P)),
}
ENTRIES = {
    "betweenness": lg.betweenness,
    "communities": lambda P: lg.communities(P).modularity,
}
SCALES = {torch.float32: (1e-30, 1e-22, 1e20, 1e30), torch.float64: (1e-150, 1e-30, 1e30, 1e150)}


def figures(P, metrics):
    return {name: torch.as_tensor(metric(P), dtype=torch.float64) for name, metric in metrics.items()}


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize("n", [12, 300])
@pytest.mark.parametrize("make", [lambda G: G, Implicit])
def test_figures_in_any_units(make, n, dtype):
    G = random_graph(n, 6 * n, dtype=dtype)
    metrics = (LINEAR, INVARIANT | (ENTRIES if isinstance(make(G), lg.GraphCoupling) else {}))
    linear, invariant = (figures(make(G), some) for some in metrics)
    tolerance = 1e-8 if dtype is torch.float64 else 2e-4
    for scale in SCALES[dtype]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            P = make(times(G, scale))
            for some, expected, unit in ((metrics[0], linear, scale), (metrics[1], invariant, 1.0)):
                for name, found in figures(P, some).items():
                    size = float(expected[name].abs().max())
                    torch.testing.assert_close(
                        found / unit, expected[name], rtol=tolerance, atol=tolerance * size, msg=f"{name} {scale}"
                    )


def test_walks_of_a_network_in_any_units():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4), torch.nn.Linear(4, 2))
    data = torch.randn(8, 4), torch.randn(8, 2)

    def beta(unit):
        return float(lg.capacitance(lg.NeuralCoupling(model, lambda y, t: unit * (y - t).square().mean(), data)))

    for unit in (1e-30, 1e-22, 1e20, 1e30):
        assert beta(unit) / unit == pytest.approx(beta(1.0), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_walks_that_are_no_numbers_are_refused(scale):
    with pytest.raises(NonFiniteError, match="1ᵀPP1"):
        lg.capacitance(times(random_graph(10, 30), scale))
