"""GEXF, the format of Gephi: static graphs with edges of one kind."""

from __future__ import annotations

from linegraph.errors import DataError
from linegraph.io.edges import Attribute, Edges
from linegraph.io.xml import Element, ends, numbered, one_direction, parse_xml

__all__ = ["parse_gexf"]

INTEGERS = {"integer", "int", "long", "short", "byte", "biginteger"}
NUMBERS = INTEGERS | {"double", "float", "bigdecimal"}
TYPES = NUMBERS | {"boolean", "char", "string", "anyuri", "liststring"}
DIRECTED = {"directed": True, "undirected": False, "mutual": False}
TIMES = ("start", "end", "startopen", "endopen", "timestamp", "intervals")


def parse_gexf(content: bytes) -> Edges:
    """The edges in a GEXF file; the weight is the ``weight`` of an edge, or an attribute, which is named by its title.

    Raises:
        DataError: if the file is not GEXF with one static graph, has edges of several kinds, or nodes that are
            undeclared, repeated, nameless or nested; names the line.
    """
    root = parse_xml(content, "gexf")
    root.only("meta", "graph")
    graphs = list(root.all("graph"))
    if len(graphs) != 1:
        raise DataError(f"it holds {len(graphs)} graphs, and one is read; save each in a file of its own")
    graph = graphs[0]
    graph.only("attributes", "nodes", "edges")
    graph.has_only("defaultedgetype", "mode", "idtype", "timeformat", "timerepresentation", "name", *TIMES)
    if graph.one_of("mode", ("static", "dynamic"), "static") == "dynamic":
        raise DataError(f"line {graph.line}: its graph changes in time; save one that is static")
    by_default = DIRECTED[graph.one_of("defaultedgetype", tuple(DIRECTED), "undirected")]
    titles = _titles(graph)
    nodes = _elements(graph, "nodes", "node")
    for node in nodes:
        node.only("attvalues")
        _values(node, titles["node"])
    edges = _elements(graph, "edges", "edge")
    numbers = numbered(nodes)
    sources, targets = ends(edges, numbers)
    kinds = ("directed" if by_default else "undirected", *DIRECTED)
    said = [DIRECTED[edge.one_of("type", kinds, kinds[0])] for edge in edges]
    attributes = _attributes(edges, titles["edge"])
    directed = one_direction(edges, said, by_default)
    return Edges(sources, targets, len(nodes), directed, attributes, [edge.line for edge in edges], list(numbers))


def _elements(graph: Element, group: str, tag: str) -> list[Element]:
    found: list[Element] = []
    for part in graph.all(group):
        part.only(tag)
        elements = list(part.all(tag))
        said, number = part.attributes.get("count"), str(len(elements))
        if said not in (None, number):
            raise DataError(f"line {part.line}: {said} {group} are declared, there are {number}")
        found += elements
    for element in found:
        if times := [name for name in TIMES if name in element.attributes]:
            raise DataError(f"line {element.line}: <{tag}> has a {times[0]}, its graph changes in time")
    return found


def _titles(graph: Element) -> dict[str, dict[str, Element]]:
    """The declarations of attributes of nodes and of edges, by id."""
    titles: dict[str, dict[str, Element]] = {"node": {}, "edge": {}}
    for group in graph.all("attributes"):
        group.only("attribute")
        group.has_only("class", "mode", "type", *TIMES)
        if group.one_of("mode", ("static", "dynamic"), "static") == "dynamic":
            raise DataError(f"line {group.line}: its attributes change in time; save a static graph")
        known = titles[group.one_of("class", ("node", "edge"))]
        for attribute in group.all("attribute"):
            attribute.only("default", "options")
            attribute.get("title")
            if attribute.get("id") in known:
                raise DataError(f"line {attribute.line}: the attribute {attribute.get('id')!r} was declared before")
            if attribute.get("type").lower() not in TYPES:
                raise DataError(f"line {attribute.line}: the type {attribute.get('type')!r} is none of GEXF")
            known[attribute.get("id")] = attribute
    return titles


def _values(element: Element, titles: dict[str, Element]) -> dict[str, str]:
    """The values of a node or an edge, by the id of the attribute."""
    found: dict[str, str] = {}
    for group in element.all("attvalues"):
        group.only("attvalue")
        for value in group.all("attvalue"):
            name = value.get("for")
            if name not in titles:
                raise DataError(f"line {value.line}: <attvalue> is for {name!r}, which is no attribute")
            if name in found:
                raise DataError(f"line {value.line}: a second value for {name!r}")
            found[name] = value.get("value").strip()
    return found


def _attributes(edges: list[Element], titles: dict[str, Element]) -> dict[str, Attribute]:
    values: dict[str, dict[int, str]] = {name: {} for name in titles}
    for k, edge in enumerate(edges):
        edge.only("attvalues")
        edge.has_only("id", "source", "target", "weight", "type", "kind", "label")
        for name, text in _values(edge, titles).items():
            values[name][k] = text
    found: dict[str, Attribute] = {}
    if any("weight" in edge.attributes for edge in edges):
        found["weight"] = Attribute([edge.attributes.get("weight") for edge in edges], True)
    for name, element in titles.items():
        kind, title = element.get("type").lower(), element.get("title")
        default = next((child.text.strip() for child in element.all("default")), None)
        if not values[name] and default is None:
            continue
        if title in found:
            raise DataError(f"line {element.line}: edges have two attributes of the title {title!r}")
        texts = [values[name].get(k) for k in range(len(edges))]
        found[title] = Attribute(texts, kind in NUMBERS, kind in INTEGERS, default, kind)
    return found
