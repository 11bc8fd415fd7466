"""Matrix Market: lines are read whole, and agree with header and sizes."""

import gzip
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.io import mmread, mmwrite

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError

HEAD = "%%MatrixMarket matrix "


def read(tmp_path, text, name="m.mtx", **arguments):
    (tmp_path / name).write_text(HEAD + text)
    return lg.read_network(tmp_path / name, **arguments)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "dense", "symmetry"),
    [
        *product(["real", "integer"], [True, False], ["general", "symmetric", "skew-symmetric"]),
        *product(["pattern"], [False], ["general", "symmetric"]),
    ],
)
def test_what_scipy_writes(tmp_path, seed, symmetry, kind, dense):
    m = sp.random_array((6, 6), density=0.4, rng=seed).toarray()
    m = {"general": m, "symmetric": m + m.T, "skew-symmetric": m - m.T}[symmetry]
    m = m if kind == "real" else np.sign(m).astype(int)
    options = {"field": kind} if kind == "pattern" else {}
    file = BytesIO()
    mmwrite(file, m if dense else sp.coo_array(m), symmetry=symmetry, **options)
    (tmp_path / "m.mtx").write_bytes(file.getvalue())
    expected = mmread(BytesIO(file.getvalue()))
    expected = expected if dense else expected.toarray()
    np.testing.assert_allclose(lg.read_network(tmp_path / "m.mtx").to_dense().numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("coordinate real general\n2 2 1\n2 1 1.5D+01\n", [15]),
        ("coordinate real general\n2 2 2\n2 1 1.5d-1\n1 2 -2.D0\n", [0.15, -2]),
        ("coordinate double general\n% c\n\n2 2 1\n%\n2 1 .5E1\n\n", [5]),
        ("coordinate integer general\n2 2 1\n2 1 -7\n", [-7]),
        ("COORDINATE Pattern General\n2 2 2\n2 1\n1 2\n", [1, 1]),
        ("array real general\n2 2\n0\n1D1\n0\n0\n", [10]),
        ("coordinate real general\r\n2 2 1\r\n2 1 1.5\r\n", [1.5]),
        ("coordinate real symmetric\n2 2 2\n1 1 3\n1 2 1.5\n", [3, 1.5, 1.5]),
        ("coordinate real skew-symmetric\n2 2 1\n2 1 1.5\n", [1.5, -1.5]),
        ("coordinate real general\n3 3 0\n", []),
    ],
)
def test_numbers_and_headers(tmp_path, text, weights):
    assert read(tmp_path, text).weight.tolist() == weights
    assert set(read(tmp_path, text, weight=None).weight.tolist()) <= {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coordinate pattern general\n3 3 2\n2 1 5\n3 2 6\n", "line 3 has 3 numbers, not 2"),
        ("coordinate real general\n2 2 1\n2 1\n", "line 3 has 2 numbers, not 3"),
        ("coordinate real general\n2 2 1\n2 1 1.5 7\n", "line 3 has 4 numbers"),
        ("coordinate real general\n2 2 1\n2 1 1.5abc\n", "the weight in line 3 is no finite number: '1.5abc'"),
        ("coordinate real general\n2 2 1\n2 1 1,5\n", "a decimal point, not a comma"),
        ("coordinate real general\n2 2 1\n2 1 1.5+01\n", "is no finite number"),
        ("coordinate real general\n2 2 1\n2 1 0x1F\n", "is no finite number"),
        ("coordinate real general\n2 2 1\n2 1 1_0\n", "is no finite number"),
        ("coordinate real general\n2 2 1\n2.0 1 1\n", "an index in line 3 is no number 0, 1, 2"),
        ("coordinate real general\n2 2 1\n-1 1 1\n", "index -1, outside 1 to 2"),
        ("coordinate real general\n2 2 1\n0 1 1\n", "line 3 has the index 0, outside 1 to 2"),
        ("coordinate real general\n2 2 1\n1 3 1\n", "line 3 has the index 3, outside 1 to 2"),
        ("coordinate real general\n2 2 1\n1 99999999999999999999 1\n", "too large"),
        ("coordinate integer general\n2 2 1\n2 1 1.5\n", "line 3 is no integer: '1.5'"),
        ("coordinate real general\n2 2 2\n2 1 1\n", "declares 2 entries and has 1"),
        ("coordinate real general\n2 2 1\n2 1 1\n1 2 1\n", "declares 1 entries and has 2"),
        ("coordinate real general\n3 3 1000000000000\n1 1 1\n", "declares 1,000,000,000,000 entries"),
        ("coordinate real general\n99999999999 99999999999 1\n1 1 1\n", "declares 99,999,999,999 nodes"),
        ("coordinate real general\n3 3 99999999999999999999\n1 1 1\n", "too large"),
        ("coordinate real general\n3 3\n1 1 1\n", "2 sizes, 3 are needed"),
        ("coordinate real general\n", "no line of sizes"),
        ("array real general\n2 2\n1\n2\n3\n", "4 values, it has 3 lines"),
        ("array real general\n30000000000 30000000000\n1\n", "nodes"),
        ("array pattern general\n1 1\n1\n", "contradicts itself"),
        ("array real symmetric\n2 3\n1\n", "2 x 3 that is symmetric"),
        ("coordinate real symmetric\n3 3 2\n1 2 1\n2 1 1\n", "entries in both"),
        ("coordinate real skew-symmetric\n3 3 2\n2 1 1\n2 2 1\n", "line 4 is on the diagonal"),
        ("coordinate real hermitian\n2 2 1\n2 1 1\n", "contradicts itself"),
        ("coordinate real upper\n2 2 1\n2 1 1\n", "'upper' where"),
        ("coordinate rael general\n2 2 1\n2 1 1\n", "'rael' where"),
        ("vector real general\n2 2 1\n2 1 1\n", "'vector' where"),
        ("coordinate real\n2 2 1\n2 1 1\n", "line 1 is not"),
    ],
)
def test_what_contradicts_header_or_sizes_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"m.mtx cannot be read as a network \(mtx\): .*{message}"):
        read(tmp_path, text)


