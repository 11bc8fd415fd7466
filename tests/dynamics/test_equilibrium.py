import json
import math
import warnings

import igraph
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics import union
from linegraph.dynamics.system import System
from linegraph.errors import ConvergenceWarning, DataError, IntegrationError, NonFiniteError
from tests.dynamics.reference import MODELS, lsoda, mutualistic, random_network, regulatory, vector
from tests.dynamics.test_models import Bare, small_network


def load(shared, name):
    matrix = sp.load_npz(shared / f"data/resilience/{name}.npz")
    entry = json.loads((shared / "data/resilience/published.json").read_text())[f"{name}.npz"]
    return lg.from_scipy(matrix), matrix.toarray(), entry


def ring(n, weight=1.0):
    nodes = torch.arange(n)
    return lg.GraphCoupling(torch.stack([nodes, nodes.roll(-1)]), torch.full((n,), weight, dtype=torch.float64))


# published networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PLANT_ANT_WEBS_Bluthgen_2004_A", "PLANT_ANT_WEBS_Bluthgen_2004_P"])
def test_published_webs(shared, name):
    P, A, published = load(shared, name)
    own, model = published["recomputed"], dynamics.Mutualistic()
    for start in ("high", "low"):
        found = dynamics.equilibrium(P, model, start)
        assert found.converged
        assert found.residual <= 1e-8
        assert found.stable is True
        x = found.x.numpy()
        neighbours = ((A @ x) / A.sum(1)).mean()
        reduced = dynamics.reduce(P, found.x)
        assert reduced.beta_eff == pytest.approx(published["beta_eff"], rel=5e-5)
        assert x.mean() == pytest.approx(published[f"mean_x_{start}"], rel=5e-5)
        assert neighbours == pytest.approx(published[f"x_nn_{start}"], rel=5e-5)
        assert x.mean() == pytest.approx(own[f"mean_x_{start}"], rel=1e-6)
        assert neighbours == pytest.approx(own[f"x_nn_{start}"], rel=1e-6)
        assert reduced.x_eff == pytest.approx(own[f"x_eff_{start}"], rel=1e-6)
        theory = dynamics.mean_field_state(model, reduced.beta_eff, start)
        assert theory == pytest.approx(own[f"x_1d_{start}"], rel=1e-6)


