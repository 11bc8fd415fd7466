import copy
import pickle
from unittest.mock import patch

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import svds

import linegraph as lg
from linegraph.coupling import graph
from linegraph.errors import DataError, NonFiniteError


@st.composite
def graphs(draw, parallel=True):
    n = draw(st.integers(1, 8))
    edges = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20, unique=not parallel))
    weights = draw(st.lists(st.floats(-5, 5), min_size=len(edges), max_size=len(edges)))
    index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T
    return lg.GraphCoupling(index, torch.tensor(weights, dtype=torch.float64), num_nodes=n)


def dense_by_hand(G):
    dense = torch.zeros(G.shape, dtype=G.dtype)
    for (j, i), w in zip(G.edge_index.T.tolist(), G.weight, strict=True):
        dense[i, j] += w
    return dense


@given(graphs(), st.integers(0, 3), st.sampled_from([0, 1000]))
def test_products_and_bridges(G, k, threaded):
    with patch.object(graph, "MIN_EDGES_FOR_THREADS", threaded):
        check_products_and_bridges(G, k)


def check_products_and_bridges(G, k):
    dense = dense_by_hand(G)
    V = torch.randn(G.num_nodes, k, dtype=torch.float64)
    assert torch.allclose(G.to_dense(), dense)
    assert torch.allclose(G @ V, dense @ V)
    assert torch.allclose(G.T @ V, dense.T @ V)
    assert torch.allclose(G.T.T @ V, dense @ V)
    assert torch.allclose(G.in_strength(), dense.sum(1))
    assert torch.allclose(G.T.in_strength(), dense.sum(0))
    assert torch.allclose(G.T.out_strength(), G.in_strength())
    assert G.absolute_total() == pytest.approx(float(G.weight.abs().sum()))
    operator = G.to_scipy()
    v = np.random.default_rng(0).standard_normal(G.num_nodes)
    assert np.allclose(operator @ v, dense.numpy() @ v)
    assert np.allclose(operator.T @ v, dense.numpy().T @ v)
    assert np.allclose(operator @ V.numpy(), (dense @ V).numpy())
    assert np.allclose(G.T.to_scipy() @ v, dense.numpy().T @ v)


def test_scipy_solvers_take_the_operator():
    torch.manual_seed(0)
    G = lg.from_scipy(__import__("scipy.sparse").sparse.csr_array(torch.randn(9, 9, dtype=torch.float64).numpy()))
    found = np.sort(svds(G.to_scipy(), k=3, return_singular_vectors=False))
    expected = np.sort(torch.linalg.svdvals(G.to_dense()).numpy())[-3:]
    assert np.allclose(found, expected)


def test_to_another_precision():
    G = lg.GraphCoupling([[0, 1], [1, 2]], torch.tensor([2.0, 1e300], dtype=torch.float64), num_nodes=5)
    assert G.to("cpu") is G
    assert G.to(torch.float64) is G
    with pytest.raises(NonFiniteError, match="edge 1"):
        G.to(torch.float32)
    with pytest.raises(DataError, match="floating-point"):
        G.to(torch.int64)
    single = lg.GraphCoupling([[0, 1], [1, 2]], [2.0, 3.0], num_nodes=5).to(torch.float64).to(torch.float32)
    assert single.dtype == torch.float32
    assert single.num_nodes == 5
    torch.testing.assert_close(single @ torch.ones(5), torch.tensor([0.0, 2, 3, 0, 0]))


def test_isolated_nodes_and_default_weights():
    G = lg.GraphCoupling(torch.tensor([[0], [1]]), num_nodes=4)
    assert (G.shape, G.num_edges, G.dtype) == ((4, 4), 1, torch.float32)
    assert lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([3])).dtype == torch.float32


@pytest.mark.parametrize(
    ("index", "weight", "num_nodes", "error", "message"),
    [
        (torch.zeros(3, 2).long(), None, None, DataError, r"shape \(2, E\).*\(3, 2\); a list of edges is transposed"),
        (nx.path_graph(3), None, None, DataError, "edge_index must be a tensor, got Graph"),
        (torch.zeros(2, 3), None, None, DataError, "integers"),
        (torch.tensor([[0], [-1]]), None, None, DataError, "negative"),
        (torch.tensor([[0], [5]]), None, 3, DataError, "node 5, but num_nodes is 3"),
        (torch.tensor([[0], [1]]), torch.ones(2), None, DataError, r"shape \(1,\)"),
        (torch.tensor([[0], [1]]), torch.tensor([float("nan")]), None, NonFiniteError, "edge 0"),
        (torch.tensor([[0], [1]]), torch.ones(1, device="meta"), None, DataError, "meta"),
        (torch.tensor([[0], [1]]), torch.tensor([1 + 2j]), None, DataError, "must be real, got torch.complex64"),
    ],
)
def test_bad_graphs(index, weight, num_nodes, error, message):
    with pytest.raises(error, match=message):
        lg.GraphCoupling(index, weight, num_nodes=num_nodes)


