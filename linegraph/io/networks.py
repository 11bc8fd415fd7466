"""Networks from files, whatever their format."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError
from linegraph.io.archive import read_archive
from linegraph.io.content import read_content
from linegraph.io.edge_list import parse_edge_list
from linegraph.io.edges import Edges, Matrix
from linegraph.io.gexf import parse_gexf
from linegraph.io.gml import parse_gml
from linegraph.io.graphml import parse_graphml
from linegraph.io.matrix_market import read_matrix_market
from linegraph.io.metis import parse_metis
from linegraph.io.naming import naming
from linegraph.io.pajek import parse_pajek
from linegraph.io.sif import parse_sif

__all__ = ["read_network"]

PARSERS: dict[str, Callable[[bytes], Edges | Matrix]] = {
    "npz": read_archive,
    "mtx": read_matrix_market,
    "graphml": parse_graphml,
    "gexf": parse_gexf,
    "gml": parse_gml,
    "net": parse_pajek,
    "graph": parse_metis,
    "sif": parse_sif,
}
ENDINGS = {**{f".{kind}": kind for kind in PARSERS}, ".mm": "mtx", ".metis": "graph", ".paj": "net"}
SIGNS = {
    "npz": rb"PK\x03\x04|PK\x05\x06",
    "mtx": rb"%%matrixmarket\b",
    "graphml": rb"(?>\s|<\?[^>]*>|<!--[\s\S]*?-->|<!doctype[^>]*>)*+<(\w+:)?graphml\b",
    "gexf": rb"(?>\s|<\?[^>]*>|<!--[\s\S]*?-->|<!doctype[^>]*>)*+<(\w+:)?gexf\b",
    "gml": rb"(?>\s|#.*|(creator|version|comment|label)\s.*)*+graph\s*\[",
    "net": rb"(?>\s|%.*)*+\*(network|vertices)\b",
}
"""How a file begins that says what it is, whatever its name."""
NAMES = {
    "graphml": "'{path}' cannot be read as GraphML",
    "graph": "{path} cannot be read as a network (METIS, by its ending: an edge list has another one)",
}
OTHERS = set(
    re.findall(
        r"\w+",
        "adjlist col dimacs dl dot g6 gdf gpickle graph6 gv h5 hdf5 json jsonl lgl mat npy parquet pickle pkl s6 "
        "sparse6 tgf vna xls xlsx",
    )
)
"""Endings of other formats, which may look like edge lists."""


def read_network(
    path: str | Path, *, directed: bool | None = None, header: bool | None = None, weight: str | None = "weight"
) -> GraphCoupling:
    r"""A network from a file, in double precision, compressed by gzip or not.

    The first bytes say which kind of file it is, or else the ending does. Whatever does not parse to the end of a line,
    or contradicts a header or a comment, is refused with its line; nothing is unpickled.

    - ``.npz``: a sparse matrix saved by SciPy, ``m[i, j]`` the weight of j → i.
    - ``.mtx``: Matrix Market, with the same meaning; numbers may have Fortran's exponents, ``1.5D+01``.
    - ``.graphml``: as :func:`~linegraph.read_graphml` reads it.
    - ``.gexf``: a static graph, with the ``weight`` of edges or attributes by their titles. Nodes are numbered in the
      order of the file, and named by their ``id``.
    - ``.gml``: nodes are numbered in the order of the file, and named by their ``label`` where every node has one of
      its own, else by their ``id``.
    - ``.net``, Pajek, and ``.graph`` or ``.metis``, METIS: node i is vertex i + 1. Pajek's labels are names where every
      vertex has one of its own; METIS has none.
    - ``.sif``: ``source interaction target ...``, nodes numbered as in an edge list.
    - anything else: an edge list in UTF-8, a line ``source target [weight]`` per edge. Columns are separated by what
      the first line holds: tabs, else semicolons, else commas, else blanks; names with separators are in double quotes.
      Lines that mix tabs and blanks are split at both if only that parts all lines alike. Empty lines, and lines that
      begin with ``#`` or ``%``, are skipped. Nodes are all names that occur, told apart as they are written, in the
      order of numbers if all are numbers, else of the alphabet: node i is ``sorted(names, key=float)[i]`` or
      ``sorted(names)[i]``.

    The first line of an edge list is an edge if one of its names is a number or occurs again, or its weight is a
    number. Otherwise it is a header if a further column begins to hold numbers in the next lines, if it has ``source``
    and ``target`` or a like pair, or if all other names are numbers; in what is left, only ``header=`` can tell. A
    header, or a comment right before the first line that names all columns, says which are source and target
    (``Source``, ``from``, ``src``, ``node1``, ...); else they are the first two. Of comments, KONECT's (``% sym``,
    ``% asym``, ``% bip``, which numbers the nodes of either side by themselves) and SNAP's (``# Undirected graph``,
    ``Edges:``) are heeded, as is Gephi's column ``Type``. A table that may be an adjacency matrix, METIS or another
    format is refused, unless ``header=`` is given.

    The names that the file has for its nodes are ``node_names``, texts as they are written; None where they are the
    numbers 0 to n − 1 that the nodes have, and of matrices.

    Args:
        path: of the file.
        directed: whether an edge goes one way only. By default what the file says, and True where it says nothing. In
            edge lists it outdoes what comments say; elsewhere it may not contradict the file.
        header: for edge lists, whether the first line names the columns; told by the rule above by default.
        weight: the edge attribute, or the column of a header, that holds the weights; None for weights of 1. Where no
            attribute is called "weight", the only one that holds numbers is taken, with a ``WeightNameWarning``; names
            as ``id``, ``time`` and ``label`` do not count. Where there is none, edges weigh 1.

    Warns:
        WeightNameWarning: where the weights are taken from an attribute of another name.

    Raises:
        DataError: if the file is not of its kind, whole and unambiguous: with the line and what to do. If several
            attributes may be the weight. If it inflates to more than 64 MiB and 50 times its size, or declares more
            nodes than 16 million and its bytes.
        NonFiniteError: if a weight is NaN or infinite; a ``NonFiniteWeightError``, which is a DataError as well.
        FileNotFoundError: if there is none.

    Cost: about 3 µs an edge of an edge list; some 100 bytes of memory per byte of text.

    Example:
        >>> import pathlib, tempfile, linegraph as lg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "web.csv"
        >>> _ = path.write_text("weight,source,target\n0.5,ant,oak\n0.25,oak,ant\n")
        >>> lg.read_network(path).to_dense().tolist()  # ant is 0, oak is 1
        [[0.0, 0.25], [0.5, 0.0]]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    with naming(f"{path} cannot be read as a network"):
        content = read_content(path)
        kind = _kind(content, ending)
    if kind is None:
        with naming(str(path)):
            return parse_edge_list(content, header, directed).graph(weight, directed)
    with naming(NAMES.get(kind, "{path} cannot be read as a network ({kind})").format(path=path, kind=kind)):
        edges = PARSERS[kind](content)
    with naming(str(path)):
        return edges.graph(weight, directed)


def _kind(content: bytes, ending: str) -> str | None:
    """The kind of file that the content says, or else the ending; None for an edge list."""
    start = content.removeprefix(b"\xef\xbb\xbf")
    said = next((kind for kind, sign in SIGNS.items() if re.match(sign, start, re.IGNORECASE)), None)
    if said is None and ending[1:] in OTHERS:
        raise DataError(f"its name ends in {ending}, a format that is not read; save it as one of {', '.join(ENDINGS)}")
    return said or ENDINGS.get(ending)
