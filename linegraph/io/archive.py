"""SciPy's sparse archives, ``.npz``: a zip file of NumPy arrays, each of which is checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import scipy.sparse as sp
from numpy.lib import format as npy

from linegraph.errors import DataError
from linegraph.io.content import check_inflated, check_nodes
from linegraph.io.edges import Matrix

__all__ = ["read_archive"]

ENCRYPTED = 1


def read_archive(content: bytes) -> Matrix:
    """The entries of a matrix that :func:`scipy.sparse.save_npz` saved: csr, csc, coo, bsr or dia.

    Raises:
        DataError: if the archive is damaged, inflates beyond the limit, lacks an array, holds objects, or has arrays
            whose types, lengths or indices do not make a matrix.
    """
    arrays = _Arrays(content)
    form = arrays.word("format")
    if form not in READERS:
        raise DataError(f"its format is {form!r}, and one of {', '.join(READERS)} is needed")
    shape = arrays.shape()
    check_nodes(max(shape), arrays.size)
    matrix = READERS[form](arrays, shape).tocoo()
    return Matrix(matrix.row.astype(np.int64), matrix.col.astype(np.int64), matrix.data, shape)


class _Arrays:
    """The arrays of an archive, in native byte order."""

    def __init__(self, content: bytes) -> None:
        try:
            self._zip = ZipFile(BytesIO(content))
        except Exception as error:  # zipfile passes on errors of what it calls: struct.error, UnicodeDecodeError ...
            raise DataError(f"it is not a complete zip archive ({error})") from None
        members = self._zip.infolist()
        self._members = {member.filename: member for member in members}
        if len(self._members) < len(members):
            raise DataError("it has two arrays of the same name")
        self.size = sum(member.file_size for member in members)
        check_inflated(self.size, len(content))

    def array(self, name: str, kinds: str, ndim: int) -> np.ndarray:
        """An array, by its name, the kinds of number that it may hold and its number of dimensions."""
        found = self._array(name)
        if found.dtype.kind not in kinds or found.ndim != ndim:
            raise DataError(f"its array {name!r} has {found.ndim} dimensions of {found.dtype}")
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    def data(self, ndim: int) -> np.ndarray:
        """The values of the matrix, in double precision."""
        found = self.array("data", "biufc", ndim)
        with np.errstate(over="ignore"):  # long doubles may become infinite, which is refused with all other infinities
            return found.astype(np.complex128 if found.dtype.kind == "c" else np.float64)

    def word(self, name: str) -> str:
        """A text in an array without dimensions."""
        word = self.array(name, "SU", 0)
        try:
            return str(word.astype("U").item())
        except ValueError as error:  # not ASCII, or no characters at all
            raise DataError(f"its array {name!r} holds no text ({error})") from None

    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        shape = self.array("shape", "iu", 1).tolist()
        if len(shape) != 2 or min(shape) < 0:
            raise DataError(f"its shape is {tuple(shape)}, and that of a matrix has two sizes")
        return shape[0], shape[1]

    def indices(self, name: str, number: int, size: int) -> np.ndarray:
        """An array of ``number`` indices, each from 0 to ``size`` − 1."""
        found = self.array(name, "iu", 1)
        if len(found) != number:
            raise DataError(f"its array {name!r} has {len(found):,} indices for {number:,} values")
        if number and not 0 <= int(found.min()) <= int(found.max()) < size:
            raise DataError(f"its array {name!r} has indices outside 0 to {size - 1:,}")
        return found.astype(np.int64)

    def pointers(self, number: int, end: int) -> np.ndarray:
        """The positions at which ``number`` rows begin and end: ``number + 1`` integers, rising from 0 to ``end``."""
        found = self.array("indptr", "iu", 1)
        if len(found) != number + 1:
            raise DataError(f"its array 'indptr' has {len(found):,} numbers for {number:,} rows or columns")
        if found[0] != 0 or found[-1] != end or (found[1:] < found[:-1]).any():
            raise DataError(f"its array 'indptr' does not rise from 0 to {end:,}, the number of values")
        return found.astype(np.int64)

    def _array(self, name: str) -> np.ndarray:
        member = self._members.get(f"{name}.npy")
        if member is None:
            raise DataError(f"it has no array {name!r}, as sparse matrices saved by SciPy have")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.flag_bits & ENCRYPTED:
            raise DataError(f"its array {name!r} is encrypted, or compressed in a way that NumPy does not write")
        try:
            with self._zip.open(member) as inflating:
                file = BytesIO(inflating.read(member.file_size + 1))  # one byte more than declared shows a wrong size
            version = npy.read_magic(file)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, by_columns, dtype = read_header(file)
            if dtype.kind not in "biufcSU":  # others hold objects, to be unpickled, or no numbers
                raise DataError(f"{dtype} is not a type of numbers")
            content = file.read()
            if math.prod(shape) * dtype.itemsize != len(content) or min(shape, default=0) < 0:
                raise DataError(f"{shape} is declared and there are {len(content):,} bytes")
            return np.ndarray(shape, dtype, content, order="F" if by_columns else "C")
        except Exception as error:  # the header is a Python literal: errors of zlib, tokenize, ast and NumPy's own
            raise DataError(f"its array {name!r} is damaged ({type(error).__name__}: {error})") from None


def _compressed(make: type, by_rows: bool) -> Callable[[_Arrays, tuple[int, int]], sp.sparray]:
    def read(arrays: _Arrays, shape: tuple[int, int]) -> sp.sparray:
        number, size = shape if by_rows else shape[::-1]
        data = arrays.data(1)
        indices = arrays.indices("indices", len(data), size)
        return make((data, indices, arrays.pointers(number, len(data))), shape=shape)

    return read


def _coordinates(arrays: _Arrays, shape: tuple[int, int]) -> sp.sparray:
    data = arrays.data(1)
    index = [arrays.indices(name, len(data), size) for name, size in zip(("row", "col"), shape, strict=True)]
    return sp.coo_array((data, (index[0], index[1])), shape=shape)


def _blocks(arrays: _Arrays, shape: tuple[int, int]) -> sp.sparray:
    data = arrays.data(3)
    height, width = data.shape[1:]
    if not height or not width or shape[0] % height or shape[1] % width:
        raise DataError(f"its shape {shape} is not made of blocks of {height} x {width}")
    indices = arrays.indices("indices", len(data), shape[1] // width)
    return sp.bsr_array((data, indices, arrays.pointers(shape[0] // height, len(data))), shape=shape)


def _diagonals(arrays: _Arrays, shape: tuple[int, int]) -> sp.sparray:
    data, offsets = arrays.data(2), arrays.array("offsets", "i", 1).astype(np.int64)
    if len(offsets) != len(data) or len(np.unique(offsets)) < len(offsets):
        raise DataError(f"its array 'offsets' does not name each of {len(data):,} diagonals once")
    if len(offsets) and not -shape[0] < int(offsets.min()) <= int(offsets.max()) < shape[1]:
        raise DataError(f"its array 'offsets' names diagonals outside a matrix of {shape[0]:,} x {shape[1]:,}")
    return sp.dia_array((data, offsets), shape=shape)


READERS = {
    "csr": _compressed(sp.csr_array, by_rows=True),
    "csc": _compressed(sp.csc_array, by_rows=False),
    "coo": _coordinates,
    "bsr": _blocks,
    "dia": _diagonals,
}