def test_bad_vectors():
    G = lg.GraphCoupling(torch.tensor([[0], [1]]))
    with pytest.raises(ValueError, match=r"\(2,\)"):
        G @ torch.ones(3)
    with pytest.raises(ValueError, match="float64"):
        G @ torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="meta"):
        G @ torch.ones(2, device="meta")
    with pytest.raises(TypeError, match="to_scipy"):
        G @ np.ones(2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    weight = torch.rand(3).to(dtype)
    G = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), weight)
    assert G.dtype == torch.float32
    torch.testing.assert_close(G.in_strength(), weight.float().roll(1))
    assert torch.allclose(lg.singular_values(G, 3), weight.float().sort(descending=True).values)


def test_arrays_and_lists_are_edges_too():
    expected = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0], dtype=torch.float64))
    for index in ([[0, 1], [1, 2]], np.array([[0, 1], [1, 2]])):
        assert torch.equal(lg.GraphCoupling(index, np.array([2.0, 3.0])).to_dense(), expected.to_dense())


def test_copies_and_pickles_hold_the_edges_alone():
    G = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0]))
    G.in_strength()  # makes a matrix for products, which torch cannot copy
    for other in (copy.deepcopy(G), pickle.loads(pickle.dumps(G))):
        assert vars(other).keys() == {"edge_index", "weight", "_num_nodes"}
        torch.testing.assert_close(other.in_strength(), G.in_strength())


def test_representations():
    G = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))
    assert repr(G) == "GraphCoupling(shape=(3, 3), num_edges=2, dtype=torch.float32, device='cpu')"
    assert repr(G.T) == f"{G!r}.T"


def test_a_transposed_graph_is_a_graph():
    G = lg.GraphCoupling(torch.tensor([[0, 1, 1, 3], [1, 2, 3, 3]]), torch.tensor([2.0, 3.0, -1.0, 0.5]), num_nodes=5)
    turned = lg.GraphCoupling(G.edge_index.flip(0), G.weight, num_nodes=5)
    for T in (G.T, pickle.loads(pickle.dumps(G.T)), G.T.to(torch.float32)):
        assert isinstance(T, lg.GraphCoupling)
        assert torch.equal(T.edge_index, turned.edge_index)
        assert torch.equal(T.to_dense(), G.to_dense().T)
        for part in ("row_components", "column_components"):  # whose numbers are names
            found, expected = getattr(T, part)(), getattr(turned, part)()
            assert torch.equal(found[:, None] == found, expected[:, None] == expected)
        assert T.T @ torch.ones(5) == pytest.approx(G @ torch.ones(5))
    assert G.T.T is G
    assert G.T._receiving is G._sending  # the matrix of a product is made once
    assert lg.katz(G.T, alpha=0.3) == pytest.approx(lg.katz(turned, alpha=0.3))


@pytest.mark.parametrize("by_scipy", [True, False])
def test_edges_by_target_are_those_of_the_matrix(by_scipy, monkeypatch):
    monkeypatch.setattr(graph, "MIN_EDGES_FOR_THREADS", 100 if by_scipy else 0)
    G = lg.GraphCoupling(
        torch.tensor([[3, 0, 3, 1, 2], [1, 1, 1, 0, 2]]), torch.tensor([2.0, 3, -1, 0.5, 4]), num_nodes=6
    )
    for each in (G, G.T, G.to(torch.float64), lg.GraphCoupling(torch.empty(2, 0).long(), num_nodes=2)):
        sources, targets, weight = each.by_target
        expected = each.to_scipy_sparse().tocoo()  # sorted, with parallel edges added up
        assert sources.dtype == targets.dtype == torch.int32
        assert weight.dtype == each.dtype
        assert (targets.tolist(), sources.tolist()) == tuple(c.tolist() for c in expected.coords)
        assert weight.tolist() == pytest.approx(expected.data.tolist())
    assert pickle.loads(pickle.dumps(G)).by_target.weight.tolist() == G.by_target.weight.tolist()


@given(graphs())
def test_strengths_are_products_with_ones(G):
    ones = torch.ones(G.num_nodes, dtype=torch.float64)
    for each in (G, G.T, G.T.T):
        torch.testing.assert_close(each.in_strength(), each.matvec(ones))
        torch.testing.assert_close(each.out_strength(), each.rmatvec(ones))
