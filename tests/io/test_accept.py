"""Every function of a graph takes every kind of graph, and what it says of nodes has their names."""

import copy
import pickle
import subprocess
import sys

import igraph
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import coo_array, csr_array, csr_matrix
from scipy.sparse.linalg import aslinearoperator
from torch_geometric.data import Data

import linegraph as lg
from linegraph import dynamics
from linegraph.errors import DataError, NotAGraphError
from linegraph.io.accept import as_coupling

NAMES = ["oak", ("a", 1), 7, "bee", "ant", 2.5]
EDGES = [
    (0, 1, 1.5),
    (1, 2, 0.5),
    (2, 0, 2.0),
    (2, 3, 1.0),
    (3, 0, 0.75),
    (4, 0, 1.25),
    (1, 4, 0.5),
    (4, 5, 2.5),
    (5, 2, 1.0),
]
SOURCES, TARGETS, WEIGHTS = (list(column) for column in zip(*EDGES, strict=True))
MATRIX = csr_array((WEIGHTS, (TARGETS, SOURCES)), shape=(6, 6))
SIS = dynamics.SIS()


def weighted(weight="weight"):
    g = nx.DiGraph()
    g.add_nodes_from(NAMES)
    g.add_weighted_edges_from(((NAMES[u], NAMES[v], w) for u, v, w in EDGES), weight=weight)
    return g


class OwnGraph(nx.DiGraph):
    """A class of a user's own module, whose base is of networkx."""


def named_igraph():
    g = igraph.Graph(n=6, edges=[edge[:2] for edge in EDGES], directed=True)
    g.es["weight"] = WEIGHTS
    g.vs["name"] = NAMES
    return g


def plain_igraph():
    g = named_igraph()
    del g.vs["name"]
    return g


PLAIN = {
    "coupling": lambda: lg.from_scipy(MATRIX),
    "pyg": lambda: lg.from_scipy(MATRIX).to_pyg(),
    "igraph": plain_igraph,
    "networkx": lambda: nx.convert_node_labels_to_integers(weighted()),
    "csr": lambda: MATRIX,
    "coo": lambda: coo_array(MATRIX),
    "matrix": lambda: csr_matrix(MATRIX),
}
NAMED = {
    "coupling": lambda: lg.GraphCoupling([SOURCES, TARGETS], torch.tensor(WEIGHTS).double(), node_names=NAMES),
    "igraph": named_igraph,
    "networkx": weighted,
    "own_class": lambda: OwnGraph(weighted()),
}


def generator():
    return torch.Generator().manual_seed(3)


X = torch.tensor([1.0, 2.0, 0.5, 0.25, 3.0, 1.0]).double()
GROUPS = [0, 1, 0, 1, 2, 2]

