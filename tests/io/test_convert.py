from pathlib import Path

import igraph
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.sparse import coo_array, csr_array
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError, NotAGraphError, WeightNameWarning
from tests.coupling.test_graph import graphs

ROUND_TRIPS = {
    "pyg": lambda G: lg.from_pyg(G.to_pyg()),
    "igraph": lambda G: lg.from_igraph(G.to_igraph()),
    "networkx": lambda G: lg.from_networkx(G.to_networkx()),
    "networkx_with_attributes": lambda G: lg.from_networkx(lg.to_networkx(G)),
}


def edges(G):
    """All edges with their weights, in no order: parallel ones stay apart."""
    return sorted(zip(*G.edge_index.tolist(), G.weight.tolist(), strict=True))


@pytest.mark.parametrize("library", ROUND_TRIPS)
@given(G=graphs())
def test_round_trips_keep_directions_weights_and_nodes(library, G):
    back = ROUND_TRIPS[library](G)
    assert back.shape == G.shape
    assert edges(back) == edges(G)


@given(graphs())
def test_a_matrix_keeps_the_sums_of_parallel_edges(G):
    back = lg.from_scipy(G.to_scipy_sparse())
    assert back.shape == G.shape
    assert torch.allclose(back.to_dense().double(), G.to_dense())


@given(G=graphs())
@settings(max_examples=30)
def test_graphml_keeps_every_digit(tmp_path_factory, G):
    path = tmp_path_factory.getbasetemp() / "graph.graphml"
    lg.write_graphml(G, path)
    back = lg.read_graphml(path)
    assert back.shape == G.shape
    assert edges(back) == edges(G)
    assert edges(lg.from_networkx(nx.read_graphml(path, node_type=int))) == edges(G)


def test_graphml_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "graph.graphml"
    G = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([2.0]))
    lg.write_graphml(G, path)
    before = path.read_bytes()

    def fails(graph, file):
        file.write_text("half of it")
        raise OSError("no space left")

    monkeypatch.setattr(nx, "write_graphml", fails)
    with pytest.raises(OSError, match="no space"):
        lg.write_graphml(G, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_graphml_of_undirected_and_unweighted_graphs(tmp_path):
    graph = nx.Graph([(0, 1), (1, 1)])
    nx.write_graphml(graph, tmp_path / "plain.graphml")
    back = lg.read_graphml(tmp_path / "plain.graphml")
    assert torch.equal(back.to_dense(), torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    graph[0][1]["w"], graph[1][1]["w"] = 2.0, 3.0
    nx.write_graphml(graph, tmp_path / "weighted.graphml")
    back = lg.read_graphml(tmp_path / "weighted.graphml", weight="w")
    assert back.to_dense().tolist() == [[0.0, 2.0], [2.0, 3.0]]


def test_weights_that_a_graphml_file_declares_as_default(tmp_path):
    path = tmp_path / "graph.graphml"
    graph = nx.DiGraph([(0, 1), (1, 2, {"w": 4.0}), (2, 0)])
    nx.write_graphml(graph, path)
    key = 'attr.name="w" attr.type="double">'
    both = path.read_text().replace(key[:-1] + " />", key + "<default>2.5</default></key>")
    path.write_text(both)
    assert igraph.Graph.Read_GraphML(str(path)).es["w"] == [2.5, 4.0, 2.5]
    assert lg.read_graphml(path, weight="w").weight.tolist() == [2.5, 4.0, 2.5]
    with pytest.warns(WeightNameWarning, match="the numbers under 'w' are taken"):
        assert lg.read_graphml(path).weight.tolist() == [2.5, 4.0, 2.5]
    assert lg.read_graphml(path, weight=None).weight.tolist() == [1.0, 1.0, 1.0]


def test_bad_graphml(tmp_path):
    path = tmp_path / "graph.graphml"
    with pytest.raises(FileNotFoundError, match=r"graph\.graphml"):
        lg.read_graphml(path)
    path.write_text("no XML")
    with pytest.raises(DataError, match=r"graph\.graphml.* cannot be read as GraphML"):
        lg.read_graphml(path)
    graph = nx.DiGraph([(0, 1), (1, 2)])
    nx.write_graphml(graph, path)
    with pytest.raises(DataError, match="no edge of this graph has an attribute 'w'"):
        lg.read_graphml(path, weight="w")
    graph[0][1]["weight"] = float("inf")
    nx.write_graphml(graph, path)
    with pytest.raises(NonFiniteError, match="edge 0"):
        lg.read_graphml(path)


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
    assert torch.equal(lg.from_igraph(same).to_dense(), expected.bool().float())  # there is no "weight"
    same.es["weight"] = same.es["w"]
    assert torch.equal(lg.from_igraph(same).to_dense(), expected)
    assert torch.equal(lg.from_igraph(same, weight=None).to_dense(), expected.bool().float())


def test_weights_of_pyg_by_name():
    index = torch.tensor([[0, 1], [1, 0]])
    data = Data(edge_index=index, edge_attr=torch.tensor([[2.0], [3.0]]), num_nodes=2)
    assert lg.from_pyg(data).weight.tolist() == [1.0, 1.0]
    assert lg.from_pyg(data, weight="edge_attr").weight.tolist() == [2.0, 3.0]
    with pytest.raises(DataError, match="no 'w'"):
        lg.from_pyg(data, weight="w")
    data.edge_attr = torch.ones(2, 3)
    with pytest.raises(DataError, match=r"shape \(2,\)"):
        lg.from_pyg(data, weight="edge_attr")


def test_empty_graphs_and_isolated_nodes():
    nothing = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), num_nodes=3)
    assert nothing.to_igraph().vcount() == 3
    assert len(nothing.to_networkx()) == 3
    for back in (convert(nothing) for convert in ROUND_TRIPS.values()):
        assert (back.num_nodes, back.num_edges) == (3, 0)
    assert lg.from_networkx(nx.Graph()).shape == (0, 0)
    assert lg.from_scipy(csr_array((0, 0))).shape == (0, 0)


