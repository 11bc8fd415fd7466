import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import nn

import linegraph as lg
from linegraph.errors import AmbiguousSolutionError, ConvergenceError
from tests.comparison import close
from tests.metrics.graphs import Implicit, chain_of_cycles, empty, graphs, in_order, layered, random_graph


# igraph 1.0 mistakes hubs for authorities on two nodes.
@settings(max_examples=60)
@given(graphs(smallest=3, loops=False))
def test_hits_equals_networkx_and_igraph(G):
    assume(G.num_edges)
    singular = torch.linalg.svdvals(G.to_dense())
    assume(singular[1] < 0.99 * singular[0])
    found = lg.hits(G)
    hubs, authorities = nx.hits(G.to_networkx(), tol=1e-15, max_iter=10_000)
    close(found.hubs, in_order(hubs, G.num_nodes), 1e-8)
    close(found.authorities, in_order(authorities, G.num_nodes), 1e-8)
    graph = G.to_igraph()
    close(found.hubs / found.hubs.max(), graph.hub_score(weights="weight"), 1e-8)
    close(found.authorities / found.authorities.max(), graph.authority_score(weights="weight"), 1e-8)


def test_hits_of_a_tied_graph_are_those_of_equal_first_scores():
    twins = lg.GraphCoupling(torch.tensor([[0, 1, 3, 4], [2, 2, 5, 5]]), torch.ones(4).double())
    expected = torch.tensor([0.25, 0.25, 0, 0.25, 0.25, 0], dtype=torch.float64)
    assert torch.allclose(lg.hits(twins).hubs, expected)
    iterated = torch.ones(6).double()
    for _ in range(50):
        iterated = twins.rmatvec(twins @ iterated)
        iterated /= iterated.sum()
    assert torch.allclose(lg.hits(twins).hubs, iterated)


def test_hits_by_conjugate_gradients_on_a_larger_graph():
    G = random_graph(400, 4000)
    found = lg.hits(Implicit(G))
    graph = G.to_igraph()
    close(found.hubs / found.hubs.max(), graph.hub_score(weights="weight"), 1e-8)
    close(found.authorities / found.authorities.max(), graph.authority_score(weights="weight"), 1e-8)


class Channels(Implicit):
    """Blocks of a bipartite graph, of which one leads by little; its components may be told, or told wrong."""

    def __init__(self, leads_by, blocks=100, size=4, components=None):
        rows, columns, weights = [], [], []
        generator = torch.Generator().manual_seed(0)
        for block in range(blocks):
            first = 2 * size * block
            pairs = torch.cartesian_prod(torch.arange(size), torch.arange(size, 2 * size)) + first
            values = torch.rand(size * size, generator=generator, dtype=torch.float64) + 1
            values /= torch.linalg.svdvals(values.view(size, size))[0]
            rows.append(pairs[:, 0])
            columns.append(pairs[:, 1])
            weights.append(values * (1 + leads_by * (block == 7)))
        index = torch.stack([torch.cat(columns), torch.cat(rows)])
        super().__init__(lg.GraphCoupling(index, torch.cat(weights), num_nodes=2 * size * blocks))
        self._columns = self.graph.column_components() if components is None else components

    def column_components(self):
        return self._columns


def scores_by_blocks(P, leading):
    """Singular vectors of the leading blocks, from LAPACK, each as the ones have it."""
    dense = P.graph.to_dense()
    hubs, authorities = torch.zeros(2, P.num_nodes, dtype=torch.float64)
    for block in leading:
        rows, columns = slice(8 * block, 8 * block + 4), slice(8 * block + 4, 8 * block + 8)
        left, values, right = torch.linalg.svd(dense[rows, columns])
        hubs[columns] = right[0] * right[0].sum()
        authorities[rows] = left[:, 0] * right[0].sum().abs() * left[:, 0].sum().sign() * values[0]
    return hubs / hubs.sum(), authorities / authorities.sum()


@pytest.mark.parametrize("leads_by", [1e-2, 1e-4, 1e-6])
def test_hits_of_many_channels_take_a_few_steps(leads_by):
    P = Channels(leads_by)
    found, (hubs, authorities) = lg.hits(P), scores_by_blocks(P, [7])
    close(found.hubs, hubs, 1e-8)
    close(found.authorities, authorities, 1e-8)
    assert P.products < 30
    whole = Implicit(P.graph)  # the same, with nothing known of components
    close(lg.hits(whole).hubs, hubs, 1e-8)
    assert whole.products > P.products


def test_hits_of_tied_channels():
    P = Channels(0.0)
    found, (hubs, authorities) = lg.hits(P), scores_by_blocks(P, range(100))
    close(found.hubs, hubs, 1e-8)
    close(found.authorities, authorities, 1e-8)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hits_of_a_symmetric_graph_with_two_sides(told, dtype):
    tree = nx.balanced_tree(2, 8)  # its Krylov spaces are small, its largest singular value is one of either side
    edges = torch.tensor([*tree.edges, *((v, u) for u, v in tree.edges)]).T
    G = lg.GraphCoupling(edges, torch.ones(edges.shape[1], dtype=dtype))
    matrix = nx.to_numpy_array(tree)
    values, vectors = np.linalg.eigh(matrix @ matrix)
    tied = vectors[:, values > values[-1] * (1 - 1e-9)]
    assert tied.shape[1] == 2
    expected = torch.from_numpy(tied @ tied.sum(0)).to(dtype)
    found = lg.hits(G if told else Implicit(G)).hubs
    assert torch.allclose(found, expected / expected.sum(), atol=0, rtol=1e-8 if dtype == torch.float64 else 1e-4)


