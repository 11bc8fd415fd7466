"""Models of one's own against the same equations edge by edge, with SciPy's integrators and root finders."""

import math
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.system import System
from linegraph.errors import ConvergenceWarning, DataError, DynamicsError
from tests.dynamics import own
from tests.dynamics.own import MODELS
from tests.dynamics.reference import vector

FACTORED = [name for name, one in MODELS.items() if isinstance(one.model, dynamics.FactoredDynamics)]


def graph(edges, n, dtype=torch.float64):
    sources, targets, weights = zip(*edges, strict=True)
    return lg.GraphCoupling(torch.tensor([sources, targets]), torch.tensor(weights, dtype=dtype), num_nodes=n)


def states(model, n, seed):
    rng = np.random.default_rng(seed)
    return 0.05 + 0.9 * rng.random(n) if model.domain[1] == 1 else rng.random(n) * 3 + 0.05


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_velocities_and_jacobians(name, seed):
    one, n = MODELS[name], 6
    edges, x = own.edges_of(one, n, seed), states(MODELS[name].model, n, seed)
    P = graph(edges, n)
    system = System(P, one.model)
    expected = own.velocity(one, edges, x)
    np.testing.assert_allclose(system(vector(x)).numpy(), expected, rtol=1e-12, atol=1e-13)
    block = system(vector(np.stack([x, 0.9 * x], 1))).numpy()
    np.testing.assert_allclose(block[:, 0], expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(block[:, 1], own.velocity(one, edges, 0.9 * x), rtol=1e-12, atol=1e-13)
    J, slopes = system.jacobian(vector(x)), own.jacobian(one, edges, x)
    np.testing.assert_allclose(J.to_dense().numpy(), slopes, rtol=1e-6, atol=1e-7)
    v = np.random.default_rng(seed).normal(size=n)
    np.testing.assert_allclose(J.matvec(vector(v)).numpy(), slopes @ v, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FACTORED)
def test_the_velocity_of_factored_models(name):
    """What a constant input does to a node; the base class is used by all of them but one."""
    one = MODELS[name]
    x, total = states(one.model, 9, 0), np.linspace(0.1, 3, 9)
    p = one.g(x, 1.0) / one.g(0.3, 1.0) * float(one.model.receiving(vector(0.3)))
    given = one.model.velocity(vector(x), vector(total)).detach().numpy()
    np.testing.assert_allclose(given, one.f(x) + p * total, rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("seed", "scale"), [(0, 0.4), (1, 1.5), (2, 4.0)])
def test_equilibria_and_their_stability(name, seed, scale):
    one, n = MODELS[name], 7
    scale = min(scale, 1.2) if name == "eager" else scale  # p = x² has no rest beyond
    edges = own.edges_of(one, n, seed, scale)
    P = graph(edges, n)
    starts = [one.model.starts["low"], one.model.starts["high"], states(one.model, n, seed)]
    for start in starts:
        begin = np.broadcast_to(start, n).astype(float)
        expected = own.flow(one, edges, begin, [0, 200, 400])[-1]
        if abs(own.velocity(one, edges, expected)).max() > 1e-8:
            continue  # oscillates
        found = dynamics.equilibrium(P, one.model, vector(begin))
        assert found.converged
        np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-6, atol=1e-6)
        value = np.linalg.eigvals(own.jacobian(one, edges, found.x.numpy().clip(1e-5) if not one.signed else expected))
        if abs(value.real.max()) > 1e-3:
            assert found.leading_eigenvalue == pytest.approx(value.real.max(), rel=1e-3, abs=1e-4)
            assert found.stable is bool(value.real.max() < 0)


