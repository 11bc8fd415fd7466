import warnings

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.system import System
from linegraph.errors import ConvergenceWarning
from tests.dynamics.reference import MODELS, load, lsoda, mutualistic, random_network, regulatory, ring, vector
from tests.dynamics.test_models import Bare

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