FIGURES = {
    "capacitance": lambda P: lg.capacitance(P).beta_eff,
    "strength_distribution": lambda P: lg.strength_distribution(P).values,
    "density": lg.density,
    "reciprocity": lg.reciprocity,
    "assortativity": lg.assortativity,
    "is_acyclic": lg.is_acyclic,
    "singular_values": lambda P: lg.singular_values(P, 2),
    "eigenvalues": lambda P: lg.eigenvalues(P, 1).abs(),
    "laplacian_eigenvalues": lambda P: lg.laplacian_eigenvalues(P, 2),
    "spectral_density": lambda P: lg.spectral_density(P).nodes,
    "singular_value_density": lambda P: lg.singular_value_density(P).nodes,
    "spectral_radius": lg.spectral_radius,
    "spectral_norm": lg.spectral_norm,
    "spectral_gap": lg.spectral_gap,
    "stable_rank": lg.stable_rank,
    "diagnose": lambda P: lg.diagnose(P).select_dtypes("number").to_numpy(),
    "layer_pairs": lambda P: lg.layer_pairs(P).to_numpy(),
    "summary": lambda P: lg.summary(P).to_numpy(dtype=float),
    "modularity": lambda P: lg.communities(P).modularity,
    "community_sizes": lambda P: lg.communities(P).sizes,
    "equilibrium": lambda P: dynamics.equilibrium(P, SIS, "high").x,
    "equilibrium_of_several": lambda P: dynamics.equilibrium([P, P], SIS, "high")[1].x,
    "trajectory": lambda P: dynamics.trajectory(P, SIS, "high", [0.0, 1.0]),
    "reduce": lambda P: dynamics.reduce(P, X),
    "perturb": lambda P: dynamics.perturb(P, nodes=2, generator=generator()).to_dense(),
    "largest_component": lambda P: dynamics.largest_component(P, "strong").to_dense(),
    "resilience_curve": lambda P: dynamics.resilience_curve(P, SIS, "nodes", [0.2], 1)["x_eff"].to_numpy(),
    "coarse_graph": lambda P: lg.from_pyg(lg.coarse_graph(P, GROUPS)).to_dense(),
    "line_graph": lambda P: lg.line_graph(P).num_edges,
    "sample_line_graph": lambda P: lg.sample_line_graph(P, [0, 2], [-1]).n_id,
}
OF_NODES = {
    "strengths.in_strength": lambda P: lg.strengths(P).in_strength,
    "strengths.out_strength": lambda P: lg.strengths(P).out_strength,
    "strengths.total": lambda P: lg.strengths(P).total,
    "katz": lambda P: lg.katz(P, alpha=0.1),
    "katz_of_an_acyclic_graph": lambda P: lg.katz(without_cycles(P), alpha=0.1),
    "pagerank": lg.pagerank,
    "eigenvector_centrality": lg.eigenvector_centrality,
    "betweenness": lg.betweenness,
    "hits.hubs": lambda P: lg.hits(P).hubs,
    "hits.authorities": lambda P: lg.hits(P).authorities,
    "communities.labels": lambda P: lg.communities(P).labels,
    "singular_triplets.left": lambda P: abs(lg.singular_triplets(P, 2).left),
    "singular_triplets.right": lambda P: abs(lg.singular_triplets(P, 2).right),
}


def without_cycles(P):
    graph = as_coupling(P)
    kept = graph.edge_index[0] < graph.edge_index[1]
    return graph.with_edges(graph.edge_index[:, kept], graph.weight[kept])


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", {**FIGURES, **OF_NODES})
@pytest.mark.parametrize("kind", PLAIN)
def test_functions_take_every_graph(name, kind):
    function = {**FIGURES, **OF_NODES}[name]
    expected = function(PLAIN["coupling"]())
    found = function(PLAIN[kind]())
    assert type(found) is type(expected)
    assert not isinstance(found, pd.Series | pd.DataFrame)
    close(found, expected)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", NAMED)
def test_names_change_no_figure(name, kind):
    expected = FIGURES[name](PLAIN["coupling"]())
    found = FIGURES[name](NAMED[kind]())
    assert type(found) is type(expected)
    close(found, expected)


@pytest.mark.parametrize("name", OF_NODES)
@pytest.mark.parametrize("kind", NAMED)
def test_results_of_named_nodes_have_their_names(name, kind):
    found = OF_NODES[name](NAMED[kind]())
    assert isinstance(found, pd.DataFrame if "triplets" in name else pd.Series)
    assert list(found.index) == NAMES
    assert found.index.name == "node"
    close(found, OF_NODES[name](PLAIN["coupling"]()))


@pytest.mark.parametrize("function", {"is_acyclic": lg.is_acyclic, "pagerank": lg.pagerank}.values())
@pytest.mark.parametrize(
    ("given", "way"),
    [
        (np.eye(3), "lg.from_scipy"),
        (torch.eye(3), "lg.GraphCoupling"),
        (aslinearoperator(np.eye(3)), "lg.from_scipy"),
        (pd.DataFrame(np.eye(3)), "lg.from_networkx"),
        ([[0, 1], [1, 0]], "lg.GraphCoupling"),
        (None, "lg.GraphCoupling"),
    ],
)
def test_what_is_no_graph_is_told_the_way(function, given, way):
    with pytest.raises(NotAGraphError, match=f"expected a coupling or a graph .*, got .*; .*{way}"):
        function(given)


