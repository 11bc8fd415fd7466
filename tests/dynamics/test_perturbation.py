from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import linegraph as lg
from linegraph.dynamics import largest_component, perturb, projection
from linegraph.errors import DataError, NonFiniteError, UnsupportedOperationError
from tests.dynamics.reference import random_network
from tests.dynamics.test_models import small_network


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 15), gone=st.integers(0, 15))
def test_removing_nodes_leaves_an_induced_subgraph(seed, n, gone):
    P, A = random_network(n, 4, seed)
    gone = min(gone, n)
    left = perturb(P, nodes=gone, generator=seeded(seed))
    assert left.num_nodes == n - gone
    order = torch.randperm(n, generator=seeded(seed)) if gone else torch.arange(0)
    kept = np.setdiff1d(np.arange(n), order[:gone].numpy())
    np.testing.assert_array_equal(left.to_dense().numpy(), A[np.ix_(kept, kept)])


def test_fractions_are_rounded_and_nested():
    P, _ = random_network(50, 6, 0)
    assert perturb(P, nodes=0.31).num_nodes == 34  # 15.5 nodes round to 16
    assert perturb(P, nodes=1.0).num_nodes == 0
    assert perturb(P, links=1.0).num_edges == 0
    assert perturb(P, links=0.25).num_edges == P.num_edges - round(P.num_edges / 4)
    edges = [
        set(map(tuple, perturb(P, links=f, generator=seeded(3)).edge_index.T.tolist())) for f in (0.0, 0.2, 0.5, 0.9)
    ]
    assert all(later < earlier for earlier, later in pairwise(edges))
    different = perturb(P, links=0.5, generator=seeded(4))
    assert set(map(tuple, different.edge_index.T.tolist())) != edges[2]


def test_the_network_itself_stays_as_it_is():
    P, A = random_network(20, 5, 0)
    perturb(P, nodes=0.5, links=0.5, weights=0.5, jitter=0.5)
    np.testing.assert_array_equal(P.to_dense().numpy(), A)
    np.testing.assert_array_equal(perturb(P).to_dense().numpy(), A)


def test_links_of_a_symmetric_network_go_in_both_directions():
    P = lg.from_networkx(nx.karate_club_graph())
    left = perturb(P, links=10, generator=seeded(0))
    assert left.num_edges == P.num_edges - 20
    dense = left.to_dense()
    assert torch.equal(dense, dense.T)
    spread = perturb(P, jitter=0.5, generator=seeded(0)).to_dense()
    assert torch.equal(spread, spread.T)


@pytest.mark.parametrize("name", ["PLANT_ANT_WEBS_Bluthgen_2004_A", "PLANT_ANT_WEBS_Bluthgen_2004_P"])
def test_links_of_a_web_symmetric_up_to_rounding_go_in_both_directions(shared, name):
    P = lg.from_scipy(sp.load_npz(shared / f"data/resilience/{name}.npz"))
    links = P.num_edges // 2
    left = perturb(P, links=0.5, generator=seeded(0))
    assert left.num_edges == P.num_edges - 2 * round(links / 2)
    dense = left.to_dense()
    torch.testing.assert_close(dense, dense.T, rtol=1e-14, atol=0)
    spread = perturb(P, jitter=0.5, generator=seeded(0)).to_dense()
    torch.testing.assert_close(spread, spread.T, rtol=1e-14, atol=0)
    with pytest.raises(DataError, match=f"only {links}"):
        perturb(P, links=links + 1)


@pytest.mark.parametrize("what", ["nodes", "links"])
@pytest.mark.parametrize("one", [np.int64(1), np.uint8(1), np.array(1), torch.tensor(1)])
def test_any_integer_is_a_number_and_any_float_a_fraction(what, one):
    P, _ = random_network(12, 4, 0)
    for amount, plain in ((one, 1), (np.float32(0.5), 0.5), (torch.tensor(0.5), 0.5)):
        expected = perturb(P, **{what: plain}, generator=seeded(0))
        found = perturb(P, **{what: amount}, generator=seeded(0))
        assert torch.equal(found.to_dense(), expected.to_dense())


def test_jitter_of_signed_weights_keeps_signs_and_absolute_sum():
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    for weights in ([1.0, -1.0, 0.01], [1.0, -1.0, 0.0]):
        P = lg.GraphCoupling(edges, torch.tensor(weights).double())
        spread = perturb(P, jitter=0.5, generator=seeded(0)).weight
        assert torch.equal(spread.sign(), P.weight.sign())
        assert float(spread.abs().sum()) == pytest.approx(float(P.weight.abs().sum()))


