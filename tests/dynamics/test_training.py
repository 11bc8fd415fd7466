import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics import training
from linegraph.errors import DataError, IntegrationError


def network(*widths, activation=nn.Tanh):
    torch.manual_seed(1)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1]).double()


def regression(n=40):
    torch.manual_seed(2)
    x = torch.randn(n, 3, dtype=torch.float64)
    return x, torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1)


def test_the_real_flow_is_gradient_descent_with_small_steps():
    model, data = network(3, 5, 4, 2), regression()
    names = [s.name for s in lg.NeuralCoupling(model, F.mse_loss, data).synapses]
    parameters = dict(model.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    table = dynamics.drift(model, F.mse_loss, data, [0.05, 0.1])
    assert all(torch.equal(before[name], p) for name, p in parameters.items())
    steps = 2000
    for _ in range(steps):
        gradients = torch.autograd.grad(F.mse_loss(model(data[0]), data[1]), [parameters[name] for name in names])
        with torch.no_grad():
            for name, gradient in zip(names, gradients, strict=True):
                parameters[name] -= 0.1 / steps * gradient
    moved = torch.cat([(parameters[name] - before[name]).detach().flatten() for name in names])
    assert table["real"].iloc[1] == pytest.approx(float(moved.norm()), rel=1e-3)
    assert table["loss"].iloc[1] == pytest.approx(F.mse_loss(model(data[0]), data[1]).item(), rel=1e-4)


@pytest.mark.parametrize("batched", [False, True])
def test_the_prediction_is_wrong_in_second_order_only(batched):
    data = regression()
    data = list(zip(data[0].split(16), data[1].split(16), strict=True)) if batched else data
    table = dynamics.drift(network(3, 5, 4, 2), F.mse_loss, data, [0.001, 0.002, 0.004])
    assert (table["cosine"] > 0.999).all()
    ratios = table["relative_error"].to_numpy()
    np.testing.assert_allclose(ratios[1:] / ratios[:-1], 2, rtol=0.02)
    assert ratios[0] < 0.01


def test_times_must_rise():
    for times in ([], [0.0, 1.0], [1.0, 0.5]):
        with pytest.raises(DataError, match="positive and rising"):
            dynamics.drift(network(3, 4, 2), F.mse_loss, regression(), times)


def hessian_eigenvalues(model, loss_fn, data):
    """Of the whole matrix, by torch.func."""
    P = lg.NeuralCoupling(model, loss_fn, data)
    parameters = dict(model.named_parameters())

    def loss(w):
        return loss_fn(torch.func.functional_call(model, parameters | P.split(w), (data[0],)), data[1])

    with sdpa_kernel(SDPBackend.MATH):
        return torch.linalg.eigvalsh(torch.func.jacrev(torch.func.grad(loss))(P.weights())).detach().numpy()


def trained(model, data, steps=400):
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(data[0]), data[1])
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


@pytest.mark.parametrize(("widths", "k"), [((3, 3, 2), 3), ((3, 20, 10, 2), 2)])
@pytest.mark.parametrize("batched", [False, True])
def test_hessian_eigenvalues_equal_those_of_the_matrix(widths, k, batched):
    pytest.importorskip("curvlinops", exc_type=ImportError)
    model, data = network(*widths), regression()
    P = lg.NeuralCoupling(model, F.mse_loss, data)
    values = hessian_eigenvalues(model, F.mse_loss, data)
    given = list(zip(data[0].split(16), data[1].split(16), strict=True)) if batched else data
    found = dynamics.trained_equilibrium(model, F.mse_loss, given, k=k)
    np.testing.assert_allclose(found.largest, values[::-1][:k], rtol=1e-4)
    np.testing.assert_allclose(found.smallest, values[:k], rtol=1e-4, atol=1e-6 * values[-1])
    assert found.gradient_norm == pytest.approx(float(P.gradient().norm()))
    expected = lg.capacitance(lg.NeuralCoupling(model, F.mse_loss, data, kind="magnitude"))
    assert found.capacitance.beta_eff == pytest.approx(expected.beta_eff)
    assert found.stability == "unknown"  # an untrained network, which is no equilibrium
    assert "not at rest" in found.reason
    assert dynamics.trained_equilibrium(model, F.mse_loss, given, k=k, tol=1e9).stability == "unstable"


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def convolutional():
    parts = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*parts)


@pytest.mark.filterwarnings("ignore::linegraph.errors.DegenerateCapacitanceWarning")  # a layer norm: signed is 0/0
@pytest.mark.parametrize(
    ("build", "shape", "kind"), [(Attentive, (5, 8), "signed"), (convolutional, (1, 6, 6), "magnitude")]
)
def test_networks_with_attention_and_convolutions(build, shape, kind):
    pytest.importorskip("curvlinops", exc_type=ImportError)
    model = build().double().eval()
    data = torch.randn(12, *shape, dtype=torch.float64), torch.randint(3, (12,))
    values = hessian_eigenvalues(model, F.cross_entropy, data)
    found = dynamics.trained_equilibrium(model, F.cross_entropy, data, k=2, kind=kind)
    np.testing.assert_allclose(found.largest, values[::-1][:2], rtol=1e-6)
    np.testing.assert_allclose(found.smallest, values[:2], rtol=1e-6, atol=1e-8 * values[-1])


