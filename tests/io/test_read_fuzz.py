"""A damaged file of any format is refused by name, or is a network all the same; it never ends the process."""

import gzip
import random
import warnings
from io import BytesIO

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.io import mmwrite

import linegraph as lg
from linegraph.errors import LinegraphError, WeightNameWarning

MUTATIONS = 200
SPECIAL = [
    *(b"0", b"-1", b"1e999", b"nan", b"inf", b"1.5D+01", b"1_000", b"0x10", b"1,5", b"\xd9\xa1", b"1" * 400),
    *(b"2147483648", b"9223372036854775807", b"99999999999999999999", b"\0", b"\xff\xfe", b"\n", b"\r", b"\t", b" "),
    *(b'"', b"%", b"#", b"<", b"&lol;", b"[", b"]", b"(((((((((", b"*Matrix", b"\xc2\xa0", b"\xe2\x80\xa8"),
]


def graph(directed=True):
    g = nx.gnp_random_graph(7, 0.4, directed=directed, seed=3)
    for k, (u, v) in enumerate(g.edges):
        g[u][v]["weight"] = round(0.3 + 0.7 * k, 3)
    return g


def written(write, *arguments):
    file = BytesIO()
    write(file, *arguments)
    return file.getvalue()


def archive(form, compressed):
    matrix = nx.to_scipy_sparse_array(graph(), format="csr").asformat(form)
    return written(lambda file: sp.save_npz(file, matrix, compressed=compressed))


def matrix_market(matrix):
    return written(lambda file: mmwrite(file, matrix))


def edges(separator, header=""):
    lines = [separator.join((f"n{u}", f"n{v}", str(d["weight"]))) for u, v, d in graph().edges(data=True)]
    return (header + "\n".join(lines) + "\n").encode()


def metis():
    g = graph(directed=False)
    lines = [" ".join(f"{v + 1} {k}" for v in g[u] for k in [u + v]) for u in g]
    return "\n".join([f"{len(g)} {g.number_of_edges()} 1", *lines, ""]).encode()


WEIGHTED = nx.to_scipy_sparse_array(graph(), format="coo")
FILES = {
    "blanks.txt": lambda: edges(" "),
    "header.csv": lambda: edges(",", "Source,Target,Weight\n"),
    "quoted.csv": lambda: b'from;to;w\n"a; b";c;0.5\nc;"a; b";2\n"d";d;3\n',
    "snap.txt": lambda: b"# Undirected graph: x\n# Nodes: 4 Edges: 3\n# FromNodeId\tToNodeId\n0\t1\n1\t2\n2\t5\n",
    "out.konect": lambda: b"% bip weighted\n% 4 3 2\n1 1 0.5\n1 2 0.7\n2 2 1\n3 1 2\n",
    "edges.txt.gz": lambda: gzip.compress(edges("\t"), mtime=0),
    "real.mtx": lambda: matrix_market(WEIGHTED),
    "symmetric.mtx": lambda: matrix_market(sp.coo_array(WEIGHTED + WEIGHTED.T)),
    "pattern.mtx": lambda: b"%%MatrixMarket matrix coordinate pattern general\n3 3 3\n1 2\n2 3\n3 1\n",
    "dense.mtx": lambda: matrix_market(np.arange(9.0).reshape(3, 3)),
    "csr.npz": lambda: archive("csr", False),
    "csc.npz": lambda: archive("csc", True),
    "coo.npz": lambda: archive("coo", False),
    "dia.npz": lambda: archive("dia", False),
    "bsr.npz": lambda: archive("bsr", False),
    "web.graphml": lambda: written(lambda file: nx.write_graphml(graph(), file)),
    "web.gexf": lambda: written(lambda file: nx.write_gexf(graph(), file)),
    "web.gml": lambda: written(lambda file: nx.write_gml(graph(), file)),
    "web.net": lambda: written(lambda file: nx.write_pajek(nx.relabel_nodes(graph(), str), file)),
    "web.graph": metis,
    "web.sif": lambda: b"A pp B C\nB pd D\nE\n",
}


def mutated(content, rng):
    """The content with one to three bytes or parts of it changed, lost, doubled or added."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(found) + 1)
        part = slice(at, at + rng.choice((1, 2, 5, 20)))
        match rng.randrange(7):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(found):
                found[at] = rng.randrange(256)
            case 2:
                del found[at:]
            case 3:
                del found[part]
            case 4:
                found[at:at] = found[part]
            case 5:
                found[part] = rng.choice(SPECIAL)
            case _:
                found[at:at] = rng.choice(SPECIAL)
    return bytes(found)


def check(path):
    """Whether the file is read, as a valid graph; otherwise it is refused by name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", WeightNameWarning)
            G = lg.read_network(path)
    except LinegraphError as error:
        said = str(error)
    else:
        assert G.weight.isfinite().all()
        assert G.edge_index.shape == (2, len(G.weight))
        assert all(0 <= node < G.num_nodes for node in G.edge_index.flatten().tolist())
        assert G.num_nodes <= 1 << 24
        return True
    assert path.name in said
    return False


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused_or_read(tmp_path, name):
    path, content, rng = tmp_path / name, FILES[name](), random.Random(name)
    path.write_bytes(content)
    assert check(path)
    read = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(content, rng))
        read += check(path)
    assert read < MUTATIONS
