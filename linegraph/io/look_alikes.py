"""Refusal of files in other formats that would parse as an edge list, and give a wrong network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from linegraph.errors import DataError
from linegraph.io.values import LONGEST, is_number

__all__ = ["refuse_by_lines", "refuse_by_rows"]

SIGNS = {
    r"[\[({]": "JSON, or lists of Python",
    r"<": "XML or HTML",
    r"(strict\s+)?(di)?graph\b[^\n]*\{": "DOT, of Graphviz",
    r"dl\s+(n|nr|nc|nm|format)\b": "DL, of UCINET",
    r"nodedef\s*>": "GDF, of GUESS",
    r"LEDA\.GRAPH": "LEDA",
    r">>\w+<<": "graph6 or sparse6",
    r"@(nodes|arcs|edges|attributes)\b": "LGF, of LEMON",
    r"//|/\*": "a program, or comments that do not begin with # or %",
    r"[pc]\s[^\n]*(\n[pc]\s[^\n]*)*\n[ea]\s|p\s+\w+\s+\d+\s+\d+\s*$": "DIMACS",
    r"\*\w": "Pajek",
}
"""Patterns with which files of other formats begin."""
ARROWS = re.compile(r"[-=<>→←↔:|~]+|" + "pp|pd|pr|rc|cr|gl|pm|mp")
"""Words between two node names that are not nodes: arrows, and the interactions of Cytoscape's SIF."""
WAY_OUT = "if it is an edge list, say whether it has a header: header=True or header=False (--header or --no-header)"

Rows = Sequence[Sequence[str]]


def refuse_by_lines(text: str) -> None:
    """Refuse a text that begins like a file of another format.

    Raises:
        DataError: names the format.
    """
    for sign, name in SIGNS.items():
        if re.match(sign, text, re.IGNORECASE):
            raise DataError(
                f"it begins as {name}: {text[:40].splitlines()[0]!r}; networks are read from edge lists, GraphML, "
                "GEXF, GML, Pajek, METIS, SIF, Matrix Market and SciPy's archives"
            )


def refuse_by_rows(rows: Rows, named: bool) -> None:
    """Refuse a table that may as well be a file of another format; if ``named``, its first row holds names of columns.

    Raises:
        DataError: names the format, and how to say that the table is an edge list.
    """
    data = rows[1:] if named else rows
    for looks, name in (
        (_is_matrix(data), "an adjacency matrix"),
        (_is_labelled_matrix(rows), "an adjacency matrix with labels"),
        (not named and _is_counted(rows), "a list that begins with its numbers of nodes and edges, or METIS"),
        (all(row[0].endswith(":") for row in data), "lists of neighbours, 'node: neighbours'"),
        (all(len(row) == 3 and ARROWS.fullmatch(row[1]) for row in data), "'source interaction target', as SIF has it"),
        (all(len(row) > 2 and row[0] in ("e", "a") and all(map(_is_digits, row[1:])) for row in data), "DIMACS"),
    ):
        if looks:
            raise DataError(f"it may be {name}, which is not read as an edge list{_way_to(name)}; {WAY_OUT}")


def _way_to(name: str) -> str:
    if "matrix" in name:
        return " (pass the matrix to lg.from_scipy, in which m[i, j] is the weight of j → i)"
    if "METIS" in name:
        return " (METIS is read where the name ends in .graph or .metis)"
    return " (SIF is read where the name ends in .sif)" if "SIF" in name else ""


def _is_labelled_matrix(rows: Rows) -> bool:
    labels = [row[0] for row in rows[1:]]
    return len(labels) > 1 and list(rows[0][1:]) == labels


def _is_matrix(rows: Rows) -> bool:
    """Whether rows look like an adjacency matrix: square with zero diagonal, symmetric, or of zeros and ones."""
    n, width = len(rows), len(rows[0]) if rows else 0
    if n > 4 and all(field in ("0", "1") for row in rows for field in row):
        return True  # edges between two nodes are four at most
    if n < 2 or width != n or not all(len(row) == n and all(map(is_number, row)) for row in rows):
        return False
    matrix = [[float(field) for field in row] for row in rows]
    if n == 2:  # a list of two edges, unless it has fractions, which are no names of nodes
        return any(value % 1 for row in matrix for value in row)
    hollow = all(matrix[i][i] == 0 for i in range(n))
    symmetric = all(matrix[i][j] == matrix[j][i] for i in range(n) for j in range(i))
    return hollow or symmetric or all(value in (0, 1) for row in matrix for value in row)


def _is_counted(rows: Rows) -> bool:
    """Whether the first row may be the numbers of nodes and edges, and the other rows fit these numbers."""
    first, rest = rows[0], rows[1:]
    if not all(map(_is_digits, first)) or len(first) < 2:
        return False
    *nodes, edges = map(int, first)
    counted = edges == len(rest) and max(nodes) == min(nodes)
    listed = len(nodes) == 1 and nodes[0] == len(rest)
    if not rest or not (counted or listed) or not all(_is_digits(field) for row in rest for field in row[:2]):
        return False
    named = {int(field) for row in rest for field in row[:2]}
    if counted and max(named) in (nodes[0], nodes[0] - 1) and 2 * len(named) >= nodes[0]:
        return True
    return listed and _is_metis(rest, edges)


def _is_metis(rows: Rows, edges: int) -> bool:
    met = Counter((vertex, int(field)) for vertex, row in enumerate(rows, 1) for field in row if _is_digits(field))
    return sum(met.values()) == 2 * edges and all(met[v, u] == number for (u, v), number in met.items())


def _is_digits(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= LONGEST
