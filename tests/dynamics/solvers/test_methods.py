"""The methods of ``equilibrium``: where each applies, and that they find the same equilibrium."""

import pytest
import torch

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.solvers import sweeps
from linegraph.dynamics.solvers.methods import METHODS
from linegraph.errors import ConvergenceWarning, DataError


def network(weight=1.0, n=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    edges = torch.randint(n, (2, 5 * n), generator=generator)
    edges = torch.cat([edges, torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])], 1)
    size = torch.rand(edges.shape[1], generator=generator, dtype=torch.float64) + 0.5
    return lg.GraphCoupling(edges, (weight * size).to(dtype), num_nodes=n)


MODELS = {
    "Mutualistic": (dynamics.Mutualistic(), "high", 10.0),
    "Regulatory": (dynamics.Regulatory(), "high", 8.0),
    "SIS": (dynamics.SIS(), "high", 0.9),
    "Neuronal": (dynamics.Neuronal(), "high", 5.0),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_every_method_finds_the_upper_equilibrium_of_a_cooperative_model(name, method):
    model, named, near = MODELS[name]
    P = network()
    expected = dynamics.equilibrium(P, model, named)
    assert expected.converged
    found = dynamics.equilibrium(P, model, near if method == "newton" else named, method=method)
    assert found.converged
    assert found.residual <= 1e-8
    assert found.stable is True
    torch.testing.assert_close(found.x, expected.x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("start", ["low", 1.5])
@pytest.mark.parametrize("name", ["Mutualistic", "Regulatory"])
def test_sweeps_and_flow_agree_from_other_starts(name, start):
    P, model = network(), MODELS[name][0]
    expected, found = (dynamics.equilibrium(P, model, start, method=method) for method in ("sweeps", "flow"))
    assert expected.converged
    assert found.converged
    torch.testing.assert_close(found.x, expected.x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["auto", "flow", "newton"])
def test_methods_agree_where_weights_are_negative(method):
    P = network(-0.05)
    found = dynamics.equilibrium(P, Damped(), 0.5, method=method)
    exact = torch.linalg.solve(torch.eye(12, dtype=torch.float64) - P.to_dense(), torch.ones(12).double())
    assert found.converged
    torch.testing.assert_close(found.x, exact, rtol=1e-6, atol=1e-7)


class Damped(dynamics.FactoredDynamics):
    """ẋ = 1 − x + P x."""

    cooperative = True

    def self_term(self, x):
        return 1 - x

    def receiving(self, x):
        return torch.ones_like(x)

    def sending(self, x):
        return x


class Rival(Damped):
    cooperative = False


@pytest.mark.parametrize("method", METHODS)
def test_blocks_and_several_graphs_end_as_each_alone(method):
    model = dynamics.SIS()
    graphs = [network(1.0), network(1.5)]
    starts = torch.full((12, 2), 0.9, dtype=torch.float64)
    starts[:, 1] = 0.7
    for P, found in zip(graphs, dynamics.equilibrium(graphs, model, starts, method=method), strict=True):
        assert found.converged.tolist() == [True, True]
        for k in range(2):
            alone = dynamics.equilibrium(P, model, starts[:, k], method=method)
            torch.testing.assert_close(found.x[:, k], alone.x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_works_in_single_precision_and_on_no_nodes(method):
    P = network(dtype=torch.float32)
    found = dynamics.equilibrium(P, dynamics.SIS(), 0.9, method=method)
    assert found.converged
    assert found.x.dtype == torch.float32
    exact = dynamics.equilibrium(network(), dynamics.SIS(), 0.9)
    torch.testing.assert_close(found.x.double(), exact.x, rtol=1e-4, atol=1e-4)
    none = lg.GraphCoupling(torch.zeros(2, 0, dtype=torch.long), num_nodes=0)
    assert dynamics.equilibrium(none, dynamics.SIS(), "high", method=method).converged


@pytest.mark.parametrize("method", ["Sweeps", "", "lsoda", None, 3])
def test_an_unknown_method_is_refused_with_the_list_of_methods(method):
    with pytest.raises(DataError, match="'auto', 'sweeps', 'flow', 'newton'"):
        dynamics.equilibrium(network(), dynamics.SIS(), "high", method=method)


def test_sweeps_are_refused_where_the_flow_does_not_keep_the_order_of_states():
    others = "choose one of 'auto', 'flow', 'newton'"
    with pytest.raises(DataError, match=f"smallest weight is -.*{others}"):
        dynamics.equilibrium(network(-0.1), Damped(), 0.5, method="sweeps")
    with pytest.raises(DataError, match=f"Rival is not cooperative.*{others}"):
        dynamics.equilibrium(network(), Rival(), 0.5, method="sweeps")
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
    data = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data, kind="magnitude")
    with pytest.raises(DataError, match=f"NeuralCoupling has no explicit edges.*{others}"):
        dynamics.equilibrium(P, Damped(), 0.5, method="sweeps")


def test_one_graph_of_several_where_sweeps_do_not_apply_is_refused():
    with pytest.raises(DataError, match="does not apply"):
        dynamics.equilibrium([network(), network(-0.1)], Damped(), 0.5, method="sweeps")


@pytest.mark.parametrize("method", ["sweeps", "newton"])
def test_a_method_that_finds_nothing_names_another(method, monkeypatch):
    monkeypatch.setattr(sweeps, "LONGEST", 64)
    with pytest.warns(ConvergenceWarning, match="method='flow'"):
        found = dynamics.equilibrium(network(n=2), Rising(), 0.0, method=method)
    assert not found.converged
    assert "method='flow'" in found.reason


class Rising(dynamics.FactoredDynamics):
    """ẋ = 1 + x² + P x²: no equilibrium."""

    cooperative = True

    def self_term(self, x):
        return 1 + x * x

    def receiving(self, x):
        return torch.ones_like(x)

    def sending(self, x):
        return x * x.abs()
