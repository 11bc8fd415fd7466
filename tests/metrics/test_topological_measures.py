import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse import csr_array

import linegraph as lg
from linegraph.metrics import topological_measures
from linegraph.metrics.topological_measures import measures_of_weights, measures_of_wiring
from tests.metrics.graphs import graphs, random_graph


def both(G):
    """The matrix of a graph, its directed and its undirected graph of networkx, the latter of weights (A + Aᵀ)/2."""
    A = csr_array(G.to_scipy_sparse())
    dense = A.toarray()
    half = (dense + dense.T) / 2
    np.fill_diagonal(half, 0)
    return A, nx.from_numpy_array(dense.T, create_using=nx.DiGraph), nx.from_numpy_array(half)


def equal(found, expected):
    return found == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


def wiring(A):
    return measures_of_wiring(A, np.arange(A.shape[0]))


def weights(A):
    return measures_of_weights(A, np.arange(A.shape[0]), seed=0)


def deviation(values):
    values = np.array(list(values), dtype=float)
    return values.std() / values.mean() if values.sum() else math.nan


def of_squares(graph):
    """4 C₄ / L₃ by enumeration of paths of three edges."""
    paths = closed = 0
    for a, b, c, d in itertools.permutations(graph, 4):
        if graph.has_edge(a, b) and graph.has_edge(b, c) and graph.has_edge(c, d):
            paths += 1
            closed += graph.has_edge(a, d)
    return closed / paths if paths else math.nan


def of_triangles(around, graph):
    """The sum of the weights of two edges of a node over the pairs of its neighbours that are joined, in any order."""
    pairs = itertools.permutations(around, 2)
    return sum(around[j]["weight"] + around[k]["weight"] for j, k in pairs if graph.has_edge(j, k))


def of_paths(lengths):
    """The mean over connected pairs, of lengths by node and node."""
    found = [lengths[i][j] for i in lengths for j in lengths[i] if i != j]
    return np.mean(found) if found else math.nan


@settings(max_examples=40)
@given(graphs())
def test_measures_of_the_wiring_equal_networkx(G):
    A, directed, graph = both(G)
    found = wiring(A)
    n = len(graph)
    assert equal(found["nodes"], n)
    assert equal(found["edges"], directed.number_of_edges())
    assert equal(found["density"], nx.density(directed) if n > 1 else 0)
    assert equal(found["mean_degree"], 2 * graph.number_of_edges() / n)
    assert equal(found["degree_heterogeneity"], deviation(k for _, k in graph.degree))
    assert equal(found["clustering"], nx.average_clustering(graph))
    triples = sum(k * (k - 1) for _, k in graph.degree)
    assert equal(found["transitivity"], nx.transitivity(graph) if triples else math.nan)
    assert equal(found["square_clustering"], of_squares(graph))
    assert equal(found["largest_component"], max(map(len, nx.connected_components(graph))) / n)
    assert equal(found["path_length"], of_paths(dict(nx.all_pairs_shortest_path_length(graph))))
    assert equal(found["efficiency"], nx.global_efficiency(graph) if n > 1 else math.nan)
    assert equal(found["betweenness_heterogeneity"], deviation(nx.betweenness_centrality(graph).values()))
    spectrum = np.sort(nx.laplacian_spectrum(graph, weight=None))
    assert equal(found["algebraic_connectivity"], spectrum[1] if n > 1 else math.nan)


