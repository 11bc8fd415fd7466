"""Networks from files: edge lists, GraphML, Matrix Market and SciPy's sparse archives."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from linegraph.convert import from_scipy, read_graphml
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError

__all__ = ["read_network"]

HEADERS = {("source", "target"), ("from", "to"), ("src", "dst"), ("node1", "node2"), ("i", "j")}
DAMAGED = (ValueError, TypeError, KeyError, EOFError, BadZipFile, gzip.BadGzipFile, zlib.error, pd.errors.ParserError)
"""What readers raise where a file is not what its ending says, or not whole."""

MISSING = {"", "na", "n/a", "nan", "null", "none"}


def read_network(path: str | Path, *, directed: bool = True, header: bool | None = None) -> GraphCoupling:
    """A network from a file, in double precision; the ending says which kind it is.

    - ``.npz``: a sparse matrix saved by SciPy, ``m[i, j]`` the weight of j → i; nothing is unpickled.
    - ``.mtx``, ``.mtx.gz``: Matrix Market, with the same meaning.
    - ``.graphml``: as :func:`~linegraph.read_graphml` reads it.
    - anything else: an edge list, a line ``source target [weight]`` per edge, in UTF-8. Columns are separated by what
      the first line holds: tabs, else semicolons, else commas, else blanks; names with separators are in double quotes.
      Empty lines, and lines that begin with ``#`` or ``%``, are skipped. Nodes are all names that occur, told apart as
      they are written, in the order of numbers if all are numbers, else of the alphabet: node i is
      ``sorted(names, key=float)[i]`` or ``sorted(names)[i]``.

    The first line of an edge list is an edge if one of its names is a number or occurs again, or its weight is a
    number. Otherwise it is a header if it has a weight, if it is ``source target`` or a like pair, or if all other
    names are numbers; in what is left, only ``header=`` can tell.

    Args:
        path: of the file.
        directed: for edge lists, whether an edge goes one way only.
        header: for edge lists, whether the first line names the columns; told by the rule above by default.

    Raises:
        DataError: if the file is not what its ending says, names its columns in another order, or begins with a line
            that may be a header or an edge.
        NonFiniteError: if a weight in a GraphML file is NaN or infinite.
        FileNotFoundError: if there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = path.name.lower()
    if name.endswith(".graphml"):
        return read_graphml(path)
    try:
        if name.endswith(".npz"):
            return _matrix(sp.load_npz(path))
        if name.endswith((".mtx", ".mtx.gz")):
            return _matrix(_matrix_market(path))
        return _edge_list(path, directed, header)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except DAMAGED as error:
        kind = name.rsplit(".", 1)[-1] if name.endswith((".npz", ".mtx", ".gz")) else "edge list"
        raise DataError(f"{path} cannot be read as a network ({kind}): {error}") from None


def _matrix_market(path: Path) -> sp.coo_array:
    from scipy.io import mmread

    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    return sp.coo_array(mmread(BytesIO(text + b"\n")))  # SciPy crashes where the last line breaks off in a number


def _matrix(matrix: sp.sparray) -> GraphCoupling:
    return from_scipy(matrix.astype(np.result_type(matrix.dtype, np.float64)))


def _edge_list(path: Path, directed: bool, header: bool | None) -> GraphCoupling:
    table = _table(path)
    if _is_header(table) if header is None else header:
        table = table.iloc[1:]
    if table.empty:
        raise DataError("an edge list has lines 'source target [weight]', found no edges")
    codes, names = pd.factorize(table[[0, 1]].to_numpy().ravel())
    numbers = pd.to_numeric(pd.Series(names), errors="coerce")
    order = np.lexsort((names, np.zeros(len(names)) if numbers.isna().any() else numbers))
    index = torch.from_numpy(np.argsort(order)[codes].reshape(-1, 2).T.copy())
    values = torch.from_numpy(_weights(table[2]) if 2 in table else np.ones(len(table)))
    if not directed:
        other_way = index[0] != index[1]
        index = torch.cat([index, index[:, other_way].flip(0)], 1)
        values = torch.cat([values, values[other_way]])
    return GraphCoupling(index, values, num_nodes=len(names))


def _table(path: Path) -> pd.DataFrame:
    """The two or three columns of an edge list as text; the index numbers the lines of the file."""
    lines = {
        number: stripped for number, line in _lines(path) if (stripped := line.strip()) and stripped[0] not in "#%"
    }
    if not lines:
        raise DataError("an edge list has lines 'source target [weight]', found no edges")
    first = next(iter(lines.values()))
    unquoted = re.sub('"[^"]*"', "", first)
    separator = next((mark for mark in "\t;," if mark in unquoted), r"\s+")
    parse = partial(
        pd.read_csv,
        sep=separator,
        header=None,
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        index_col=False,
    )
    width = parse(StringIO(first)).shape[1]
    if width not in (2, 3):
        raise DataError(
            f"an edge list has lines 'source target [weight]', the first one has {width} columns: {first!r}"
        )
    text = "\n".join(lines.values())
    table = parse(StringIO(text), names=range(width + 1))
    if len(table) != len(lines):
        raise DataError("a double quote at the beginning of a name is not closed in its line")
    table.index = list(lines)
    if f" {separator}" in text:  # blanks before a separator; those after it are skipped
        table = table.apply(lambda column: column.str.strip())
    for wrong, what in ((table[width] != "", "more"), ((table[range(width)] == "").any(axis=1), "fewer")):
        if wrong.any():
            number = wrong.idxmax()
            raise DataError(f"line {number} has {what} than {width} columns, as the first one has: {lines[number]!r}")
    return table[range(width)]


def _weights(column: pd.Series) -> np.ndarray:
    weights = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    if len(wrong := np.flatnonzero(~np.isfinite(weights))):
        raise DataError(f"the weight in line {column.index[wrong[0]]} is no finite number: {column.iloc[wrong[0]]!r}")
    return weights


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("an edge list is text in UTF-8, this file is not") from None
    return enumerate(text.split("\n"), 1)


def _is_header(table: pd.DataFrame) -> bool:
    """Whether the first line names the columns, by the rule of :func:`read_network`."""
    names, rest = table.iloc[0, :2].tolist(), table.iloc[1:, :2]
    if any(_is_number(name) or (rest == name).to_numpy().any() for name in names):
        return False
    words = names[0].lower(), names[1].lower()
    if words[::-1] in HEADERS:
        raise DataError(f"columns are source, target and weight in this order, the header begins {names}")
    if table.shape[1] == 3:
        return not _is_number(table.iloc[0, 2])
    if words in HEADERS or (len(rest) and all(map(_is_number, rest.to_numpy().ravel()))):
        return True
    raise DataError(
        f"the first line, {' '.join(names)!r}, may be a header or an edge: say header=True or header=False "
        "(--header or --no-header on the command line)"
    )


def _is_number(text: str) -> bool:
    """Whether a text is a number or stands for a missing one."""
    try:
        float(text)
    except ValueError:
        return text.lower() in MISSING
    return True
