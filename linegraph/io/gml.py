"""GML: nested lists of keys and values; nodes are known by their ``id``.

networkx reads GML too, but stops reading a number at the first character that it does not understand: it reads
``1.5D+01`` as 1.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

import numpy as np

from linegraph.errors import DataError
from linegraph.io.content import as_text
from linegraph.io.edges import Attribute, Edges
from linegraph.io.values import integer

__all__ = ["parse_gml"]

TOKEN = re.compile(r'[ \t\r\n]+|#.*|(?P<token>\[|\]|"[^"]*"(?=[\s\]]|\Z)|[^\s\[\]"#][^\s\[\]"]*(?=[\s\[\]]|\Z))')
OF_EDGES = ("source", "target")
GRAPH = {"graph", "node", "edge", "id", *OF_EDGES}
"""Keys that only nodes and edges have: a list of another name with such a key would be lost, so it is refused."""


@dataclass(slots=True)
class _Entry:
    """A key, its value, a text or a list of entries, and the line of the key."""

    key: str
    value: str | list[_Entry]
    line: int


def parse_gml(content: bytes) -> Edges:
    """The edges in a GML file. All keys of an edge except ``source`` and ``target`` are attributes.

    Raises:
        DataError: if the file is no GML with one graph, ``directed`` is not 0 or 1, or nodes are undeclared, repeated
            or without ``id``; names the line.
    """
    graphs = [entry for entry in _parsed(as_text(content)) if entry.key == "graph"]
    if len(graphs) != 1:
        raise DataError(f"it holds {len(graphs)} lists called graph, and one is read")
    graph = _inner(graphs[0])
    directed = _one(graphs[0], graph, "directed", "0")
    if directed not in ("0", "1"):
        raise DataError(f"line {graphs[0].line}: directed is {directed!r}, and GML has 0 and 1")
    for entry in graph:
        known = entry.key in ("node", "edge") or isinstance(entry.value, str)
        if not known and GRAPH & {entry.key, *(inner.key for inner in _inner(entry))}:
            raise DataError(
                f"line {entry.line}: the list {entry.key!r} looks like a part of a graph, but its name is unknown"
            )
    nodes: dict[int, int] = {}
    labels: list[str] = []
    for node in (entry for entry in graph if entry.key == "node"):
        name = integer(_one(node, _inner(node), "id"), f"line {node.line}: the id of a node")
        if name in nodes:
            raise DataError(f"line {node.line}: the node {name} was declared before")
        nodes[name] = len(nodes)
        labels += [entry.value for entry in _inner(node) if entry.key == "label" and isinstance(entry.value, str)]
    found = _edges([entry for entry in graph if entry.key == "edge"], nodes, directed == "1")
    told_apart = len(labels) == len(set(labels)) == len(nodes)
    found.names = [unescape(label.strip('"')) for label in labels] if told_apart else list(map(str, nodes))
    return found


def _edges(edges: list[_Entry], nodes: dict[int, int], directed: bool) -> Edges:
    index = np.empty((2, len(edges)), dtype=np.int64)
    values: dict[str, list[str | None]] = {}
    for k, edge in enumerate(edges):
        inner = _inner(edge)
        for row, end in enumerate(OF_EDGES):
            name = integer(_one(edge, inner, end), f"line {edge.line}: the {end} of an edge")
            if name not in nodes:
                raise DataError(f"line {edge.line}: the {end} of the edge, {name}, is no node of the graph")
            index[row, k] = nodes[name]
        for entry in inner:
            if entry.key not in OF_EDGES and isinstance(entry.value, str):
                texts = values.setdefault(entry.key, [None] * len(edges))
                if texts[k] is not None:
                    raise DataError(f"line {entry.line}: a second {entry.key!r} of one edge")
                texts[k] = entry.value
    attributes = {name: Attribute(texts) for name, texts in values.items()}
    return Edges(index[0], index[1], len(nodes), directed, attributes, [edge.line for edge in edges])


def _inner(entry: _Entry) -> list[_Entry]:
    if isinstance(entry.value, str):
        raise DataError(f"line {entry.line}: {entry.key!r} is no list")
    return entry.value


def _one(outer: _Entry, entries: list[_Entry], key: str, default: str | None = None) -> str:
    found = [entry.value for entry in entries if entry.key == key]
    if not found and default is not None:
        return default
    if len(found) != 1 or isinstance(found[0], list):
        raise DataError(f"line {outer.line}: {outer.key!r} must have one {key!r}, a number")
    return found[0]


def _parsed(text: str) -> list[_Entry]:
    """The entries of the file; lists may be nested to any depth."""
    top: list[_Entry] = []
    within, key, key_line, position, line = [top], "", 0, 0, 1
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise DataError(f"line {line} cannot be read as keys and values: {text[position : position + 40]!r}")
        token = match["token"]
        if token is None:
            pass
        elif token == "]":
            if key or len(within) == 1:
                raise DataError(f"line {line}: ']' without a list or a value")
            within.pop()
        elif not key:
            if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", token):
                raise DataError(f"line {line}: {token[:40]!r} is no key")
            key, key_line = token, line
        else:
            value: str | list[_Entry] = [] if token == "[" else token
            within[-1].append(_Entry(key, value, key_line))
            if isinstance(value, list):
                within.append(value)
            key = ""
        line += match.group().count("\n")
        position = match.end()
    if key or len(within) > 1:
        raise DataError(f"it breaks off in line {line}: a list or a key is not complete")
    return top
