import networkx as nx
import pytest
import sympy
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

import linegraph as lg
from linegraph.errors import ConvergenceError, NegativeCouplingError, NonFiniteError
from tests.comparison import close
from tests.metrics.graphs import Implicit, chain_of_cycles, empty, graphs, in_order, layered, random_graph


@settings(max_examples=60)
@given(graphs(signed=True), st.floats(0.05, 0.95), st.booleans())
def test_katz_solves_its_system(G, part, implicit):
    dense = G.to_dense()
    radius = float(torch.linalg.eigvals(dense).abs().max())
    alpha = part / radius if radius > 1e-3 else part
    expected = torch.linalg.solve(
        torch.eye(G.num_nodes).double() - alpha * dense, torch.full((G.num_nodes,), 2.0).double()
    )
    P = Implicit(G) if implicit else G
    found = lg.katz(P, alpha=alpha, beta=2.0, tol=1e-13, max_iter=20_000)
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


@settings(max_examples=60)
@given(graphs(smallest=2, loops=False))
def test_katz_equals_networkx(G):
    # networkx takes the rows of its matrix, targets and sources the other way round, so both look at in-edges.
    alpha = 0.3 / max(1.0, float(torch.linalg.eigvals(G.to_dense()).abs().max()))
    expected = nx.katz_centrality_numpy(G.to_networkx(), alpha, 1.0, normalized=False, weight="weight")
    close(lg.katz(G, alpha=alpha, tol=1e-12), in_order(expected, G.num_nodes), 1e-8)


def test_katz_of_an_acyclic_graph_is_a_finite_sum_without_a_bound():
    P = Implicit(layered(4, 3, 5, 2))
    dense = P.graph.to_dense()
    found = lg.katz(P, alpha=100.0)
    expected = sum(100.0**t * torch.linalg.matrix_power(dense, t).sum(1) for t in range(4))
    assert torch.allclose(found, expected, rtol=1e-14)
    assert P.products == 4  # the fourth finds nothing left


def test_katz_is_not_stopped_by_a_weak_layer():
    index = torch.tensor([[0, 1, 2], [1, 2, 3]])
    chain = lg.GraphCoupling(index, torch.tensor([1.0, 1e-14, 1e20], dtype=torch.float64))
    found = lg.katz(chain, alpha=1.0)
    assert torch.allclose(found, torch.tensor([1, 2, 1, 1e20], dtype=torch.float64), rtol=1e-12)


def test_katz_from_one_node_is_exact_too():
    # Ever more nodes are reached before the sum ends, and the last layer is the strongest.
    index = torch.tensor([[0, 0, 1, 2, 3, 4], [1, 2, 3, 3, 4, 5]])
    weight = torch.tensor([1, 1, 1e-13, 1e-13, 1, 1e15], dtype=torch.float64)
    own = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    for P in (lg.GraphCoupling(index, weight), Implicit(lg.GraphCoupling(index, weight))):
        found = lg.katz(P, alpha=1.0, beta=own)
        assert torch.allclose(
            found, torch.tensor([1, 1, 1, 2e-13, 2e-13, 200], dtype=torch.float64), rtol=1e-12, atol=0
        )


def test_katz_near_its_bound_is_eigenvector_centrality():
    G = random_graph(30, 200)
    radius = lg.spectral_radius(G)
    found = lg.katz(G, alpha=(1 - 1e-3) / radius, tol=1e-4, max_iter=20_000)
    expected = lg.eigenvector_centrality(G)
    assert torch.allclose(found / found.norm(), expected, atol=2e-3)


@pytest.mark.parametrize("make", [lambda G: G, Implicit])
def test_katz_beyond_the_bound(make):
    ring = make(lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.full((3,), 2.0)))
    with pytest.raises(ValueError, match=r"1/ρ\(P\) = 0\.5"):
        lg.katz(ring, alpha=0.5)
    with pytest.raises(ValueError, match=r"such as 0\.425"):
        lg.katz(ring, alpha=-0.7)
    assert torch.allclose(lg.katz(ring, alpha=0.25), torch.full((3,), 2.0))


def test_katz_arguments():
    G = layered(2, 2)
    with pytest.raises(ValueError, match="finite"):
        lg.katz(G, alpha=float("nan"))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        lg.katz(G, alpha=0.1, beta=torch.ones(3))
    own = torch.arange(4.0).double()
    assert torch.allclose(lg.katz(G, alpha=0.0, beta=own), own)
    assert torch.allclose(lg.katz(empty(3), alpha=5.0), torch.ones(3).double())
    assert len(lg.katz(empty(), alpha=0.1)) == 0


