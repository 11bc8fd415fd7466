"""Every array of a SciPy archive is checked before it is used, and sizes before memory is taken."""

import struct
import zipfile
from io import BytesIO

import numpy as np
import pytest
import scipy.sparse as sp

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError

INDEX = np.int32
CSR = {
    "format": np.bytes_(b"csr"),
    "shape": np.array([3, 3]),
    "data": np.array([2.0, 3.0, 4.0]),
    "indices": np.array([1, 2, 0], INDEX),
    "indptr": np.array([0, 1, 2, 3], INDEX),
}
COO = {**CSR, "format": np.bytes_(b"coo"), "row": np.array([0, 1, 2], INDEX), "col": np.array([1, 2, 0], INDEX)}
DIA = {**CSR, "format": np.bytes_(b"dia"), "data": np.ones((2, 3)), "offsets": np.array([0, 1], INDEX)}
BSR = {**CSR, "format": np.bytes_(b"bsr"), "shape": np.array([6, 6]), "data": np.ones((3, 2, 2))}


def save(path, arrays):
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_formats_and_types(tmp_path, form, make, dtype):
    dense = (np.arange(16).reshape(4, 4) % 5 % 2).astype(dtype)
    matrix = make(dense).asformat(form)
    for compressed in (True, False):
        sp.save_npz(tmp_path / "m.npz", matrix, compressed=compressed)
        np.testing.assert_array_equal(lg.read_network(tmp_path / "m.npz").to_dense().numpy(), dense.astype(float))


def test_numbers_of_other_machines(tmp_path):
    arrays = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in CSR.items()}
    for data in (arrays["data"], arrays["data"].astype("f2"), arrays["data"].astype(np.longdouble)):
        G = lg.read_network(save(tmp_path / "m.npz", {**arrays, "data": data}))
        assert (G.edge_index.T.tolist(), G.weight.tolist()) == ([[1, 0], [2, 1], [0, 2]], [2, 3, 4])


def test_empty_matrices(tmp_path):
    for form in ("csr", "csc", "coo", "dia"):
        sp.save_npz(tmp_path / "m.npz", sp.csr_array((3, 3)).asformat(form))
        assert lg.read_network(tmp_path / "m.npz").shape == (3, 3)


@pytest.mark.parametrize(
    "pointers", [[0, 50_000, 2, 3], [0, 2_000_000_000, 2, 3], [0, -5, 2, 3], [1, 1, 2, 3], [0, 2, 1, 3], [0, 1, 2, 4]]
)
@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
def test_pointers_that_do_not_rise_are_refused(tmp_path, pointers, form):
    arrays = {
        **(BSR if form == "bsr" else CSR),
        "format": np.bytes_(form.encode()),
        "indptr": np.array(pointers, INDEX),
    }
    with pytest.raises(DataError, match=r"m.npz cannot be read as a network \(npz\): its array 'indptr' does not rise"):
        lg.read_network(save(tmp_path / "m.npz", arrays))