def test_published_gene_network_comes_to_rest_exactly_at_a_fold(shared):
    P, _, published = load(shared, "TECB_core")
    own, model = published["recomputed"], dynamics.Regulatory()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        found = dynamics.equilibrium(P, model, "high")
    assert found.converged
    assert (found.stability, found.stable) == ("marginal", None)
    assert abs(found.leading_eigenvalue) < 1e-5
    assert float(found.x.mean()) == pytest.approx(own["mean_x_high_limit"], rel=1e-6)
    reduced = dynamics.reduce(P, found.x)
    assert reduced.x_eff == pytest.approx(own["x_eff_high_limit"], rel=1e-6)
    assert reduced.beta_eff == pytest.approx(published["beta_eff"], rel=1e-12)
    assert dynamics.mean_field_state(model, reduced.beta_eff, "high") == pytest.approx(own["x_1d_high"], rel=1e-6)
    pair = found.x[(found.x - 1).abs() < 0.1]
    torch.testing.assert_close(pair, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    # What is published is the state at a finite time, on the way there.
    late = dynamics.trajectory(P, model, "high", [0, 300, 400])
    assert float(late[1].mean()) == pytest.approx(own["mean_x_high_t300"], rel=1e-6)
    assert float(late[2].mean()) == pytest.approx(own["mean_x_high"], rel=1e-6)
    assert float(late[2].mean()) == pytest.approx(published["mean_x_high"], rel=1e-4)


def test_whole_gene_network(shared):
    P, A, _ = load(shared, "TECB")
    for start in (2.0, 5.0):
        found = dynamics.equilibrium(P, dynamics.Regulatory(), start)
        assert found.stable is True
        assert float(found.x.mean()) == pytest.approx(0.0960, abs=5e-5)
        J = System(P, dynamics.Regulatory()).jacobian(found.x).to_dense()
        assert found.leading_eigenvalue == pytest.approx(torch.linalg.eigvals(J).real.max().item(), abs=1e-6)
    sparse = sp.csr_array(A)
    np.testing.assert_allclose(found.x.numpy(), lsoda(lambda A, x: regulatory(sparse, x), A, 5.0, 100), atol=1e-6)


@pytest.mark.parametrize("name", ["PLANT_ANT_WEBS_Bluthgen_2004_A", "PLANT_ANT_WEBS_Bluthgen_2004_P"])
def test_bistability_of_the_webs_where_the_theory_has_it(shared, name):
    """Scaled down, low and high start differ; the tipping point of the theory lies between the two regimes."""
    P, A, _ = load(shared, name)
    model = dynamics.Mutualistic()
    (tipping,) = dynamics.tipping_points(model)
    whole = float(lg.capacitance(P))
    split = []
    for beta in (0.4 * tipping, 0.7 * tipping, 3 * tipping):
        scale = beta / whole
        scaled = lg.GraphCoupling(P.edge_index, P.weight * scale, num_nodes=P.num_nodes)
        low, high = (dynamics.equilibrium(scaled, model, start) for start in ("low", "high"))
        for found, start in ((low, 0.0), (high, 5.0)):
            assert found.converged
            assert found.stable is True
            np.testing.assert_allclose(found.x.numpy(), lsoda(mutualistic, A * scale, start), rtol=1e-6)
        states = [dynamics.reduce(scaled, found.x).x_eff for found in (low, high)]
        split.append(states[1] - states[0] > 1)
    assert split == [True, True, False]


# against LSODA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 15), scale=st.sampled_from([0.3, 1.0, 2.5]))
def test_steady_states_equal_lsoda(name, seed, n, scale):
    model, equations = MODELS[name]
    P, A = random_network(n, 4, seed, scale)
    random = np.random.default_rng(seed).random(n) * (1 if name == "sis" else 6)
    for start in (model.starts["low"], model.starts["high"], random):
        expected = lsoda(equations, A, start)
        if abs(equations(A, expected)).max() > 1e-9:
            continue  # so near a fold that LSODA has not arrived either
        found = dynamics.equilibrium(P, model, vector(start))
        assert found.converged
        np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 10))
def test_signed_weights_and_models_of_ones_own_equal_lsoda(seed, n):
    P, A = random_network(n, 3, seed, 0.5)
    found = dynamics.equilibrium(P, Bare(), 5.0)
    np.testing.assert_allclose(found.x.numpy(), lsoda(mutualistic, A, 5.0), rtol=1e-6, atol=1e-6)
    signs = np.where(np.random.default_rng(seed).random((n, n)) < 0.3, -1, 1)
    drive = np.random.default_rng(seed + 1).random(n)
    A = A * signs - np.diag(np.abs(A).sum(1) + 1)
    found = dynamics.equilibrium(lg.from_scipy(sp.csr_array(A)), dynamics.EdgeDynamics(vector(drive)), 0.0)
    np.testing.assert_allclose(found.x.numpy(), -np.linalg.solve(A, drive), rtol=1e-6, atol=1e-9)


def test_inhibition_by_negative_weights(shared):
    P, A = random_network(12, 5, 3, 0.8)
    signs = np.where(np.random.default_rng(0).random(A.shape) < 0.15, -0.3, 1)
    P = lg.from_scipy(sp.csr_array(A * signs))
    found = dynamics.equilibrium(P, dynamics.Neuronal(), "high")
    equations = MODELS["neuronal"][1]
    np.testing.assert_allclose(found.x.numpy(), lsoda(equations, A * signs, 10.0), rtol=1e-6, atol=1e-6)


def test_a_start_between_two_equilibria_follows_the_flow():
    """Two pairs, one pushed above the threshold and one below: enclosing states end apart."""
    pairs = lg.GraphCoupling(
        torch.tensor([[0, 1, 2, 3, 0], [1, 0, 3, 2, 2]]), torch.tensor([2.5, 2.5, 2.5, 2.5, 0.1]).double()
    )
    A = pairs.to_dense().numpy()
    for start in ([0.2, 1.5, 0.1, 0.9], [1.2, 0.1, 1.0, 0.2], [0.45, 0.56, 0.3, 0.6]):
        found = dynamics.equilibrium(pairs, dynamics.Regulatory(), vector(start))
        np.testing.assert_allclose(found.x.numpy(), lsoda(regulatory, A, start), rtol=1e-6, atol=1e-6)


