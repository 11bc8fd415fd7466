import math

import igraph
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import linegraph as lg
from linegraph.errors import NegativeCouplingError
from linegraph.linalg.operators import normal
from tests.metrics.graphs import Implicit, empty, graphs, layered, random_graph


@settings(max_examples=60)
@given(graphs())
def test_density_equals_igraph_and_networkx(G):
    assert lg.density(G) == pytest.approx(nx.density(G.to_networkx()))
    if G.num_nodes > 1:
        assert lg.density(G) == pytest.approx(G.to_igraph().density())
    assert lg.density(G.T) == pytest.approx(lg.density(G))


@settings(max_examples=60)
@given(graphs(smallest=2))
def test_reciprocity_of_unweighted_graphs_equals_igraph(G):
    links = lg.GraphCoupling(G.edge_index, torch.ones(G.num_edges).double(), num_nodes=G.num_nodes)
    expected = links.to_igraph().reciprocity(ignore_loops=False)
    assert lg.reciprocity(links) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=60)
@given(graphs(signed=True))
def test_reciprocity_by_the_formula(G):
    dense = G.to_dense()
    expected = float((dense * dense.mT).sum() / dense.square().sum()) if G.num_edges else math.nan
    assert lg.reciprocity(G) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_reciprocity_by_probes():
    G = random_graph(300, 3000)
    dense = G.to_dense()
    exact = float((dense * dense.mT).sum() / dense.square().sum())
    assert [lg.reciprocity(G), lg.reciprocity(G.T)] == pytest.approx([exact, exact])
    found = [lg.reciprocity(Implicit(G), probes=16, generator=torch.Generator().manual_seed(s)) for s in range(60)]
    assert np.std(found) > 0
    assert min(found) >= 0
    assert lg.reciprocity(Implicit(layered(100, 100, 100))) == 0


def test_reciprocity_of_a_large_graph_is_exact():
    graph = nx.gnp_random_graph(300, 0.02, seed=0, directed=True)
    G = lg.from_networkx(graph)
    assert lg.reciprocity(G) == pytest.approx(nx.reciprocity(graph), rel=1e-12)
    assert lg.summary(G)["reciprocity"] == pytest.approx(lg.reciprocity(G))


@settings(max_examples=60)
@given(graphs(smallest=2))
def test_assortativity_by_the_edges(G):
    sources, targets = G.edge_index
    weight, x, y = G.weight.numpy(), G.out_strength()[sources].numpy(), G.in_strength()[targets].numpy()
    found = lg.assortativity(G)
    if len(x) < 2 or np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9:
        assert math.isnan(found) or abs(found) <= 1 + 1e-6
        return
    covariance = np.cov(x, y, aweights=weight, ddof=0)
    assert found == pytest.approx(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]), abs=1e-8)


@settings(max_examples=60)
@given(graphs(smallest=3))
def test_assortativity_of_unweighted_graphs_equals_igraph(G):
    links = lg.GraphCoupling(G.edge_index, torch.ones(G.num_edges).double(), num_nodes=G.num_nodes)
    graph: igraph.Graph = links.to_igraph()
    expected = graph.assortativity(graph.outdegree(), graph.indegree(), directed=True) if G.num_edges else math.nan
    found = lg.assortativity(links)
    assert math.isnan(found) == math.isnan(expected)
    assert found == pytest.approx(expected, abs=1e-8, nan_ok=True)


def test_degenerate():
    assert lg.density(empty()) == lg.density(empty(1)) == 0
    assert math.isnan(lg.reciprocity(empty(3)))
    assert math.isnan(lg.assortativity(empty(3)))
    with pytest.raises(NegativeCouplingError, match="assortativity"):
        lg.assortativity(Implicit(random_graph(10, 30, signed=True)))
    with pytest.raises(TypeError, match="number of edges"):
        lg.density(normal(random_graph(5, 9)))
