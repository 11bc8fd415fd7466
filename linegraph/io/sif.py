"""SIF, the simple interaction format of Cytoscape: ``source interaction target [target ...]``, or a single node."""

from __future__ import annotations

from linegraph.errors import DataError
from linegraph.io.content import as_text, lines_of
from linegraph.io.edges import Edges
from linegraph.io.names import numbered_names

__all__ = ["parse_sif"]


def parse_sif(content: bytes) -> Edges:
    """The edges in a SIF file; nodes are numbered as in an edge list. Names may have blanks if tabs separate columns.

    Raises:
        DataError: if a line has two columns or an empty one; names it.
    """
    text = as_text(content, names=True)
    mark = "\t" if "\t" in text else None
    sources: list[str] = []
    targets: list[str] = []
    alone: list[str] = []
    for number, line in enumerate(lines_of(text), 1):
        words = [word.strip() for word in line.strip().split(mark)] if line.strip() else []
        if len(words) == 2 or not all(words):
            raise DataError(f"line {number} is not 'source interaction target ...' or one node: {line.strip()[:80]!r}")
        alone += words[:1]
        targets += words[2:]
        sources += words[:1] * len(words[2:])
    codes, names = numbered_names([*sources, *targets, *alone])
    return Edges(codes[: len(sources)], codes[len(sources) : 2 * len(sources)], len(names), names=names)
