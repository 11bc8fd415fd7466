"""GEXF, GML, Pajek, METIS and SIF: the same graphs as networkx and igraph read, and no others."""

import gzip

import igraph
import networkx as nx
import numpy as np
import pytest

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError, WeightNameWarning


def weighted(directed, seed):
    g = nx.gnp_random_graph(9, 0.3, directed=directed, seed=seed)
    for k, (u, v) in enumerate(g.edges):
        g[u][v]["weight"] = 0.1 + 0.3 * k
    return g


def dense(path, **arguments):
    return lg.read_network(path, **arguments).to_dense().numpy()


def read(tmp_path, name, text, **arguments):
    (tmp_path / name).write_text(text)
    return lg.read_network(tmp_path / name, **arguments)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("name", ["g.gexf", "g.gml", "g.net", "g.graphml"])
@pytest.mark.parametrize("compressed", [True, False])
def test_what_networkx_writes(tmp_path, name, directed, compressed):
    path = tmp_path / name
    for seed in range(4):
        g = weighted(directed, seed)
        write = {".gexf": nx.write_gexf, ".gml": nx.write_gml, ".net": nx.write_pajek, ".graphml": nx.write_graphml}
        write[path.suffix](nx.relabel_nodes(g, str) if name == "g.net" else g, path)
        if compressed:
            path.write_bytes(gzip.compress(path.read_bytes()))
        np.testing.assert_allclose(dense(path), nx.to_numpy_array(g).T, rtol=1e-12)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("name", ["g.gml", "g.net", "g.graphml"])
def test_what_igraph_writes(tmp_path, name, directed):
    g = weighted(directed, 0)
    write = {"g.gml": "write_gml", "g.net": "write_pajek", "g.graphml": "write_graphml"}[name]
    getattr(igraph.Graph.from_networkx(g), write)(str(tmp_path / name))
    np.testing.assert_allclose(dense(tmp_path / name), nx.to_numpy_array(g).T, rtol=1e-12)


def test_names_are_found_again_in_the_order_of_the_file(tmp_path):
    g = nx.DiGraph()
    g.add_weighted_edges_from([("b", "a", 2.0), ("10", "b", 3.0), ("9", "10", 4.0)])
    nx.write_gexf(g, tmp_path / "g.gexf")
    nx.write_gml(g, tmp_path / "g.gml")
    labels = [nx.read_gml(tmp_path / "g.gml").nodes]
    for path, order in (
        (tmp_path / "g.gexf", list(nx.read_gexf(tmp_path / "g.gexf"))),
        (tmp_path / "g.gml", list(*labels)),
    ):
        P = dense(path)
        for u, v, w in g.edges.data("weight"):
            assert P[order.index(v), order.index(u)] == w


METIS = {
    "plain": ("4 4\n2 4\n1 3\n2 4\n1 3\n", [(0, 1, 1), (0, 3, 1), (1, 2, 1), (2, 3, 1)]),
    "comments": ("% ring\n4 4\n2 4\n% of\n1 3\n2 4\n1 3\n", [(0, 1, 1), (0, 3, 1), (1, 2, 1), (2, 3, 1)]),
    "no neighbours": ("4 1\n\n3\n2\n\n", [(1, 2, 1)]),
    "weights of edges": ("3 2 1\n2 5\n1 5 3 7\n2 7\n", [(0, 1, 5), (1, 2, 7)]),
    "weights of edges, 001": ("3 2 001\n2 5\n1 5 3 7\n2 7\n", [(0, 1, 5), (1, 2, 7)]),
    "weights of vertices": ("3 2 10\n9 2\n9 1 3\n9 2\n", [(0, 1, 1), (1, 2, 1)]),
    "two weights of vertices and sizes": ("3 2 111 2\n4 9 8 2 5\n4 9 8 1 5 3 7\n4 9 8 2 7\n", [(0, 1, 5), (1, 2, 7)]),
}