def test_malformed_graphs_are_refused_at_the_door():
    with pytest.raises(DataError, match=r"a coupling is square, this matrix has shape \(2, 3\)"):
        lg.pagerank(csr_array(np.ones((2, 3))))
    with pytest.raises(DataError, match="does not hold numbers"):
        lg.katz(nx.Graph([(0, 1, {"weight": "heavy"})]), alpha=0.1)


def test_undirected_graphs_go_both_ways():
    for graph in (nx.path_graph(3), igraph.Graph([(0, 1), (1, 2)])):
        close(lg.betweenness(graph), [0, 2, 0])
        assert lg.density(graph) == pytest.approx(4 / 6)


# Names


def test_numbers_in_their_order_are_no_names():
    assert lg.from_networkx(nx.path_graph(3)).node_names is None
    assert lg.from_networkx(nx.Graph([(np.int64(0), np.int64(1))])).node_names is None
    assert lg.from_networkx(nx.Graph([(1, 0)])).node_names == (1, 0)
    assert lg.from_networkx(nx.Graph([(1, 2)])).node_names == (1, 2)
    assert lg.from_networkx(nx.Graph([("0", "1")])).node_names == ("0", "1")
    assert lg.from_networkx(nx.Graph([(False, True)])).node_names == (False, True)
    assert lg.from_igraph(igraph.Graph.Ring(3)).node_names is None
    assert lg.from_pyg(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2)).node_names is None
    assert lg.from_scipy(MATRIX).node_names is None


def test_attributes_of_igraph_that_tell_no_nodes_apart_are_no_names():
    for names in (["a", "a", "b"], [None, None, "b"], [["a"], ["b"], ["c"]]):
        g = igraph.Graph.Ring(3)
        g.vs["name"] = names
        assert lg.from_igraph(g).node_names is None


def test_names_are_kept_by_what_keeps_the_nodes():
    G = NAMED["coupling"]()
    views = [
        G.T,
        G.T.T,
        G.to(torch.float32),
        G.to_graph(),
        copy.copy(G),
        copy.deepcopy(G),
        dynamics.perturb(G, weights=0.5),
    ]
    views += [pickle.loads(pickle.dumps(it)) for it in (G, G.T)]
    views += [copy.deepcopy(G.T), dynamics.perturb(G, links=2, generator=generator())]
    for view in views:
        assert list(view.node_names) == NAMES
    assert list(lg.katz(G.T, alpha=0.1).index) == NAMES
    unnamed = PLAIN["coupling"]()
    for view in (unnamed, unnamed.T, copy.copy(unnamed), pickle.loads(pickle.dumps(unnamed.T))):
        assert view.node_names is None


def test_names_follow_the_nodes_that_are_left():
    G = weighted()
    left = dynamics.perturb(G, nodes=3, generator=generator())
    kept = [NAMES.index(name) for name in left.node_names]
    assert kept == sorted(kept)
    close(left.to_dense(), MATRIX.toarray()[np.ix_(kept, kept)])
    G.add_edge("far", "away")
    assert list(dynamics.largest_component(G).node_names) == NAMES
    assert list(dynamics.largest_component(nx.path_graph([4, 3]), "weak").node_names) == [4, 3]


def test_graphs_come_back_with_their_names():
    for there, back in ((lg.from_networkx, lg.to_networkx), (lg.from_networkx, lambda G: G.to_networkx())):
        g = back(there(weighted()))
        assert list(g) == NAMES
        assert nx.utils.graphs_equal(g, nx.DiGraph(weighted()))
    for back in (lg.to_igraph, lambda G: G.to_igraph()):
        g = back(lg.from_igraph(named_igraph()))
        assert g.vs["name"] == NAMES
        assert lg.from_igraph(g).node_names == tuple(NAMES)


