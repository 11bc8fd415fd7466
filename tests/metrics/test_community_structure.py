import math
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import linegraph as lg
from linegraph.errors import NegativeCouplingError, TooLargeError
from tests.metrics.graphs import Implicit, empty, graphs, layered, random_graph, times


@settings(max_examples=60)
@given(graphs(loops=False))
def test_betweenness_equals_networkx(G):
    G = lg.GraphCoupling(G.edge_index, G.weight.ceil(), num_nodes=G.num_nodes)
    graph = G.to_networkx()
    for _, _, edge in graph.edges(data=True):
        edge["length"] = Fraction(1, int(edge["weight"]))  # sums of floats would part ties
    expected = nx.betweenness_centrality(graph, normalized=False, weight="length")
    assert np.allclose(lg.betweenness(G), [expected[i] for i in range(G.num_nodes)], atol=1e-8)


@pytest.mark.parametrize("scale", [1e-100, 1e-16, 1e9, 1e11, 1e100])
def test_betweenness_does_not_depend_on_units(scale):
    G = random_graph(30, 200)
    assert torch.allclose(lg.betweenness(times(G, scale)), lg.betweenness(G))


def test_betweenness_of_a_network_and_its_transpose():
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(3)]).double()
    data = torch.randn(8, 3).double(), torch.randn(8, 3).double()
    P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data, kind="magnitude")
    found = lg.betweenness(P)
    assert torch.allclose(found, lg.betweenness(P.to_graph()))
    assert torch.allclose(found, lg.betweenness(P.T))
    assert float(found[9:18].sum()) > 0 == float(found[:9].sum())


@settings(max_examples=60)
@given(graphs(smallest=2))
def test_modularity_equals_networkx(G):
    found = lg.communities(G)
    if not G.num_edges:
        assert math.isnan(found.modularity)
        return
    half = G.to_scipy_sparse()
    graph = nx.from_scipy_sparse_array(half + half.T)
    # networkx counts a self-loop's weight twice in the degree, and P + Pᵀ already holds it twice.
    for u, v, edge in graph.edges(data=True):
        edge["weight"] /= 2 if u == v else 1
    parts = [set((found.labels == c).nonzero().flatten().tolist()) for c in range(int(found.labels.max()) + 1)]
    assert found.modularity == pytest.approx(nx.community.modularity(graph, parts), abs=1e-9)
    assert (found.sizes[:-1] >= found.sizes[1:]).all()


def test_planted_communities_are_found_with_either_direction():
    torch.manual_seed(0)
    dense = torch.block_diag(*[torch.rand(10, 10) for _ in range(3)]) + 0.01 * torch.rand(30, 30)
    G = lg.from_scipy(__import__("scipy.sparse").sparse.csr_array(dense.double().numpy()))
    for P in (G, G.T):
        found = lg.communities(P)
        assert found.sizes.tolist() == [10, 10, 10]
        assert all(len(set(found.labels[first : first + 10].tolist())) == 1 for first in (0, 10, 20))
    assert torch.equal(lg.communities(G, seed=3).labels, lg.communities(G, seed=3).labels)
    assert len(lg.communities(G, resolution=50.0).sizes) > 3


def test_pythons_random_state_is_left_alone():
    import random

    random.seed(1)
    before = random.getstate()
    lg.communities(layered(3, 3))
    assert random.getstate() == before


@pytest.mark.parametrize("metric", [lg.betweenness, lg.communities])
def test_what_is_refused(metric):
    with pytest.raises(NegativeCouplingError, match="kind='magnitude'"):
        metric(random_graph(10, 30, signed=True))
    with pytest.raises(TypeError, match="no explicit graph"):
        metric(Implicit(layered(2, 2)))
    wide = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 300))
    data = torch.randn(2, 300), torch.randn(2, 300)
    with pytest.raises(TooLargeError):
        metric(lg.NeuralCoupling(wide, torch.nn.functional.mse_loss, data, kind="magnitude"))


@pytest.mark.parametrize("resolution", [-1.0, math.nan])
def test_resolutions_that_mean_nothing(resolution):
    with pytest.raises(ValueError, match=f"resolution must be a finite number of at least 0, got {resolution}"):
        lg.communities(layered(2, 2), resolution=resolution)


def test_nothing():
    assert lg.betweenness(empty(2)).tolist() == [0, 0]
    assert lg.communities(empty(2)).labels.tolist() == [0, 1]
    assert len(lg.communities(empty()).labels) == 0
