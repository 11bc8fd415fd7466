"""Networks from files: edge lists, GraphML, Matrix Market and SciPy's sparse archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from linegraph.convert import from_igraph, from_scipy
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError

__all__ = ["read_network"]

HEADERS = {"source", "target", "from", "to", "src", "dst", "node1", "node2", "i", "j"}


def read_network(path: str | Path, *, directed: bool = True) -> GraphCoupling:
    """A network from a file, in double precision; the ending says which kind it is.

    - ``.npz``: a sparse matrix saved by SciPy, ``m[i, j]`` the weight of j → i; nothing is unpickled.
    - ``.mtx``, ``.mtx.gz``: Matrix Market, with the same meaning.
    - ``.graphml``: its own directions, the edge attribute ``weight`` if there is one.
    - anything else: an edge list, a line ``source target [weight]`` per edge, separated by blanks, commas, semicolons
      or tabs; lines after ``#`` or ``%`` are comments, a header line is recognised. Nodes are all names that occur,
      in sorted order.

    Args:
        path: of the file.
        directed: for edge lists, whether an edge goes one way only.

    Raises:
        DataError: if the file is not what its ending says.
        FileNotFoundError: if there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = path.name.lower()
    try:
        if name.endswith(".npz"):
            return _matrix(sp.load_npz(path))
        if name.endswith((".mtx", ".mtx.gz")):
            from scipy.io import mmread

            return _matrix(sp.coo_array(mmread(path)))
        if name.endswith(".graphml"):
            return _graphml(path)
        return _edge_list(path, directed)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, pd.errors.ParserError) as error:
        kind = name.rsplit(".", 1)[-1] if name.endswith((".npz", ".mtx", ".gz", ".graphml")) else "edge list"
        raise DataError(f"{path} cannot be read as a network ({kind}): {error}") from None


def _matrix(matrix: sp.sparray) -> GraphCoupling:
    return from_scipy(matrix.astype(np.float64))


def _graphml(path: Path) -> GraphCoupling:
    import igraph

    try:
        graph = igraph.Graph.Read_GraphML(str(path))
    except igraph.InternalError as error:
        raise ValueError(str(error).split("Error at")[0].strip() or "not GraphML") from None
    G = from_igraph(graph, weight="weight" if "weight" in graph.es.attributes() else None)
    return GraphCoupling(G.edge_index, G.weight.double(), num_nodes=G.num_nodes)


def _edge_list(path: Path, directed: bool) -> GraphCoupling:
    lines = (line.split("#")[0].split("%")[0].replace(",", " ").replace(";", " ").split() for line in _lines(path))
    rows = [line for line in lines if line]
    if rows and _is_header(rows[0]):
        rows = rows[1:]
    width = {len(row) for row in rows}
    if not rows or not width <= {2, 3} or len(width) > 1:
        found = "no edges" if not rows else f"lines of {', '.join(map(str, sorted(width)))} columns"
        raise DataError(f"an edge list has lines 'source target [weight]' of one form, found {found}")
    table = pd.DataFrame(rows)
    ends = table[[0, 1]].to_numpy().ravel()
    numeric = pd.to_numeric(pd.Series(ends), errors="coerce")
    codes, _ = pd.factorize(ends if numeric.isna().any() else numeric.to_numpy(), sort=True)
    index = torch.from_numpy(codes.reshape(-1, 2).T.astype(np.int64).copy())
    weight = pd.to_numeric(table[2]).to_numpy(dtype=np.float64).copy() if 3 in width else np.ones(len(table))
    values = torch.from_numpy(weight)
    if not directed:
        other_way = index[0] != index[1]
        index = torch.cat([index, index[:, other_way].flip(0)], 1)
        values = torch.cat([values, values[other_way]])
    return GraphCoupling(index, values, num_nodes=int(codes.max()) + 1)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except UnicodeDecodeError:
        raise DataError("an edge list is text, this file is not") from None


def _is_header(row: list[str]) -> bool:
    if len(row) == 3:
        return bool(pd.isna(pd.to_numeric(row[2], errors="coerce")))
    return all(word.lower() in HEADERS for word in row)