def test_wrong_names_are_refused():
    index = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(DataError, match="one name for each of the 3 nodes, got 2"):
        lg.GraphCoupling(index, node_names=["a", "b"])
    with pytest.raises(DataError, match="one name for each of the 3 nodes"):
        lg.GraphCoupling(index, node_names="abc")
    with pytest.raises(DataError, match="all different, and of the 3 names only 2 are"):
        lg.GraphCoupling(index, node_names=["a", "b", "a"])
    for wrong in ([["a"], ["b"], ["c"]], 3):
        with pytest.raises(DataError, match="names that can be keys of a dict"):
            lg.GraphCoupling(index, node_names=wrong)
    assert lg.GraphCoupling(index, node_names=iter("abc")).node_names == ("a", "b", "c")
    assert len(lg.pagerank(lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), num_nodes=0, node_names=[]))) == 0


# Files


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("web.csv", "source,target,weight\noak,ant,1\nbee,oak,2\n", ("ant", "bee", "oak")),
        ("web.txt", "10 9\n9 7\n", ("7", "9", "10")),
        ("web.txt", "0 1\n1 2\n", None),
        ("web.txt", "1 2\n2 3\n", ("1", "2", "3")),
        ("web.txt", "% asym unweighted\n4 9\n9 7\n", ("4", "7", "9")),
        ("web.sif", "oak feeds bee\nant\n", ("ant", "bee", "oak")),
        (
            "web.gml",
            'graph [ node [ id 4 label "oak" ] node [ id 2 label "a &amp; b" ] edge [ source 4 target 2 ] ]',
            ("oak", "a & b"),
        ),
        (
            "web.gml",
            'graph [ node [ id 4 label "oak" ] node [ id 2 label "oak" ] edge [ source 4 target 2 ] ]',
            ("4", "2"),
        ),
        ("web.gml", "graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 ] ]", None),
        ("web.net", '*Vertices 2\n2 "oak"\n1 "bee tree"\n*Arcs\n1 2\n', ("bee tree", "oak")),
        ("web.net", "*Vertices 2\n1 oak\n*Arcs\n1 2\n", None),
        ("web.mtx", "%%MatrixMarket matrix coordinate real general\n2 2 1\n1 2 1.0\n", None),
    ],
)
def test_files_name_their_nodes(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_text(content)
    assert lg.read_network(path).node_names == expected


@pytest.mark.parametrize(("read", "write"), [(lg.read_graphml, lg.write_graphml), (lg.read_network, lg.write_graphml)])
def test_names_go_through_graphml(tmp_path, read, write):
    path = tmp_path / "web.graphml"
    G = NAMED["coupling"]()
    write(G, path)
    found = read(path)
    assert found.node_names == tuple(map(str, NAMES))
    close(found.to_dense(), G.to_dense())
    assert list(lg.katz(found, alpha=0.1).index) == list(map(str, NAMES))
    nx.write_gexf(nx.relabel_nodes(weighted(), str), tmp_path / "web.gexf")
    assert lg.read_network(tmp_path / "web.gexf").node_names == tuple(map(str, NAMES))


def test_names_that_are_written_alike_are_refused(tmp_path):
    with pytest.raises(DataError, match="two names of nodes are written alike"):
        lg.write_graphml(lg.from_networkx(nx.path_graph([1, "1"])), tmp_path / "web.graphml")
    assert not list(tmp_path.iterdir())


# Values of nodes with their names


def test_states_have_names_in_pandas():
    found = dynamics.equilibrium(weighted(), SIS, "high")
    state = found.to_pandas()
    assert isinstance(found.x, torch.Tensor)
    assert list(state.index) == NAMES
    close(state, found.x)
    block = dynamics.equilibrium(weighted(), SIS, torch.stack([X, X], 1) / 4).to_pandas()
    assert block.shape == (6, 2)
    assert list(block.index) == NAMES
    assert list(dynamics.equilibrium(MATRIX, SIS, "high").to_pandas().index) == list(range(6))
    several = dynamics.equilibrium([weighted(), MATRIX], SIS, "high")
    assert list(several[0].to_pandas().index) == NAMES
    assert list(several[1].to_pandas().index) == list(range(6))


def test_values_with_names_are_put_in_the_order_of_the_nodes():
    shuffled = [3, 0, 5, 1, 4, 2]
    index = pd.Index([NAMES[i] for i in shuffled], tupleize_cols=False)
    x = pd.Series(X.numpy()[shuffled], index)
    G = weighted()
    close(dynamics.reduce(G, x), dynamics.reduce(G, X))
    close(dynamics.reduce(G, x.to_frame())[0], dynamics.reduce(G, X.unsqueeze(1))[0])
    close(lg.katz(G, alpha=0.1, beta=x), lg.katz(G, alpha=0.1, beta=X))
    path = dynamics.trajectory(G, SIS, x / 4, [0.0, 1.0])
    close(path, dynamics.trajectory(G, SIS, X / 4, [0.0, 1.0]))
    again = dynamics.equilibrium(G, SIS, dynamics.equilibrium(G, SIS, "high").to_pandas())
    assert again.converged
    groups = pd.Series(np.array(GROUPS)[shuffled], index)
    close(lg.coarse_graph(G, groups).edge_weight, lg.coarse_graph(G, GROUPS).edge_weight)
    assert lg.coarse_graph(G, lg.communities(G).labels).num_nodes == len(lg.communities(G).sizes)
    with pytest.raises(DataError, match="not hold the names of the 6 nodes"):
        dynamics.reduce(G, x.iloc[:5])
    with pytest.raises(DataError, match="not hold the names of the 6 nodes"):
        dynamics.reduce(G, pd.Series(X.numpy()))


def test_graphs_made_of_graphs_keep_names():
    data = lg.line_graph(weighted())
    assert data.endpoint_names[0] == ("oak", ("a", 1))
    assert [(NAMES.index(u), NAMES.index(v)) for u, v in data.endpoint_names] == list(
        map(tuple, data.endpoints.tolist())
    )
    part = lg.sample_line_graph(weighted(), [0, 2], [-1])
    assert part.node_names == [NAMES[node] for node in part.n_id.tolist()]
    assert "endpoint_names" not in lg.line_graph(MATRIX)


def test_line_graphs_have_the_directions_that_a_graph_says():
    karate = nx.karate_club_graph()
    expected = nx.line_graph(karate)
    for graph in (karate, igraph.Graph.from_networkx(karate)):
        found = lg.line_graph(graph)
        assert (found.num_nodes, found.num_edges) == (len(expected), 2 * expected.number_of_edges())
    assert lg.line_graph(weighted()).num_edges == nx.line_graph(weighted()).number_of_edges()
    assert lg.line_graph(karate, directed=True).num_nodes == 2 * len(expected)


def bipartite(*, directed=False):
    g = nx.DiGraph() if directed else nx.Graph()
    g.add_nodes_from(["bee", "fly", "ant"], bipartite=0)
    g.add_nodes_from(["oak", "rose"], bipartite=1)
    g.add_weighted_edges_from([("bee", "oak", 1), ("fly", "oak", 1), ("fly", "rose", 3), ("ant", "rose", 1)])
    return g


def test_projections_of_bipartite_graphs_name_the_species():
    M = np.array([[1, 0], [1, 3], [0, 1]])
    expected = dynamics.projection(M)
    of_igraph = igraph.Graph.from_networkx(bipartite(), vertex_attr_hashable="name")
    of_igraph.vs["type"] = [False, False, False, True, True]
    for web in (pd.DataFrame(M, index=["bee", "fly", "ant"]), bipartite(), bipartite(directed=True), of_igraph):
        found = dynamics.projection(web)
        assert found.node_names == ("bee", "fly", "ant")
        close(found.to_dense(), expected.to_dense())
    assert expected.node_names is None
    with pytest.raises(DataError, match="bipartite=0 for species and bipartite=1 for partners"):
        dynamics.projection(nx.path_graph(3))
    with pytest.raises(DataError, match="type=False for species and type=True for partners"):
        dynamics.projection(igraph.Graph.Ring(3))
    wrong = bipartite()
    wrong.add_edge("bee", "fly")
    with pytest.raises(DataError, match="joins two nodes of one side"):
        dynamics.projection(wrong)


def test_importing_the_package_imports_no_graph_library():
    code = "import linegraph, scipy.sparse as sp; linegraph.pagerank(sp.eye_array(3).tocsr()); import sys; "
    code += "print([name for name in ('igraph', 'networkx', 'torch_geometric') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