def test_hits_where_the_components_told_are_not_those_of_the_coupling():
    halves = Channels(1e-2).graph.column_components().clone()
    halves[1::2] += 1000
    wrong = Channels(1e-2, components=halves)
    close(lg.hits(wrong).hubs, scores_by_blocks(wrong, [7])[0], 1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_hits_of_a_network_in_half_precision(dtype):
    """Products carry three digits, and below 6e-8 none; so many digits the scores have."""
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 4)).to(dtype)
    x, y = torch.randn(16, 12).to(dtype), torch.randn(16, 4).to(dtype)

    def couple(x, y):
        return lg.NeuralCoupling(model.to(x.dtype), F.mse_loss, (x, y), kind="magnitude")

    P = couple(x, y)
    found = lg.hits(P)
    with pytest.raises(ConvergenceError):
        lg.hits(P, tol=1e-7, max_iter=200)
    dense = couple(x.double(), y.double()).to_graph().to_dense()
    hubs = torch.linalg.svd(dense)[2][0].abs()
    for scores, expected in ((found.hubs, hubs), (found.authorities, dense @ hubs)):
        expected = expected / expected.sum()
        assert float((scores - expected).abs().max() / expected.max()) < torch.finfo(dtype).eps


def test_hits_of_nothing():
    assert len(lg.hits(empty()).hubs) == 0
    with pytest.raises(AmbiguousSolutionError, match="all couplings are 0"):
        lg.hits(empty(3))


@settings(max_examples=60)
@given(graphs(smallest=3), st.randoms(use_true_random=False))
def test_eigenvector_centrality_equals_networkx_and_igraph(G, chance):
    # A ring through all nodes makes the graph strongly connected, which igraph and networkx need.
    ring = torch.arange(G.num_nodes)
    index = torch.cat([G.edge_index, torch.stack([ring, ring.roll(1)])], 1)
    G = lg.GraphCoupling(index, torch.cat([G.weight, torch.ones(len(ring)).double()]))
    G = lg.from_scipy(G.to_scipy_sparse())  # parallel edges added up
    values = torch.linalg.eigvals(G.to_dense()).real.sort(descending=True).values
    assume(values[1] < 0.99 * values[0])
    found = lg.eigenvector_centrality(G)
    expected = nx.eigenvector_centrality_numpy(G.to_networkx(), weight="weight", tol=1e-14) if G.num_nodes > 3 else None
    if expected:
        assert np.allclose(found, in_order(expected, G.num_nodes), atol=1e-6)
    assert torch.allclose(G @ found, values[0] * found, rtol=1e-8, atol=1e-8)
    scores = np.array(G.to_igraph().eigenvector_centrality(weights="weight", directed=True))
    assert np.allclose(found / found.max(), scores / scores.max(), atol=1e-7)


def test_eigenvector_centrality_of_a_periodic_graph():
    G = lg.GraphCoupling(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    found = lg.eigenvector_centrality(G)
    assert torch.allclose(G @ found, 24**0.25 * found)


def test_eigenvector_centrality_by_arnoldi():
    G = random_graph(400, 4000)
    found = lg.eigenvector_centrality(Implicit(G))
    scores = np.array(G.to_igraph().eigenvector_centrality(weights="weight", directed=True))
    assert np.allclose(found / found.max(), scores, atol=1e-7)


def test_eigenvector_centrality_that_does_not_exist():
    with pytest.raises(AmbiguousSolutionError, match="acyclic"):
        lg.eigenvector_centrality(layered(2, 3, 2))
    two_rings = lg.GraphCoupling(torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]), torch.ones(4).double())
    with pytest.raises(AmbiguousSolutionError, match="tied"):
        lg.eigenvector_centrality(two_rings)
    with pytest.raises(AmbiguousSolutionError, match="acyclic"):
        lg.eigenvector_centrality(empty(2))
    loop = lg.GraphCoupling(torch.tensor([[0], [0]]), torch.ones(1).double())
    assert lg.eigenvector_centrality(loop).tolist() == [1.0]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_eigenvector_centrality_of_tied_cycles_in_a_chain_is_refused(count):
    for P in (chain_of_cycles(count), Implicit(chain_of_cycles(count)), chain_of_cycles(count).T):
        with pytest.raises(AmbiguousSolutionError, match="tied"):
            lg.eigenvector_centrality(P)


def test_eigenvector_centrality_follows_from_the_strongest_cycle():
    # A strong cycle before a weak one, and a node before both, which the strong one does not reach.
    index = torch.tensor([[0, 1, 2, 3, 0, 4], [1, 0, 3, 2, 2, 0]])
    G = lg.GraphCoupling(index, torch.tensor([2.0, 2, 1, 1, 1, 7]).double())
    x = lg.eigenvector_centrality(G)
    assert torch.allclose(G @ x, 2 * x)
    assert x[4] == 0
    assert (x[:4] > 0).all()


def three_copies(dtype):
    generator = torch.Generator().manual_seed(1)
    block = torch.rand(4, 4, generator=generator, dtype=torch.float64)
    dense = torch.block_diag(*(block[order][:, order] for order in (torch.randperm(4) for _ in range(3))))
    return lg.from_scipy(csr_array(dense.to(dtype).numpy()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_are_seen_in_either_precision(dtype):
    for P in (three_copies(dtype), Implicit(three_copies(dtype))):
        with pytest.raises(AmbiguousSolutionError, match="tied"):
            lg.eigenvector_centrality(P)
        sums = lg.hits(P).hubs.reshape(3, 4).sum(1)
        assert torch.allclose(sums, torch.full((3,), 1 / 3, dtype=dtype))
