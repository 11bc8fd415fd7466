"""Line graphs of ordinary graphs, against networkx and igraph."""

import igraph
import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import LineGraph
from torch_geometric.utils import coalesce

import linegraph as lg
from linegraph.errors import DataError, TooLargeError
from linegraph.graphs import line_digraph


@st.composite
def edge_lists(draw):
    n = draw(st.integers(1, 7))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    return n, draw(st.lists(pairs, max_size=20))


def data_of(n, edges, **attributes):
    return Data(edge_index=torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T, num_nodes=n, **attributes)


def undirected(n, edges):
    """Both directions of every edge, with a weight for each edge, and how often each is stored."""
    both = [(u, v) for u, v in edges] + [(v, u) for u, v in edges if u != v]
    weights = [*range(len(edges)), *(i for i, (u, v) in enumerate(edges) if u != v)]
    return data_of(n, both, edge_weight=torch.tensor(weights, dtype=torch.float64))


@given(edge_lists())
def test_directed_equals_networkx(graph):
    n, edges = graph
    weights = torch.arange(len(edges), dtype=torch.float64)
    line = lg.line_graph(data_of(n, edges, edge_weight=weights), directed=True)
    assert line.validate()
    multi = nx.MultiDiGraph()
    multi.add_nodes_from(range(n))
    for number, (u, v) in enumerate(edges):
        multi.add_edge(u, v, key=number)
    expected = {(a[2], b[2]) for a, b in nx.line_graph(multi).edges()}
    found = line.edge_index.T.tolist()
    assert len(found) == len(expected)
    assert {tuple(edge) for edge in found} == expected
    assert line.num_nodes == len(edges)
    assert torch.equal(line.node_weight, weights)
    assert line.endpoints.tolist() == [list(edge) for edge in edges]


@given(edge_lists())
def test_directed_equals_igraph(graph):
    n, edges = graph
    line = lg.line_graph(data_of(n, edges), directed=True)
    expected = igraph.Graph(n, edges, directed=True).linegraph()
    assert sorted(line.edge_index.T.tolist()) == sorted(map(list, expected.get_edgelist()))


@pytest.mark.parametrize("directed", [True, False])
@given(graph=edge_lists())
def test_runs_of_equal_degrees_make_no_difference(directed, graph):
    data = undirected(*graph)
    expected = lg.line_graph(data, directed=directed).edge_index
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_digraph, "RUN", 0)
        assert torch.equal(lg.line_graph(data, directed=directed).edge_index, expected)


@given(edge_lists())
def test_undirected_equals_networkx(graph):
    n, edges = graph
    data = undirected(n, edges)
    line = lg.line_graph(data, directed=False)
    assert line.validate()
    assert line.num_nodes == len(edges)
    # networkx numbers parallel edges by keys; node e of ours is the edge of weight e.
    number = [int(w) for w in line.node_weight]
    multi = nx.MultiGraph()
    multi.add_nodes_from(range(n))
    for e, (u, v) in zip(number, line.endpoints.tolist(), strict=True):
        multi.add_edge(u, v, key=e)
    key = lambda node: node[2]  # noqa: E731
    expected = {frozenset((key(a), key(b))) for a, b in nx.line_graph(multi).edges()}
    found = [(number[a], number[b]) for a, b in line.edge_index.T.tolist()]
    assert len(found) == 2 * len(expected)
    assert {frozenset(edge) for edge in found} == expected
    assert set(found) == {(b, a) for a, b in found}


@given(edge_lists())
def test_directed_equals_pyg_where_pyg_is_right(graph):
    """PyG's own transform, on sorted edges without duplicates."""
    n, edges = graph
    index = coalesce(torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T)
    if not index.shape[1]:
        return
    line = lg.line_graph(Data(edge_index=index, num_nodes=n), directed=True)
    expected = LineGraph(force_directed=True)(Data(edge_index=index, num_nodes=n))
    assert sorted(line.edge_index.T.tolist()) == sorted(expected.edge_index.T.tolist())


def test_self_loops():
    """Directed, a self-loop follows itself; undirected, it meets the edges of its node, and not itself."""
    directed = lg.line_graph(data_of(2, [(0, 0), (0, 1)]))
    assert directed.edge_index.T.tolist() == [[0, 0], [0, 1]]
    loop_and_edge = lg.line_graph(data_of(2, [(0, 0), (0, 1), (1, 0)]))
    assert loop_and_edge.num_nodes == 2
    assert loop_and_edge.edge_index.T.tolist() == [[0, 1], [1, 0]]


def test_direction_is_told_from_the_data():
    path = [(0, 1), (1, 2)]
    assert lg.line_graph(data_of(3, path)).edge_index.tolist() == [[0], [1]]
    both = path + [(v, u) for u, v in path]
    assert lg.line_graph(data_of(3, both)).num_nodes == 2
    assert lg.line_graph(data_of(3, both), directed=True).num_nodes == 4
    graph = lg.from_pyg(data_of(3, both))
    assert lg.line_graph(graph).num_nodes == 4
    assert lg.line_graph(graph, directed=False).num_nodes == 2