@pytest.mark.parametrize("name", METIS)
@pytest.mark.parametrize("ending", ["graph", "metis"])
def test_metis(tmp_path, name, ending):
    text, expected = METIS[name]
    G = read(tmp_path, f"g.{ending}", text)
    assert G.num_nodes == int(text.removeprefix("% ring\n").split()[0])
    both = expected + [(v, u, w) for u, v, w in expected]
    assert sorted(zip(*G.edge_index.tolist(), G.weight.tolist(), strict=True)) == sorted(both)


def test_pajek(tmp_path):
    vertices = '*Network web\n*Vertices 4 2\n1 "a" 0.1 0.2 0.5\n2 "a" ic Red\n% comment\n4 d\n'
    G = read(tmp_path, "g.net", vertices + "*Arcs\n1 2 0.5 c Blue\n2 3 -2\n\n3 1\n*Edges\n")
    assert (G.num_nodes, G.edge_index.T.tolist(), G.weight.tolist()) == (4, [[0, 1], [1, 2], [2, 0]], [0.5, -2, 1])
    G = read(tmp_path, "g.net", "*vertices 3\n*edgeslist\n1 2 3\n")
    assert G.edge_index.T.tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]
    G = read(tmp_path, "g.net", "*Vertices 2\n*Matrix\n0 1.5\n0 2\n")
    assert (G.edge_index.T.tolist(), G.weight.tolist()) == ([[0, 1], [1, 1]], [1.5, 2])
    assert read(tmp_path, "g.txt", "*Vertices 3\n*Arcs\n").shape == (3, 3)  # its first line says what it is


def test_sif(tmp_path):
    G = read(tmp_path, "g.sif", "A pd B C\nB pp C\nD\n")
    assert (G.num_nodes, G.edge_index.T.tolist()) == (4, [[0, 1], [0, 2], [1, 2]])
    assert read(tmp_path, "g.sif", "node A\tpd\tnode B\n").num_nodes == 2


GML = 'graph [ directed 1 node [ id 4 label "x" ] node [ id 2 ] edge [ source 4 target 2 {} ] ]'
GEXF = (
    '<gexf xmlns="http://www.gexf.net/1.2draft"><graph defaultedgetype="{kind}" mode="{mode}"><attributes class="edge">'
    '<attribute id="0" title="flow" type="{type}"/></attributes><nodes><node id="a"/><node id="b"/></nodes>'
    "<edges>{edges}</edges></graph></gexf>"
)
DEFAULT = {"kind": "directed", "mode": "static", "type": "float", "edges": '<edge source="a" target="b"/>'}


def gexf(**changed):
    return GEXF.format(**{**DEFAULT, **changed})


def flow(value):
    return f'<edge source="a" target="b"><attvalues><attvalue for="0" value="{value}"/></attvalues></edge>'


def test_weights_by_name(tmp_path):
    text = GML.format('flow 2.5 label "7"')
    with pytest.warns(WeightNameWarning, match="'flow'"):
        assert read(tmp_path, "g.gml", text).weight.tolist() == [2.5]
    assert read(tmp_path, "g.gml", text, weight="flow").weight.tolist() == [2.5]
    assert read(tmp_path, "g.gml", text, weight=None).weight.tolist() == [1]
    text = gexf(edges=flow("2.5"))
    with pytest.warns(WeightNameWarning, match="'flow'"):
        assert read(tmp_path, "g.gexf", text).weight.tolist() == [2.5]
    assert read(tmp_path, "g.gexf", text, weight="flow").weight.tolist() == [2.5]
    both = flow("2.5").replace("<edge ", '<edge weight="4" ')
    assert read(tmp_path, "g.gexf", gexf(edges=both)).weight.tolist() == [4]
    assert read(tmp_path, "g.gexf", gexf(edges=both), weight="flow").weight.tolist() == [2.5]
    with pytest.raises(DataError, match="attribute 'w'"):
        read(tmp_path, "g.gexf", gexf(edges=both), weight="w")
    for name, text in (
        ("g.net", "*Vertices 2\n*Arcs\n1 2 5\n"),
        ("g.graph", "2 1 1\n2 5\n1 5\n"),
        ("g.sif", "a x b\n"),
    ):
        assert set(read(tmp_path, name, text, weight=None).weight.tolist()) == {1}
        with pytest.raises(DataError, match="attribute 'w'"):
            read(tmp_path, name, text, weight="w")


