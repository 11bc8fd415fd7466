"""Starts that are none, and flows that come to no rest."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.integrate import solve_ivp

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.system import System
from linegraph.errors import ConvergenceWarning, DataError, IntegrationError, NonFiniteError
from tests.dynamics.reference import MODELS, lsoda, ring, vector


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
    assert [float(end), float(alone)] == pytest.approx([math.exp(-3)] * 2, rel=1e-7)


def test_starts_are_arrays_of_any_kind():
    x = np.array([0.1, 0.2, 0.3])
    expected = dynamics.trajectory(ring(3), dynamics.SIS(), vector(x), [0.0, 1.0])
    fixed = x.copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for start in (x, fixed, x[::-1].copy()[::-1], pd.Series(x, index=[7, 8, 9]), list(x), torch.from_numpy(x)):
            torch.testing.assert_close(dynamics.trajectory(ring(3), dynamics.SIS(), start, [0.0, 1.0]), expected)
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
        (np.eye(3), "lg.from_scipy"),
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
            with pytest.raises(error, match=f"expected a coupling or a graph .*, got .* {way}"):
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
        with pytest.raises(DataError, match=r"[ra]tol"):
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