def test_bad_input():
    with pytest.raises(DataError, match="no edge attribute 'w'"):
        lg.from_igraph(igraph.Graph(2, [(0, 1)]), weight="w")
    with pytest.raises(DataError, match="attribute 'w'"):
        lg.from_networkx(nx.path_graph(2), weight="w")
    with pytest.raises(DataError, match=r"square.*\(2, 3\)"):
        lg.from_scipy(csr_array((2, 3)))
    with pytest.raises(DataError, match="complex"):
        lg.from_scipy(csr_array([[1j]]))
    with pytest.raises(NonFiniteError, match="edge 0"):
        lg.from_scipy(coo_array(([float("inf")], ([0], [1])), shape=(2, 2)))
    with pytest.raises(DataError, match="no edge_index"):
        lg.from_pyg(Data(num_nodes=3))
    with pytest.raises(DataError, match="'colour' does not hold numbers"):
        lg.from_igraph(igraph.Graph(2, [(0, 1)], edge_attrs={"colour": ["red"]}), weight="colour")
    for colour in ("red", 10**400):
        with pytest.raises(DataError, match="'colour' does not hold numbers"):
            lg.from_networkx(nx.Graph([(0, 1, {"colour": colour})]), weight="colour")


def test_numbers_without_a_type_of_their_own_are_doubles():
    made = [
        lg.from_igraph(igraph.Graph.Ring(3)),
        lg.from_networkx(nx.path_graph(3), weight=None),
        lg.from_scipy(csr_array(np.array([[0, 2**24 + 1], [0, 0]]))),
    ]
    assert all(G.dtype == torch.float64 for G in made)
    assert made[2].weight.tolist() == [2**24 + 1]


@pytest.mark.parametrize(
    ("convert", "given", "message"),
    [
        (lg.from_pyg, nx.path_graph(2), "expected a PyG Data, got Graph; .* lg.from_networkx"),
        (lg.from_networkx, igraph.Graph.Ring(3), "expected a networkx graph, got Graph; .* lg.from_igraph"),
        (lg.from_igraph, Data(num_nodes=1), "expected an igraph Graph, got Data; .* lg.from_pyg"),
        (lg.from_scipy, nx.path_graph(2), "expected a SciPy sparse matrix, got Graph"),
        (lg.to_networkx, [[0, 1]], "expected a coupling or a graph .*, got list"),
        (
            lg.pagerank,
            np.eye(2),
            "expected a coupling or a graph .*, got ndarray; .* of a matrix with lg.from_scipy",
        ),
    ],
)
def test_other_graphs_are_told_the_way(convert, given, message):
    with pytest.raises(TypeError, match=message):
        convert(given)


def test_transposed_graphs_are_converted(tmp_path):
    G = lg.from_scipy(csr_array(np.array([[0, 2.0, 0], [0, 0, 3.0], [0.5, 0, 0]])))
    lg.write_graphml(G.T, tmp_path / "turned.graphml")
    for found in (
        lg.from_igraph(lg.to_igraph(G.T)),
        lg.from_networkx(lg.to_networkx(G.T)),
        lg.from_scipy(G.T.to_scipy_sparse()),
        lg.from_pyg(G.T.to_pyg()),
        lg.read_graphml(tmp_path / "turned.graphml"),
    ):
        assert torch.equal(found.to_dense(), G.to_dense().T)


@pytest.mark.parametrize("swapped", ["graph.graphml", Path("graph.graphml")])
def test_a_path_in_the_place_of_a_graph_is_said(swapped):
    with pytest.raises(TypeError, match=r"write_graphml\(graph, path\)"):
        lg.write_graphml(swapped, lg.GraphCoupling(torch.tensor([[0], [1]])))


@pytest.mark.parametrize("dtype", [np.longdouble, np.float32, np.uint32, np.int8, bool])
def test_numbers_of_scipy_in_every_form(dtype):
    matrix = csr_array(np.array([[0, 1], [1, 0]], dtype=dtype))
    assert lg.from_scipy(matrix).to_dense().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_every_precision(dtype):
    made = lg.from_scipy(np.array([[0, 0.5], [0, 0]], dtype=dtype))
    assert made.to_dense().tolist() == [[0, 0.5], [0, 0]]
    assert made.dtype == (torch.float64 if dtype == np.float64 else torch.float32)


@pytest.mark.parametrize(
    ("matrix", "message"), [([["a"]], "not hold numbers"), ([[None]], "numbers"), ([[1j]], "complex")]
)
def test_arrays_of_no_real_numbers_are_refused(matrix, message):
    with pytest.raises(DataError, match=message):
        lg.from_scipy(np.array(matrix))
    with pytest.raises(NotAGraphError, match="got Tensor"):
        lg.from_scipy(torch.ones(2, 2, requires_grad=True))