@pytest.mark.filterwarnings("ignore::linegraph.errors.DegenerateCapacitanceWarning")  # one layer has no coupling
def test_eigenvalues_that_are_0_are_found():
    """With more weights than numbers to fit the Hessian of a convex loss is singular, and with no weights it is 0."""
    pytest.importorskip("curvlinops", exc_type=ImportError)
    data = torch.randn(6, 100, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    wide = nn.Linear(100, 3, bias=False).double()
    values = hessian_eigenvalues(wide, F.mse_loss, data)
    found = dynamics.trained_equilibrium(wide, F.mse_loss, data, k=3)
    np.testing.assert_allclose(found.largest, values[::-1][:3], rtol=1e-6)
    np.testing.assert_allclose(found.smallest, 0, atol=1e-8 * values[-1])
    dead = network(100, 3, 3, 2)
    for parameter in dead.parameters():
        nn.init.zeros_(parameter)
    found = dynamics.trained_equilibrium(dead, F.mse_loss, (data[0], torch.zeros(6, 2, dtype=torch.float64)))
    assert (found.largest.item(), found.smallest.item(), found.stability) == (0, 0, "marginal")


def test_eigenvalues_that_do_not_converge_are_said_to(monkeypatch):
    pytest.importorskip("curvlinops", exc_type=ImportError)
    monkeypatch.setattr(training, "RESTARTS", 1)
    found = dynamics.trained_equilibrium(network(3, 20, 10, 2), F.mse_loss, regression(), k=20)
    assert np.isnan(found.largest).all()
    assert np.isnan(found.smallest).all()
    assert (found.stability, "did not converge" in found.reason) == ("unknown", True)


def test_a_trained_network_is_at_rest_and_stable():
    pytest.importorskip("curvlinops", exc_type=ImportError)
    torch.manual_seed(0)
    data = regression(60)
    model = trained(network(3, 2, 2, activation=nn.Tanh), data)
    found = dynamics.trained_equilibrium(model, F.mse_loss, data)
    untrained = dynamics.trained_equilibrium(network(3, 2, 2), F.mse_loss, data)
    assert found.gradient_norm < 1e-4 * untrained.gradient_norm
    assert (found.stability, found.reason) == ("stable", None)
    assert found.smallest[0] > 0
    assert not model[0].weight.grad.any() or model.training  # the model's own mode and gradients are left alone


@pytest.mark.filterwarnings("ignore::linegraph.errors.DegenerateCapacitanceWarning")  # one layer has no coupling
def test_a_convex_loss_away_from_its_minimum_is_no_equilibrium():
    pytest.importorskip("curvlinops", exc_type=ImportError)
    torch.manual_seed(0)
    inputs = torch.randn(50, 4, dtype=torch.float64)
    data = inputs, 10 * torch.randn(50, 2, dtype=torch.float64)
    model = nn.Linear(4, 2, bias=False).double()
    found = dynamics.trained_equilibrium(model, F.mse_loss, data)
    assert found.gradient_norm > 1
    assert (found.stability, "not at rest" in found.reason) == ("unknown", True)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(*data).solution.T)
    found = dynamics.trained_equilibrium(model, F.mse_loss, data)
    assert found.gradient_norm < 1e-12
    assert (found.stability, found.reason) == ("stable", None)


def test_drift_that_goes_nowhere_or_without_bound():
    still = nn.Linear(4, 2, bias=False).double()
    nn.init.zeros_(still.weight)
    inputs = torch.randn(9, 4, dtype=torch.float64)
    table = dynamics.drift(still, F.mse_loss, (inputs, torch.zeros(9, 2, dtype=torch.float64)), [0.1])
    assert table["real"].item() == 0
    assert math.isnan(table["cosine"].item())
    with pytest.raises(IntegrationError, match="broke down"):
        dynamics.drift(network(4, 3, 2), lambda y, t: -(y - t).pow(4).mean(), (inputs, inputs[:, :2]), [1e4], rtol=1e-2)
    with pytest.raises(DataError, match="positive and rising"):
        dynamics.drift(still, F.mse_loss, (inputs, inputs[:, :2]), [math.nan])


def test_bad_k_is_named():
    pytest.importorskip("curvlinops", exc_type=ImportError)
    with pytest.raises(DataError, match="k must be from 1 to the number of synapses 10"):
        dynamics.trained_equilibrium(network(3, 2, 2), F.mse_loss, regression(), k=11)
