"""GraphML is read as it is declared: nodes, direction, keys and their defaults and types."""

import networkx as nx
import pytest

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError, WeightNameWarning

NODES = '<node id="a"/><node id="b"/>'
EDGE = '<edge source="a" target="b"/>'
NUMBER = 'attr.name="weight" attr.type="double"'


def key(declared=NUMBER, inner="", name="d"):
    return f'<key id="{name}" {declared}>{inner}</key>'


def edge(value, name="d", more=""):
    return f'<edge source="a" target="b" {more}><data key="{name}">{value}</data></edge>'


def read(tmp_path, graph, keys="", default="directed", head='<?xml version="1.0"?>', **arguments):
    path = tmp_path / "g.graphml"
    space = 'xmlns="http://graphml.graphdrawing.org/xmlns"'
    path.write_text(f'{head}<graphml {space}>{keys}<graph edgedefault="{default}">{graph}</graph></graphml>')
    found = lg.read_network(path, **arguments)
    assert found.weight.tolist() == lg.read_graphml(path, **arguments).weight.tolist()
    return found


@pytest.mark.parametrize(
    ("keys", "graph", "weights"),
    [
        (key(f'for="edge" {NUMBER}'), NODES + edge(2.5), [2.5]),
        (key(f'for="all" {NUMBER}'), NODES + edge(" 2.5\n"), [2.5]),
        (key(f'for="edge" {NUMBER}', "<default>7</default>"), NODES + EDGE + edge(2), [7, 2]),
        (key(f'for="all" {NUMBER}', "<desc>x</desc><default>7</default>"), NODES + EDGE, [7]),
        (key(NUMBER, "<default>7</default>"), NODES + EDGE, [7]),
        (key(f'for="node" {NUMBER}', "<default>7</default>"), NODES + EDGE, [1]),
        (key('attr.name="weight"'), NODES + edge("2.5e-1"), [0.25]),
        (key('attr.name="Weight" attr.type="float"'), NODES + edge(3), [3]),
        (key('attr.name="weight" attr.type="long"'), NODES + edge(-3), [-3]),
        (key('attr.type="int"', name="weight"), NODES + edge(3, "weight"), [3]),
        (key() + key('for="node" attr.name="weight" attr.type="string"', name="n"), NODES + edge(3), [3]),
        (key() + key('attr.name="x" attr.type="double"', name="x"), NODES + edge(3) + edge(4, "x"), [3, 1]),
        (key('attr.name="id" attr.type="int"'), NODES + edge(3), [1]),
        (key('attr.name="kind" attr.type="string"'), NODES + edge("strong"), [1]),
        ("", '<node id="a"><port name="p"/></node><node id="b"/>' + EDGE, [1]),
    ],
)
def test_weights_are_those_that_are_declared(tmp_path, keys, graph, weights):
    assert read(tmp_path, graph, keys).weight.tolist() == weights


def test_weights_of_another_name(tmp_path):
    keys = key('for="edge" attr.name="flow" attr.type="double"') + key('attr.name="id" attr.type="int"', name="n")
    with pytest.warns(WeightNameWarning, match="'flow'"):
        assert read(tmp_path, NODES + edge(2.5), keys).weight.tolist() == [2.5]
    assert read(tmp_path, NODES + edge(2.5), keys, weight="flow").weight.tolist() == [2.5]
    assert read(tmp_path, NODES + edge(2.5), keys, weight=None).weight.tolist() == [1]
    keys += key('for="edge" attr.name="cost" attr.type="double"', "<default>1</default>", "c")
    with pytest.raises(DataError, match=r"g.graphml: .* 2 names: 'flow', 'cost'; name one with weight="):
        read(tmp_path, NODES + edge(2.5), keys)
    assert read(tmp_path, NODES + edge(2.5), keys, weight="cost").weight.tolist() == [1]


