"""Several starts, and several copies of a network, together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.solvers import batches as union
from linegraph.dynamics.system import System
from linegraph.errors import DataError
from tests.dynamics.reference import MODELS, lsoda, random_network, ring


@pytest.mark.parametrize("name", MODELS)
def test_a_block_of_starts_equals_one_after_another(name):
    model, _ = MODELS[name]
    P, _ = random_network(20, 5, 1)
    starts = torch.rand(20, 4, dtype=torch.float64) * (1 if name == "sis" else 5)
    starts[:, 0] = model.starts["low"]
    block = dynamics.equilibrium(P, model, starts)
    assert block.x.shape == (20, 4)
    assert block.converged.all()
    assert block.residual.max() <= 1e-8
    assert len(block.stable) == len(block.leading_eigenvalue) == 4
    for column, start in enumerate(starts.T):
        alone = dynamics.equilibrium(P, model, start)
        torch.testing.assert_close(block.x[:, column], alone.x, atol=1e-6, rtol=1e-6)
        assert block.stable[column] == alone.stable


@pytest.mark.parametrize("name", MODELS)
def test_copies_together_equal_one_after_another(name):
    model, _ = MODELS[name]
    P, _ = random_network(25, 5, 2)
    copies = [dynamics.perturb(P, nodes=k, generator=torch.Generator().manual_seed(k)) for k in (0, 1, 5, 24, 25)]
    for start in ("low", "high", 0.7):
        together = dynamics.equilibrium(copies, model, start)
        for copy, found in zip(copies, together, strict=True):
            alone = dynamics.equilibrium(copy, model, start)
            assert found.converged is True
            torch.testing.assert_close(found.x, alone.x, atol=1e-6, rtol=1e-6)
            assert found.stable == alone.stable


def sparse_copies(seed, n, degree, columns):
    """Sparse directed networks, where long tails hang on few cycles or on none, and starts for every model on them."""
    rng = np.random.default_rng(seed)
    copies = []
    for size in (n, n + 3, 1):
        ends = torch.from_numpy(rng.integers(0, size, (2, int(degree * size))))
        copies.append(lg.GraphCoupling(ends, torch.from_numpy(rng.uniform(1, 4, ends.shape[1])), num_nodes=size))
    for model in (dynamics.Regulatory(), dynamics.Neuronal(), dynamics.Mutualistic()):
        starts = [torch.from_numpy(rng.uniform(0, 6, (copy.num_nodes, columns))) for copy in copies]
        yield model, copies, starts


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), degree=st.floats(0.3, 2.5), columns=st.integers(1, 2))
def test_copies_whose_nodes_mostly_lead_nowhere(seed, n, degree, columns):
    for model, copies, starts in sparse_copies(seed, n, degree, columns):
        for copy, start, found in zip(copies, starts, dynamics.equilibrium(copies, model, starts), strict=True):
            alone = dynamics.equilibrium(copy, model, start)
            assert found.converged.all()
            assert alone.converged.all()
            torch.testing.assert_close(found.x, alone.x, atol=1e-5, rtol=1e-5)
            residual = System(copy, model)(found.x).abs().amax(0)
            assert (residual <= 1e-7).all()
            torch.testing.assert_close(found.residual, residual, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("seed", "n", "degree"), [(367647305, 21, 2.8551284486104254), (26569859, 12, 1.5113975837185418)]
)
def test_a_root_that_the_flow_aims_at_is_not_where_it_ends(seed, n, degree):
    """Nodes that linger near a threshold before they rise: Newton's method finds the state in which they stay low."""
    for model, copies, starts in sparse_copies(seed, n, degree, 1 + (seed < 10**8)):
        for copy, start, found in zip(copies, starts, dynamics.equilibrium(copies, model, starts), strict=True):
            F = System(copy, model)
            for column, x in zip(found.x.unbind(1), start.unbind(1), strict=True):
                flow = solve_ivp(
                    lambda _, y, F=F: F(torch.from_numpy(y)).numpy(), (0, 1000), x.numpy(), method="LSODA", rtol=1e-9
                )
                end = torch.from_numpy(flow.y[:, -1])
                torch.testing.assert_close(column, end, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(dynamics.equilibrium(copy, model, x).x, end, atol=1e-5, rtol=1e-5)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), edges=st.integers(0, 60))
def test_nodes_that_lead_nowhere_are_set_aside_while_they_are_many(seed, n, edges):
    ends = np.random.default_rng(seed).integers(0, n, (2, edges))
    G = lg.GraphCoupling(torch.from_numpy(ends), torch.ones(edges).double(), num_nodes=n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(union, "PIECE", 1)
        kept, levels = union._leading_on(G)
    graph = G.to_networkx()
    left = set(graph)
    for _ in range(levels):
        leading = {v for v in left if any(w in left for w in graph.successors(v))}
        assert len(leading) <= 0.75 * len(left)
        left = leading
    assert set(kept.nonzero().squeeze(1).tolist()) == left
    assert not left or sum(any(w in left for w in graph.successors(v)) for v in left) > 0.75 * len(left)


def test_one_graph_is_brought_to_rest_on_the_nodes_that_others_depend_on(monkeypatch):
    """A cycle of two with a tree behind it, whose nodes need no sweeps."""
    tree = [(i // 2, i) for i in range(2, 64)]
    edges = torch.tensor([(1, 0), (0, 1), *tree]).T
    P = lg.GraphCoupling(edges, torch.full((64,), 3.0).double())
    swept = []

    class Counted(union.Sweeps):
        def __init__(self, system, starts, parts=None):
            swept.append(len(starts))
            super().__init__(system, starts, parts)

    monkeypatch.setattr(union, "Sweeps", Counted)
    found = dynamics.equilibrium(P, dynamics.Regulatory(), torch.rand(64, 2, dtype=torch.float64) * 4)
    assert swept == [2]
    assert found.converged.all()
    for x in found.x.unbind(1):
        torch.testing.assert_close(x, P @ (x**2 / (1 + x**2)), atol=1e-8, rtol=0)


def test_one_slow_copy_does_not_spoil_the_others():
    copies = [ring(4, 2.0), ring(4, 5.0), ring(3, 2 + 1e-7)]
    marginal, fast, slow = dynamics.equilibrium(copies, dynamics.Regulatory(), [2.0, 5.0, 2.0])
    assert marginal.stability == "marginal"
    torch.testing.assert_close(marginal.x, torch.ones(4).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(fast.x, torch.full((4,), (5 + 21**0.5) / 2, dtype=torch.float64), atol=1e-8, rtol=0)
    assert slow.converged
    with pytest.raises(DataError, match="3 graphs but 2 starts"):
        dynamics.equilibrium(copies, dynamics.Regulatory(), [1.0, 2.0])
    assert dynamics.equilibrium([], dynamics.Regulatory(), "high") == []


def test_single_precision_stops_at_its_rounding():
    P, A = random_network(30, 5, 4)
    P = lg.GraphCoupling(P.edge_index, P.weight.float(), num_nodes=30)
    for model, equations in MODELS.values():
        found = dynamics.equilibrium(P, model, "high")
        assert found.converged
        assert found.x.dtype == torch.float32
        np.testing.assert_allclose(found.x.numpy(), lsoda(equations, A, model.starts["high"]), rtol=1e-4, atol=1e-5)