def test_a_newton_step_does_not_leave_the_basin():
    """From this start Newton's method finds the other stable state, and the flow first comes nearer to that too."""
    rng = np.random.default_rng(300041)
    for number in range(4):
        n, scale = int(rng.integers(2, 22)), rng.choice([0.3, 0.6, 1, 1.5, 2.5])
        P, A = random_network(n, rng.choice([1.5, 3, 6]), 3000410 + number, scale)
        start = rng.random(n) * rng.choice([1, 4, 8])
        if n == 16:
            break
    expected = lsoda(MODELS["neuronal"][1], A, start)
    assert expected.mean() > 5
    found = dynamics.equilibrium(P, dynamics.Neuronal(), vector(start))
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [2 - 1e-6, 2 + 1e-6, 2 + 1e-3])
def test_near_a_fold(weight):
    """x = w x²/(1 + x²) has a double root at w = 2; just below it only 0 is left, behind a bottleneck."""
    found = dynamics.equilibrium(ring(3, weight), dynamics.Regulatory(), "high")
    expected = (weight + np.sqrt(weight**2 - 4)) / 2 if weight > 2 else 0.0
    assert found.converged
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_at_the_epidemic_threshold_the_infection_dies_out_marginally():
    found = dynamics.equilibrium(ring(4, 1.0), dynamics.SIS(), "high")
    assert found.converged
    assert found.stability == "marginal"
    assert float(found.x.max()) < 1e-6


class Bistable(dynamics.Dynamics):
    """Two stable states, 1 and −1, and diffusion."""

    def self_term(self, x):
        return x - x**3

    def pair_term(self, x, y):
        return y - x


@pytest.mark.parametrize(
    ("weight", "start"),
    [(0.5, [1.52, -1.03, -1.17, 1.38, -1.44, -0.78]), (1.0, [0.4, 0.13, -1.4, -1.67, 1.94, 1.57])],
)
def test_a_front_that_the_flow_passes_is_not_where_it_ends(weight, start):
    """Newton's method finds a stable front on the chain, towards which the flow moves for a while."""
    chain = nx.to_numpy_array(nx.path_graph(6)) * weight

    def equations(A, x):
        return x - x**3 + A @ x - A.sum(1) * x

    np.testing.assert_allclose(lsoda(equations, chain, start, 100), -1, atol=1e-8)
    found = dynamics.equilibrium(lg.from_scipy(sp.csr_array(chain)), Bistable(), vector(start))
    np.testing.assert_allclose(found.x.numpy(), -1, atol=1e-6)


def test_a_flow_that_ends_on_a_saddle_is_followed_to_it():
    """A stiff group that ends at 1, and a loner that stays at 0, which it would leave if it were not exactly there."""
    group = nx.to_numpy_array(nx.complete_graph(3))
    matrix = np.block([[group, np.zeros((3, 1))], [np.zeros((1, 4))]])
    start = [0.5, 1.5, 0.7, 0.0]
    found = dynamics.equilibrium(lg.from_scipy(sp.csr_array(matrix)), Bistable(), vector(start), max_evaluations=3000)
    assert found.converged
    assert found.stability == "unstable"
    torch.testing.assert_close(found.x, vector([1, 1, 1, 0]), atol=1e-8, rtol=0)


def test_an_epidemic_just_below_its_threshold_dies_out():
    """From an uneven start on a star; in a few thousand units of time the flow alone would not be there."""
    star = nx.to_numpy_array(nx.star_graph(9)) * 0.998 / 3
    found = dynamics.equilibrium(lg.from_scipy(sp.csr_array(star)), dynamics.SIS(), "low", max_evaluations=3000)
    assert found.converged
    assert float(found.x.max()) < 1e-8


