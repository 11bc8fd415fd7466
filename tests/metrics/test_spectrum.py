import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigs, svds

import linegraph as lg
from linegraph.errors import ConvergenceError, NegativeCouplingError, NonFiniteError, UnsupportedOperationError
from linegraph.linalg.operators import normal, rescaled, restricted, symmetrized
from tests.metrics.graphs import Implicit, chain_of_cycles, empty, graphs, layered, random_graph, times


def by_magnitude(values):
    return values[values.abs().argsort(descending=True, stable=True)]


@settings(max_examples=60)
@given(graphs(signed=True), st.data())
def test_singular_triplets(G, data):
    k = data.draw(st.integers(1, G.num_nodes))
    dense = G.to_dense()
    found = lg.singular_triplets(G, k)
    assert torch.allclose(found.values, torch.linalg.svdvals(dense)[:k], atol=1e-8)
    assert torch.allclose(lg.singular_values(G, k), found.values)
    identity = torch.eye(k).double()
    assert torch.allclose(found.left.mT @ found.left, identity, atol=1e-8)
    assert torch.allclose(found.right.mT @ found.right, identity, atol=1e-8)
    assert torch.allclose(dense @ found.right, found.left * found.values, atol=1e-7)


@settings(max_examples=60)
@given(graphs(signed=True), st.data())
def test_eigenvalues(G, data):
    k = data.draw(st.integers(1, G.num_nodes))
    dense = G.to_dense()
    symmetric = by_magnitude(torch.linalg.eigvalsh((dense + dense.mT) / 2))
    assert torch.allclose(lg.eigenvalues(G, k, symmetrize=True).abs(), symmetric[:k].abs(), atol=1e-8)
    found = lg.eigenvalues(G, k)
    assert found.is_complex()
    assert torch.allclose(lg.eigenvalues(Implicit(G), k).abs(), found.abs(), atol=1e-3)
    # Defective eigenvalues are ill-conditioned in any library; invariants of the whole spectrum are not.
    everything = lg.eigenvalues(G, G.num_nodes)
    assert torch.allclose(everything.sum().real, dense.trace(), atol=1e-8)
    assert torch.allclose((everything**2).sum().real, (dense @ dense).trace(), atol=1e-7)
    assert torch.allclose(everything.abs()[:k], found.abs(), atol=1e-8)


@settings(max_examples=60)
@given(graphs(smallest=2), st.data())
def test_normalised_laplacian_equals_networkx(G, data):
    k = data.draw(st.integers(1, G.num_nodes))
    half = G.to_scipy_sparse()
    graph = nx.from_scipy_sparse_array((half + half.T) / 2)
    expected = nx.normalized_laplacian_matrix(graph).toarray()
    found = lg.laplacian_eigenvalues(G, k)
    assert np.allclose(found, np.linalg.eigvalsh(expected)[:k], atol=1e-8)
    everything = lg.laplacian_eigenvalues(G, G.num_nodes)
    components, _ = connected_components(half, directed=False)
    assert int((everything < 1e-9).sum()) == components


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_solvers_of_large_graphs(dtype):
    G = random_graph(600, 6000, dtype=dtype, signed=True)
    P, dense = Implicit(G), G.to_dense().double()
    close = {"rtol": 1e-8} if dtype is torch.float64 else {"rtol": 1e-4}
    assert torch.allclose(lg.singular_values(P, 5).double(), torch.linalg.svdvals(dense)[:5], **close)
    symmetric = by_magnitude(torch.linalg.eigvalsh((dense + dense.mT) / 2))
    assert torch.allclose(lg.eigenvalues(P, 5, symmetrize=True).double(), symmetric[:5], **close)
    values = by_magnitude(torch.linalg.eigvals(dense))
    assert torch.allclose(lg.eigenvalues(P, 5).abs().double(), values[:5].abs(), **close)
    assert lg.spectral_norm(P) == pytest.approx(float(torch.linalg.svdvals(dense)[0]), rel=close["rtol"])
    assert lg.spectral_radius(P) == pytest.approx(float(values[0].abs()), rel=close["rtol"])


def test_solvers_agree_with_scipy():
    G = random_graph(500, 5000, signed=True)
    # SciPy draws its start anew at each call, and from some it misses one of a cluster.
    options = {"v0": np.random.default_rng(0).standard_normal(500), "ncv": 60}
    expected = np.sort(svds(G.to_scipy(), 4, return_singular_vectors=False, **options))[::-1]
    assert np.allclose(lg.singular_values(G, 4), expected, rtol=1e-8)
    expected = np.sort(np.abs(eigs(G.to_scipy(), 4, return_eigenvectors=False, **options)))[::-1]
    assert np.allclose(lg.eigenvalues(G, 4).abs(), expected, rtol=1e-8)


