"""Which columns of an edge list are source and target, by their names in a header."""

from __future__ import annotations

import re
from collections.abc import Sequence

from linegraph.errors import DataError
from linegraph.io.edges import WEIGHTS, plain

__all__ = ["ends_by_name", "find_pair"]

PAIRS = [
    ("source", "target"),
    ("source", "destination"),
    ("source", "dest"),
    ("source", "sink"),
    ("src", "dst"),
    ("src", "dest"),
    ("src", "tgt"),
    ("src", "trg"),
    ("from", "to"),
    ("origin", "destination"),
    ("sender", "receiver"),
    ("sender", "recipient"),
    ("citing", "cited"),
    ("follower", "followee"),
    ("follower", "followed"),
    ("parent", "child"),
    ("regulator", "target"),
    ("tf", "target"),
    ("tf", "gene"),
]
WEAKER = [("i", "j"), ("u", "v"), ("start", "end")]
"""Pairs that count only if no pair of the first list is there: Gephi's ``start`` and ``end`` are times."""
SOURCES = {"source", "src", "from"}
TARGETS = {"target", "tgt", "dst", "dest", "destination", "to"}
NO_NODES = WEIGHTS | set(
    re.findall(r"\w+", "id eid edge edgeid index idx row rowid type kind time timestamp ts t date datetime year")
)
"""Names of columns that may precede source and target, and are neither."""
NAME_ENDINGS = re.compile(r"(?<=.)(?:nodeid|nodename|vertexid|node|vertex|id|name|label)$")
STEM = re.compile(r"(.*[a-z])(1|2|a|b)")
SECOND = {"1": "2", "a": "b"}


def find_pair(names: Sequence[str]) -> tuple[int, int] | None:
    """The columns of source and target: those of a known pair of names, or of one name with 1 and 2, or A and B, added.

    None if there is no such pair.

    Raises:
        DataError: if more than one column may be the source or the target.
    """
    known = [plain(name) for name in names]
    for endings in (False, True):
        words = [NAME_ENDINGS.sub("", word) for word in known] if endings else known
        for pairs in (PAIRS, [*WEAKER, *_stems(words)]):
            found = {pair for pair in pairs if pair[0] in words and pair[1] in words}
            if found:
                return _columns(names, words, found)
    return None


def ends_by_name(names: Sequence[str]) -> tuple[int, int]:
    """The columns of source and target: those that :func:`find_pair` finds, or else the first two.

    Raises:
        DataError: if no known pair is found, and the names contradict that the first two columns are source and target.
    """
    if (pair := find_pair(names)) is not None:
        return pair
    for column, name in enumerate(names):
        word = plain(name)
        elsewhere = (
            0 if NAME_ENDINGS.sub("", word) in SOURCES else 1 if NAME_ENDINGS.sub("", word) in TARGETS else column
        )
        if elsewhere != column or (column < 2 and (not name or word in NO_NODES)):
            raise DataError(
                f"the header names the columns {', '.join(map(repr, names))}; because of {name!r} it is not clear "
                "which two are source and target; call these 'source' and 'target'"
            )
    return 0, 1


def _stems(words: Sequence[str]) -> list[tuple[str, str]]:
    firsts = (STEM.fullmatch(word) for word in words)
    return [(match[0], match[1] + SECOND[match[2]]) for match in firsts if match and match[2] in SECOND]


def _columns(names: Sequence[str], words: Sequence[str], found: set[tuple[str, str]]) -> tuple[int, int]:
    columns = [{k for k, word in enumerate(words) if any(word == pair[side] for pair in found)} for side in (0, 1)]
    if any(len(side) > 1 for side in columns):
        raise DataError(
            f"the header names the columns {', '.join(map(repr, names))}, and more than one may be source or target; "
            "call two of them 'source' and 'target' and no other so"
        )
    return columns[0].pop(), columns[1].pop()