@pytest.mark.parametrize("name", MODELS)
def test_trajectories(name):
    one, n, times = MODELS[name], 6, [0.0, 0.3, 1.0, 4.0]
    edges, start = own.edges_of(one, n, 5, 0.8), states(MODELS[name].model, 6, 5)
    expected = own.flow(one, edges, start, times)
    path = dynamics.trajectory(graph(edges, n), one.model, vector(start), times)
    np.testing.assert_allclose(path.numpy(), expected, rtol=1e-6, atol=1e-7)
    block = dynamics.trajectory(graph(edges, n), one.model, vector(np.stack([start, 0.5 * start], 1)), times)
    np.testing.assert_allclose(block[..., 0].numpy(), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(block[..., 1].numpy(), own.flow(one, edges, 0.5 * start, times), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beta", [0.3, 1.7, 3.1, 6.0])
def test_branches_and_states_of_the_theory(name, beta):
    one = MODELS[name]
    low, high = one.model.domain
    grid = np.linspace(low if math.isfinite(low) else -8, min(high, 30), 4001)
    expected = own.roots(one, beta, grid)
    found = [b for b in dynamics.branches(one.model, beta) if b.x <= 30]
    np.testing.assert_allclose([b.x for b in found], [root for root, _ in expected], rtol=1e-8, atol=1e-9)
    for branch, (root, falls) in zip(found, expected, strict=True):
        if root not in (low, high) and branch.stable is not None:
            assert branch.stable is bool(falls)
    for start in one.model.starts:
        state = dynamics.mean_field_state(one.model, beta, start)
        if math.isnan(state):
            continue
        end = own.flow(one, [(0, 0, beta)], [one.model.starts[start]], [0, 400])[-1, 0]
        assert state == pytest.approx(end, abs=1e-6)


@pytest.mark.parametrize("name", ["crowded", "by hand", "along the flow", "feeding"])
def test_tipping_points(name):
    """Folds are the extremes of β(x) = −f/g, found on a fine grid."""
    one = MODELS[name]
    x = np.linspace(1e-3, 12, 400_001)
    beta = -one.f(x) / one.g(x, x)
    inside = np.flatnonzero(np.diff(np.sign(np.diff(beta))) != 0) + 1
    expected = sorted(beta[inside][beta[inside] >= 0])
    assert len(expected) >= 1
    np.testing.assert_allclose(dynamics.tipping_points(one.model), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["crowded", "no balance", "feeding", "competing"])
def test_resilience_curves(name):
    one, n = MODELS[name], 8
    edges = own.edges_of(one, n, 3, 1.5)
    curve = dynamics.resilience_curve(graph(edges, n), one.model, "weights", [0.0, 0.5], 1, jitter=0.0)
    for _, row in curve.iterrows():
        weaker = [(a, b, weight * (1 - row["fraction"])) for a, b, weight in edges]
        A = np.zeros((n, n))
        for source, target, weight in weaker:
            A[target, source] += weight
        x = own.flow(one, weaker, np.full(n, one.model.starts[row["start"]]), [0, 500])[-1]
        beta = (A @ A).sum() / A.sum()
        assert row["x_eff"] == pytest.approx((A @ x).sum() / A.sum(), abs=1e-6)
        assert row["beta_eff"] == pytest.approx(beta)
        theory = own.flow(one, [(0, 0, beta)], [one.model.starts[row["start"]]], [0, 400])[-1, 0]
        assert row["x_theory"] == pytest.approx(theory, abs=1e-6)


def test_a_receiver_that_takes_less_the_more_it_has():
    """x (1 + x) = 6 at 2, where it would rest at 6 with p = 1."""

    class Fed(own.Crowded):
        def sending(self, y):
            return torch.ones_like(y)

    lonely = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([6.0]).double())
    fed = dynamics.equilibrium(lonely, Fed(), "low")
    torch.testing.assert_close(fed.x, vector([0, 2]))
    assert fed.leading_eigenvalue == pytest.approx(-1)  # of node 0; that of node 1 is −1 − 6/9
    path = dynamics.trajectory(lonely, Fed(), "low", [0, 30.0])
    torch.testing.assert_close(path[-1], vector([0, 2]))
    assert dynamics.branches(Fed(), 6.0) == [(pytest.approx(2), True)]
    assert own.Crowded().receiving_slope(vector([1.0])).item() == pytest.approx(-0.25)


def test_networks_in_training_take_models_with_p():
    """Without explicit edges, against the explicit graph of the same network."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)
    data = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    P = lg.NeuralCoupling(torch.nn.Sequential(*layers).double(), torch.nn.functional.mse_loss, data)
    implicit, explicit = (
        dynamics.equilibrium(P, own.Waves(), "high"),
        dynamics.equilibrium(P.to_graph(), own.Waves(), "high"),
    )
    torch.testing.assert_close(implicit.x, explicit.x, atol=1e-6, rtol=0)
    assert implicit.leading_eigenvalue == pytest.approx(explicit.leading_eigenvalue, abs=1e-6)
    J = System(P, own.Waves()).jacobian(implicit.x)
    torch.testing.assert_close(J.to_dense(), System(P.to_graph(), own.Waves()).jacobian(implicit.x).to_dense())


# what a term may give, and a parameter be -----------------------------------------------------------------


class Plain(dynamics.FactoredDynamics):
    """Constant terms as plain numbers, arrays and tensors of another precision."""

    def self_term(self, x):
        return 1 - x.float()

    def self_slope(self, x):
        return -1

    def receiving(self, x):
        return 2

    def receiving_slope(self, x):
        return 0.0

    def sending(self, y):
        return np.float32(0.5)

    def sending_slope(self, y):
        return 0


@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_that_are_plain_numbers(cooperative, dtype):
    edges = [(0, 1, 1.0), (1, 2, 2.0), (0, 2, 0.5)]
    model = Plain()
    model.cooperative = cooperative
    P = graph(edges, 3, dtype)
    for start in (0.0, torch.zeros(3, 2)):
        found = dynamics.equilibrium(P, model, start)
        expected = torch.tensor([1.0, 2.0, 3.5], dtype=dtype)
        torch.testing.assert_close(found.x, expected if found.x.ndim == 1 else expected[:, None].expand(3, 2))
        assert found.x.dtype == dtype
        assert found.stable in (True, (True, True))
    assert dynamics.branches(model, 3.0) == [(pytest.approx(4), True)]


class PerNode(dynamics.BalancedDynamics):
    """A decay for every node."""

    domain = (0.0, math.inf)
    starts: ClassVar = {"low": 0.0, "high": 9.0}
    cooperative = True

    def __init__(self, decay):
        self.decay = decay

    def self_term(self, x):
        return -self.decay * x

    def sending(self, y):
        return y**2 / (1 + y**2)

    def balance(self, total):
        return total / self.decay


@pytest.mark.parametrize("cooperative", [True, False])
def test_a_parameter_may_be_one_number_for_each_node(cooperative):
    """On a star whose leaves lead nowhere; with as many starts as nodes, shapes alone would not tell them apart."""
    n, rng = 5, np.random.default_rng(0)
    decay = rng.uniform(0.5, 2, n)
    edges = [(0, 1, 3.0), *((1, leaf, 3.0) for leaf in (0, 2, 3, 4))]
    one = own.Own(PerNode(vector(decay)), None, None)
    one.model.cooperative = cooperative
    starts = rng.random((n, n)) * 5

    def equations(_, x):
        sent = x**2 / (1 + x**2)
        return -decay * x + np.array([sum(w * sent[a] for a, b, w in edges if b == i) for i in range(n)])

    found = dynamics.equilibrium(graph(edges, n), one.model, vector(starts))
    alone = [dynamics.equilibrium(graph(edges, n), one.model, vector(start)) for start in starts.T]
    path = dynamics.trajectory(graph(edges, n), one.model, vector(starts), [0, 0.5])
    copies = dynamics.equilibrium([graph(edges, n)] * 2, one.model, [vector(starts[:, 0])] * 2)
    for column, start in enumerate(starts.T):
        flow = own.solve_ivp(equations, (0, 200), start, method="LSODA", rtol=1e-10, atol=1e-12, t_eval=[0.5, 200])
        np.testing.assert_allclose(path[-1][:, column].numpy(), flow.y[:, 0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.x[:, column].numpy(), flow.y[:, 1], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(alone[column].x.numpy(), flow.y[:, 1], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(copies[1].x, alone[0].x)
    J = System(graph(edges, n), one.model).jacobian(alone[0].x).to_dense().numpy()
    assert alone[0].leading_eigenvalue == pytest.approx(np.linalg.eigvals(J).real.max(), abs=1e-6)
    smaller = dynamics.perturb(graph(edges, n), nodes=1)
    with pytest.raises(DynamicsError, match=r"self_term of PerNode fails at a state \(4,\)"):
        dynamics.equilibrium(smaller, one.model, "high")
    with pytest.raises(DynamicsError, match="self_term of PerNode fails"):
        dynamics.branches(one.model, 2.0)


@pytest.mark.parametrize("model", [MODELS["crowded"].model, dynamics.Regulatory(), MODELS["feeding"].model])
def test_slopes_are_found_in_inference_mode_too(model):
    P, x = graph([(0, 1, 2.0), (1, 0, 2.0)], 2), vector([0.5, 2.0])
    expected = System(P, model).jacobian(x).to_dense()
    with torch.inference_mode():
        torch.testing.assert_close(System(P, model).jacobian(x + 0).to_dense(), expected)
        assert dynamics.equilibrium(P, model, "low").stable is True


@pytest.mark.parametrize("bad", [torch.ones(3), "1", None, 1j, np.ones(2)])
def test_parameters_of_the_library_are_single_numbers(bad):
    with pytest.raises(DataError, match="parameter B of SIS must be one number"):
        dynamics.SIS(B=bad)
    assert dynamics.branches(dynamics.SIS(B=torch.tensor(2.0)), 4.0)[-1].x == pytest.approx(0.5)


# models that contradict themselves ------------------------------------------------------------------------


class Right(own.CrowdedByHand):
    pass


def changed(**hooks):
    for name, hook in hooks.items():
        if callable(hook):
            hook.__name__ = name
    return type("Changed", (Right,), hooks)()


PAIR = graph([(0, 1, 2.0), (1, 0, 3.0)], 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (changed(self_slope=lambda self, x: 1.0), "its self_slope is 1 at .* changes by -1"),
        (changed(self_slope=lambda self, x: -x), "its self_slope is"),
        (changed(receiving_slope=lambda self, x: 1 / (1 + x) ** 2), "its receiving_slope is"),
        (changed(sending_slope=lambda self, x: torch.ones_like(x)), "its sending_slope is 1 at"),
        (changed(velocity=lambda self, x, total: total - x), r"its velocity is .* self_term \+ receiving · total is"),
        (changed(balance=lambda self, total: total), "its balance with the total .*, not 0"),
        (changed(receiving=lambda self, x: 2 / (1 + x)), "its receiving_slope|its velocity|its balance"),
        (changed(sending=lambda self, y: y.mul_(2)), "its sending changes its argument in place"),
        (changed(self_term=lambda self, x: torch.ones(3)), r"gives \(3,\) at a state \(2,\)"),
    ],
)
def test_models_that_contradict_themselves_are_refused(model, message):
    for run in (
        lambda: dynamics.equilibrium(PAIR, model, 1.5),
        lambda: dynamics.equilibrium([PAIR, PAIR], model, 1.5),
        lambda: dynamics.trajectory(PAIR, model, 1.5, [0, 1]),
        lambda: dynamics.resilience_curve(PAIR, model, "links", [0.0], 1, starts=[1.5]),
    ):
        with pytest.raises(DynamicsError, match=message):
            run()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (changed(self_slope=lambda self, x: 1.0), "its self_slope is 1"),
        (changed(pair_slopes=lambda self, x, y: (y, x)), "its pair_slopes is"),
        (changed(pair_term=lambda self, x, y: x * y, pair_slopes=lambda self, x, y: (y, x)), "receiving · sending"),
        (changed(pair_term=lambda self, x, y: (x * y).cumsum(0)), "pair_slopes|depends on others"),
    ],
)
def test_the_theory_refuses_models_that_contradict_themselves(model, message):
    for run in (
        lambda: dynamics.branches(model, 2.0),
        lambda: dynamics.tipping_points(model),
        lambda: dynamics.mean_field_state(model, 2.0, "high"),
    ):
        with pytest.raises(DynamicsError, match=message):
            run()


def test_a_domain_that_holds_no_states_is_refused():
    with pytest.raises(DynamicsError, match=r"its domain \(9.0, 1.0\) holds no states"):
        dynamics.branches(changed(domain=(9.0, 1.0)), 2.0)


def test_slopes_that_autograd_does_not_see_are_asked_for():
    """A term made outside torch has no graph, and 0 for a slope."""

    class Outside(own.Waves):
        def self_term(self, x):
            return torch.from_numpy(0.3 - np.sin(x.detach().numpy()))

    with pytest.raises(DynamicsError, match=r"its self_slope is 0 .* written in torch's operations"):
        dynamics.equilibrium(PAIR, Outside(), "high")


class Inhibited(dynamics.FactoredDynamics):
    domain = (0.0, math.inf)
    cooperative = True

    def self_term(self, x):
        return 1 - x

    def sending(self, y):
        return 1 / (1 + y)


class Diffusing(dynamics.Dynamics):
    cooperative = True

    def self_term(self, x):
        return x - x**3

    def pair_term(self, x, y):
        return y - x


class TwoRests(dynamics.BalancedDynamics):
    """f has three zeros, so that a total may hold a node at two states."""

    domain = (0.0, math.inf)
    cooperative = True

    def self_term(self, x):
        return -x * (x - 1) * (x - 3)

    def sending(self, y):
        return 0 * y

    def balance(self, total):
        return torch.full_like(total, 3.0)


@pytest.mark.parametrize(
    ("model", "start", "message"),
    [
        (Inhibited(), 0.5, "falls with the state of the sender.*set cooperative = False"),
        (Diffusing(), [0.2, 0.8], "falls with the state of the receiver.*set cooperative = False"),
        (TwoRests(), [0.5, 0.7], "moves away from its balance"),
    ],
)
def test_models_that_are_cooperative_by_declaration_only(model, start, message):
    with pytest.raises(DynamicsError, match=message):
        dynamics.equilibrium(PAIR, model, torch.as_tensor(start).double())
    kept = dynamics.FactoredDynamics if isinstance(model, dynamics.FactoredDynamics) else dynamics.Dynamics
    honest = type("Honest", (kept,), {k: v for k, v in vars(type(model)).items() if not k.startswith("_")})()
    honest.cooperative = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert dynamics.equilibrium(PAIR, honest, torch.as_tensor(start).double()).converged


def test_a_balance_outside_the_domain_is_no_rest():
    """The last node of a path is driven to 1.5, where states end at 1; the others are at rest."""

    class Bounded(dynamics.BalancedDynamics):
        domain = (0.0, 1.0)
        cooperative = True

        def self_term(self, x):
            return -x

        def sending(self, y):
            return torch.full_like(y, 0.5)

        def balance(self, total):
            return total

    path = graph([(0, 1, 1.0), (1, 0, 1.0), (1, 2, 3.0), (1, 3, 1.0), (1, 4, 1.0)], 5)
    with pytest.warns(ConvergenceWarning, match="out of the domain|leaves the domain"):
        found = dynamics.equilibrium(path, Bounded(), 0.5)
    assert not found.converged
    assert float(found.x.max()) <= 1
    assert found.residual == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("base", "parameters"),
    [
        (dynamics.Regulatory, {"f": 0.5, "h": 0.5}),
        (dynamics.Regulatory, {"f": 2.0, "h": 12.0}),
        (dynamics.SIS, {"B": 0.3}),
        (dynamics.Neuronal, {"tau": 100.0}),
        (dynamics.Mutualistic, {}),
    ],
)
def test_models_that_agree_with_themselves_are_not_refused(base, parameters, dtype):
    """Those of the library as if they were one's own: steep, with infinite slopes, in single precision."""
    model = type("Mine", (base,), {})(**parameters)
    P = graph(own.edges_of(MODELS["crowded"], 9, 0), 9, dtype)
    for start in (*model.starts, torch.full((9, 2), 1e-3)):
        found, expected = (dynamics.equilibrium(P, each, start, tol=1e-5) for each in (model, base(**parameters)))
        torch.testing.assert_close(found.x, expected.x, rtol=1e-4, atol=1e-5)
    assert dynamics.tipping_points(model) == pytest.approx(dynamics.tipping_points(base(**parameters)))