def test_laplacian_of_a_large_graph_with_isolated_nodes():
    G = random_graph(400, 1000)
    P = lg.GraphCoupling(G.edge_index, G.weight, num_nodes=403)
    half = P.to_scipy_sparse()
    expected = nx.normalized_laplacian_matrix(nx.from_scipy_sparse_array((half + half.T) / 2)).toarray()
    expected = np.linalg.eigvalsh(expected)
    assert expected[3] < 1e-9 < expected[20]
    assert np.allclose(lg.laplacian_eigenvalues(P, 25), expected[:25], atol=1e-8)
    assert np.allclose(lg.laplacian_eigenvalues(P, 2), 0)


def test_an_acyclic_graph_has_eigenvalues_zero_and_no_noise():
    G = layered(3, 4, 5, 4, 2)
    for P in (G, Implicit(G), G.T, Implicit(G).T):
        assert lg.is_acyclic(P)
        assert not lg.eigenvalues(P, 5).any()
        assert lg.spectral_radius(P) == 0
    noise = eigs(layered(40, 40, 40, 40).to_scipy(), 3, return_eigenvectors=False)
    assert np.abs(noise).max() > 1e-8, "what a solver makes of it"
    P = Implicit(G)
    assert lg.is_acyclic(P)
    assert P.products == 5


@settings(max_examples=60)
@given(graphs(signed=True))
def test_acyclic_as_networkx_says(G):
    expected = nx.is_directed_acyclic_graph(G.to_networkx())
    assert lg.is_acyclic(G) == lg.is_acyclic(Implicit(G)) == lg.is_acyclic(Implicit(G).T) == expected


def test_couplings_that_cancel_are_still_a_cycle():
    # P 1 = 0, and yet P has the eigenvalue 1.
    G = lg.GraphCoupling(torch.tensor([[0, 1], [0, 0]]), torch.tensor([1.0, -1.0]).double(), num_nodes=2)
    assert not lg.is_acyclic(Implicit(G))
    assert lg.spectral_radius(Implicit(G)) == 1


def test_zero_weights_close_no_cycle():
    G = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([1.0, 0.0]).double())
    assert lg.is_acyclic(G)
    assert lg.is_acyclic(Implicit(G))


def test_a_cycle_with_long_tails_has_its_own_eigenvalues_and_zeros():
    n = 30
    index = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    index = torch.cat([index, torch.tensor([[16], [14]])], 1)  # a cycle of three in a path of thirty
    for P in (
        lg.GraphCoupling(index, torch.ones(n).double()),
        Implicit(lg.GraphCoupling(index, torch.ones(n).double())),
    ):
        found = lg.eigenvalues(P, 5)
        assert torch.allclose(found[:3].abs(), torch.ones(3).double())
        assert not found[3:].any()


def test_figures():
    G = random_graph(300, 3000)
    singular = torch.linalg.svdvals(G.to_dense())
    assert lg.spectral_gap(G) == pytest.approx(float(1 - singular[1] / singular[0]))
    exact = float(singular.square().sum() / singular[0] ** 2)
    assert lg.stable_rank(G) == pytest.approx(exact)
    assert lg.stable_rank(G.T) == pytest.approx(exact)
    assert lg.stable_rank(Implicit(G), probes=300) == pytest.approx(exact)
    # One standard error is below √(2/(probes · stable rank)).
    found = lg.stable_rank(Implicit(G), probes=100)
    assert found != exact
    assert found == pytest.approx(exact, rel=4 * math.sqrt(2 / (100 * exact)))


def test_estimates_are_unbiased_over_seeds():
    G = random_graph(300, 1500)
    exact = lg.stable_rank(G)
    found = [lg.stable_rank(Implicit(G), probes=8, generator=torch.Generator().manual_seed(s)) for s in range(40)]
    assert np.std(found) > 0
    assert np.mean(found) == pytest.approx(exact, abs=4 * np.std(found) / math.sqrt(len(found)))


def copies(block, count):
    """The same graph many times over, each copy numbered in another order."""
    n = len(block)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    nodes = order + n * np.arange(count)[:, None]
    rows, columns = np.nonzero(block)
    index = np.stack([nodes[:, columns].ravel(), nodes[:, rows].ravel()])
    weight = np.tile(block[rows, columns], count)
    return lg.GraphCoupling(torch.from_numpy(index), torch.from_numpy(weight), num_nodes=n * count)


