import gzip

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.io import mmwrite

import linegraph as lg
from linegraph.errors import DataError

MATRIX = sp.csr_array(np.array([[0.0, 2.0, 0.0], [0.5, 0.0, 0.0], [1.5, 0.0, 3.0]]))


@pytest.mark.parametrize("name", ["m.npz", "m.mtx", "m.mtx.gz"])
def test_matrices_keep_their_direction(tmp_path, name):
    path = tmp_path / name
    if name == "m.npz":
        sp.save_npz(path, MATRIX)
    else:
        with gzip.open(path, "wb") if name.endswith("gz") else path.open("wb") as file:
            mmwrite(file, sp.coo_matrix(MATRIX))
    np.testing.assert_array_equal(lg.read_network(path).to_dense().numpy(), MATRIX.toarray())


def test_integer_matrices_become_double(tmp_path):
    sp.save_npz(tmp_path / "m.npz", sp.csr_array(np.array([[0, 2], [1, 0]])))
    assert str(lg.read_network(tmp_path / "m.npz").dtype) == "torch.float64"


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_graphml(tmp_path, directed, weighted):
    g = nx.DiGraph([("a", "b"), ("b", "c")]) if directed else nx.Graph([("a", "b"), ("b", "c")])
    if weighted:
        nx.set_edge_attributes(g, {("a", "b"): 2.5, ("b", "c"): 0.5}, "weight")
    nx.write_graphml(g, tmp_path / "g.graphml")
    expected = nx.to_numpy_array(g).T
    np.testing.assert_array_equal(lg.read_network(tmp_path / "g.graphml").to_dense().numpy(), expected)


@pytest.mark.parametrize(
    "text",
    [
        "0 1 0.5\n1 0 2\n0 2 1.5\n2 2 3\n",
        "# comment\nsource\ttarget\tweight\n0\t1\t0.5\n1\t0\t2\n0\t2\t1.5\n\n2\t2\t3\n",
        "10,20,0.5\n20,10,2\n10,100,1.5\n100,100,3  # loop\n",
        "a; b; 0.5\nb; a; 2\na; c; 1.5\nc; c; 3\n",
    ],
)
def test_edge_lists(tmp_path, text):
    (tmp_path / "edges.txt").write_text(text)
    np.testing.assert_array_equal(lg.read_network(tmp_path / "edges.txt").to_dense().numpy(), MATRIX.toarray())


def test_undirected_edge_lists_and_no_weights(tmp_path):
    (tmp_path / "edges.csv").write_text("from,to\n9,11\n11,11\n")
    dense = lg.read_network(tmp_path / "edges.csv", directed=False).to_dense()
    assert dense.tolist() == [[0, 1], [1, 1]]
    assert lg.read_network(tmp_path / "edges.csv").to_dense().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.txt", b"", "no edges"),
        ("e.txt", b"1 2\n1 2 3\n", "2, 3 columns"),
        ("e.txt", b"1 2 x\n1 2 y\n", "y"),
        ("e.txt", b"1 2 nan\n1 2 nan\n", "e.txt"),
        ("e.txt", bytes(range(256)), "not"),
        ("m.npz", b"no archive", "m.npz cannot be read as a network"),
        ("m.mtx", b"no matrix", "m.mtx cannot be read as a network"),
        ("g.graphml", b"no xml", "g.graphml cannot be read as a network"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        lg.read_network(tmp_path / name)


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "m.npz", format=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        lg.read_network(tmp_path / "m.npz")


def test_a_missing_file_and_a_matrix_that_is_not_square(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        lg.read_network(tmp_path / "nowhere.txt")
    sp.save_npz(tmp_path / "m.npz", sp.csr_array(np.ones((2, 3))))
    with pytest.raises(DataError, match=r"m.npz: a coupling is square"):
        lg.read_network(tmp_path / "m.npz")