def test_a_multiple_root_under_inhibition_is_reached_beyond_the_tolerance():
    """ẋ = −x² decays like a power of the time; |ẋ| is below the tolerance long before x is."""
    P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([-1e-3, 1e-3]).double())
    found = dynamics.equilibrium(P, dynamics.Regulatory(f=2, h=6), 1.0)
    assert found.converged
    assert float(found.x.max()) < 1e-6


# ends that lie close together -------------------------------------------------------------------------------


def complete(n, weight):
    return lg.from_scipy(sp.csr_array(weight * (np.ones((n, n)) - np.eye(n))))


def test_a_small_state_is_not_taken_for_the_unstable_0():
    """x² = 3w x/(1 + x) beside 0, which the nodes that start there leave at once."""
    weight = 1e-4
    found = dynamics.equilibrium(complete(4, weight), dynamics.Regulatory(f=2, h=1), vector([1.0, 0, 0, 0]), tol=1e-11)
    expected = (-1 + np.sqrt(1 + 12 * weight)) / 2
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6)
    assert found.stable is True


def test_a_small_part_is_decided_beside_a_large_one():
    """A pair with states of 100, and a pair whose two ends are 0 and 10⁻⁴."""
    edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    P = lg.GraphCoupling(edges, torch.tensor([1e4, 1e4, 1e-4, 1e-4]).double())
    model = dynamics.Regulatory(f=2, h=1)
    found = dynamics.equilibrium(P, model, vector([50.0, 50.0, 1.0, 0.0]), tol=1e-11)
    expected = (-1 + np.sqrt(1 + 4 * P.weight.numpy())) / 2
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 8, 13])
def test_states_in_other_units_are_the_same_states(seed):
    matrix = nx.to_numpy_array(nx.barabasi_albert_graph(20, 3, seed=1)) * 0.2
    P, start = lg.from_scipy(sp.csr_array(matrix)), np.random.default_rng(seed).random(20) * 2.5
    expected = dynamics.equilibrium(P, dynamics.Mutualistic(), vector(start), tol=1e-12).x
    np.testing.assert_allclose(expected.numpy(), lsoda(mutualistic, matrix, start), rtol=1e-6)
    for unit in (1e-6, 1e-3, 1e3):
        model = dynamics.Mutualistic(B=0.1 * unit, K=5 * unit, C=unit, D=5 * unit)
        found = dynamics.equilibrium(P, model, vector(start * unit), tol=1e-12 * unit)
        torch.testing.assert_close(found.x / unit, expected, rtol=1e-6, atol=0)


# stability --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "weights", "value", "verdict"),
    [
        (dynamics.Regulatory(h=0.5), [1.0, 1.0], np.inf, "unstable"),
        (dynamics.Regulatory(f=0.5), [1.0, 1.0], -np.inf, "stable"),
        (dynamics.Regulatory(f=0.5, h=0.5), [1.0, 1.0], np.nan, "unknown"),
        (dynamics.Regulatory(h=0.5), [1.0, 0.0], -1.0, "stable"),  # no cycle: the influence ends with its receiver
        (dynamics.Regulatory(h=0.5), [1.0, -1.0], np.nan, "unknown"),
    ],
)
def test_infinite_slopes_decide_stability_or_leave_it_unknown(model, weights, value, verdict):
    P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor(weights).double())
    found = dynamics.equilibrium(P, model, "low")
    assert found.leading_eigenvalue == pytest.approx(value, nan_ok=True)
    assert found.stability == verdict


def test_a_node_that_is_held_without_bound_leaves_the_others_to_themselves():
    """Node 0 is at 0, where −√x has no finite slope; the pair beside it is the one without it."""
    edges, weights = torch.tensor([[0, 1, 2, 1], [1, 2, 1, 0]]), torch.tensor([1.0, 3.0, 3.0, 0.0]).double()
    whole = dynamics.equilibrium(lg.GraphCoupling(edges, weights), dynamics.Regulatory(f=0.5), vector([0.0, 9.0, 9.0]))
    pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), weights[1:3])
    assert whole.leading_eigenvalue == pytest.approx(
        dynamics.equilibrium(pair, dynamics.Regulatory(f=0.5), 9.0).leading_eigenvalue, abs=1e-6
    )


