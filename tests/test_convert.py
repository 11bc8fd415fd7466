import igraph
import networkx as nx
import pytest
import torch
from hypothesis import given
from scipy.sparse import csr_array
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import DataError
from tests.coupling.test_graph import graphs

ROUND_TRIPS = {
    "pyg": lambda G: lg.from_pyg(G.to_pyg()),
    "igraph": lambda G: lg.from_igraph(G.to_igraph(), weight="weight"),
    "networkx": lambda G: lg.from_networkx(G.to_networkx()),
    "scipy": lambda G: lg.from_scipy(G.to_scipy_sparse()),
}


@pytest.mark.parametrize("library", ROUND_TRIPS)
@given(G=graphs())
def test_round_trips_keep_directions_weights_and_nodes(library, G):
    back = ROUND_TRIPS[library](G)
    assert back.shape == G.shape
    assert torch.allclose(back.to_dense().double(), G.to_dense())


def test_directions():
    expected = torch.zeros(3, 3)
    expected[1, 0] = 1  # the edge 0 -> 1: 0 acts on 1
    assert torch.equal(lg.from_igraph(igraph.Graph(3, [(0, 1)], directed=True)).to_dense(), expected)
    graph = nx.DiGraph([("a", "b")])
    graph.add_node("c")
    assert torch.equal(lg.from_networkx(graph, weight=None).to_dense(), expected)
    assert torch.equal(lg.from_pyg(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=3)).to_dense(), expected)
    assert torch.equal(lg.from_scipy(csr_array(expected.numpy())).to_dense(), expected)


def test_undirected_graphs_go_both_ways_and_loops_once():
    graph = nx.Graph()
    graph.add_weighted_edges_from([(0, 1, 2.0), (1, 1, 3.0)])
    expected = torch.tensor([[0.0, 2.0], [2.0, 3.0]], dtype=torch.float64)
    assert torch.equal(lg.from_networkx(graph).to_dense(), expected)
    assert torch.equal(expected, torch.from_numpy(nx.to_numpy_array(graph)))
    same = igraph.Graph(2, [(0, 1), (1, 1)], edge_attrs={"w": [2.0, 3.0]})
    assert torch.equal(lg.from_igraph(same, weight="w").to_dense(), expected)


def test_bad_input():
    with pytest.raises(DataError, match="no edge attribute 'w'"):
        lg.from_igraph(igraph.Graph(2, [(0, 1)]), weight="w")
    with pytest.raises(DataError, match="attribute 'w'"):
        lg.from_networkx(nx.path_graph(2), weight="w")
    with pytest.raises(DataError, match=r"square.*\(2, 3\)"):
        lg.from_scipy(csr_array((2, 3)))
    with pytest.raises(DataError, match="no edge_index"):
        lg.from_pyg(Data(num_nodes=3))