def test_the_file_says_the_direction(tmp_path):
    assert read(tmp_path, "g.gexf", gexf(kind="mutual")).num_edges == 2
    assert read(tmp_path, "g.gml", GML.format("").replace("directed 1", "")).num_edges == 2
    for directed in (True, False):
        with pytest.raises(DataError, match=rf"the file says .* directed={directed} was given"):
            read(
                tmp_path,
                "g.gml",
                GML.format("").replace("directed 1", f"directed {int(not directed)}"),
                directed=directed,
            )


NODES = "*Vertices 2\n*Arcs\n"
BAD = [
    ("g.gml", GML.format("weight 1.5D+01"), "'1.5D\\+01'; write an exponent with E"),
    ("g.gml", GML.format('weight "2.5"'), "no finite number"),
    ("g.gml", GML.format("weight 1 weight 2"), "a second 'weight'"),
    ("g.gml", GML.format("weight [ a 1 ]").replace("2 weight", "3 weight"), "3, is no node"),
    ("g.gml", GML.format("weight 1").replace("directed 1", "directed 2"), "GML has 0 and 1"),
    ("g.gml", GML.format("weight 1").replace("id 2", "id 4"), "node 4 was declared before"),
    ("g.gml", GML.format("weight 1").replace("id 2", ""), "must have one 'id'"),
    ("g.gml", GML.format("weight 1").replace("source 4", ""), "must have one 'source'"),
    ("g.gml", GML.format("weight 1").replace("edge", "egde"), "looks like a part of a graph"),
    ("g.gml", GML.format("weight 1")[:-1], "breaks off"),
    ("g.gml", GML.format("weight 1") + "]", "without a list"),
    ("g.gml", GML.format("weight 1") * 2, "2 lists called graph"),
    ("g.gml", GML.format("a 1 b 2"), "2 names: 'a', 'b'"),
    ("g.gexf", gexf(mode="dynamic"), "changes in time"),
    ("g.gexf", gexf(kind="Directed"), "defaultedgetype='Directed'"),
    ("g.gexf", gexf(edges='<edge source="a" target="c"/>'), "'c', is no node"),
    ("g.gexf", gexf(edges='<edge source="a"/>'), "no target"),
    ("g.gexf", gexf(edges='<edge source="a" target="b" type="undirected"/>' + DEFAULT["edges"]), "edges of one kind"),
    ("g.gexf", gexf(edges='<edge source="a" target="b" start="2009"/>'), "changes in time"),
    ("g.gexf", gexf(edges='<edge source="a" target="b" weight="1,5"/>'), "decimal point"),
    ("g.gexf", gexf(edges='<edge source="a" target="b" weight="heavy"/>'), "no finite number"),
    ("g.gexf", gexf(edges=flow("2.5"), type="integer").replace("flow", "weight"), "is no integer"),
    ("g.gexf", gexf(edges=flow("true"), type="boolean").replace("flow", "weight"), "declared as boolean"),
    ("g.gexf", gexf(type="flaot"), "none of GEXF"),
    ("g.gexf", gexf().replace('id="b"', 'id="a"'), "'a' was declared before"),
    ("g.gexf", gexf().replace('<node id="b"/>', "<node/>"), "<node> has no id"),
    ("g.gexf", gexf().replace('<node id="b"/>', '<node id="b"><nodes/></node>'), "not understood"),
    ("g.gexf", gexf().replace("<nodes>", '<nodes count="3">'), "3 nodes are declared, there are 2"),
    ("g.net", "1 2\n", "stands before"),
    ("g.net", "*Arcs\n1 2\n", "begins with '\\*Vertices n'"),
    ("g.net", NODES + "1 3\n", "line 3 names the vertex 3"),
    ("g.net", NODES + "0 1\n", "line 3 names the vertex 0"),
    ("g.net", NODES + "1 2 1.5D+01\n", "line 3 is not"),
    ("g.net", NODES + "1 2 0,5\n", "line 3 is not"),
    ("g.net", NODES + "1 2 1 7\n", "more than one number"),
    ("g.net", NODES + "1 2 1 [3-5]\n", "or a time"),
    ("g.net", NODES + "1 2\n*Edges\n2 1\n", "edges of one kind"),
    ("g.net", '*Vertices 2\n*Arcs :1 "x"\n1 2\n*Arcs :2 "y"\n1 2\n', "several relations"),
    ("g.net", "*Vertices 2\n1 a\n1 b\n*Arcs\n", "line 3 names the vertex 1"),
    ("g.net", '*Vertices 2\n1 "a\n', "quote"),
    ("g.net", "*Vertices 2\n1 a\n", "breaks off after its vertices"),
    ("g.gexf", gexf().replace("defaultedgetype", "edgetype"), "<graph> has edgetype="),
    ("g.gexf", gexf(edges='<edge source="a" target="b" weigth="2"/>'), "<edge> has weigth="),
    ("g.net", "*Vertices 2000000000\n*Arcs\n", "declares 2,000,000,000 nodes"),
    ("g.net", "*Vertices 2\n*Matrix\n0 1\n", "as many rows"),
    ("g.net", "*Vertices 2\n*Partition x\n1\n2\n", "no single network"),
    ("g.graph", "4 4\n2 4\n1 3\n2 4\n", "4 vertices, and there are 3|the line of"),
    ("g.graph", "2 1\n2\n1\n1\n", "2 vertices, and there are 3"),
    ("g.graph", "3 2\n2\n1 3\n\n", "does not have it so"),
    ("g.graph", "3 2 1\n2 5\n1 4 3 7\n2 7\n", "does not have it so"),
    ("g.graph", "2 2\n2\n1\n", "declares 2 edges and has 1"),
    ("g.graph", "2 1\n1\n1\n", "no other vertex"),
    ("g.graph", "2 1\n3\n1\n", "no other vertex"),
    ("g.graph", "2 1 2\n2\n1\n", "format '2'"),
    ("g.graph", "2 1 1\n2\n1\n", "without a weight"),
    ("g.graph", "2 1 1\n2 1,5\n1 1,5\n", "no finite number"),
    ("g.graph", "2 1 10\n\n\n", "lacks"),
    ("g.graph", "9999999999 0\n", "nodes"),
    ("g.graph", "1 2 0.5\n", "number in line 1"),
    ("g.sif", "A pd\n", "line 1 is not"),
    ("g.sif", "A\t\tB\n", "line 1 is not"),
    ("g.dot", "a b\n", "ends in .dot"),
    ("g.json", "1 2\n", "ends in .json"),
    ("g.lgl", "# a\nb 0.5\n", "ends in .lgl"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_files_that_contradict_themselves_are_refused(tmp_path, name, text, message):
    with pytest.raises(DataError, match=rf"{name}.*({message})"):
        read(tmp_path, name, text)


@pytest.mark.parametrize(("name", "text"), [("g.gml", GML.format("weight NAN")), ("g.gexf", gexf(edges=flow("-INF")))])
def test_what_is_not_finite_is_refused(tmp_path, name, text):
    with pytest.raises(NonFiniteError, match=rf"{name}: edge 0"):
        read(tmp_path, name, text.replace("flow", "weight"))


def test_the_first_bytes_outdo_the_ending(tmp_path):
    texts = {
        "%%MatrixMarket matrix coordinate real general\n2 2 1\n2 1 1.5\n": [1.5],
        GML.format("weight 1.5"): [1.5],
        "*Vertices 2\n*Arcs\n1 2 1.5\n": [1.5],
        gexf(edges='<edge source="a" target="b" weight="1.5"/>'): [1.5],
        '<?xml version="1.0"?><!-- x --><graphml><graph edgedefault="directed"><node id="a"/>'
        '<edge source="a" target="a"/></graph></graphml>': [1.0],
    }
    for text, weights in texts.items():
        for name in ("g", "g.txt", "g.csv", "g.edges", "out.web", "g.mm", "g.xml", "g.graph"):
            for content in (text.encode(), b"\xef\xbb\xbf" + text.encode(), gzip.compress(text.encode())):
                (tmp_path / name).write_bytes(content)
                assert lg.read_network(tmp_path / name).weight.tolist() == weights