@pytest.mark.parametrize("f", [1.2, 2, 3])
@pytest.mark.parametrize("start", [0.0, 1e-3, 2.0])
def test_a_multiple_root_is_marginal_from_wherever_it_is_approached(f, start):
    found = dynamics.equilibrium(ring(2, 0.1), dynamics.Regulatory(f=f, h=4), start)
    assert float(found.x.max()) < 1e-6
    assert found.stability == "marginal"


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 14), degree=st.floats(0.2, 4), acyclic=st.booleans())
def test_leading_eigenvalue_equals_the_dense_one(seed, n, degree, acyclic):
    _, A = random_network(n, degree, seed)
    A = np.tril(A, -1) if acyclic else A
    P = lg.from_scipy(sp.csr_array(A))
    found = dynamics.equilibrium(P, dynamics.Neuronal(), "high")
    J = System(P, dynamics.Neuronal()).jacobian(found.x).to_dense().numpy()
    # The dense eigenvalues of an acyclic network, exactly −1, come back with the k-th root of a rounding.
    expected = J.diagonal().max() if acyclic else np.linalg.eigvals(J).real.max()
    assert found.leading_eigenvalue == pytest.approx(expected, abs=1e-6)


def test_leading_eigenvalue_of_large_components_is_iterative():
    P, _ = random_network(700, 6, 0)
    found = dynamics.equilibrium(P, dynamics.Regulatory(), "high")
    J = System(P, dynamics.Regulatory()).jacobian(found.x).to_dense().numpy()
    assert found.leading_eigenvalue == pytest.approx(np.linalg.eigvals(J).real.max(), abs=1e-6)
    assert found.stable is True


def test_a_start_on_an_unstable_equilibrium_stays_and_says_so():
    found = dynamics.equilibrium(ring(5, 3.0), dynamics.SIS(), 0.0)
    assert found.converged
    assert (found.stability, found.stable) == ("unstable", False)
    assert found.leading_eigenvalue == pytest.approx(2.0)


def test_a_network_in_training_is_judged_without_its_graph(monkeypatch):
    P = small_network()
    monkeypatch.setattr(lg.NeuralCoupling, "to_graph", None)
    with pytest.warns(ConvergenceWarning):
        found = dynamics.equilibrium(P, dynamics.EdgeDynamics(P.drive()), P.weights(), max_evaluations=300)
    assert not found.converged
    assert found.stability == "marginal"  # P is nilpotent


# batches ----------------------------------------------------------------------------------------------------


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
def test_nodes_that_lead_to_cycles(seed, n, edges):
    ends = np.random.default_rng(seed).integers(0, n, (2, edges))
    G = lg.GraphCoupling(torch.from_numpy(ends), torch.ones(edges).double(), num_nodes=n)
    kept, levels = union._leading_to_cycles(G)
    graph = G.to_networkx()
    on_cycles = {v for c in nx.strongly_connected_components(graph) for v in c if len(c) > 1 or graph.has_edge(v, v)}
    expected = on_cycles.union(*(nx.ancestors(graph, v) for v in on_cycles))
    assert set(kept.nonzero().squeeze(1).tolist()) == expected
    rest = graph.subgraph(set(graph) - expected)
    assert levels == (nx.dag_longest_path_length(rest) + 1 if len(rest) else 0)


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