# bipartite webs and components --------------------------------------------------------------------------------


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), m=st.integers(0, 8), gone=st.integers(0, 8))
def test_projections_of_webs_that_lose_partners_equal_the_sum_written_out(seed, n, m, gone):
    rng = np.random.default_rng(seed)
    M, gone = rng.integers(0, 4, (n, m)) * (rng.random((n, m)) < 0.6), min(gone, m)
    lost = torch.randperm(m, generator=seeded(seed))[:gone].tolist() if gone else []
    A = np.zeros((n, n))
    for i in set(range(m)) - set(lost):
        for j in range(n):
            for k in range(n):
                if j != k and M[j, i] and M[k, i]:
                    A[j, k] += (M[j, i] + M[k, i]) / M[:, i].sum()
    for web in (M, sp.csr_array(M), torch.from_numpy(M)):
        found = projection(web, partners=gone, generator=seeded(seed))
        np.testing.assert_allclose(found.to_dense().numpy(), A, rtol=1e-12)
        assert found.num_edges == np.count_nonzero(A)


def test_a_web_stays_as_it_is_and_may_be_in_half_precision():
    web = sp.csc_array((np.array([1.0, 0.0, 2.0]), np.array([0, 1, 1]), np.array([0, 2, 3])), shape=(2, 2))
    projection(web, partners=1)
    assert (web.nnz, web.data.tolist(), web.indptr.tolist()) == (3, [1, 0, 2], [0, 2, 3])
    half = projection(torch.ones(3, 2, dtype=torch.bfloat16))
    torch.testing.assert_close(half.to_dense(), projection(np.ones((3, 2))).to_dense())


def test_published_webs_have_the_weights_of_a_projection(shared):
    """Every partner with d species gives 2 (d − 1): both sides of the web of 41 and 51 species have 285 links."""
    for name, partners in (("A", 51), ("P", 41)):
        A = sp.load_npz(shared / f"data/resilience/PLANT_ANT_WEBS_Bluthgen_2004_{name}.npz")
        assert A.sum() == pytest.approx(2 * (285 - partners), rel=1e-12)


@pytest.mark.parametrize(
    ("web", "error", "message"),
    [
        (np.ones(3), DataError, "got 1 dimensions"),
        (np.array([[1.0, -1.0]]), DataError, "not negative"),
        (np.array([[1.0, 1j]]), DataError, "not complex"),
        (sp.csr_array(np.array([[1.0, 1j]])), DataError, "not complex"),
        (torch.tensor([[1.0, 1j]]), DataError, "not complex"),
        (np.array([[1.0, np.nan]]), NonFiniteError, "NaN"),
    ],
)
def test_what_is_no_web_is_said(web, error, message):
    with pytest.raises(error, match=message):
        projection(web)
    with pytest.raises(DataError, match="3 partners are to be removed, but there are only 2"):
        projection(np.ones((4, 2)), partners=3)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 15))
def test_the_largest_component_equals_networkx(seed, n):
    P, A = random_network(n, 1.2, seed)
    graph = P.to_networkx()
    for connection, components in (
        ("weak", nx.weakly_connected_components),
        ("strong", nx.strongly_connected_components),
    ):
        kept = sorted(min(components(graph), key=lambda c: (-len(c), min(c))))
        np.testing.assert_array_equal(largest_component(P, connection).to_dense().numpy(), A[np.ix_(kept, kept)])
    with pytest.raises(DataError, match="connection"):
        largest_component(P, "giant")


def test_weights_lose_their_share_and_jitter_keeps_the_sum():
    P, A = random_network(20, 5, 1)
    np.testing.assert_allclose(perturb(P, weights=0.3).to_dense().numpy(), 0.7 * A)
    spread = perturb(P, weights=0.3, jitter=0.5, generator=seeded(0))
    assert float(spread.weight.sum()) == pytest.approx(0.7 * A.sum())
    ratio = spread.weight / P.weight
    assert float(ratio.max() / ratio.min()) == pytest.approx(3, rel=0.2)  # 1.5 / 0.5
    assert perturb(P, weights=1.0).weight.abs().max() == 0


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"nodes": 6}, "6 nodes are to be removed, but there are only 5"),
        ({"nodes": 1.5}, "a fraction 1.5 of the nodes"),
        ({"links": 4}, "4 links are to be removed, but there are only 3"),
        ({"links": -0.1}, "links must be a fraction from 0.0 to 1.0"),
        ({"nodes": float("nan")}, "nodes must be a fraction"),
        ({"nodes": True}, "nodes must be a fraction"),
        ({"weights": 1.1}, "weights must be a finite number from 0 to 1, got 1.1"),
        ({"weights": float("nan")}, "weights must be a finite number from 0 to 1, got nan"),
        ({"jitter": 1.0}, "jitter must be"),
    ],
)
def test_impossible_losses_are_named(losses, message):
    P = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=5)
    with pytest.raises(DataError, match=message):
        perturb(P, **losses)


def test_only_explicit_edges_can_be_removed():
    with pytest.raises(UnsupportedOperationError, match="to_graph"):
        perturb(small_network(), nodes=0.1)


def test_an_empty_network_loses_nothing():
    empty = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long))
    assert perturb(empty, nodes=0.5, links=0.5, weights=0.5, jitter=0.5).num_nodes == 0
