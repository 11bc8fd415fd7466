"""Pajek's ``.net``: vertices 1 to n, then arcs, edges, lists of them or a matrix.

networkx reads it too, but makes one node of all vertices with the same label, and igraph allocates memory for any
number of vertices that the file declares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from linegraph.errors import DataError
from linegraph.io.content import as_text, check_nodes, lines_of
from linegraph.io.edges import Attribute, Edges
from linegraph.io.values import integer, is_number

__all__ = ["parse_pajek"]

WORD = re.compile(r'"[^"]*"(?!\S)|[^\s"]\S*')
PAIRS = {"*arcs": True, "*edges": False}
LISTS = {"*arcslist": True, "*edgeslist": False}


@dataclass
class _Section:
    """A section: a line that begins with ``*``, and the lines up to the next such line."""

    words: list[str]
    line: int
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


@dataclass
class _Found:
    """The edges read so far: their ends, weights as texts, and lines."""

    n: int
    ends: list[tuple[int, int]] = field(default_factory=list)
    weights: list[str | None] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def add(self, source: str, target: str, weight: str | None, line: int) -> None:
        """An edge between two vertices, which are known by their numbers."""
        numbers = [integer(word, f"line {line}: a vertex") for word in (source, target)]
        for number in numbers:
            if not 1 <= number <= self.n:
                raise DataError(f"line {line} names the vertex {number}, outside 1 to {self.n:,}")
        self.ends.append((numbers[0] - 1, numbers[1] - 1))
        self.weights.append(weight)
        self.lines.append(line)


def parse_pajek(content: bytes) -> Edges:
    """The edges in a Pajek file; node i is vertex i + 1.

    Raises:
        DataError: if the file is no Pajek network of one relation whose edges are of one kind, or a line does not parse
            whole; names the line.
    """
    sections = _sections(as_text(content))
    if sections and sections[0].words[0] == "*network":
        sections = sections[1:]
    if not sections or sections[0].words[0] != "*vertices":
        raise DataError("a Pajek network begins with '*Vertices n'")
    if len(sections) < 2:
        raise DataError("it breaks off after its vertices: '*Arcs', '*Edges', lists of them or a '*Matrix' are missing")
    n, names = _vertices(sections[0], len(content))
    found = _Found(n)
    kinds: dict[bool, int] = {}
    for section in sections[1:]:
        name, number = section.words[0], len(found.ends)
        if name in PAIRS or name in LISTS:
            if len(section.words) > 1:
                raise DataError(f"line {section.line} begins one of several relations; save the one that is meant")
            _pairs(section, found) if name in PAIRS else _lists(section, found)
        elif name == "*matrix":
            _matrix(section, found)
        else:
            raise DataError(f"line {section.line} begins with {section.words[0]!r}, which no single network has")
        if len(found.ends) > number:
            kinds.setdefault({**PAIRS, **LISTS}.get(name, True), section.line)
    if len(kinds) == 2:
        raise DataError(
            f"it has arcs (line {kinds[True]}) and edges (line {kinds[False]}); edges of one kind are needed"
        )
    ends = np.array(found.ends, dtype=np.int64).reshape(-1, 2)
    attributes = {"weight": Attribute(found.weights, True)} if any(found.weights) else {}
    return Edges(ends[:, 0], ends[:, 1], n, False not in kinds, attributes, found.lines, names)


def _sections(text: str) -> list[_Section]:
    sections: list[_Section] = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip() or line.lstrip()[0] == "%":
            continue
        words = WORD.findall(line)
        if WORD.sub("", line).strip():
            raise DataError(f"line {number} has a double quote that is not closed: {line.strip()[:80]!r}")
        if words[0].startswith("*"):
            sections.append(_Section([words[0].lower(), *words[1:]], number))
        elif not sections:
            raise DataError(f"line {number} stands before '*Vertices n': {line.strip()[:80]!r}")
        else:
            sections[-1].rows.append((number, words))
    return sections


def _vertices(section: _Section, size: int) -> tuple[int, list[str] | None]:
    """The number of vertices, and their labels; None unless every vertex has a label of its own."""
    if len(section.words) not in (2, 3):
        raise DataError(f"line {section.line} is not '*Vertices n'")
    n, *first = (integer(word, f"line {section.line}: the number of vertices") for word in section.words[1:])
    check_nodes(n, size)
    if first and first[0] > n:
        raise DataError(f"line {section.line} has {first[0]:,} vertices on one side, of {n:,}")
    seen: dict[int, str] = {}
    for line, words in section.rows:
        number = integer(words[0], f"line {line}: a vertex")
        if not 1 <= number <= n or number in seen:
            raise DataError(f"line {line} names the vertex {number}, which is outside 1 to {n:,} or was named before")
        seen[number] = words[1].strip('"') if len(words) > 1 else ""
    names = [seen.get(number, "") for number in range(1, n + 1)]
    return n, names if "" not in names and len(set(names)) == n else None


def _pairs(section: _Section, found: _Found) -> None:
    for line, words in section.rows:
        if len(words) < 2 or (len(words) > 2 and not is_number(words[2])):
            raise DataError(f"line {line} is not 'source target [weight]': {' '.join(words)[:80]!r}")
        if any(is_number(word) for word in words[3:4]) or any(word.startswith("[") for word in words):
            raise DataError(f"line {line} has more than one number or a time: {' '.join(words)[:80]!r}")
        found.add(words[0], words[1], words[2] if len(words) > 2 else None, line)


def _lists(section: _Section, found: _Found) -> None:
    for line, words in section.rows:
        for target in words[1:]:
            found.add(words[0], target, None, line)


def _matrix(section: _Section, found: _Found) -> None:
    """Row i of the matrix has the weights of the edges from vertex i."""
    if len(section.words) > 1 or len(section.rows) != found.n:
        raise DataError(
            f"line {section.line}: a matrix of {found.n:,} vertices has as many rows, not {len(section.rows):,}"
        )
    for row, (line, words) in enumerate(section.rows, 1):
        if len(words) != found.n or not all(map(is_number, words)):
            raise DataError(f"line {line} is no row of {found.n:,} numbers: {' '.join(words)[:80]!r}")
        for column, word in enumerate(words, 1):
            if float(word):
                found.add(str(row), str(column), word, line)