# what can go wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_empty_and_disconnected_networks(name):
    model, equations = MODELS[name]
    empty = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.float64))
    found = dynamics.equilibrium(empty, model, "high")
    assert (found.x.shape, found.residual, found.converged, found.stable) == ((0,), 0.0, True, True)
    assert dynamics.equilibrium(empty, model, torch.empty(0, 3)).x.shape == (0, 3)
    lonely = lg.GraphCoupling(empty.edge_index, empty.weight, num_nodes=3)
    found = dynamics.equilibrium(lonely, model, "high")
    np.testing.assert_allclose(found.x.numpy(), lsoda(equations, np.zeros((3, 3)), model.starts["high"]), atol=1e-6)
    parts = ring(3, 4.0)
    apart = lg.GraphCoupling(parts.edge_index, parts.weight, num_nodes=5)
    found = dynamics.equilibrium(apart, model, "high")
    torch.testing.assert_close(found.x[:3], dynamics.equilibrium(parts, model, "high").x, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.x[3:], dynamics.equilibrium(lonely, model, "high").x[:2], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "start", "error", "message"),
    [
        (dynamics.Regulatory(), -0.5, DataError, r"node 0 is -0.5, outside the domain \[0, inf\] of Regulatory"),
        (dynamics.SIS(), torch.tensor([0.5, 1.5, 0.5]), DataError, r"node 1 is 1.5, outside the domain \[0, 1\]"),
        (dynamics.SIS(), torch.tensor([[0.5], [0.5], [-1]]), DataError, "node 2 is -1"),
        (dynamics.SIS(), float("nan"), NonFiniteError, "start of node 0 is NaN"),
        (dynamics.SIS(), np.full(3, 0.5 + 0.5j), DataError, "the start is complex"),
        (dynamics.SIS(), torch.ones(2), DataError, r"\(3,\) or \(3, k\), got \(2,\)"),
        (dynamics.SIS(), "middle", DataError, "SIS has no start 'middle', only 'low', 'high'"),
        (dynamics.EdgeDynamics(0.0), "low", DataError, "EdgeDynamics has no start 'low', only no named starts"),
    ],
)
def test_bad_starts_are_named(model, start, error, message):
    with pytest.raises(error, match=message):
        dynamics.equilibrium(ring(3), model, start)


def test_each_state_of_a_block_is_as_accurate_as_alone():
    """x = e^(−t) beside a thousand states at rest."""
    lonely = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), torch.empty(0).double(), num_nodes=1)
    block = torch.zeros(1, 1000).double()
    block[0, 7] = 1
    end = dynamics.trajectory(lonely, dynamics.Regulatory(), block, [0.0, 3.0])[-1, 0, 7]
    alone = dynamics.trajectory(lonely, dynamics.Regulatory(), 1.0, [0.0, 3.0])[-1, 0]
    assert float(end) == float(alone) == pytest.approx(math.exp(-3), rel=1e-7)


def test_starts_are_arrays_of_any_kind():
    x = np.array([0.1, 0.2, 0.3])
    expected = dynamics.trajectory(ring(3), dynamics.SIS(), vector(x), [0.0, 1.0])
    fixed = x.copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for start in (x, fixed, x[::-1].copy()[::-1], pd.Series(x, index=[7, 8, 9]), list(x), torch.from_numpy(x)):
            assert torch.equal(dynamics.trajectory(ring(3), dynamics.SIS(), start, [0.0, 1.0]), expected)
    assert x.tolist() == [0.1, 0.2, 0.3]


def test_tolerance_must_be_positive():
    for tol in (0.0, -1e-8, float("nan"), float("inf"), "1e-8", None):
        with pytest.raises(DataError, match="tol must be positive"):
            dynamics.equilibrium(ring(3), dynamics.SIS(), "high", tol=tol)
    for most in (0, -1, float("nan"), 10.5):
        with pytest.raises(DataError, match="max_evaluations must be 1 or more"):
            dynamics.equilibrium(ring(3), dynamics.SIS(), "high", max_evaluations=most)


@pytest.mark.parametrize(
    ("network", "way"),
    [
        (sp.eye_array(3), "lg.from_scipy"),
        (np.eye(3), "lg.from_scipy"),
        (nx.path_graph(3), "lg.from_networkx"),
        (igraph.Graph.Ring(3), "lg.from_igraph"),
        (torch.eye(3), "lg.GraphCoupling"),
        ("web.txt", "lg.GraphCoupling"),
        (None, "lg.GraphCoupling"),
        (3, "lg.GraphCoupling"),
    ],
)
def test_what_is_no_coupling_is_said(network, way):
    for call in (
        lambda: dynamics.equilibrium(network, dynamics.SIS(), "high"),
        lambda: dynamics.equilibrium([network], dynamics.SIS(), "high"),
        lambda: dynamics.trajectory(network, dynamics.SIS(), "high", [0, 1]),
        lambda: dynamics.reduce(network, torch.ones(3)),
        lambda: dynamics.perturb(network, nodes=1),
        lambda: dynamics.largest_component(network),
        lambda: dynamics.resilience_curve(network, dynamics.SIS(), "links", [0.5], 1),
    ):
        for error in (DataError, TypeError):
            with pytest.raises(error, match=f"expected a coupling or a PyG Data, got .* {way}"):
                call()