@pytest.mark.parametrize("value", ["nan", "-inf", "1e999", "1D999"])
def test_what_is_not_finite_is_refused(tmp_path, value):
    with pytest.raises(NonFiniteError, match=r"m.mtx .*line 3"):
        read(tmp_path, f"coordinate real general\n2 2 1\n2 1 {value}\n")


def test_a_matrix_is_directed_and_has_no_other_names(tmp_path):
    text = "coordinate real general\n2 2 1\n2 1 1.5\n"
    assert read(tmp_path, text, directed=True).num_edges == 1
    with pytest.raises(DataError, match=r"m.mtx: the file says that its edges are directed"):
        read(tmp_path, text, directed=False)
    with pytest.raises(DataError, match=r"m.mtx: no edge .* attribute 'w'"):
        read(tmp_path, text, weight="w")


def test_compressed_files(tmp_path):
    """They are known by their first bytes, and inflate to a limit."""
    text = (HEAD + "coordinate real general\n2 2 1\n2 1 1.5\n").encode()
    for name in ("m.mtx.gz", "m.mtx", "m"):
        (tmp_path / name).write_bytes(gzip.compress(text))
        assert lg.read_network(tmp_path / name).weight.tolist() == [1.5]
    (tmp_path / "m.mtx.gz").write_bytes(text)
    with pytest.raises(DataError, match=r"m.mtx.gz cannot be read .* gzip did not compress it"):
        lg.read_network(tmp_path / "m.mtx.gz")
    (tmp_path / "m.mtx.gz").write_bytes(gzip.compress(text + b" " * 100_000_000, 9))
    with pytest.raises(DataError, match=r"m.mtx.gz .* bytes inflate to .* or more"):
        lg.read_network(tmp_path / "m.mtx.gz")
