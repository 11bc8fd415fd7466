"""The right-hand side and its Jacobian, edge by edge, against loops over the edges and dense Jacobians of autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics import edges as edges_module
from linegraph.dynamics import system as system_module
from linegraph.dynamics.edges import blocks_of
from linegraph.dynamics.system import System
from tests.comparison import close


class Pulling(dynamics.Dynamics):
    """A pair term without a product form, whose slopes are left to automatic differentiation, with a parameter."""

    strength = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def self_term(self, x):
        return -(x**3)

    def pair_term(self, x, y):
        return self.strength.to(x.dtype) * torch.sin(y - x) + x / (1 + y**2)


class Given(dynamics.Dynamics):
    """A pair term that is a plain number."""

    def self_term(self, x):
        return -x

    def pair_term(self, x, y):
        return 3.0


PAIRWISE = {"mutualistic": dynamics.Mutualistic(), "by autograd": Pulling(), "a number": Given()}
FACTORED = {"sis": dynamics.SIS(), "regulatory": dynamics.Regulatory(), "edges": dynamics.EdgeDynamics(0.3)}


def graph(sources, targets, n, seed=0, dtype=torch.float64):
    """Edges of random weights of both signs."""
    edges = torch.tensor([sources, targets]).long().reshape(2, -1)
    weight = torch.randn(edges.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lg.GraphCoupling(edges, weight.to(dtype), num_nodes=n)


GRAPHS = {
    "no nodes": graph([], [], 0),
    "no edges": graph([], [], 4),
    "one loop": graph([1], [1], 3),
    "loops and parallel edges": graph([0, 0, 0, 1, 2, 2, 4], [1, 1, 1, 1, 2, 2, 1], 6),
    "a hub that receives": graph([*range(12), 0], [*[5] * 12, 3], 13),
    "a hub that sends": graph([4] * 11, [*range(11)], 11),
    "most nodes alone": graph([3, 90, 41], [90, 41, 3], 100),
    "more parallel edges than are kept": graph([0, 1, 2] * 70, [1, 2, 2] * 70, 3),
}


def states(n, *columns, dtype=torch.float64):
    return 0.2 + 2 * torch.rand(n, *columns, generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(dtype)


def right_hand_side(P, model, x):
    """F(x) by a loop over the edges, which autograd follows."""
    rate = list(model.self_term(x).expand_as(x).unbind())
    for (source, target), weight in zip(P.edge_index.T.tolist(), P.weight, strict=True):
        rate[target] = rate[target] + weight * model.pair_term(x[target], x[source])
    return torch.stack(rate) if rate else torch.zeros_like(x)


BLOCKS = [(1, True), (2, False), (6, True), (7, False), (8, True), (1 << 15, True), (1 << 15, False)]


@pytest.fixture(params=BLOCKS, ids=lambda given: f"blocks of {given[0]}, sums by {'a matrix' * given[1] or 'edge'}")
def block(request, monkeypatch):
    """Sizes of blocks before, at and after the numbers of edges and of nodes above."""
    size, by_matrix = request.param
    monkeypatch.setattr(edges_module, "BLOCK", size)
    monkeypatch.setattr(edges_module, "SUMMED_BY_MATRIX", 0 if by_matrix else 1 << 30)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return size


@pytest.mark.parametrize("model", PAIRWISE.values(), ids=PAIRWISE)
@pytest.mark.parametrize("P", GRAPHS.values(), ids=GRAPHS)
def test_the_sum_over_edges_equals_a_loop(P, model, block):
    x = states(P.num_nodes)
    found = System(P, model)(x)
    assert not found.requires_grad
    close(found, right_hand_side(P, model, x).detach(), 1e-12)


@pytest.mark.parametrize("model", (PAIRWISE | FACTORED).values(), ids=PAIRWISE | FACTORED)
@pytest.mark.parametrize("P", GRAPHS.values(), ids=GRAPHS)
def test_products_with_the_jacobian_equal_those_of_autograd(P, model, block):
    x, v = states(P.num_nodes), torch.randn(P.num_nodes, dtype=torch.float64)
    expected = torch.zeros(0, 0, dtype=torch.float64)
    if len(x):
        expected = torch.autograd.functional.jacobian(lambda x: right_hand_side(P, model, x), x)
    J = System(P, model).jacobian(x)
    close(J.matvec(v), expected @ v, 1e-11)
    close(J.rmatvec(v), expected.T @ v, 1e-11)
    close(J.to_dense(), expected, 1e-11)
    close(J.diagonal + J.senders.to_dense().diagonal(), expected.diagonal(), 1e-11)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 9), edges=st.integers(0, 40), name=st.sampled_from(sorted(PAIRWISE))
)
def test_random_multigraphs(seed, n, edges, name):
    torch.manual_seed(seed)
    P, model = graph(*torch.randint(n, (2, edges)).tolist(), n, seed), PAIRWISE[name]
    x, u, v = states(n), torch.randn(n).double(), torch.randn(n).double()
    close(System(P, model)(x), right_hand_side(P, model, x).detach(), 1e-12)
    J = System(P, model).jacobian(x)
    close(u @ J.matvec(v), J.rmatvec(u) @ v, 1e-11)


@pytest.mark.parametrize("model", PAIRWISE.values(), ids=PAIRWISE)
@pytest.mark.parametrize("k", [0, 1, 3])
def test_many_states_at_once_equal_one_after_another(model, k, block):
    for P in GRAPHS.values():
        wide = states(P.num_nodes, 2 * k)
        for x in (wide[:, :k], wide[:, ::2]):  # contiguous and not
            found = System(P, model)(x)
            assert found.shape == x.shape
            for rate, state in zip(found.unbind(1), x.unbind(1), strict=True):
                close(rate, System(P, model)(state), 1e-13)


@pytest.mark.parametrize("model", PAIRWISE.values(), ids=PAIRWISE)
def test_single_precision_stays_single(model):
    P = graph([0, 2, 1, 1], [1, 1, 2, 0], 3)
    x = states(3)
    found, J = (f(x.float()) for f in (System(P.to(torch.float32), model), System(P.to(torch.float32), model).jacobian))
    assert found.dtype == J.matvec(x.float()).dtype == J.rmatvec(x.float()).dtype == torch.float32
    close(found.double(), System(P, model)(x), 1e-6)
    close(J.matvec(x.float()).double(), System(P, model).jacobian(x).matvec(x), 1e-6)


def test_transposed_graphs_and_inference_mode():
    P = GRAPHS["loops and parallel edges"]
    turned = lg.GraphCoupling(P.edge_index.flip(0), P.weight, num_nodes=P.num_nodes)
    x = states(6)
    with torch.inference_mode():
        found = System(P.T, Pulling())(x), System(P.T, Pulling()).jacobian(x).to_dense()
    close(found[0], System(turned, Pulling())(x), 1e-12)
    close(found[1], System(turned, Pulling()).jacobian(x).to_dense(), 1e-12)


def test_an_edge_of_weight_0_has_no_influence_on_the_jacobian():
    class Rooted(dynamics.Dynamics):
        def self_term(self, x):
            return -x

        def pair_term(self, x, y):
            return torch.sqrt(x * y)

    P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0.0, 2.0]).double())
    J = System(P, Rooted()).jacobian(torch.tensor([4.0, 0.0]).double())
    assert J.diagonal[1] == -1  # the slope of √(x_0 x_1) by x_1 is infinite at 0
    assert J.senders.to_dense()[1].tolist() == [0, 0]
    assert J.senders.to_dense()[0, 1] == math.inf


def test_a_pair_term_sees_one_block_at_a_time(block):
    longest = 0

    class Watched(Pulling):
        def pair_term(self, x, y):
            nonlocal longest
            assert x.ndim == 1
            longest = max(longest, len(x))
            return super().pair_term(x, y)

    P = graph([*range(20), 3], [5] * 21, 20)  # one parallel edge
    System(P, Watched())(states(20, 2))
    System(P, Watched()).jacobian(states(20))
    assert longest == min(block, 20)
    assert sum(len(edges.weight) for edges in blocks_of(P)) == 20


@pytest.mark.parametrize("model", [dynamics.Mutualistic(), Pulling()])
def test_steps_do_not_depend_on_blocks(model, monkeypatch):
    P = graph(*torch.randint(40, (2, 90)).tolist(), 40)
    P = P.with_edges(P.edge_index, P.weight.abs())
    x = states(40, 3)
    system = System(P, model)
    whole, alone = system.step(x, system.totals(x)), system.step(x[:, 0], system.totals(x)[:, 0])
    close(alone, whole[:, 0], 1e-13)
    monkeypatch.setattr(system_module, "BLOCK", 7)
    close(system.step(x, system.totals(x)), whole, 1e-13)
    close(system.step(x[:, 0], system.totals(x)[:, 0]), alone, 1e-13)


def test_steps_never_pass_the_next_zero():
    """For totals that are held, the velocity keeps its sign on the way from x to x + step."""
    P, system_of = GRAPHS["no edges"], dynamics.Mutualistic()
    system = System(P, system_of)
    x, totals = torch.tensor([0.0, 0.4, 3.0, 60.0]).double(), torch.tensor([0.0, 0.2, 5.0, 0.1]).double()
    step, velocity = system.step(x, totals), system.velocity(x, totals)
    assert (step * velocity > 0).all()
    for share in torch.linspace(0, 1, 50, dtype=torch.float64):
        assert (system.velocity(x + share * step, totals) * velocity >= -1e-9).all()