BAD = {
    "index too large": ({**CSR, "indices": np.array([1, 3, 0], INDEX)}, "'indices' has indices outside 0 to 2"),
    "index negative": ({**CSR, "indices": np.array([1, -1, 0], INDEX)}, "'indices' has indices outside"),
    "index of 64 bits": ({**CSR, "indices": np.array([1, 2**63, 0], np.uint64)}, "'indices' has indices outside"),
    "indices are numbers": ({**CSR, "indices": np.array([1.0, 2, 0])}, "'indices' has 1 dimensions of float64"),
    "indices too few": ({**CSR, "indices": np.array([1, 2], INDEX)}, "2 indices for 3 values"),
    "pointers too few": ({**CSR, "indptr": np.array([0, 3], INDEX)}, "2 numbers for 3 rows"),
    "pointers absent": ({**CSR, "indptr": None}, "no array 'indptr'"),
    "no pointers": ({**CSR, "indptr": np.array([], INDEX)}, "0 numbers for 3 rows"),
    "data of two dimensions": ({**CSR, "data": np.ones((3, 1))}, "'data' has 2 dimensions"),
    "data of text": ({**CSR, "data": np.array(["1", "2", "3"])}, "'data' has 1 dimensions of <U1"),
    "data of dates": ({**CSR, "data": np.array([1, 2, 3], "M8[s]")}, "'data' is damaged"),
    "data of records": ({**CSR, "data": np.zeros(3, [("x", float)])}, "'data' is damaged"),
    "data of objects": ({**CSR, "data": np.array([{}, {}, {}], object)}, "'data' is damaged"),
    "shape of floats": ({**CSR, "shape": np.array([3.0, 3])}, "'shape' has 1 dimensions of float64"),
    "shape of one": ({**CSR, "shape": np.array([3])}, r"its shape is \(3,\)"),
    "shape negative": ({**CSR, "shape": np.array([-3, 3])}, r"its shape is \(-3, 3\)"),
    "shape too large": ({**COO, "shape": np.array([2**40, 2**40])}, "declares 1,099,511,627,776 nodes"),
    "format unknown": ({**CSR, "format": np.bytes_(b"dok")}, "its format is 'dok'"),
    "format of a number": ({**CSR, "format": np.array(5)}, "'format' has 0 dimensions of int64"),
    "format of several": ({**CSR, "format": np.array([b"csr", b"csr"])}, "'format' has 1 dimensions"),
    "format not ASCII": ({**CSR, "format": np.bytes_(b"\xff")}, "'format' holds no text"),
    "coo, a row outside": ({**COO, "row": np.array([0, 1, 3], INDEX)}, "'row' has indices outside"),
    "coo, columns too few": ({**COO, "col": np.array([0], INDEX)}, "1 indices for 3 values"),
    "dia, an offset twice": ({**DIA, "offsets": np.array([1, 1], INDEX)}, "each of 2 diagonals once"),
    "dia, an offset outside": ({**DIA, "offsets": np.array([0, 3], INDEX)}, "diagonals outside a matrix"),
    "dia, offsets too few": ({**DIA, "offsets": np.array([0], INDEX)}, "each of 2 diagonals once"),
    "bsr, blocks that do not fit": ({**BSR, "shape": np.array([7, 7])}, "not made of blocks of 2 x 2"),
    "bsr, blocks of nothing": ({**BSR, "data": np.ones((3, 0, 2))}, "not made of blocks of 0 x 2"),
    "bsr, an index outside": ({**BSR, "indices": np.array([0, 3, 1], INDEX)}, "'indices' has indices outside 0 to 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_make_no_matrix_are_refused(tmp_path, name):
    arrays, message = BAD[name]
    with pytest.raises(DataError, match=f"m.npz cannot be read as a network .*{message}"):
        lg.read_network(save(tmp_path / "m.npz", arrays))


@pytest.mark.parametrize("value", [np.nan, np.inf, np.longdouble("1e4000")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    with pytest.raises(NonFiniteError, match=r"m.npz: the weight of edge 1 is NaN or infinite"):
        lg.read_network(save(tmp_path / "m.npz", {**CSR, "data": np.array([1, value, 1])}))


def header(shape, descr="'<f8'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "member",
    [
        header("(1000000000000,)"),
        header("(-3,)"),
        header("(3,"),
        header("(0, 4611686018427387904)"),
        header("(10**9)**10**9"),
        header("(3,)", "'|O'") + b"\x80\x04K\x01." * 3,
        header("(3,)", "'<f9'"),
        header("(3,)", "[('x', '<f8')]"),
        header("(" * 5000),
        header("(3,)")[:20],
        b"\x93NUMPY\x09\x00",
        b"csr",
        b"",
        header("(3,)") + b"\0" * 23,
        header("(3,)") + b"\0" * 25,
    ],
)
def test_members_that_are_no_arrays_are_refused(tmp_path, member):
    save(tmp_path / "m.npz", {**CSR, "data": None})
    with zipfile.ZipFile(tmp_path / "m.npz", "a") as archive:
        archive.writestr("data.npy", member)
    with pytest.raises(DataError, match=r"m.npz cannot be read .* its array 'data' is damaged"):
        lg.read_network(tmp_path / "m.npz")


def bomb(compression, size=200_000_000):
    """An archive of little that inflates to much."""
    file = BytesIO()
    np.savez(file, **{**CSR, "data": np.zeros(0), "indices": np.zeros(0, INDEX), "indptr": np.zeros(4, INDEX)})
    with zipfile.ZipFile(file, "a", compression) as archive, archive.open("more.npy", "w") as member:
        for _ in range(size // 1_000_000):
            member.write(bytes(1_000_000))
    return file.getvalue()


def test_archives_that_inflate_to_much_are_refused(tmp_path):
    content = bomb(zipfile.ZIP_DEFLATED)
    assert len(content) < 1_000_000
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"m.npz .* inflate to 200,0.* or more, and the limit is"):
        lg.read_network(tmp_path / "m.npz")


def test_archives_that_hide_how_much_they_inflate_to_are_refused(tmp_path):
    """No more is inflated than the directory declares, and what is left fails the checksum."""
    save(tmp_path / "m.npz", {**CSR, "data": None})
    with zipfile.ZipFile(tmp_path / "m.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", header("(8,)") + bytes(20_000_000))
    content = (tmp_path / "m.npz").read_bytes()
    (tmp_path / "m.npz").write_bytes(content.replace(struct.pack("<I", 20_000_128), struct.pack("<I", 192)))
    with pytest.raises(DataError, match=r"its array 'data' is damaged"):
        lg.read_network(tmp_path / "m.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_write_is_refused(tmp_path, compression):
    save(tmp_path / "m.npz", {**CSR, "data": None})
    with zipfile.ZipFile(tmp_path / "m.npz", "a", compression) as archive:
        archive.writestr("data.npy", header("(3,)") + b"\0" * 24)
    with pytest.raises(DataError, match="compressed in a way that NumPy does not write"):
        lg.read_network(tmp_path / "m.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path):
    save(tmp_path / "m.npz", CSR)
    with zipfile.ZipFile(tmp_path / "m.npz", "a") as archive:
        archive.writestr("data.npy", header("(3,)") + b"\0" * 24)
    with pytest.raises(DataError, match="two arrays of the same name"):
        lg.read_network(tmp_path / "m.npz")