@pytest.mark.parametrize("view", ["data", "transpose"])
def test_networks_are_taken_as_data_and_transposed(view):
    matrix = torch.rand(6, 6, dtype=torch.float64) + 0.5
    P = lg.from_scipy(sp.csr_array(matrix.numpy()))
    given = P.to_pyg() if view == "data" else lg.from_scipy(sp.csr_array(matrix.T.numpy())).T
    model = dynamics.SIS()
    expected = dynamics.equilibrium(P, model, "high").x
    torch.testing.assert_close(dynamics.equilibrium(given, model, "high").x, expected)
    for found in dynamics.equilibrium([given, P], model, "high"):
        torch.testing.assert_close(found.x, expected)
    path = dynamics.trajectory(given, model, "high", [0.0, 1.0])
    torch.testing.assert_close(path, dynamics.trajectory(P, model, "high", [0.0, 1.0]))
    assert dynamics.reduce(given, expected) == pytest.approx(dynamics.reduce(P, expected))
    assert torch.equal(dynamics.perturb(given).to_dense(), matrix)
    assert dynamics.perturb(given, nodes=2).num_nodes == 4
    assert dynamics.largest_component(given).num_nodes == 6
    curve = dynamics.resilience_curve(given, model, "nodes", [0.0], 1, starts=["high"])
    assert curve["mean_x"].item() == pytest.approx(float(expected.mean()))


class Growing(dynamics.Dynamics):
    def self_term(self, x):
        return torch.ones_like(x)

    def pair_term(self, x, y):
        return 0 * x * y


class Exploding(dynamics.Dynamics):
    def self_term(self, x):
        return 1 + x * x

    def pair_term(self, x, y):
        return 0 * x * y


class Oscillating(dynamics.FactoredDynamics):
    """With the weights ±1 of a pair, x₀ = cos t."""

    def self_term(self, x):
        return torch.zeros_like(x)

    def self_slope(self, x):
        return torch.zeros_like(x)

    def sending(self, y):
        return torch.sin(y)

    def sending_slope(self, y):
        return torch.cos(y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Growing(), "grows without bound|still moves"),
        (Exploding(), "leaves the range of numbers|grows without bound|still moves"),
        (Oscillating(), "still moves"),
    ],
)
def test_no_equilibrium_is_said_and_the_best_state_flagged(model, message):
    pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor([1.0, -1.0]).double())
    with pytest.warns(ConvergenceWarning, match=message):
        found = dynamics.equilibrium(pair, model, vector([1.0, 0.5]), max_evaluations=3000)
    assert found.converged is False
    assert found.reason
    assert found.x.isfinite().all()
    assert found.residual == pytest.approx(System(pair, model)(found.x).abs().max().item())
    assert found.residual > 1e-8
    assert found.evaluations < 4000
    with pytest.warns(ConvergenceWarning, match="from 2 of 2 starts"):
        block = dynamics.equilibrium(pair, model, torch.rand(2, 2, dtype=torch.float64) + 0.3, max_evaluations=500)
    assert not block.converged.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_that_grow_do_not_excuse_what_moves_at_smaller_ones(dtype):
    """Rounding of late, large states is no bound for F at the start: x₀ = t, x₁ = t + t²/2 and so on never rest."""
    chain = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.ones(3, dtype=dtype))
    with pytest.warns(ConvergenceWarning, match="grows without bound"):
        found = dynamics.equilibrium(chain, dynamics.EdgeDynamics(1.0), 0.0)
    assert (found.converged, found.residual) == (False, 1.0)


