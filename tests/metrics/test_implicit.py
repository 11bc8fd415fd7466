"""Every metric of every network: P that is never built against P.to_graph()."""

import inspect
import warnings

import igraph
import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import AmbiguousSolutionError, DegenerateCapacitanceWarning, NegativeCouplingError
from tests.cases import CASES
from tests.comparison import close

NAMES = sorted(CASES)


@pytest.fixture(scope="module", params=NAMES)
def signed(request):
    P = lg.NeuralCoupling(*CASES[request.param].make())
    return P, P.to_graph()


@pytest.fixture(scope="module", params=sorted(CASES))
def magnitude(request):
    P = lg.NeuralCoupling(*CASES[request.param].make(), kind="magnitude")
    return P, P.to_graph()


def test_structure_and_strengths(signed):
    P, G = signed
    assert lg.is_acyclic(P) == lg.is_acyclic(G)
    assert lg.density(P) == pytest.approx(lg.density(G))
    close(lg.reciprocity(P), lg.reciprocity(G), 1e-8, atol=1e-12)
    for name in ("in_strength", "out_strength", "total"):
        rounding = 1e-12 * float(G.weight.abs().max())  # where the last block sums to zero nothing else is left
        close(getattr(lg.strengths(P), name), getattr(lg.strengths(G), name), 1e-8, atol=rounding)


def test_spectra(signed):
    P, G = signed
    close(lg.singular_values(P, 5), lg.singular_values(G, 5), 1e-8, atol=0)
    close(lg.eigenvalues(P, 5, symmetrize=True).abs(), lg.eigenvalues(G, 5, symmetrize=True).abs(), 1e-8, atol=0)
    close(lg.stable_rank(P), lg.stable_rank(G), 1e-8, atol=0)
    scale = float(lg.singular_values(G, 1))
    if lg.is_acyclic(G):
        assert lg.spectral_radius(P) == lg.spectral_radius(G) == 0
    else:
        close(lg.spectral_radius(P), lg.spectral_radius(G), 1e-8, atol=1e-8 * scale)
    found, expected = (lg.spectral_density(Q, probes=1, steps=12) for Q in (P, G))
    for power in (0, 1, 2):
        assert found.moment(power) == pytest.approx(expected.moment(power), rel=1e-8, abs=1e-8 * scale**power)
    # Lanczos with rounding of two kinds: the same distribution, not the same nodes.
    points = np.linspace(-scale, scale, 50)
    width = 0.1 * scale
    assert np.allclose(found.density(points, width=width), expected.density(points, width=width), atol=1e-3 / scale)


def test_katz(signed):
    P, G = signed
    radius = lg.spectral_radius(G)
    alpha = 0.5 / radius if radius else 1.0
    close(lg.katz(P, alpha=alpha), lg.katz(G, alpha=alpha), 1e-8, atol=0)


def test_tables(signed):
    P, G = signed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateCapacitanceWarning)
        table, whole = lg.diagnose(P), lg.diagnose(G)
        pairs = lg.layer_pairs(P)
    assert len(table) == len(pairs) == len(P.synapses)
    close(table["in_strength"].sum(), whole["in_strength"].item(), 1e-8, atol=1e-14 * G.absolute_total())
    if whole["beta"].notna().all() and abs(whole["in_strength"].item()) > 1e-6 * G.absolute_total():
        close(table["beta"].sum(), whole["beta"].item(), 1e-8, atol=1e-12)
        close(pairs.to_numpy().sum(), whole["beta"].item(), 1e-8, atol=1e-12)


