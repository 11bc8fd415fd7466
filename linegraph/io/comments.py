"""Information in the comments of an edge list: headers of KONECT and SNAP, and names of columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from linegraph.errors import DataError
from linegraph.io.columns import find_pair
from linegraph.io.content import check_nodes
from linegraph.io.table import Table
from linegraph.io.values import integer

__all__ = ["Comments", "read_comments"]

KONECT = re.compile(r"%\s*(sym|asym|bip)\b\s*(.*)", re.IGNORECASE)
WEIGHTS = ("unweighted", "positive", "posweighted", "signed", "weighted")
"""KONECT's words for the kind of weights, to which "multi" is prefixed if parallel edges are counted."""
DIRECTION = re.compile(r"[#%]\s*(un)?directed\b", re.IGNORECASE)
COUNTS = re.compile(r"[#%].*\bedges:\s*([0-9]+)", re.IGNORECASE)


@dataclass
class Comments:
    """What the comments state about an edge list.

    Attributes:
        konect: whether the header is KONECT's; the columns are then source, target, weight, time.
        unweighted: whether the header says that edges have no weight.
        sides: whether the graph is bipartite, with sources and targets numbered separately.
        directed: whether edges are directed; None if nothing is stated.
        sizes: the numbers of sources and targets.
        edges: the number of edges.
        names: the names of the columns; None if none are stated.
    """

    konect: bool = False
    unweighted: bool = False
    sides: bool = False
    directed: bool | None = None
    sizes: tuple[int, int] | None = None
    edges: int | None = None
    names: list[str] | None = None


def read_comments(table: Table, size: int) -> Comments:
    """What the comments state in a file of ``size`` bytes.

    Raises:
        DataError: if they declare a form of KONECT that is not read, contradict each other, or declare an impossible
            number.
    """
    found = Comments()
    if table.comments and (match := KONECT.fullmatch(table.comments[0][1])):
        kind, weights = match[1].lower(), match[2].lower()
        if weights.removeprefix("multi") not in WEIGHTS:
            known = ", ".join(WEIGHTS)
            raise DataError(
                f"line 1 says {weights[:40]!r} where KONECT's header has one of {known}; 'dynamic' is not read"
            )
        found = Comments(konect=True, unweighted=weights == "unweighted", sides=kind == "bip", directed=kind == "asym")
        if len(table.comments) > 1:
            _konect_sizes(found, *table.comments[1], size)
        return found
    for number, comment in table.comments:
        if match := DIRECTION.match(comment):
            if found.directed not in (None, not match[1]):
                raise DataError(f"line {number} contradicts the comment before: {comment[:80]!r}")
            found.directed = not match[1]
        if match := COUNTS.match(comment):
            found.edges = integer(match[1], f"line {number}: the number of edges")
    found.names = _names(table)
    return found


def _konect_sizes(found: Comments, number: int, comment: str, size: int) -> None:
    words = comment[1:].split()
    if not words or not all(word.isdigit() for word in words):
        return
    if len(words) not in (1, 3):
        raise DataError(f"line {number} is not '% edges [sources targets]': {comment[:80]!r}")
    found.edges, *sizes = (integer(word, f"a number in line {number}") for word in words)
    if sizes:
        check_nodes(sum(sizes), size)
        found.sizes = sizes[0], sizes[1]


def _names(table: Table) -> list[str] | None:
    """The words of the comment right before the first row, if they name its columns."""
    before = [comment for number, comment in table.comments if number < table.lines[0]]
    if not before:
        return None
    words = [word.strip() for word in re.split(r"[\s,;]+", before[-1].lstrip("#% \t")) if word.strip()]
    return words if len(words) == len(table.rows[0]) and find_pair(words) else None
