"""METIS: a line of sizes, then a line of neighbours for each vertex."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from linegraph.errors import DataError
from linegraph.io.content import as_text, check_nodes, lines_of
from linegraph.io.edges import Attribute, Edges
from linegraph.io.values import integer, is_number

__all__ = ["parse_metis"]


def parse_metis(content: bytes) -> Edges:
    """The edges in a METIS file, each once; node i is vertex i + 1.

    Raises:
        DataError: if the lines are not as many as the first one says, a neighbour is no other vertex, or an edge is not
            in the lines of both its ends with the same weight; names the line.
    """
    rows = [(k, line.split()) for k, line in enumerate(lines_of(as_text(content)), 1) if line.lstrip()[:1] != "%"]
    first, words = rows.pop(0) if rows else (1, [])
    n, m, layout = _header(first, words)
    check_nodes(n, len(content))
    if len(rows) < n or any(words for _, words in rows[n:]):
        number = n + sum(bool(words) for _, words in rows[n:]) if len(rows) > n else len(rows)
        raise DataError(f"line {first} declares {n:,} vertices, and there are {number:,} lines of them")
    met: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for vertex, (line, words) in enumerate(rows[:n]):
        for neighbour, weight in layout.neighbours(line, words):
            if not 1 <= neighbour <= n or neighbour == vertex + 1:
                raise DataError(f"line {line} has the neighbour {neighbour}, which is no other vertex of 1 to {n:,}")
            met.setdefault((vertex, neighbour - 1), []).append((weight, line))
    return _once(met, n, m, layout.weighted)


@dataclass
class _Layout:
    """The parts of the line of a vertex: its own weights, then its neighbours, with or without weights of edges."""

    own: int
    weighted: bool

    def neighbours(self, line: int, words: list[str]) -> Iterator[tuple[int, str]]:
        own, rest = words[: self.own], words[self.own :]
        if len(own) < self.own or not all(map(is_number, own)):
            raise DataError(f"line {line} lacks the {self.own} numbers of the vertex that the first line announces")
        step = 2 if self.weighted else 1
        if len(rest) % step:
            raise DataError(f"line {line} has a neighbour without a weight, and the first line announces weights")
        for k in range(0, len(rest), step):
            yield integer(rest[k], f"line {line}: a neighbour"), rest[k + 1] if self.weighted else "1"


def _header(line: int, words: list[str]) -> tuple[int, int, _Layout]:
    if len(words) not in (2, 3, 4):
        raise DataError(f"line {line} is not 'vertices edges [format [weights]]': {' '.join(words)[:80]!r}")
    n, m, *more = (integer(word, f"a number in line {line}") for word in words)
    flags = words[2].zfill(3) if more else "000"
    if len(flags) > 3 or not set(flags) <= {"0", "1"} or (len(more) == 2 and (flags[1] == "0" or not more[1])):
        raise DataError(f"line {line} has the format {' '.join(words[2:])!r}, which METIS does not know")
    weights = more[1] if len(more) == 2 else 1
    return n, m, _Layout((flags[0] == "1") + weights * (flags[1] == "1"), flags[2] == "1")


def _once(met: dict[tuple[int, int], list[tuple[str, int]]], n: int, m: int, weighted: bool) -> Edges:
    ends: list[tuple[int, int]] = []
    weights: list[str | None] = []
    lines: list[int] = []
    for (u, v), found in met.items():
        there, back = (Counter(weight for weight, _ in side) for side in (found, met.get((v, u), [])))
        if there != back:
            raise DataError(f"line {found[0][1]} has the edge {u + 1} {v + 1}, the line of {v + 1} does not have it so")
        if u < v:
            ends += [(u, v)] * len(found)
            weights += [weight for weight, _ in found]
            lines += [line for _, line in found]
    if len(ends) != m:
        raise DataError(f"it declares {m:,} edges and has {len(ends):,}")
    index = np.array(ends, dtype=np.int64).reshape(-1, 2)
    attributes = {"weight": Attribute(weights, True)} if weighted else {}
    return Edges(index[:, 0], index[:, 1], n, False, attributes, lines)
