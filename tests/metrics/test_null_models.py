import random
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from linegraph.metrics.null_models import NULL_MODELS, edges_of, rewired, shuffled
from tests.metrics.graphs import layered, random_graph

DIRECTED = csr_array(random_graph(30, 200).to_scipy_sparse())
UNDIRECTED = csr_array(nx.to_scipy_sparse_array(nx.karate_club_graph(), dtype=float))


def degrees(A):
    return (A != 0).sum(0).tolist(), (A != 0).sum(1).tolist()


@pytest.mark.parametrize("A", [DIRECTED, UNDIRECTED], ids=["directed", "undirected"])
def test_edges_form_the_matrix_they_are_of(A):
    assert (edges_of(A).matrix() != A).nnz == 0


@pytest.mark.parametrize("A", [DIRECTED, UNDIRECTED], ids=["directed", "undirected"])
def test_rewiring_keeps_degrees_loops_and_the_set_of_weights(A):
    found = rewired(edges_of(A), seed=1).matrix()
    assert degrees(found) == degrees(A)
    assert (found != A).nnz > 0
    assert np.allclose(np.sort(found.data), np.sort(A.data))
    assert np.allclose(found.diagonal(), A.diagonal())


@pytest.mark.parametrize("A", [DIRECTED, UNDIRECTED], ids=["directed", "undirected"])
def test_shuffling_keeps_the_wiring_and_the_set_of_weights(A):
    found = shuffled(edges_of(A), seed=1).matrix()
    assert ((found != 0) != (A != 0)).nnz == 0
    assert (found != A).nnz > 0
    assert np.allclose(np.sort(found.data), np.sort(A.data))


def test_an_undirected_graph_stays_one():
    for null_model in NULL_MODELS.values():
        found = null_model(edges_of(UNDIRECTED), seed=1).matrix()
        assert (found != found.T).nnz == 0


def test_rewiring_reaches_all_graphs_equally_often():
    """Of the directed graphs with these degrees, found by enumeration."""
    graph = nx.DiGraph([(0, 3), (1, 4), (2, 5)])
    edges = edges_of(csr_array(nx.to_scipy_sparse_array(graph, nodelist=range(6)).T.astype(float)))
    count = Counter(tuple(sorted(map(tuple, rewired(edges, seed).ends.T.tolist()))) for seed in range(600))
    assert len(count) == 6  # the six ways to join three sources with three targets
    assert min(count.values()) > 60


def three_layers():
    """All of 4 nodes to half of 6, and half of these to 5, and the layer of each node."""
    full = layered(4, 6, 5).to_scipy_sparse().tocoo()
    keep = (full.coords[0] + full.coords[1]) % 2 == 0
    A = csr_array((full.data[keep], tuple(index[keep] for index in full.coords)), shape=full.shape)
    return A, np.repeat([0, 1, 2], [4, 6, 5])


@pytest.mark.parametrize("name", NULL_MODELS)
def test_layers_keep_their_edges_and_weights(name):
    A, layer = three_layers()
    found = NULL_MODELS[name](edges_of(A, layer), seed=3).matrix()
    for m in range(3):
        for k in range(3):
            block, given = (matrix[layer == m][:, layer == k] for matrix in (found, A))
            assert degrees(block) == degrees(given)
            assert np.allclose(np.sort(block.data), np.sort(given.data))
    assert (found != A).nnz > 0


def test_between_dense_layers_there_is_one_wiring():
    A, layer = csr_array(layered(4, 6, 5).to_scipy_sparse()), np.repeat([0, 1, 2], [4, 6, 5])
    edges = edges_of(A, layer)
    assert np.array_equal(rewired(edges, seed=0).ends, edges.ends)


def test_edges_into_nodes_without_a_layer_stay():
    A, layer = three_layers()
    layer[layer == 1] = -1
    for null_model in NULL_MODELS.values():
        found = null_model(edges_of(A, layer), seed=3).matrix()
        assert np.array_equal(found[layer < 0].toarray(), A[layer < 0].toarray())
        assert (found != A).nnz > 0


def test_seeds_decide_and_the_global_generator_is_restored():
    edges, state = edges_of(DIRECTED), random.getstate()
    for null_model in NULL_MODELS.values():
        first, again, other = (null_model(edges, seed).matrix() for seed in (1, 1, 2))
        assert (first != again).nnz == 0
        assert (first != other).nnz > 0
    assert random.getstate() == state


@pytest.mark.parametrize("name", NULL_MODELS)
def test_graphs_without_edges(name):
    assert NULL_MODELS[name](edges_of(csr_array((3, 3))), seed=0).matrix().nnz == 0