def test_centralities_of_non_negative_couplings(magnitude):
    P, G = magnitude
    close(lg.pagerank(P), lg.pagerank(G), 1e-8, atol=0)
    assert float(lg.pagerank(P).min()) > 0
    found, expected = lg.hits(P), lg.hits(G)
    close(found.hubs, expected.hubs, 1e-8, atol=0)
    close(found.authorities, expected.authorities, 1e-8, atol=0)
    close(lg.assortativity(P), lg.assortativity(G), 1e-8, atol=0)
    close(lg.laplacian_eigenvalues(P, 5), lg.laplacian_eigenvalues(G, 5), 1e-8, atol=1e-8)
    close(lg.pagerank(P.T), lg.pagerank(G.T), 1e-8, atol=0)
    if lg.is_acyclic(G):
        for Q in (P, G):
            with pytest.raises(AmbiguousSolutionError, match="acyclic"):
                lg.eigenvector_centrality(Q)
    else:
        try:
            expected = lg.eigenvector_centrality(G)
        except AmbiguousSolutionError:
            with pytest.raises(AmbiguousSolutionError):
                lg.eigenvector_centrality(P)
        else:
            close(lg.eigenvector_centrality(P), expected, 1e-8, atol=0)


def test_signed_networks_are_refused(signed):
    P, _ = signed
    for metric in (lg.pagerank, lg.hits, lg.eigenvector_centrality, lg.assortativity):
        with pytest.raises(NegativeCouplingError, match="kind='magnitude'"):
            metric(P)


def test_energy_is_an_estimate_of_the_same_centrality():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="energy", probes=200)
    found, exact = lg.pagerank(P), lg.pagerank(P.to_graph())
    assert torch.allclose(found, exact, atol=0.2 * float(exact.max()))


VECTORS = (lg.katz, lg.pagerank, lg.hits, lg.eigenvector_centrality)
SPECTRA = (lg.singular_values, lg.singular_triplets, lg.eigenvalues, lg.laplacian_eigenvalues)
FIGURES = (lg.spectral_radius, lg.spectral_norm, lg.spectral_gap)
PROBED = (lg.stable_rank, lg.reciprocity, lg.spectral_density, lg.singular_value_density, lg.diagnose, lg.summary)


@pytest.mark.parametrize("metric", [*VECTORS, *SPECTRA, *FIGURES, *PROBED, lg.layer_pairs])
def test_one_vocabulary(metric):
    parameters = inspect.signature(metric).parameters
    assert next(iter(parameters)) == "P"
    assert parameters["progress"].default is False
    if metric in PROBED:
        assert {"probes", "generator"} <= parameters.keys()
        assert parameters["generator"].default is None
    if metric in (*VECTORS, *SPECTRA, *FIGURES):
        assert parameters["tol"].default is None
        assert parameters["max_iter"].default == 1000
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name not in ("P", "k"))


METRICS = [
    *(lg.strengths, lg.strength_distribution, lg.capacitance, lg.diagnose, lg.layer_pairs, lg.summary, lg.is_acyclic),
    *(lg.density, lg.reciprocity, lg.assortativity, lg.pagerank, lg.hits, lg.eigenvector_centrality, lg.betweenness),
    *(lg.spectral_radius, lg.spectral_norm, lg.spectral_gap, lg.stable_rank),
    *(lg.spectral_density, lg.singular_value_density, lambda P: lg.katz(P, alpha=0.1)),
    *(lambda P, f=f: f(P, 1) for f in SPECTRA),
]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_take_graphs_and_name_what_makes_a_coupling(metric):
    index, weight = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, 2.0, 3.0])
    metric(Data(edge_index=index, edge_weight=weight, num_nodes=3))
    for graph in (nx.cycle_graph(3), igraph.Graph.Ring(3), csr_array(np.ones((3, 3)))):
        metric(graph)
    for graph, maker in ((np.eye(3), "lg.from_scipy"), (torch.eye(3), "lg.GraphCoupling")):
        with pytest.raises(TypeError, match=maker):
            metric(graph)


def test_metrics_of_a_coarse_graph():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude")
    coarse = lg.coarse_graph(P, "neuron")
    assert torch.allclose(lg.betweenness(coarse), lg.betweenness(lg.from_pyg(coarse)))
