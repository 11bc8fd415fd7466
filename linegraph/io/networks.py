"""Networks from files in any of the formats that are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from linegraph.arguments import as_path
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
"""Patterns with which files of each format begin; they take precedence over the ending of the name."""
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
"""Endings of formats that are not read, and whose files may parse as edge lists."""


def read_network(
    path: str | Path, *, directed: bool | None = None, header: bool | None = None, weight: str | None = "weight"
) -> GraphCoupling:
    r"""Read a network from a file, compressed by gzip or not.

    The first bytes of the file determine its format, or else the ending of its name. A line that cannot be parsed to
    its end, or contradicts a header or a comment, is refused with its number. Nothing is unpickled.

    - ``.npz``: a sparse matrix saved by SciPy, ``m[i, j]`` the weight of j → i.
    - ``.mtx``: Matrix Market, with the same meaning; numbers may have exponents as in Fortran, ``1.5D+01``.
    - ``.graphml``: as :func:`~linegraph.read_graphml` reads it.
    - ``.gexf``: a static graph; the weight is the ``weight`` of an edge, or an attribute, named by its title. Nodes
      are numbered in the order of the file, and named by their ``id``.
    - ``.gml``: nodes are numbered in the order of the file, and named by their ``label`` if every node has one of its
      own, else by their ``id``.
    - ``.net``, Pajek, and ``.graph`` or ``.metis``, METIS: node i is vertex i + 1. The labels in a Pajek file are names
      if every vertex has one of its own.
    - ``.sif``: ``source interaction target ...``, nodes numbered as in an edge list.
    - anything else: an edge list in UTF-8, with a line ``source target [weight]`` per edge. The separator is that of
      the first line: tabs, else semicolons, else commas, else blanks. Names that contain separators are in double
      quotes. Lines that mix tabs and blanks are split at both if only this gives rows of equal length. Empty lines, and
      lines that begin with ``#`` or ``%``, are skipped. Nodes are all names that occur, compared as texts. They are
      sorted as numbers if all names are numbers, else alphabetically: node i is ``sorted(names, key=float)[i]`` or
      ``sorted(names)[i]``.

    Header of an edge list: The first line is an edge if one of its names is a number or occurs again, or if its weight
    is a number. Otherwise it is a header if the following lines have numbers in a further column, if it names a pair
    such as ``source`` and ``target``, or if all other names are numbers. In all other cases ``header=`` is required. A
    header, or a comment directly before the first line that names all columns, determines source and target
    (``Source``, ``from``, ``src``, ``node1``, ...); otherwise they are the first two columns.

    Comments of an edge list: The headers of KONECT (``% sym``, ``% asym``, and ``% bip``, where each side is numbered
    separately) and SNAP (``# Undirected graph``, ``Edges:``) determine the direction and the number of edges, as
    Gephi's column ``Type`` does the direction. A table that may also be an adjacency matrix, METIS or another format is
    refused unless ``header=`` is given.

    Args:
        path: of the file.
        directed: whether edges are directed. By default as the file says, and True if it says nothing. In edge lists
            this overrides comments; in other formats it must not contradict the file.
        header: for edge lists, whether the first line names the columns; by default the rule above decides.
        weight: the edge attribute, or the column in a header, that holds the weights; None for weights of 1. If there
            is no "weight", the only attribute of numbers is taken, with a ``WeightNameWarning``; names such as ``id``,
            ``time`` and ``label`` are not considered. If there is none, all weights are 1.

    Returns:
        The coupling P, (n, n), in double precision: the edge j → i of weight a gives P[i, j] = a. An undirected edge
        becomes two edges, one in each direction. The ``node_names`` are the names of the nodes in the file, as texts;
        None if these are the numbers 0 to n − 1 in this order, or if the file is a matrix.

    Warns:
        WeightNameWarning: if the weights are taken from an attribute of another name.

    Raises:
        DataError: if the file is damaged, incomplete or ambiguous: names the line, and what to do. If several
            attributes may be the weight. If it inflates to more than both 64 MiB and 50 times its size, or declares
            more nodes than both 16 million and its number of bytes.
        NonFiniteError: if a weight is NaN or infinite: a ``NonFiniteWeightError``, which is also a DataError.
        FileNotFoundError: if there is no such file.

    Cost: about 3 µs per edge of an edge list; about 100 bytes of memory per byte of text.

    Source: the definitions of the formats. Matrix Market: R. Boisvert, R. Pozo, K. Remington, NISTIR 5935 (1996).
    GraphML: U. Brandes et al., Graph Drawing 2001. GEXF: https://gexf.net. GML: M. Himsolt, GML: a portable graph file
    format, Universität Passau (1997). Pajek: V. Batagelj, A. Mrvar, Connections 21 (1998). METIS: G. Karypis, manual of
    METIS 5. SIF: manual of Cytoscape. ``.npz``: ``scipy.sparse.save_npz``. Headers of edge lists: J. Kunegis, KONECT,
    WWW 2013 Companion; J. Leskovec, A. Krevl, SNAP Datasets (2014).

    Example:
        >>> import pathlib, tempfile, linegraph as lg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "web.csv"
        >>> _ = path.write_text("weight,source,target\n0.5,ant,oak\n0.25,oak,ant\n")
        >>> lg.read_network(path).to_dense().tolist()  # ant is 0, oak is 1
        [[0.0, 0.25], [0.5, 0.0]]
    """
    path = as_path("path", path)
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
    """The format, by the first bytes or else by the ending of the name; None for an edge list."""
    start = content.removeprefix(b"\xef\xbb\xbf")
    said = next((kind for kind, sign in SIGNS.items() if re.match(sign, start, re.IGNORECASE)), None)
    if said is None and ending[1:] in OTHERS:
        raise DataError(f"its name ends in {ending}, a format that is not read; save it as one of {', '.join(ENDINGS)}")
    return said or ENDINGS.get(ending)