def test_times_and_tolerances_that_no_flow_has_are_named():
    for times in ([0.0, math.inf], [-math.inf, 0.0], [0.0, math.nan]):
        with pytest.raises(DataError, match="finite numbers"):
            dynamics.trajectory(ring(3), dynamics.SIS(), "low", times)
    for bad in ({"rtol": math.nan}, {"rtol": -1e-8}, {"atol": math.inf}, {"rtol": 0, "atol": 0}):
        with pytest.raises(DataError, match="rtol and atol"):
            dynamics.trajectory(ring(3), dynamics.SIS(), "low", [0.0, 1.0], **bad)


def test_a_flow_that_leaves_the_domain_is_no_equilibrium():
    repelled = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([-4.0]).double())
    with pytest.warns(ConvergenceWarning, match="leaves the domain"):
        found = dynamics.equilibrium(repelled, dynamics.Neuronal(), vector([6.0, 1.0]))
    assert not found.converged


@pytest.mark.parametrize("name", ["regulatory", "sis", "neuronal"])
def test_a_flow_that_passes_the_end_of_the_domain_and_may_come_back_is_told(name):
    """Against LSODA on the same equations: where a node dips below 0 on the way, that is said, else the ends agree."""
    model, equations = MODELS[name]
    seen = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A = (rng.random((6, 6)) < 0.5) * rng.normal(size=(6, 6)) * (1.5 if name == "sis" else 3)
        P, start = lg.from_scipy(sp.csr_array(A)), rng.random(6) * (1 if name == "sis" else 4)
        high = 1 if name == "sis" else np.inf

        def outside(_, x, high=high):
            return min(x.min(), (high - x).min()) + 1e-6

        outside.terminal = True
        path = solve_ivp(lambda _, x, A=A: equations(A, x), (0, 60), start, "LSODA", rtol=1e-10, events=outside)
        left = path.status == 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = dynamics.equilibrium(P, model, vector(start))
        seen.add(left)
        if left:
            assert not found.converged
            assert "leaves the domain" in found.reason
            with pytest.raises(IntegrationError, match=r"leaves the domain .* node \d is at its end"):
                dynamics.trajectory(P, model, vector(start), [0.0, 60.0])
        elif found.converged:
            np.testing.assert_allclose(found.x.numpy(), lsoda(equations, A, start), atol=1e-6)
    assert True in seen


def test_a_rest_just_outside_the_domain_is_none():
    """The total of node 1 is −10⁻⁷ at rest."""
    P = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([-1e-7 * (1 + np.exp(3.5))]).double())
    with pytest.warns(ConvergenceWarning, match="node 1 is at its end and moves outward at 1e-07"):
        found = dynamics.equilibrium(P, dynamics.Neuronal(), "low")
    assert not found.converged
    assert float(found.x.min()) >= 0


def test_powers_meet_no_negative_states_on_the_way():
    """Nodes at 0, which the flow leaves at once: the stages of its first step would lie below."""
    A = np.array([[0, 40.0, 0, 0], [40, 0, 0, 45], [0, 0, 0, 33], [0, 45, 33, 0]])
    P, start = lg.from_scipy(sp.csr_array(A)), np.array([0, 0, 0.4, 0])

    def equations(A, x):
        power = np.maximum(x, 0) ** 1.5
        return -(np.maximum(x, 0) ** 2) + A @ (power / (1 + power))

    model, expected = dynamics.Regulatory(f=2, h=1.5), lsoda(equations, A, start)
    found = dynamics.equilibrium(P, model, vector(start))
    assert found.converged
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6)
    path = dynamics.trajectory(P, model, vector(start), [0.0, 10.0])
    np.testing.assert_allclose(path[-1].numpy(), expected, rtol=1e-6)


def test_a_state_that_reaches_0_in_finite_time_stays_there():
    """ẋ = −√x from 1: (1 − t/2)² until t = 2."""
    lonely = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), torch.empty(0).double(), num_nodes=1)
    path = dynamics.trajectory(lonely, dynamics.Regulatory(f=0.5), 1.0, [0.0, 1.0, 3.0])
    torch.testing.assert_close(path[:, 0], vector([1, 0.25, 0]), atol=1e-7, rtol=0)
