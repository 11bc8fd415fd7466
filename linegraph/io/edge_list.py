"""Edge lists: a line ``source target [weight]`` per edge, or columns under a header."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from linegraph.errors import DataError
from linegraph.io.columns import ends_by_name, find_pair
from linegraph.io.comments import Comments, read_comments
from linegraph.io.content import as_text
from linegraph.io.edges import Attribute, Edges, plain
from linegraph.io.look_alikes import refuse_by_rows
from linegraph.io.names import numbered_names
from linegraph.io.table import Table, read_table
from linegraph.io.values import claims_number, integers, is_number, numbers

__all__ = ["parse_edge_list"]

SERIES = re.compile(r"(?:[0-9]+|[A-Za-z])$")
MISSING = {"", "na", "n/a", "nan", "null", "none"}


def parse_edge_list(content: bytes, header: bool | None = None, directed: bool | None = None) -> Edges:
    """The edges in an edge list; ``header`` and ``directed`` are those of :func:`~linegraph.read_network`.

    Raises:
        DataError: if the file may be in another format, a line has more or fewer columns than the first one, or header
            or comments contradict the lines; names the line.
    """
    table = read_table(as_text(content, names=True))
    comments = read_comments(table, len(content))
    if len(table.rows[0]) < 2:
        raise _width_error(table)
    named = (not comments.konect and _is_header(table.rows)) if header is None else header
    if header is None and not (comments.konect or comments.names or (named and find_pair(table.rows[0]))):
        refuse_by_rows(table.rows, named)
    if not (named or comments.names) and len(table.rows[0]) > (4 if comments.konect else 3):
        raise _width_error(table)
    table.check_width()
    names = comments.names
    if named:
        names, table = table.rows[0], table.without_first()
    if not table.rows:
        raise DataError("an edge list has lines 'source target [weight]', found no edges")
    edges = _konect(table, comments) if comments.konect else _by_name(table, names) if names else _in_place(table)
    _check_number(table, comments, edges)
    if directed is not None:
        edges.directed = directed
    elif comments.directed is not None:
        edges.directed = comments.directed if comments.konect else _both_ways(edges, comments.directed)
    return edges


def _width_error(table: Table) -> DataError:
    first = table.rows[0]
    return DataError(
        f"an edge list has lines 'source target [weight]', the first one has {len(first)} columns: {first!r}; more are "
        "read where a header names them"
    )


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line names the columns, by the rule of :func:`~linegraph.read_network`."""
    first, rest = rows[0], rows[1:]
    if any(is_number(field) or field.lower() in MISSING for field in first if field):
        return False
    pair = find_pair(first)
    ends = pair or (0, 1)
    names = [first[end] for end in ends]
    others = {row[end] for row in rest for end in ends if end < len(row)}
    if others & set(names):
        return False
    if len(first) > 2 and (pair or any(claims_number(row[k]) for row in rest for k in range(2, len(row)))):
        return True
    series = SERIES.sub("", names[0])
    alike = any(name.startswith(series) and SERIES.sub("", name) == series for name in others)
    if (pair and not alike) or (others and all(map(is_number, others))):
        return True
    raise DataError(
        f"the first line, {' '.join(first)!r}, may be a header or an edge: say header=True or header=False "
        "(--header or --no-header on the command line)"
    )


def _in_place(table: Table) -> Edges:
    table.check_filled(range(len(table.rows[0])))
    attributes = {"weight": Attribute(table.column(2), True)} if len(table.rows[0]) == 3 else {}
    return _named_nodes(table, (0, 1), attributes)


def _by_name(table: Table, names: Sequence[str]) -> Edges:
    ends = ends_by_name(names)
    table.check_filled(ends)
    columns = [k for k, name in enumerate(names) if name and k not in ends]
    attributes = {names[k]: Attribute(table.column(k)) for k in columns}
    if len(attributes) < len(columns):
        raise DataError(f"the header has two columns of one name: {', '.join(map(repr, names))}")
    edges = _named_nodes(table, ends, attributes)
    for name, attribute in attributes.items():
        kinds = {str(value).lower() for value in attribute.values}
        if plain(name) == "type" and kinds == {"directed", "undirected"}:
            raise DataError(f"the column {name!r} has directed and undirected edges; edges of one kind are needed")
        if plain(name) == "type" and kinds in ({"directed"}, {"undirected"}):
            edges.directed = kinds == {"directed"}
    return edges


def _named_nodes(table: Table, ends: tuple[int, int], attributes: dict[str, Attribute]) -> Edges:
    sources, targets = map(table.column, ends)
    numbers, names = numbered_names([*sources, *targets])
    ends_of = numbers[: len(sources)], numbers[len(sources) :]
    return Edges(*ends_of, len(names), None, attributes, table.lines, names)


def _konect(table: Table, comments: Comments) -> Edges:
    """Edges of KONECT: columns are source, target, weight, time; nodes are numbered from 1, on each side separately."""
    table.check_filled(range(len(table.rows[0])))
    attributes = {"weight": Attribute(table.column(2), True)} if len(table.rows[0]) > 2 else {}
    if comments.unweighted and attributes:
        if any(value != "1" for value in attributes["weight"].values):
            raise DataError("line 1 says that edges are unweighted, and the third column has other numbers than 1")
        attributes = {}
    ends, sizes = [], comments.sizes
    for side in (0, 1):
        names = table.column(side)
        found = integers(names, lambda k: f"a node in line {table.lines[k]}")
        if sizes and len(wrong := np.flatnonzero((found < 1) | (found > sizes[side]))):
            raise DataError(
                f"line {table.lines[wrong[0]]} names the node {names[wrong[0]]}, outside 1 to {sizes[side]}"
            )
        ends.append(found - 1)
    called: list[str] | None = None
    if sizes is None:
        kinds = ends if comments.sides else [np.concatenate(ends)] * 2
        known = [np.unique(kind) for kind in kinds]
        ends = [np.searchsorted(nodes, end) for nodes, end in zip(known, ends, strict=True)]
        sizes = len(known[0]), len(known[1])
        called = None if comments.sides else [str(number + 1) for number in known[0].tolist()]
    shift = sizes[0] if comments.sides else 0
    n = sum(sizes) if comments.sides else max(sizes)
    return Edges(ends[0], ends[1] + shift, n, None, attributes, table.lines, called)


def _check_number(table: Table, comments: Comments, edges: Edges) -> None:
    """Refuse a file whose number of edges differs from the one in a comment, as in a file that was cut off."""
    said, found = comments.edges, len(table.rows)
    if said is None or found in (said, 2 * said):
        return
    weights = edges.attributes.get("weight")
    lines = numbers([str(value) for value in weights.values], lambda k: f"edge {k}: the weight") if weights else None
    if comments.konect and lines is not None and lines.sum() == said:
        return  # parallel edges are one line, whose weight is their number
    raise DataError(f"a comment says that there are {said:,} edges, and there are {found:,} lines of them")


def _both_ways(edges: Edges, directed: bool) -> bool | None:
    """Whether edges are directed, by a comment; None if undirected edges are already written in both directions."""
    if directed:
        return True
    pairs = {(u, v) for u, v in zip(edges.sources.tolist(), edges.targets.tolist(), strict=True) if u != v}
    back = sum((v, u) in pairs for u, v in pairs)
    if 0 < back < len(pairs):
        raise DataError(
            "a comment says that the edges are undirected, and some but not all are there in both ways; say "
            "directed=False to add the other way to each line, or directed=True to take the lines as they are"
        )
    return None if back else False
