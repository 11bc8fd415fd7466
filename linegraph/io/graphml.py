"""GraphML files.

networkx reads them too, but silently makes nodes of undeclared names, takes an unknown ``edgedefault`` for
"undirected", and ignores the defaults of keys declared for all elements and every graph after the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linegraph.arguments import as_path
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError, NotAGraphError
from linegraph.files import write_whole
from linegraph.io.accept import AnyGraph
from linegraph.io.content import read_content
from linegraph.io.edges import Attribute, Edges
from linegraph.io.export import to_networkx
from linegraph.io.naming import naming
from linegraph.io.xml import Element, ends, numbered, one_direction, parse_xml

__all__ = ["parse_graphml", "read_graphml", "write_graphml"]

INTEGERS = {"int", "integer", "long"}
NUMBERS = INTEGERS | {"float", "double"}
TYPES = NUMBERS | {"boolean", "string"}
DOMAINS = ("all", "graph", "node", "edge", "hyperedge", "port", "endpoint", "graphml")
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def write_graphml(graph: AnyGraph, path: str | Path) -> None:
    """Write a GraphML file for Gephi, Cytoscape and others, with all attributes that :func:`to_igraph` keeps.

    Weights are written with all their digits. Nodes are written by their names, or by their numbers if they have none.
    The file is written whole or not at all; an existing file of that name is replaced.

    Args:
        graph: a PyG ``Data``, such as that of :func:`~linegraph.line_graph`, or a coupling or another graph (igraph,
            networkx, SciPy), as for :func:`~linegraph.to_igraph`.
        path: of the file.

    Returns:
        None.

    Cost: about 50 µs per edge.

    Raises:
        DataError: if a ``Data`` has no ``edge_index``, or two names of nodes are written alike, as 1 and "1" are.
        NonFiniteError: if a weight is NaN or infinite.
        NotAGraphError: if ``graph`` is neither a coupling nor a graph.
        TooLargeError: if a coupling of a network has more edges than ``to_graph()`` forms by default.
        ArgumentTypeError: if ``path`` is not a path.

    Source: U. Brandes, M. Eiglsperger, I. Herman, M. Himsolt, M. S. Marshall, GraphML progress report, Graph Drawing
    2001, for the format; networkx writes the file.

    Example:
        >>> import tempfile, networkx as nx, linegraph as lg
        >>> path = tempfile.mkdtemp() + "/karate.graphml"
        >>> lg.write_graphml(nx.karate_club_graph(), path)
        >>> lg.read_graphml(path).num_edges
        156
    """
    import networkx as nx

    if isinstance(graph, str | Path):
        raise NotAGraphError(f"the graph comes first, write_graphml(graph, path), got the path {str(graph)!r}")
    g = to_networkx(graph)  # networkx writes doubles exactly, igraph to 15 digits
    if len({str(node) for node in g}) < len(g):
        raise DataError("two names of nodes are written alike, as 1 and '1' are; give the graph other node_names")
    write_whole(as_path("path", path), lambda temporary: nx.write_graphml(g, temporary))


def read_graphml(path: str | Path, weight: str | None = "weight") -> GraphCoupling:
    """Read a GraphML file as a coupling: the edge j → i of weight a gives P[i, j] = a.

    Args:
        path: of the file, which may be compressed by gzip.
        weight: the edge attribute that holds the weights, by the rule of :func:`~linegraph.read_network`. An edge
            without it has the default that the file declares for edges or for all elements, else weight 1. None gives
            all edges the weight 1.

    Returns:
        The coupling P, (n, n), in double precision. Nodes are numbered in the order of the file. An undirected edge
        becomes two edges, one in each direction. The ``node_names`` are the ``id`` of the nodes; None if these are the
        numbers 0 to n − 1 in this order.

    Warns:
        WeightNameWarning: if an attribute of another name is taken for the weight.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the file is not GraphML, or does not hold exactly one graph. If edges are in part directed and in
            part undirected. If a node is undeclared, repeated or without an ``id``. If there are nested graphs,
            hyperedges, declared entities, or elements and keys that GraphML does not have. If ``weight`` is a name
            other than "weight" that no edge has, or its values are not numbers of the declared type.
        NonFiniteError: if a weight is NaN or infinite.

    Cost: about 25 µs per edge.

    Source: U. Brandes, M. Eiglsperger, I. Herman, M. Himsolt, M. S. Marshall, GraphML progress report, Graph Drawing
    2001, for the format.

    Example:
        >>> import tempfile, torch, linegraph as lg
        >>> path = tempfile.mkdtemp() + "/graph.graphml"
        >>> lg.write_graphml(lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([0.5])), path)
        >>> lg.read_graphml(path).to_dense().tolist()
        [[0.0, 0.0], [0.5, 0.0]]
    """
    path = as_path("path", path)
    with naming(f"{str(path)!r} cannot be read as GraphML"):
        edges = parse_graphml(read_content(path))
    with naming(str(path)):
        return edges.graph(weight)


@dataclass
class _Key:
    """A declared attribute of the elements of a ``domain``."""

    name: str
    domain: str
    type: str | None
    default: str | None

    def __post_init__(self) -> None:
        self.values: dict[int, str] = {}

    def attribute(self, number: int) -> Attribute:
        numeric = None if self.type is None else self.type in NUMBERS
        values = [self.values.get(k) for k in range(number)]
        return Attribute(values, numeric, self.type in INTEGERS, self.default, str(self.type))


def parse_graphml(content: bytes) -> Edges:
    """The edges in a GraphML file.

    Raises:
        DataError: see :func:`read_graphml`; names the line.
    """
    root = parse_xml(content, "graphml")
    root.only("desc", "key", "data", "graph")
    graphs = list(root.all("graph"))
    if len(graphs) != 1:
        raise DataError(f"it holds {len(graphs)} graphs, and one is read; save each in a file of its own")
    keys = _keys(root)
    graph = graphs[0]
    graph.only("desc", "data", "node", "edge")
    graph.has_only("id", "edgedefault")
    by_default = graph.one_of("edgedefault", ("directed", "undirected")) == "directed"
    nodes, elements = _nodes(graph, keys), list(graph.all("edge"))
    for k, edge in enumerate(elements):
        edge.only("desc", "data")
        edge.has_only("id", "source", "target", "directed", "sourceport", "targetport")  # weights are in <data>
        for key, text in _data(edge, keys, "edge"):
            key.values[k] = text
    sources, targets = ends(elements, nodes)
    said = [TRUTH[edge.one_of("directed", tuple(TRUTH), str(by_default).lower())] for edge in elements]
    directed = one_direction(elements, said, by_default)
    attributes = _attributes(keys, len(elements))
    lines = [edge.line for edge in elements]
    return Edges(sources, targets, len(nodes), directed, attributes, lines, list(nodes))


def _keys(root: Element) -> dict[str, _Key]:
    keys: dict[str, _Key] = {}
    for element in root.all("key"):
        element.only("desc", "default")
        element.has_only("id", "for")
        name = element.get("id")
        if name in keys:
            raise DataError(f"line {element.line}: the key {name!r} was declared before")
        kind = element.attributes.get("attr.type")
        if kind is not None and kind not in TYPES:
            raise DataError(
                f"line {element.line}: the key {name!r} has attr.type={kind!r}, which GraphML does not know"
            )
        defaults = [default.text.strip() for default in element.all("default")]
        if len(defaults) > 1:
            raise DataError(f"line {element.line}: the key {name!r} has {len(defaults)} defaults")
        domain = element.one_of("for", DOMAINS, "all")
        keys[name] = _Key(element.attributes.get("attr.name", name), domain, kind, defaults[0] if defaults else None)
    return keys


def _nodes(graph: Element, keys: dict[str, _Key]) -> dict[str, int]:
    elements = list(graph.all("node"))
    for element in elements:
        element.only("desc", "data", "port")  # a port says where on its node an edge ends
        _data(element, keys, "node")
    return numbered(elements)


def _data(element: Element, keys: dict[str, _Key], domain: str) -> list[tuple[_Key, str]]:
    found: dict[str, tuple[_Key, str]] = {}
    for data in element.all("data"):
        name = data.get("key")
        if data.children:
            raise DataError(f"line {data.line}: <data> holds elements, which are not understood")
        if name not in keys or keys[name].domain not in ("all", domain):
            raise DataError(f"line {data.line}: <data> has the key {name!r}, which is not declared for a {domain}")
        if name in found:
            raise DataError(f"line {data.line}: a second value of the key {name!r}")
        found[name] = keys[name], data.text.strip()
    return list(found.values())


def _attributes(keys: dict[str, _Key], number: int) -> dict[str, Attribute]:
    of_edges = [key for key in keys.values() if key.domain in ("all", "edge")]
    used = [key for key in of_edges if key.values or key.default is not None]
    if len(names := {key.name for key in used}) < len(used):
        raise DataError(f"edges have two keys of one name; the names are {', '.join(sorted(names))}")
    return {key.name: key.attribute(number) for key in used}
