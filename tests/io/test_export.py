import igraph
import networkx as nx
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import NotAGraphError
from tests.comparison import close


def test_attributes_of_nodes_and_edges_go_along(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    P = lg.NeuralCoupling(model, nn.functional.mse_loss, (torch.randn(4, 3), torch.randn(4, 2)))
    data = lg.line_graph(P)
    g = lg.to_igraph(data)
    assert g.vs["weight"] == data.x[:, 0].tolist()
    assert g.vs["layer_name"] == ["0.weight"] * 6 + ["2.weight"] * 4
    assert set(data.feature_names) <= set(g.vs.attributes())
    neurons = lg.neuron_graph(model, torch.randn(4, 3))
    n = lg.to_networkx(neurons)
    assert [n.nodes[i]["activation"] for i in range(7)] == neurons.activation.tolist()
    assert {(u, v): d["synapse"] for u, v, d in n.edges(data=True)} == {
        (u, v): s for u, v, s in zip(*neurons.edge_index.tolist(), neurons.edge_synapse.tolist(), strict=True)
    }
    lg.write_graphml(neurons, tmp_path / "neurons.graphml")
    read = igraph.Graph.Read_GraphML(str(tmp_path / "neurons.graphml"))
    assert read.vs["layer_name"][-1] == "2.weight"
    assert sorted(read.es["synapse"]) == list(range(10))


def test_attributes_of_edges_stay_there_where_nodes_are_as_many(tmp_path):
    """Which leaves PyG to tell them by name."""
    neurons = lg.neuron_graph(nn.Linear(2, 2), torch.randn(3, 2))
    assert neurons.num_nodes == neurons.num_edges == 4
    ring = lg.from_networkx(nx.cycle_graph(6, create_using=nx.DiGraph))
    part = lg.sample_line_graph(ring, range(6), [-1])
    for data, name, nodes in ((neurons, "synapse", {"layer", "neuron", "kind"}), (part, "hop", {"n_id"})):
        g = lg.to_igraph(data)
        assert g.es[name] == data[f"edge_{name}"].tolist()
        assert name not in g.vs.attributes()
        assert nodes <= set(g.vs.attributes())
        lg.write_graphml(data, tmp_path / "g.graphml")
        read = nx.read_graphml(tmp_path / "g.graphml", node_type=int)
        assert sorted((u, v, d[name]) for u, v, d in read.edges(data=True)) == sorted((*e.tuple, e[name]) for e in g.es)


def test_attributes_of_several_columns():
    features, attributes = torch.arange(6.0).view(3, 2), torch.arange(4.0).view(2, 2)
    index = torch.tensor([[0, 1], [1, 2]])
    data = Data(x=features, edge_index=index, edge_attr=attributes, y=torch.tensor([[5], [6], [7]]))
    g = lg.to_igraph(data)
    assert (g.vs["x_0"], g.vs["x_1"], g.vs["y"]) == ([0, 2, 4], [1, 3, 5], [5, 6, 7])
    assert (g.es["attr_0"], g.es["attr_1"], g.es["weight"]) == ([0, 2], [1, 3], [1, 1])


MATRIX = csr_array(([2.0, 3.0], ([1, 1], [0, 2])), shape=(3, 3))
GRAPHS = {
    "igraph": igraph.Graph([(0, 1), (2, 1)], directed=True, edge_attrs={"weight": [2.0, 3.0]}),
    "networkx": nx.DiGraph([(0, 1, {"weight": 2.0}), (2, 1, {"weight": 3.0})]),
    "scipy": MATRIX,
    "transposed": lg.from_scipy(MATRIX.T).T,
}


@pytest.mark.parametrize("library", GRAPHS)
def test_every_graph_is_exported(tmp_path, library):
    graph = GRAPHS[library]
    lg.write_graphml(graph, tmp_path / "graph.graphml")
    back = [
        lg.from_igraph(lg.to_igraph(graph)),
        lg.from_networkx(lg.to_networkx(graph)),
        lg.read_graphml(tmp_path / "graph.graphml"),
    ]
    for found in back:
        order = range(3) if found.node_names is None else [list(found.node_names).index(name) for name in (0, 1, 2)]
        assert found.to_dense()[order][:, order].tolist() == MATRIX.toarray().tolist()


def test_what_is_no_graph_is_not_exported(tmp_path):
    for export in (lg.to_igraph, lg.to_networkx, lambda given: lg.write_graphml(given, tmp_path / "graph.graphml")):
        with pytest.raises(NotAGraphError, match="expected a coupling or a graph"):
            export(3)
    assert list(tmp_path.iterdir()) == []


def test_couplings_of_networks_are_exported_with_their_weights(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).double()
    data = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    P = lg.NeuralCoupling(model, nn.functional.mse_loss, data)
    for coupling, expected in ((P, P.to_graph().to_dense()), (P.T, P.to_graph().to_dense().T)):
        close(lg.from_igraph(lg.to_igraph(coupling)).to_dense(), expected)
        close(lg.from_networkx(lg.to_networkx(coupling)).to_dense(), expected)
        lg.write_graphml(coupling, tmp_path / "graph.graphml")
        close(lg.read_graphml(tmp_path / "graph.graphml").to_dense(), expected)
