"""Matrix Market: ``%%MatrixMarket matrix coordinate|array field symmetry``, a line of sizes, a line for each entry.

SciPy reads the format too, but ends numbers where it does not understand them, and lines where it has enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from linegraph.errors import DataError
from linegraph.io.content import as_text, check_nodes, lines_of
from linegraph.io.edges import Matrix
from linegraph.io.values import integer, integers, numbers

__all__ = ["read_matrix_market"]

COLUMNS = {"real": 1, "double": 1, "integer": 1, "unsigned-integer": 1, "pattern": 0, "complex": 2}
"""Fields, and how many numbers a value has."""
SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")
FORTRAN = re.compile(r"^([+-]?[0-9.]+)[dD]([+-]?[0-9]+)$")

Rows = list[tuple[int, list[str]]]


def read_matrix_market(content: bytes) -> Matrix:
    """The entries of a Matrix Market file; exponents may be Fortran's, as in ``1.5D+01``.

    Raises:
        DataError: if the header is unknown, a line does not parse whole, an index lies outside the matrix, or there are
            more or fewer lines than the header and the sizes say.
    """
    lines = lines_of(as_text(content))
    form, kind, symmetry = _header(lines[0])
    rows = [(n, line.split()) for n, line in enumerate(lines[1:], 2) if line.strip() and line.lstrip()[0] != "%"]
    if not rows:
        raise DataError("it has no line of sizes")
    sizes = _sizes(rows.pop(0), 3 if form == "coordinate" else 2)
    check_nodes(max(sizes[:2]), len(content))
    if form == "array":
        return _dense(rows, sizes, kind, symmetry)
    if len(rows) != sizes[2]:
        raise DataError(f"it declares {sizes[2]:,} entries and has {len(rows):,} lines of them")
    _check_width(rows, 2 + COLUMNS[kind], kind)
    index = [_index(rows, column, size) for column, size in enumerate(sizes[:2])]
    return _unfolded(*index, _values(rows, kind, first=2), (sizes[0], sizes[1]), symmetry, rows)


def _header(line: str) -> tuple[str, str, str]:
    words = line.lower().split()
    if len(words) != 5 or words[0] != "%%matrixmarket":
        raise DataError(f"line 1 is not '%%MatrixMarket matrix format field symmetry': {line[:80]!r}")
    for word, known in zip(words[1:], (["matrix"], ["coordinate", "array"], COLUMNS, SYMMETRIES), strict=True):
        if word not in known:
            raise DataError(f"line 1 has {word!r} where Matrix Market has one of {', '.join(known)}")
    form, kind, symmetry = words[2:]
    if (form, kind) == ("array", "pattern") or (symmetry == "hermitian") > (kind == "complex"):
        raise DataError(f"line 1 contradicts itself: {line[:80]!r}")
    return form, kind, symmetry


def _sizes(row: tuple[int, list[str]], number: int) -> list[int]:
    line, words = row
    if len(words) != number:
        raise DataError(f"line {line} has {len(words)} sizes, {number} are needed: {' '.join(words)[:80]!r}")
    return [integer(word, f"a size in line {line}") for word in words]


def _check_width(rows: Rows, width: int, kind: str) -> None:
    for line, words in rows:
        if len(words) != width:
            raise DataError(
                f"line {line} has {len(words)} numbers, an entry of field {kind!r} has {width}: {' '.join(words)[:80]!r}"
            )


def _index(rows: Rows, column: int, size: int) -> np.ndarray:
    found = integers([words[column] for _, words in rows], lambda k: f"an index in line {rows[k][0]}")
    if len(wrong := np.flatnonzero((found < 1) | (found > size))):
        line, words = rows[wrong[0]]
        raise DataError(f"line {line} has the index {words[column]}, outside 1 to {size:,}")
    return found - 1


def _values(rows: Rows, kind: str, first: int) -> np.ndarray:
    if kind == "pattern":
        return np.ones(len(rows))
    parts = []
    for column in range(first, first + COLUMNS[kind]):
        texts = [words[column] for _, words in rows]
        if any("d" in text or "D" in text for text in texts):
            texts = [FORTRAN.sub(r"\1E\2", text) for text in texts]
        parts.append(numbers(texts, lambda k: f"the weight in line {rows[k][0]}", whole="integer" in kind))
    return parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]


def _dense(rows: Rows, sizes: Sequence[int], kind: str, symmetry: str) -> Matrix:
    """An array, column after column; of symmetric ones the lower triangle."""
    height, width = sizes
    full = {"general": height * width, "skew-symmetric": width * (width - 1) // 2}
    number = full.get(symmetry, width * (width + 1) // 2)
    if len(rows) != number:
        raise DataError(f"an array of {height:,} x {width:,} has {number:,} values, it has {len(rows):,} lines")
    _check_width(rows, COLUMNS[kind], kind)
    values = _values(rows, kind, first=0)
    if symmetry == "general":
        columns, lines = np.divmod(np.arange(number), max(height, 1))
    elif height != width:
        raise DataError(f"it declares a matrix of {height:,} x {width:,} that is {symmetry}")
    else:
        columns, lines = np.triu_indices(width, k=1 if symmetry == "skew-symmetric" else 0)
    kept = values != 0
    rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
    return _unfolded(lines[kept], columns[kept], values[kept], (height, width), symmetry, rows)


def _unfolded(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int], symmetry: str, lines: Rows
) -> Matrix:
    """All entries, where the file has one triangle of a symmetric matrix."""
    if symmetry != "general":
        if (rows < columns).any() and (rows > columns).any():
            raise DataError(f"a {symmetry} file holds one triangle of the matrix, it has entries in both")
        diagonal = rows == columns
        if symmetry == "skew-symmetric" and diagonal.any():
            line = lines[int(np.flatnonzero(diagonal)[0])][0]
            raise DataError(f"line {line} is on the diagonal, where a skew-symmetric matrix is 0")
        other = ~diagonal
        mirrored = {"symmetric": values, "skew-symmetric": -values, "hermitian": values.conj()}[symmetry][other]
        rows, columns = np.r_[rows, columns[other]], np.r_[columns, rows[other]]
        values = np.r_[values, mirrored]
    return Matrix(rows, columns, values, shape)