@pytest.mark.parametrize("attribute", ["edge_weight", "edge_attr"])
def test_edges_that_differ_by_direction_are_directed(attribute):
    edges = [(0, 1), (1, 0), (1, 2), (2, 1)]
    values = torch.tensor([1.0, 5.0, 2.0, 7.0]).reshape((4,) if attribute == "edge_weight" else (4, 1))
    data = data_of(3, edges, **{attribute: values})
    line = lg.line_graph(data)
    assert line.x.flatten().tolist() == [1, 5, 2, 7]
    multi = nx.DiGraph(edges)
    assert line.num_edges == nx.line_graph(multi).number_of_edges()
    with pytest.raises(DataError, match="with the same weight"):
        lg.line_graph(data, directed=False)


def test_parallel_undirected_edges_in_any_order():
    edges = [(0, 1), (0, 1), (1, 0), (1, 0)]
    line = lg.line_graph(data_of(2, edges, edge_weight=torch.tensor([1.0, 2.0, 2.0, 1.0])))
    assert line.node_weight.tolist() == [1, 2]
    assert lg.line_graph(data_of(2, edges, edge_weight=torch.tensor([1.0, 2.0, 2.0, 3.0]))).num_nodes == 4


def test_batches_and_subsets():
    """A ring has as many edges as its line graph has nodes and edges, which leaves PyG to tell them by name."""
    ring = [(i, (i + 1) % 4) for i in range(4)]
    line = lg.line_graph(data_of(4, ring, edge_weight=torch.tensor([3.0, 4.0, 5.0, 6.0])))
    batch = Batch.from_data_list([line, lg.line_graph(data_of(3, [(2, 1), (1, 0)], edge_weight=torch.ones(2)))])
    assert batch.endpoints.tolist() == [*map(list, ring), [2, 1], [1, 0]]
    assert batch.origin.tolist() == [0, 1, 2, 3, 0, 1]
    part = line.subgraph(torch.tensor([3, 1]))
    assert part.endpoints.tolist() == [[3, 0], [1, 2]]
    assert (part.origin.tolist(), part.node_weight.tolist()) == ([3, 1], [6, 4])


def test_attributes_stay_with_their_edges():
    """Unsorted edges keep their own attributes."""
    edges = [(2, 0), (0, 1), (1, 2)]
    features = torch.tensor([[20.0], [1.0], [12.0]])
    line = lg.line_graph(data_of(3, edges, edge_attr=features, edge_weight=torch.tensor([2.0, 3.0, 4.0])))
    assert torch.equal(line.x, features)
    assert line.node_weight.tolist() == [2.0, 3.0, 4.0]
    assert line.edge_index.T.tolist() == [[0, 1], [1, 2], [2, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("directed", [True, False])
def test_short_integers(dtype, directed):
    index = torch.tensor([[0, 1, 1, 2, 2, 90], [1, 0, 2, 1, 90, 2]])
    expected = lg.line_graph(Data(edge_index=index, num_nodes=100), directed=directed)
    found = lg.line_graph(Data(edge_index=index.to(dtype), num_nodes=100), directed=directed)
    assert torch.equal(found.edge_index, expected.edge_index)
    assert torch.equal(found.endpoints, expected.endpoints)


def test_empty_graphs_and_isolated_nodes():
    for directed in (True, False):
        line = lg.line_graph(data_of(4, []), directed=directed)
        assert (line.num_nodes, line.num_edges) == (0, 0)
        line = lg.line_graph(data_of(9, [(0, 1), (1, 0)]), directed=directed)
        assert (line.num_nodes, line.num_edges) == ((2, 2) if directed else (1, 0))


def test_too_large_and_malformed():
    star = [(0, i) for i in range(1, 101)] + [(i, 0) for i in range(1, 101)]
    with pytest.raises(TooLargeError, match="10,100 edges, more than max_edges=1,000"):
        lg.line_graph(data_of(101, star), directed=True, max_edges=1000)
    with pytest.raises(TooLargeError, match="9,900 edges, more than max_edges=1,000"):
        lg.line_graph(data_of(101, star), max_edges=1000)
    with pytest.raises(DataError, match="every edge in both directions"):
        lg.line_graph(data_of(3, [(0, 1)]), directed=False)
    with pytest.raises(DataError, match="no edge_index"):
        lg.line_graph(Data(num_nodes=3))
    with pytest.raises(DataError, match="names nodes 0 to 5, but there are 3"):
        lg.line_graph(data_of(3, [(0, 5)]))
    with pytest.raises(DataError, match=r"\(3, 2\)"):
        lg.line_graph(Data(edge_index=torch.zeros(3, 2).long(), num_nodes=3))
    with pytest.raises(DataError, match=r"torch\.bool"):
        lg.line_graph(Data(edge_index=torch.zeros(2, 3).bool(), num_nodes=3))
    for name in ("edge_weight", "edge_attr"):
        for count in (1, 3):
            with pytest.raises(DataError, match=rf"{name} must have one entry for each of the 2 edges, got \({count}"):
                lg.line_graph(data_of(3, [(0, 1), (1, 2)], **{name: torch.ones(count)}))