def test_direction(tmp_path):
    assert read(tmp_path, NODES + EDGE, default="undirected").num_edges == 2
    for value in ("false", "0"):
        one = f'<edge source="a" target="b" directed="{value}"/>'
        assert read(tmp_path, NODES + one).num_edges == 2
        with pytest.raises(DataError, match="directed=false edge in line 1, others are directed"):
            read(tmp_path, NODES + EDGE + one)
    with pytest.raises(DataError, match="directed=true edge in line 1, others are undirected"):
        read(tmp_path, NODES + EDGE + '<edge source="b" target="a" directed="true"/>', default="undirected")


@pytest.mark.parametrize("path", ["nested.graphml", "plain.xml"])
def test_nodes_are_in_the_order_of_the_file(tmp_path, path):
    g = nx.DiGraph()
    g.add_weighted_edges_from([("b", "a", 2.0), ("10", "b", 3.0), ("9", "10", 4.0)])
    nx.write_graphml(g, tmp_path / path)
    order, P = list(g), lg.read_network(tmp_path / path).to_dense()
    assert all(P[order.index(v), order.index(u)] == w for u, v, w in g.edges.data("weight"))


ENTITIES = '<!DOCTYPE g [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
BAD = {
    "undeclared target": ("", NODES + '<edge source="a" target="B"/>', "target of the edge, 'B', is no node"),
    "undeclared source": ("", NODES + '<edge source=" a" target="b"/>', "source of the edge, ' a', is no node"),
    "no source": ("", NODES + '<edge target="b"/>', "<edge> has no source"),
    "no target": ("", NODES + '<edge source="b"/>', "<edge> has no target"),
    "no id": ("", "<node/><node/>", "<node> has no id"),
    "a node twice": ("", NODES + NODES, "'a' was declared before"),
    "nested graph": (
        "",
        '<node id="a"><graph edgedefault="directed"><node id="c"/></graph></node>',
        "<graph> in <node>",
    ),
    "graph in an edge": ("", NODES + EDGE.replace("/>", "><graph/></edge>"), "<graph> in <edge>"),
    "hyperedge": ("", NODES + '<hyperedge><endpoint node="a"/></hyperedge>', "<hyperedge> in <graph>"),
    "unknown element": ("", NODES + EDGE.replace("edge", "egde"), "<egde> in <graph>"),
    "text in the graph": ("", NODES + EDGE.replace("<", "&lt;"), "text in <graph>"),
    "weight as an attribute": (
        "",
        NODES + '<edge source="a" target="b" weight="2"/>',
        "<edge> has weight=, which is not understood",
    ),
    "misspelt direction": ("", NODES + '<edge source="a" target="b" direkted="false"/>', "<edge> has direkted="),
    "unknown direction": ("", NODES + '<edge source="a" target="b" directed="no"/>', "directed='no'"),
    "undeclared key": ("", NODES + edge(1), "key 'd', which is not declared"),
    "key of nodes": (key(f'for="node" {NUMBER}'), NODES + edge(1), "not declared for a edge"),
    "key of edges": (
        key(f'for="edge" {NUMBER}'),
        '<node id="a"><data key="d">1</data></node>',
        "not declared for a node",
    ),
    "a key twice": (key() + key(), NODES, "key 'd' was declared before"),
    "a name twice": (key() + key(name="e"), NODES + edge(1) + edge(2, "e"), "two keys of one name"),
    "a value twice": (key(), NODES + edge('1</data><data key="d">2'), "a second value"),
    "two defaults": (key(inner="<default>1</default><default>2</default>"), NODES, "2 defaults"),
    "key without id": ("<key attr.name='weight'/>", NODES, "<key> has no id"),
    "key for nothing": (key(f'for="edges" {NUMBER}'), NODES, "for='edges'"),
    "unknown type": (key('attr.name="weight" attr.type="duoble"'), NODES, "attr.type='duoble'"),
    "elements in data": (key(), NODES + edge("<desc/>"), "<data> holds elements"),
    "boolean": (key('attr.name="weight" attr.type="boolean"'), NODES + edge("true"), "declared as boolean"),
    "string": (key('attr.name="weight" attr.type="string"'), NODES + edge("2.5"), "declared as string"),
    "no integer": (key('attr.name="weight" attr.type="int"'), NODES + edge("2.5"), "is no integer: '2.5'"),
    "empty": (key(), NODES + edge(""), "line 1 is no finite number: ''"),
    "empty default": (key(inner="<default/>"), NODES + EDGE, "line 1 is no finite number: ''"),
    "Fortran": (key(), NODES + edge("1.5D+01"), "write an exponent with E"),
    "decimal comma": (key(), NODES + edge("1,5"), "a decimal point, not a comma"),
    "cut number": (key(), NODES + edge("1.5abc"), "is no finite number: '1.5abc'"),
    "underscore": (key(), NODES + edge("1_000"), "is no finite number"),
    "other digits": (key(), NODES + edge("&#x661;"), "is no finite number"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_contradicts_itself_is_refused(tmp_path, name):
    keys, graph, message = BAD[name]
    with pytest.raises(DataError, match=f"g.graphml.*{message}"):
        read(tmp_path, graph, keys)


@pytest.mark.parametrize("default", ["Directed", "", "true", "mixed"])
def test_an_unknown_direction_is_refused(tmp_path, default):
    with pytest.raises(DataError, match=f"<graph> has edgedefault='{default}', known are directed, undirected"):
        read(tmp_path, NODES, default=default)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('<?xml version="1.0" encoding="utf-9"?>', "unknown encoding"),
        ('<?xml version="1.0" encoding="utf-7"?>', "cannot be read as GraphML"),
        (ENTITIES, "declares an entity"),
        ('<!DOCTYPE g [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "declares an entity"),
        ('<!DOCTYPE g [<!ENTITY % a "1">]>', "declares an entity"),
        ("<graphml/>", "junk after document element"),
    ],
)
def test_xml_that_is_unknown_or_expands_is_refused(tmp_path, head, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, NODES + edge("&amp;"), key(), head=head)


def test_entities_of_another_file_are_refused(tmp_path):
    head = '<!DOCTYPE graphml SYSTEM "http://graphml.graphdrawing.org/dtds/graphml.dtd">'
    assert read(tmp_path, NODES + edge(2), key(), head=head).weight.tolist() == [2]
    with pytest.raises(DataError, match="entity of an external document type"):
        read(tmp_path, NODES + edge("2&x;5"), key(), head=head)


@pytest.mark.parametrize("value", ["NaN", "INF", "-inf", "1e999"])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    with pytest.raises(NonFiniteError, match=r"g.graphml: edge 0: the weight in line 1"):
        read(tmp_path, NODES + edge(value), key())


def test_one_graph_is_read(tmp_path):
    path = tmp_path / "g.graphml"
    for text, number in (("", 0), ('<graph edgedefault="directed"/>' * 2, 2)):
        path.write_text(f"<graphml>{text}</graphml>")
        with pytest.raises(DataError, match=f"it holds {number} graphs"):
            lg.read_graphml(path)
    path.write_text('<gexf><graph edgedefault="directed"/></gexf>')
    with pytest.raises(DataError, match="<gexf>, not <graphml>"):
        lg.read_graphml(path)
    path.write_text('<graphml><graph edgedefault="directed"><node id="a"/></graph></graphml>', encoding="utf-16")
    assert lg.read_network(path).shape == (1, 1)


def test_what_others_add_is_left_aside(tmp_path):
    keys = '<key id="y" for="node" yfiles.type="nodegraphics"/>' + key()
    shape = '<node id="a"><data key="y"><y:ShapeNode xmlns:y="http://www.yworks.com/xml/graphml"><y:Fill/></y:ShapeNode></data></node>'
    assert read(tmp_path, shape + '<node id="b"/>' + edge(2), keys).weight.tolist() == [2]
