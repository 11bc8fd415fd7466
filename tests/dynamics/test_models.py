import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.system import System
from linegraph.errors import DataError, NonFiniteError, UnsupportedOperationError
from tests.dynamics.reference import MODELS, random_network, vector

POWERS = dynamics.Regulatory(B=0.7, f=1.5, h=3.2)


def test_a_drive_is_a_number_or_one_for_every_node():
    with pytest.raises(DataError, match=r"a number or \(n,\), got \(3, 2\)"):
        dynamics.EdgeDynamics(torch.ones(3, 2))


class Bare(dynamics.Dynamics):
    """The mutualistic model as two functions and nothing else."""

    domain = (0.0, float("inf"))

    def self_term(self, x):
        return 0.1 + x * (1 - x / 5) * (x - 1)

    def pair_term(self, x, y):
        return x * y / (5 + 0.9 * x + 0.1 * y)


ALL = {name: model for name, (model, _) in MODELS.items()} | {
    "edges": dynamics.EdgeDynamics(0.3),
    "powers": POWERS,
    "bare": Bare(),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
def test_right_hand_side_equals_the_equations(name, seed, n):
    model, equations = MODELS[name]
    P, A = random_network(n, 4, seed)
    x = np.random.default_rng(seed).random(n) * (1 if name == "sis" else 4)
    np.testing.assert_allclose(System(P, model)(vector(x)).numpy(), equations(A, x), rtol=1e-12, atol=1e-13)


def test_parallel_edges_and_loops_count():
    P = lg.GraphCoupling(torch.tensor([[0, 0, 1], [1, 1, 1]]), torch.tensor([1.0, 2.0, 0.5]).double())
    A = np.array([[0, 0], [3, 0.5]])
    for model, equations in MODELS.values():
        x = np.array([0.3, 0.8])
        np.testing.assert_allclose(System(P, model)(vector(x)).numpy(), equations(A, x), rtol=1e-13)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_jacobian_equals_finite_differences(name, seed):
    torch.manual_seed(seed)
    P, _ = random_network(9, 4, seed)
    system, x = System(P, ALL[name]), 0.2 + 0.7 * torch.rand(9, dtype=torch.float64)
    J = system.jacobian(x)
    h = 1e-6
    columns = [(system(x + h * e) - system(x - h * e)) / (2 * h) for e in torch.eye(9, dtype=torch.float64)]
    torch.testing.assert_close(J.to_dense(), torch.stack(columns, 1), rtol=1e-7, atol=1e-8)
    v = torch.randn(9, dtype=torch.float64)
    torch.testing.assert_close(J.matvec(v), J.to_dense() @ v)


@pytest.mark.parametrize("name", ALL)
def test_written_derivatives_equal_automatic_ones(name):
    x, y = 0.1 + torch.rand(2, 50, dtype=torch.float64)
    model = ALL[name]
    torch.testing.assert_close(model.self_slope(x), dynamics.Dynamics.self_slope(model, x))
    for written, automatic in zip(model.pair_slopes(x, y), dynamics.Dynamics.pair_slopes(model, x, y), strict=True):
        torch.testing.assert_close(written, automatic)


@pytest.mark.parametrize("model", [MODELS["regulatory"][0], POWERS, MODELS["sis"][0], MODELS["neuronal"][0]])
def test_balance_is_where_the_velocity_vanishes(model):
    total = torch.rand(20, dtype=torch.float64) * 5
    x = model.balance(total)
    torch.testing.assert_close(model.velocity(x, total), torch.zeros_like(x), atol=1e-14, rtol=0)
    assert (model.balance(total + 1) > x).all()


@pytest.mark.parametrize("name", ["regulatory", "sis", "neuronal", "powers", "edges"])
def test_velocity_is_the_sum_of_its_factors(name):
    model, x = ALL[name], torch.rand(20, dtype=torch.float64)
    total = torch.rand(20, dtype=torch.float64)
    torch.testing.assert_close(model.velocity(x, total), model.self_term(x) + model.receiving(x) * total)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dynamics.Mutualistic(K=float("nan")), NonFiniteError, "K of Mutualistic is nan"),
        (lambda: dynamics.Mutualistic(D=0), DataError, "D of Mutualistic is 0; it must be positive"),
        (lambda: dynamics.Mutualistic(E=-1), DataError, "E of Mutualistic is -1; it must be 0 or more"),
        (lambda: dynamics.Regulatory(h=float("inf")), NonFiniteError, "h of Regulatory is inf"),
        (lambda: dynamics.SIS(B=-1), DataError, "B of SIS"),
        (lambda: dynamics.Neuronal(mu=float("nan")), NonFiniteError, "mu of Neuronal"),
        (lambda: dynamics.EdgeDynamics(torch.tensor([0.0, float("nan")])), NonFiniteError, "drive"),
    ],
)
def test_bad_parameters_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
    assert dynamics.Neuronal(mu=-1).mu == -1


def small_network():
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)
    data = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    return lg.NeuralCoupling(torch.nn.Sequential(*layers).double(), torch.nn.functional.mse_loss, data)


def test_edge_dynamics_on_a_network_never_builds_the_graph(monkeypatch):
    P = small_network()
    model = dynamics.EdgeDynamics(P.drive())
    torch.testing.assert_close(System(P, model)(P.weights()), -P.gradient())
    explicit = dynamics.trajectory(P.to_graph(), model, P.weights(), [0.0, 1.0, 3.0])
    monkeypatch.setattr(lg.NeuralCoupling, "to_graph", None)
    torch.testing.assert_close(dynamics.trajectory(P, model, P.weights(), [0.0, 1.0, 3.0]), explicit)


def test_a_model_that_needs_edges_says_so():
    with pytest.raises(UnsupportedOperationError, match=r"NeuralCoupling has none: use P.to_graph\(\)"):
        dynamics.equilibrium(small_network(), dynamics.Mutualistic(), 1.0)


def test_a_drive_of_the_wrong_length_is_named():
    P, _ = random_network(4, 2, 0)
    with pytest.raises(DataError, match="the drive has 3 entries, the state 4"):
        dynamics.trajectory(P, dynamics.EdgeDynamics(torch.ones(3)), 0.0, [0, 1])