@pytest.mark.parametrize("make", [lambda G: G, Implicit])
@pytest.mark.parametrize("k", [3, 30, 70])
def test_every_copy_of_a_tied_value_is_found(make, k):
    rng = np.random.default_rng(1)
    block = (rng.random((5, 5)) < 0.7) * rng.random((5, 5))
    G = copies(block, 60)
    P, dense = make(G), G.to_dense()
    assert torch.allclose(lg.singular_values(P, k), torch.linalg.svdvals(dense)[:k])
    triplets = lg.singular_triplets(P, k)
    assert torch.allclose(triplets.right.mT @ triplets.right, torch.eye(k).double(), atol=1e-8)
    symmetric = torch.linalg.eigvalsh((dense + dense.mT) / 2).abs().sort(descending=True).values
    assert torch.allclose(lg.eigenvalues(P, k, symmetrize=True).abs(), symmetric[:k])
    if isinstance(P, lg.GraphCoupling):
        values = torch.linalg.eigvals(dense).abs().sort(descending=True).values
        assert torch.allclose(lg.eigenvalues(P, k).abs(), values[:k])


@pytest.mark.parametrize(("dtype", "smallest"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_small_singular_values_among_large_ones(dtype, smallest):
    sizes = torch.tensor([1.0, 0.5, smallest, smallest / 2], dtype=torch.float64)
    G = lg.GraphCoupling(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), sizes.to(dtype), num_nodes=9)
    for k in (3, 4, 9):
        found = lg.singular_triplets(G, k)
        expected = torch.cat([sizes, torch.zeros(5)])[:k]
        assert torch.allclose(found.values.double(), expected, rtol=1e-5, atol=0)
        assert torch.allclose((G @ found.right).double(), (found.left * found.values).double(), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_more_values_than_the_rank(dtype):
    star = torch.stack([torch.zeros(299, dtype=torch.long), torch.arange(1, 300)])
    graph = lg.GraphCoupling(star, torch.rand(299, dtype=dtype))
    for G, singular, bound in ((empty(300), 0.0, 0.0), (graph, 1.0, 1.0)):
        first = singular * float(G.weight.double().norm())
        for k in (2, 10, 70):
            found = lg.singular_values(G, k).double()
            assert float(found[0]) == pytest.approx(first, rel=1e-5)
            assert float(found[1:].max()) <= 1e-5 * first
            assert lg.eigenvalues(G, k, symmetrize=True).abs()[:2].tolist() == pytest.approx([first / 2] * 2, rel=1e-5)
            expected = [0.0] + [bound] * (k - 1)
            assert lg.laplacian_eigenvalues(G, k).tolist() == pytest.approx(expected, abs=1e-5)
    assert lg.spectral_norm(empty(300)) == 0


@pytest.mark.parametrize("make", [lambda G: G, Implicit])
def test_zeros_of_the_laplacian_count_the_components(make):
    ring = torch.arange(300).reshape(60, 5)
    index = torch.stack([ring.flatten(), ring.roll(-1, 1).flatten()])
    G = lg.GraphCoupling(index, torch.rand(300, dtype=torch.float64) + 0.1)
    half = G.to_dense() + G.to_dense().mT
    root = half.sum(1).rsqrt()
    expected = torch.linalg.eigvalsh(torch.eye(300).double() - root[:, None] * half * root)
    found = lg.laplacian_eigenvalues(make(G), 70)
    assert int((found < 1e-9).sum()) == 60
    assert torch.allclose(found, expected[:70], atol=1e-8)


def test_components_that_are_not_those_of_the_graph_are_not_believed():
    G = random_graph(300, 3000)
    wrong = Implicit(G)
    wrong.row_components = wrong.column_components = lambda: torch.arange(300, dtype=torch.int32) % 2
    assert torch.allclose(lg.laplacian_eigenvalues(wrong, 3), lg.laplacian_eigenvalues(G, 3), atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectra_of_weak_couplings(dtype):
    G = random_graph(400, 1600, dtype=dtype)
    singular = torch.linalg.svdvals(G.to_dense().double())
    values = torch.linalg.eigvals(G.to_dense().double()).abs().max()
    tolerance = 1e-8 if dtype is torch.float64 else 1e-4
    for scale in (1e-4, 1e-10, 1e-15):
        for P in (Implicit(times(G, scale)), times(G, scale)):
            assert torch.allclose(lg.singular_values(P, 5).double() / scale, singular[:5], rtol=tolerance)
            assert lg.spectral_radius(P) / scale == pytest.approx(float(values), rel=tolerance)
            hubs = lg.hits(P).hubs
            assert torch.allclose(hubs, lg.hits(G).hubs, atol=tolerance * float(hubs.max()))


def test_the_spectrum_of_a_chain_of_cycles_is_that_of_the_cycles():
    for P in (chain_of_cycles(5), Implicit(chain_of_cycles(5)), chain_of_cycles(5).T):
        assert lg.spectral_radius(P) == pytest.approx(1, rel=1e-14)
        values = lg.eigenvalues(P, 15)
        roots = torch.exp(2j * torch.pi * torch.arange(3) / 3).to(values.dtype).repeat(5)
        assert torch.allclose(torch.sort(values.imag).values, torch.sort(roots.imag).values, atol=1e-12)
        assert torch.allclose(values**3, torch.ones(15, dtype=values.dtype))


def test_large_irreducible_parts_are_iterated():
    one, other = random_graph(300, 3000, seed=1), random_graph(280, 2800, seed=2)
    bridge = torch.tensor([[0], [300]])
    index = torch.cat([one.edge_index, other.edge_index + 300, bridge], 1)
    G = lg.GraphCoupling(index, torch.cat([one.weight, other.weight, torch.ones(1).double()]))
    values = torch.linalg.eigvals(G.to_dense()).abs().sort(descending=True).values
    assert torch.allclose(lg.eigenvalues(G, 4).abs(), values[:4])


@pytest.mark.parametrize("metric", [lg.singular_values, lg.singular_triplets, lg.eigenvalues, lg.laplacian_eigenvalues])
@pytest.mark.parametrize(("n", "k"), [(3, 4), (3, 0), (0, 1)])
def test_sizes_that_do_not_fit(metric, n, k):
    with pytest.raises(ValueError, match=f"k={k}, but a coupling of {n} nodes has"):
        metric(empty(n), k)


def test_graphs_of_nothing():
    assert lg.spectral_radius(empty()) == lg.spectral_norm(empty()) == 0
    assert lg.spectral_norm(empty(2)) == 0
    assert math.isnan(lg.stable_rank(empty()))
    assert math.isnan(lg.stable_rank(empty(2)))
    assert math.isnan(lg.spectral_gap(empty(1)))
    assert math.isnan(lg.spectral_gap(empty(2)))
    assert lg.is_acyclic(empty())
    assert lg.singular_values(empty(3), 3).tolist() == [0, 0, 0]
    assert lg.laplacian_eigenvalues(empty(3), 2).tolist() == [0, 0]


def test_negative_couplings_have_no_normalised_laplacian():
    G = random_graph(10, 30, signed=True)
    for P in (G, Implicit(G)):
        with pytest.raises(NegativeCouplingError, match="Laplacian"):
            lg.laplacian_eigenvalues(P, 2)


def test_overflow_is_named():
    index = torch.tensor([[0], [1]]).expand(2, 100)
    G = lg.GraphCoupling(index, torch.full((100,), 1.7e308, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="singular values"):
        lg.singular_values(G, 1)
    cycle = lg.GraphCoupling(torch.tensor([[0, 1, 0], [1, 0, 0]]), torch.full((3,), 1e200, dtype=torch.float64))
    assert float(lg.singular_values(cycle, 1)) == pytest.approx(1e200 * (1 + math.sqrt(5)) / 2)


def test_what_does_not_converge_raises():
    with pytest.raises(ConvergenceError, match="max_iter") as caught:
        lg.singular_values(random_graph(500, 5000, signed=True), 10, max_iter=1)
    assert (caught.value.iterations, caught.value.tolerance) == (1, 1e-10)


@settings(max_examples=60)
@given(graphs(smallest=2, signed=True))
def test_derived_operators(G):
    dense, n = G.to_dense(), G.num_nodes
    left, right = torch.randn(2, n, dtype=torch.float64)
    nodes = torch.rand(n) < 0.6
    expected = {
        symmetrized(G): (dense + dense.mT) / 2,
        normal(G): dense.mT @ dense,
        rescaled(G, left, right): left[:, None] * dense * right,
        restricted(G, nodes): dense[nodes][:, nodes],
    }
    for operator, matrix in expected.items():
        V = torch.randn(len(matrix), 2, dtype=torch.float64)
        assert torch.allclose(operator @ V, matrix @ V)
        assert torch.allclose(operator.T @ V, matrix.mT @ V)
        assert np.allclose(operator.to_scipy() @ V.numpy(), (matrix @ V).numpy())
        with pytest.raises(UnsupportedOperationError):
            operator.absolute_total()
