"""Matrix Market: ``%%MatrixMarket matrix coordinate|array field symmetry``, a line of sizes, a line for each entry.

SciPy reads the format too, but stops reading a number at the first character that it does not understand, and a line
as soon as it has enough numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from linegraph.errors import DataError
from linegraph.io.content import as_text, check_nodes, lines_of
from linegraph.io.edges import Matrix
from linegraph.io.values import integer, integers, numbers
from linegraph.quiet import raising

__all__ = ["read_matrix_market"]

COLUMNS = {"real": "f", "double": "f", "integer": "w", "unsigned-integer": "w", "pattern": "", "complex": "ff"}
"""Fields, and of which numbers a value is made."""
SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")
FORTRAN = re.compile(r"^([+-]?[0-9.]+)[dD]([+-]?[0-9]+)$")


@dataclass
class _Lines:
    """The lines that are not empty, and their numbers in the file."""

    texts: list[str]
    numbers: list[int]

    def first(self) -> tuple[int, list[str]]:
        """Remove the first line; return its number and its words."""
        return self.numbers.pop(0), self.texts.pop(0).split()

    def table(self, kinds: str) -> list[np.ndarray]:
        """The columns: of integers from 0 (``i``), integers (``w``) or numbers (``f``), as ``kinds`` has it.

        Raises:
            DataError: names the first line that is not such a row from end to end.
        """
        if not self.texts or not kinds:
            return [np.ones(0)] * len(kinds)
        plain = [(str(k), np.float64 if kind == "f" else np.int64) for k, kind in enumerate(kinds)]
        try:
            with raising("loadtxt", category=DeprecationWarning):  # NumPy 1 only warns of integers with decimals
                found = np.loadtxt(self.texts, dtype=plain, comments=None, ndmin=1)
        except (ValueError, OverflowError, Warning):  # a damaged line, or Fortran's exponents: each is looked at
            return self._one_by_one(kinds)
        columns = [found[name].astype(kind) for name, kind in plain]
        if all(np.isfinite(column).all() for column in columns):
            return columns
        return self._one_by_one(kinds)

    def _one_by_one(self, kinds: str) -> list[np.ndarray]:
        rows = [text.split() for text in self.texts]
        for line, words in zip(self.numbers, rows, strict=True):
            if len(words) != len(kinds):
                raise DataError(f"line {line} has {len(words)} numbers, not {len(kinds)}: {' '.join(words)[:80]!r}")
        columns = []
        for column, kind in enumerate(kinds):
            texts = [words[column] for words in rows]
            if kind == "i":
                columns.append(integers(texts, lambda k: f"an index in line {self.numbers[k]}"))
            else:
                texts = [FORTRAN.sub(r"\1E\2", text) for text in texts]
                columns.append(numbers(texts, lambda k: f"the weight in line {self.numbers[k]}", whole=kind == "w"))
        return columns


def read_matrix_market(content: bytes) -> Matrix:
    """The entries of a Matrix Market file; exponents may be Fortran's, as in ``1.5D+01``.

    Raises:
        DataError: if the header is unknown, a line does not parse whole, an index lies outside the matrix, or there are
            more or fewer lines than the header and the sizes say.
    """
    header, *rest = lines_of(as_text(content))
    form, kind, symmetry = _header(header)
    kept = [n for n, line in enumerate(rest) if line.strip() and line.lstrip()[0] != "%"]
    lines = _Lines([rest[n] for n in kept], [n + 2 for n in kept])
    if not kept:
        raise DataError("it has no line of sizes")
    sizes = _sizes(*lines.first(), 3 if form == "coordinate" else 2)
    shape = sizes[0], sizes[1]
    check_nodes(max(shape), len(content))
    if form == "array":
        return _dense(lines, shape, kind, symmetry)
    if len(lines.texts) != sizes[2]:
        raise DataError(f"it declares {sizes[2]:,} entries and has {len(lines.texts):,} lines of them")
    rows, columns, *parts = lines.table("ii" + COLUMNS[kind])
    for index, size in ((rows, shape[0]), (columns, shape[1])):
        if len(wrong := np.flatnonzero((index < 1) | (index > size))):
            k = int(wrong[0])
            raise DataError(f"line {lines.numbers[k]} has the index {int(index[k]):,}, outside 1 to {size:,}")
    values = _values(parts) if parts else np.ones(len(rows))
    return _unfolded(rows.astype(np.int64) - 1, columns.astype(np.int64) - 1, values, shape, symmetry, lines.numbers)


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


def _sizes(line: int, words: list[str], number: int) -> list[int]:
    if len(words) != number:
        raise DataError(f"line {line} has {len(words)} sizes, {number} are needed: {' '.join(words)[:80]!r}")
    return [integer(word, f"a size in line {line}") for word in words]


def _values(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0].astype(np.float64) if len(parts) == 1 else parts[0] + 1j * parts[1]


def _dense(lines: _Lines, shape: tuple[int, int], kind: str, symmetry: str) -> Matrix:
    """A dense array, stored by columns; of a symmetric one only the lower triangle is stored."""
    height, width = shape
    if symmetry != "general" and height != width:
        raise DataError(f"it declares a matrix of {height:,} x {width:,} that is {symmetry}")
    triangle = width * (width - 1) // 2
    number = {"general": height * width, "skew-symmetric": triangle}.get(symmetry, triangle + width)
    if len(lines.texts) != number:
        raise DataError(f"an array of {height:,} x {width:,} has {number:,} values, it has {len(lines.texts):,} lines")
    values = _values(lines.table(COLUMNS[kind]))
    if symmetry == "general":
        columns, rows = np.divmod(np.arange(number), max(height, 1))
    else:
        columns, rows = np.triu_indices(width, k=1 if symmetry == "skew-symmetric" else 0)
    kept = np.flatnonzero(values)
    return _unfolded(rows[kept], columns[kept], values[kept], shape, symmetry, [lines.numbers[k] for k in kept])


def _unfolded(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int], symmetry: str, lines: list[int]
) -> Matrix:
    """All entries, where the file has one triangle of a symmetric matrix."""
    if symmetry != "general":
        if (rows < columns).any() and (rows > columns).any():
            raise DataError(f"a {symmetry} file holds one triangle of the matrix, it has entries in both")
        diagonal = rows == columns
        if symmetry == "skew-symmetric" and diagonal.any():
            line = lines[int(np.flatnonzero(diagonal)[0])]
            raise DataError(f"line {line} is on the diagonal, where a skew-symmetric matrix is 0")
        other = ~diagonal
        mirrored = {"symmetric": values, "skew-symmetric": -values, "hermitian": values.conj()}[symmetry][other]
        rows, columns = np.r_[rows, columns[other]], np.r_[columns, rows[other]]
        values = np.r_[values, mirrored]
    return Matrix(rows, columns, values, shape)