@pytest.mark.parametrize("signed", [False, True])
def test_katz_along_a_chain_of_cycles_is_exact_near_its_bound(signed):
    chain = chain_of_cycles(5)
    index = torch.cat([chain.edge_index, torch.tensor([[14, 15, 2], [15, 16, 15]])], 1)
    weight = torch.cat([chain.weight, torch.tensor([1.0, -2.0 if signed else 2.0, 0.5]).double()])
    G = lg.GraphCoupling(index, weight)
    for P in (G, G.T):
        # Exact, since the matrix is triangular but for the cycles, and nothing is pivoted away from them.
        dense = P @ torch.eye(17, dtype=torch.float64)
        system = sympy.eye(17) - sympy.Rational(9999, 10000) * sympy.Matrix(dense.numpy()).applyfunc(sympy.nsimplify)
        expected = torch.tensor([float(x) for x in system.LUsolve(sympy.ones(17, 1))], dtype=torch.float64)
        assert torch.allclose(lg.katz(P, alpha=0.9999), expected, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="diverges"):
        lg.katz(G, alpha=1.0)


def test_katz_that_does_not_converge_says_how_far_it_came():
    G = random_graph(400, 4000)
    with pytest.raises(ConvergenceError, match="max_iter") as caught:
        lg.katz(G, alpha=0.9 / lg.spectral_radius(G), max_iter=6)
    assert caught.value.iterations == 6
    assert 1e-10 < caught.value.residual < 1
    assert caught.value.tolerance == 1e-10


@settings(max_examples=100)
@given(graphs(), st.sampled_from([0.3, 0.9, 0.999, 1 - 1e-6, 1 + 1e-6, 1.001, 1.2, 3.0, 1e3]), st.booleans())
def test_katz_needs_no_radius_to_tell_its_bound(G, part, implicit):
    radius = float(torch.linalg.eigvals(G.to_dense()).abs().max())
    assume(radius > 1e-3)
    P, alpha = Implicit(G) if implicit else G, part / radius
    if part > 1:
        with pytest.raises(ValueError, match="diverges"):
            lg.katz(P, alpha=alpha)
        return
    expected = torch.linalg.solve(
        torch.eye(G.num_nodes).double() - alpha * G.to_dense(), torch.ones(G.num_nodes).double()
    )
    try:
        found = lg.katz(P, alpha=alpha, max_iter=100_000)
    except ConvergenceError:  # products alone do not see the parts, of which each multiplies the condition number
        assert implicit
        assert connected_components(G.to_scipy_sparse(), connection="strong", return_labels=False) > 1
        return
    assert torch.allclose(found, expected, rtol=1e-8 / (1 - part), atol=0)


def test_sums_without_an_end_take_few_products():
    P = Implicit(random_graph(400, 4000))
    alpha = 0.9 / lg.spectral_radius(P.graph)
    lg.katz(P, alpha=alpha)
    assert P.products <= 60  # the sum itself takes log(1e-10)/log(0.9) = 219
    P.products = 0
    lg.pagerank(P)
    assert P.products <= 60


@settings(max_examples=60)
@given(graphs(), st.floats(0.0, 0.97))
def test_pagerank_equals_igraph_and_networkx(G, damping):
    found = lg.pagerank(G, damping=damping, max_iter=5000)
    assert float(found.sum()) == pytest.approx(1, rel=1e-12)
    graph = G.to_igraph()
    weights = graph.es["weight"] if graph.ecount() else None
    close(found, graph.pagerank(damping=damping, weights=weights), 1e-8)
    expected = nx.pagerank(G.to_networkx(), damping, tol=1e-13, max_iter=5000)
    close(found, in_order(expected, G.num_nodes), 1e-8)


def test_pagerank_of_an_acyclic_graph_ends():
    P = Implicit(layered(4, 3, 5, 2))
    close(lg.pagerank(P), P.graph.to_igraph().pagerank(weights="weight"), 1e-8)
    assert P.products <= 2 + 4


def test_pagerank_of_nothing():
    assert len(lg.pagerank(empty())) == 0
    assert torch.allclose(lg.pagerank(empty(4)), torch.full((4,), 0.25).double())
    with pytest.raises(ValueError, match="damping"):
        lg.pagerank(empty(4), damping=1.0)


@pytest.mark.parametrize("metric", [lg.pagerank, lg.hits, lg.eigenvector_centrality])
@pytest.mark.parametrize("make", [lambda G: G, Implicit, lambda G: G.T])
def test_negative_couplings_are_refused(metric, make):
    P = make(lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, -0.5, 2.0])))
    with pytest.raises(NegativeCouplingError, match="kind='magnitude'"):
        metric(P)


@pytest.mark.parametrize("metric", [lambda P: lg.katz(P, alpha=0.5), lg.pagerank, lg.hits, lg.eigenvector_centrality])
def test_couplings_that_overflow_are_named(metric):
    G = lg.GraphCoupling(torch.tensor([[0, 1, 0], [1, 0, 0]]), torch.full((3,), 1e308, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        metric(G)


@settings(max_examples=60)
@given(graphs(smallest=2, largest=6))
def test_renumbered_nodes_renumber_scores(G):
    order = torch.randperm(G.num_nodes)
    renumbered = lg.GraphCoupling(order[G.edge_index], G.weight, num_nodes=G.num_nodes)
    assert torch.allclose(lg.pagerank(renumbered)[order], lg.pagerank(G))
    alpha = 0.5 / max(lg.spectral_radius(G), 1.0)
    assert torch.allclose(lg.katz(renumbered, alpha=alpha)[order], lg.katz(G, alpha=alpha))
