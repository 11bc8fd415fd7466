import gzip
from io import BytesIO

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
        "10,20,0.5\n20,10,2\n  % comment\n10,100,1.5\n100,100,3\n",
        "a; b; 0.5\nb; a; 2\na; c; 1.5\nc; c; 3\n",
        "a ,b , 0.5\n b,a,2 \na, c ,1.5\nc,c,3\n",
        "\ufeffgene#1,h%,0.5\nh%,gene#1,2\ngene#1,x,1.5\nx,x,3\n",
        "Formica rufa\tb 2\t0.5\nb 2\tFormica rufa\t2\nFormica rufa\tc\t1.5\nc\tc\t3\n",
        'from,to,Weight\n"a, b",c,0.5\nc,"a, b",2\n"a, b",d,1.5\n"d",d,3\n',
        '"a b"  c 0.5\nc "a b" 2\n"a b" d 1.5\nd d 3\n',
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
        ("e.txt", b"source target weight\n", "no edges"),
        ("e.txt", b"#\n1 2\n\n1 2 3\n", "line 4 has more than 2 columns"),
        ("e.txt", b"0,1,1\n1,2,\n", "line 2 has fewer than 3 columns"),
        ("e.txt", b"1 2 3 4\n", "first one has 4 columns"),
        ("e.txt", b"1 2 x\n1 2 3\n", "weight in line 1 is no finite number: 'x'"),
        ("e.txt", b"0,1,nan\n1,2,3\n", "weight in line 1 is no finite number: 'nan'"),
        ("e.txt", b'a,b,1\n"e,f,1\ng,"h,1\n', "quote at the beginning of a name is not closed"),
        ("e.txt", b"a b NA\nb c 1\n", "weight in line 1 is no finite number: 'NA'"),
        ("e.txt", b"a;b;0,5\nb;a;1\n", "weight in line 1 is no finite number: '0,5'"),
        ("e.txt", b"ant,plant\nA,P\n", "may be a header or an edge: say header=True"),
        ("e.txt", bytes(range(256)), "not"),
        ("e.txt", "source,target\nM\u00fcller,b\n".encode("latin1"), "text in UTF-8"),
        ("m.npz", b"no archive", "m.npz cannot be read as a network"),
        ("m.mtx", b"no matrix", "m.mtx cannot be read as a network"),
        ("g.graphml", b"no xml", "g.graphml' cannot be read as GraphML"),
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


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("regulator,gene\n1,2\n2,3\n", 3),  # all other names are numbers
        ("from to\na b\n", 2),
        ("i j\nj k\n", 3),  # a name that occurs again
        ("ann bob\nbob cid\n", 3),
        ("user item weight\na b 1\n", 2),
        ("a b 1\nc d 2\n", 4),
    ],
)
def test_the_first_line_is_told_by_a_rule(tmp_path, text, nodes):
    (tmp_path / "e.txt").write_text(text)
    assert lg.read_network(tmp_path / "e.txt").num_nodes == nodes


def test_the_first_line_is_what_the_argument_says(tmp_path):
    (tmp_path / "e.csv").write_text("ant,plant\nA,P\n")
    assert lg.read_network(tmp_path / "e.csv", header=True).num_nodes == 2
    assert lg.read_network(tmp_path / "e.csv", header=False).num_nodes == 4
    (tmp_path / "e.csv").write_text("1,2\n2,3\n")
    assert lg.read_network(tmp_path / "e.csv", header=True).num_edges == 1


def test_names_are_told_apart_as_written_and_sorted_as_numbers(tmp_path):
    (tmp_path / "e.csv").write_text("10,2\n2,01\n1,10\n")
    assert lg.read_network(tmp_path / "e.csv").edge_index.tolist() == [[3, 2, 1], [2, 0, 3]]


def test_complex_matrices_are_refused(tmp_path):
    sp.save_npz(tmp_path / "m.npz", sp.csr_array(MATRIX * 1j))
    mmwrite(tmp_path / "m.mtx", sp.coo_matrix(MATRIX * 1j))
    for name in ("m.npz", "m.mtx"):
        with pytest.raises(DataError, match=rf"{name}: weight must be real"):
            lg.read_network(tmp_path / name)


@pytest.mark.parametrize("weights", [{(0, 1): 2.5}, {(0, 1): 1e-310, (1, 2): 1.0}])
def test_graphml_is_read_in_one_way(tmp_path, weights):
    g = nx.path_graph(3, create_using=nx.DiGraph)
    nx.set_edge_attributes(g, weights, "weight")
    path = tmp_path / "g.graphml"
    nx.write_graphml(g, path)
    expected = nx.to_numpy_array(g).T
    for G in (lg.read_network(path), lg.read_graphml(path)):
        np.testing.assert_array_equal(G.to_dense().numpy(), expected)
    path.write_text(path.read_text().replace("<edge ", '<edge directed="false" ', 1))
    for read in (lg.read_network, lg.read_graphml):
        with pytest.raises(DataError, match="cannot be read as GraphML: directed=false edge"):
            read(path)


@pytest.mark.parametrize(("name", "kept"), [("web.npz", 0), ("web.npz", 90), ("web.mtx.gz", 0.5), ("web.mtx.gz", 2)])
def test_files_that_are_not_whole_are_named(tmp_path, name, kept):
    path, matrix = tmp_path / name, sp.random_array((30, 30), density=0.3, rng=0)
    whole = BytesIO()
    if name.endswith("npz"):
        sp.save_npz(whole, matrix)
    else:
        mmwrite(whole, matrix)
        whole = BytesIO(gzip.compress(whole.getvalue()))
    content = whole.getvalue()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept] or b"")
    with pytest.raises(DataError, match=f"{name} cannot be read as a network"):
        lg.read_network(path)


def test_a_file_with_damaged_bytes_is_named(tmp_path):
    path = tmp_path / "web.mtx.gz"
    whole = BytesIO()
    mmwrite(whole, sp.random_array((30, 30), density=0.3, rng=0))
    content = bytearray(gzip.compress(whole.getvalue()))
    content[20:40] = bytes(byte ^ 0x55 for byte in content[20:40])
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"web.mtx.gz cannot be read as a network"):
        lg.read_network(path)


def test_a_matrix_that_breaks_off_in_a_number_is_named(tmp_path):
    path = tmp_path / "web.mtx"
    path.write_text("%%MatrixMarket matrix coordinate real symmetric\n3 3 3\n2 1 7E-1\n3 1 7E-")
    with pytest.raises(DataError, match=r"web.mtx cannot be read as a network \(mtx\): .*"):
        lg.read_network(path)


@pytest.mark.parametrize("names", [["b", "a", "10", "9"], ["10", "9", "-3", "0.5"]])
def test_names_are_found_again(tmp_path, names):
    """As the documentation says, from the order of the nodes."""
    edges = [(names[0], names[1], 2.0), (names[3], names[0], 3.0), (names[2], names[3], 4.0)]
    (tmp_path / "edges.txt").write_text("".join(f"{u} {v} {w}\n" for u, v, w in edges))
    graph = nx.DiGraph()
    graph.add_weighted_edges_from(edges)
    nx.write_graphml(graph, tmp_path / "graph.graphml")
    numbers = all(name.strip("-").replace(".", "").isdigit() for name in names)
    for file, order in (
        ("edges.txt", sorted(names, key=float) if numbers else sorted(names)),
        ("graph.graphml", list(nx.read_graphml(tmp_path / "graph.graphml"))),
    ):
        P = lg.read_network(tmp_path / file).to_dense()
        for source, target, weight in edges:
            assert P[order.index(target), order.index(source)] == weight