@settings(max_examples=40)
@given(graphs())
def test_measures_of_weights_equal_networkx_and_enumeration(G):
    A, _, graph = both(G)
    found = weights(A)
    P = A.toarray()
    received, sent = P.sum(1), P.sum(0)
    assert equal(found["mean_strength"], received.mean())
    assert equal(found["in_strength_heterogeneity"], deviation(received))
    assert equal(found["out_strength_heterogeneity"], deviation(sent))
    assert equal(found["beta_eff"], P.sum(0) @ P.sum(1) / P.sum() if P.sum() else math.nan)
    strength = dict(graph.degree(weight="weight"))
    local = [of_triangles(graph[i], graph) / (2 * strength[i] * (k - 1)) if k > 1 else 0.0 for i, k in graph.degree]
    assert equal(found["weighted_clustering"], np.mean(local))
    mean = np.mean([w for _, _, w in graph.edges(data="weight")]) if graph.number_of_edges() else 1.0
    for _, _, edge in graph.edges(data=True):
        edge["length"] = mean / edge["weight"]
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph, weight="length"))
    assert equal(found["weighted_path_length"], of_paths(lengths))
    values = np.linalg.svd(P, compute_uv=False)
    assert found["spectral_norm"] == pytest.approx(values[0], abs=1e-8)
    assert found["spectral_radius"] == pytest.approx(np.abs(np.linalg.eigvals(P)).max(), abs=1e-3)
    assert equal(found["stable_rank"], (values**2).sum() / values[0] ** 2 if values[0] else math.nan)


def test_capacitance_is_the_mean_strength_times_a_factor_of_heterogeneities():
    found = weights(csr_array(random_graph(40, 300).to_scipy_sparse()))
    factor = 1 + found["symmetry"] * found["in_strength_heterogeneity"] * found["out_strength_heterogeneity"]
    assert found["beta_eff"] == pytest.approx(found["mean_strength"] * factor)


def test_assortativity_is_that_of_networkx():
    A, directed, _ = both(random_graph(40, 300))
    assert wiring(A)["degree_assortativity"] == pytest.approx(nx.degree_assortativity_coefficient(directed))
    assert weights(A)["strength_assortativity"] == pytest.approx(lg.assortativity(A))


@pytest.mark.parametrize("name", ["PRODUCT_ENTRIES", "DENSE_NODES", "LENGTHS"])
def test_large_graphs_are_measured_in_parts(monkeypatch, name):
    A = csr_array(random_graph(60, 400).to_scipy_sparse())
    whole = wiring(A)
    monkeypatch.setattr(topological_measures, name, 50)
    assert wiring(A) == pytest.approx(whole, abs=1e-9, rel=1e-5)


@pytest.mark.parametrize(
    ("graph", "converges"), [(nx.barabasi_albert_graph(700, 2, seed=0), True), (nx.path_graph(700), False)]
)
def test_algebraic_connectivity_of_large_graphs(graph, converges):
    found = topological_measures.algebraic_connectivity(csr_array(nx.to_scipy_sparse_array(graph, dtype=float)))
    assert found == pytest.approx(np.sort(nx.laplacian_spectrum(graph))[1], rel=1e-5)
    value, error = topological_measures.by_iteration(csr_array(nx.laplacian_matrix(graph), dtype=float))
    assert (error < topological_measures.PRECISE * value) == converges


def test_a_star_with_many_rays_takes_few_steps():
    rays = 50_000
    links = csr_array((np.ones(rays), (np.zeros(rays, dtype=int), np.arange(1, rays + 1))), shape=(rays + 1,) * 2)
    both_ways = csr_array(links + links.T)
    assert math.isnan(topological_measures.square_clustering(both_ways))


def test_square_clustering_of_bipartite_graphs_is_that_of_robins_and_alexander():
    graph = nx.bipartite.random_graph(8, 9, 0.4, seed=1)
    expected = nx.bipartite.robins_alexander_clustering(graph)
    assert wiring(csr_array(nx.to_scipy_sparse_array(graph)))["square_clustering"] == pytest.approx(expected)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_graphs_without_edges(n):
    found = {**wiring(csr_array((n, n))), **weights(csr_array((n, n)))}
    assert found["edges"] == 0
    assert all(math.isnan(found[name]) for name in ("path_length", "beta_eff", "modularity", "stable_rank"))
    assert found["communities"] == n
