import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.errors import UnsupportedOperationError
from tests.cases import CASES, squared

SMALL = ["mlp", "split_weight", "lstm", "look_ups"]


@pytest.mark.parametrize("name", SMALL)
def test_energy_entries_are_squares(name):
    made = CASES[name].make()
    signed = lg.NeuralCoupling(*made) @ torch.eye(lg.NeuralCoupling(*made).num_nodes, dtype=torch.float64)
    energy = lg.NeuralCoupling(*made, kind="energy").to_graph().to_dense()
    torch.testing.assert_close(energy, signed**2, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("name", SMALL)
def test_energy_strengths_are_within_their_standard_errors(name):
    made = CASES[name].make()
    P = lg.NeuralCoupling(*made, kind="energy", probes=200, generator=torch.Generator().manual_seed(1))
    exact = P.to_graph()
    for estimate, error, truth in zip(
        (P.in_strength(), P.out_strength()),
        P.standard_errors(),
        (exact.in_strength(), exact.out_strength()),
        strict=True,
    ):
        assert (estimate >= 0).all()
        surprise = (estimate - truth) / error.clamp_min(1e-3 * truth.max())
        assert surprise.square().mean() < 3  # 1 if the errors were normal and independent
        assert estimate.sum() == pytest.approx(float(truth.sum()), rel=0.3)


def test_energy_products_estimate_those_of_the_squares():
    made = CASES["mlp"].make()
    P = lg.NeuralCoupling(*made, kind="energy", probes=3000)
    exact = P.to_graph()
    v = torch.randn(P.num_nodes, 2, dtype=torch.float64)
    for product in ("matvec", "rmatvec"):
        found, truth = getattr(P, product)(v), getattr(exact, product)(v)
        assert (found - truth).norm() < 0.1 * truth.norm()


def test_energy_products_with_ones_are_its_strengths_and_linear():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="energy", probes=5)
    ones, v = torch.ones(P.num_nodes, dtype=torch.float64), torch.randn(P.num_nodes, dtype=torch.float64)
    torch.testing.assert_close(P @ ones, P.in_strength())
    torch.testing.assert_close(P.T @ ones, P.out_strength())
    torch.testing.assert_close(P @ (ones + 2 * v), P @ ones + 2 * (P @ v))


def test_energy_standard_errors_fall_with_the_root_of_the_probes():
    made = CASES["mlp"].make()
    few, many = (
        lg.NeuralCoupling(*made, kind="energy", probes=n, generator=torch.Generator().manual_seed(0))
        for n in (100, 1600)
    )
    ratio = few.standard_errors()[0].norm() / many.standard_errors()[0].norm()
    assert ratio == pytest.approx(4, rel=0.2)


def test_energy_is_drawn_from_the_generator_alone():
    made = CASES["mlp"].make()

    def strength(seed):
        generator = torch.Generator().manual_seed(seed)
        return lg.NeuralCoupling(*made, kind="energy", probes=3, generator=generator).in_strength()

    state = torch.get_rng_state()
    first = strength(1)
    torch.rand(3)
    torch.set_rng_state(state)
    assert torch.equal(first, strength(1))
    assert not torch.equal(first, strength(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_energy_options():
    made = CASES["mlp"].make()
    with pytest.raises(ValueError, match=r"probes must be 2 or more.*got 1"):
        lg.NeuralCoupling(*made, kind="energy", probes=1)
    with pytest.raises(ValueError, match=r"probes= belongs to kind='energy'"):
        lg.NeuralCoupling(*made, kind="flow", probes=3)
    with pytest.raises(ValueError, match=r"exact.*'energy' has standard errors"):
        lg.NeuralCoupling(*made).standard_errors()
    with pytest.raises(ValueError, match=r"'signed', 'magnitude', 'flow', 'energy', got 'heat'"):
        lg.NeuralCoupling(*made, kind="heat")


def test_magnitude_points_to_energy_where_it_has_no_jacobian():
    made = CASES["split_weight"].make()
    with pytest.raises(UnsupportedOperationError, match="kind='energy'"):
        lg.NeuralCoupling(*made, kind="magnitude").in_strength()
    assert lg.capacitance(lg.NeuralCoupling(*made, kind="energy")).beta_eff > 0


@pytest.mark.parametrize("name", CASES)
def test_flow_is_the_signed_coupling_between_weights(name):
    made = CASES[name].make()
    P, flow = lg.NeuralCoupling(*made), lg.NeuralCoupling(*made, kind="flow")
    w, v = P.weights(), torch.randn(P.num_nodes, dtype=torch.float64)
    scale = float((w * (P @ w)).abs().max())
    torch.testing.assert_close(flow @ v, w * (P @ (w * v)), rtol=1e-10, atol=1e-12 * scale)
    torch.testing.assert_close(flow.in_strength(), w * (P @ w), rtol=1e-9, atol=1e-10 * scale)


def relu_network(bias):
    torch.manual_seed(0)
    layers = [nn.Linear(5, 7, bias=bias), nn.ReLU(), nn.Linear(7, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("loss", [squared, F.cross_entropy])
def test_flow_does_not_change_when_neurons_are_rescaled(loss):
    model = relu_network(bias=True)
    x, y = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64).softmax(1)
    c = torch.rand(7, dtype=torch.float64) * 3 + 0.1
    before = {
        kind: lg.NeuralCoupling(model, loss, (x, y), kind=kind).to_graph().to_dense() for kind in ("flow", "signed")
    }
    with torch.no_grad():
        model[0].weight *= c[:, None]
        model[0].bias *= c
        model[2].weight /= c
    after = {
        kind: lg.NeuralCoupling(model, loss, (x, y), kind=kind).to_graph().to_dense() for kind in ("flow", "signed")
    }
    torch.testing.assert_close(after["flow"], before["flow"], rtol=1e-9, atol=1e-15)
    assert not torch.allclose(after["signed"], before["signed"], rtol=1e-3)


def test_flow_is_conserved_at_every_neuron_without_biases():
    model = relu_network(bias=False)
    data = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    P = lg.NeuralCoupling(model, squared, data, kind="flow")
    arriving, leaving = P.split(P.in_strength()), P.split(P.out_strength())
    for before, after in (("0.weight", "2.weight"), ("2.weight", "4.weight")):
        into, out = arriving[before].sum(1), leaving[after].sum(0)
        assert into.abs().max() > 1e-3
        torch.testing.assert_close(into, out, rtol=1e-10, atol=1e-14)
