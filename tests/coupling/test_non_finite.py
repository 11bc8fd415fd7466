"""What is not finite raises, and says where: in which batch, at which call, in which derivative."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.errors import NonFiniteError
from tests.comparison import close

PRODUCTS = {
    "P v": lambda P: P @ torch.ones(P.num_nodes).to(P.dtype),
    "a block": lambda P: P @ torch.ones(P.num_nodes, 3).to(P.dtype),
    "a total": lambda P: P.total(torch.ones(P.num_nodes).to(P.dtype)),
    "in-strengths": lambda P: P.in_strength(),
    "walks": lambda P: P.walks(),
    "the size of terms": lambda P: P.absolute_total(),
    "the capacitance": lg.capacitance,
    "the gradient": lambda P: P.gradient(),
    "the drive": lambda P: P.drive(),
    "the graph": lambda P: P.to_graph(),
    "neurons": lambda P: lg.coarse_graph(P, "neuron"),
}
TRANSPOSED = {
    "P.T v": lambda P: P.T @ torch.ones(P.num_nodes).to(P.dtype),
    "a block of P.T": lambda P: P.T @ torch.ones(P.num_nodes, 3).to(P.dtype),
    "out-strengths": lambda P: P.out_strength(),
    "in-strengths of P.T": lambda P: P.T.in_strength(),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)).double()


torch.manual_seed(0)
X, Y = torch.randn(12, 5).double(), torch.randn(12, 3).double()
CUTS = [slice(0, 4), slice(4, 7), slice(7, 12)]


def nan_without_gradient(outputs, targets):
    """A value of NaN whose gradient is finite, as that of a mean over no targets is 0."""
    value = F.mse_loss(outputs, targets.clamp(max=50))
    return value + float("nan") * (targets.detach() > 50).sum() if (targets > 50).any() else value


@pytest.mark.parametrize("product", PRODUCTS | TRANSPOSED | {"verify": lambda P: P.verify()})
@pytest.mark.parametrize("batch", [1, 2])
def test_a_loss_that_is_none_in_a_later_batch(product, batch):
    y = Y.clone()
    y[CUTS[batch]][1, 1] = 100
    data = [(X[cut], y[cut]) for cut in CUTS]
    P = lg.NeuralCoupling(network(), nan_without_gradient, data)
    ask = (PRODUCTS | TRANSPOSED).get(product, lambda P: P.verify())
    with pytest.raises(NonFiniteError, match=rf"in batch {batch} of the data, .*the loss is nan"):
        ask(P)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
def test_data_that_are_none_in_a_later_batch(kind, value):
    x = X.clone()
    x[8, 2] = value
    P = lg.NeuralCoupling(network(), F.mse_loss, [(x[cut], Y[cut]) for cut in CUTS], kind=kind)
    for ask in (P.gradient, P.in_strength, P.out_strength, lambda: P @ torch.ones(P.num_nodes).double()):
        with pytest.raises(NonFiniteError, match=r"in batch 2 of the data, .*first enter call 0 \(linear with '0"):
            ask()


def test_a_loss_that_is_none_at_once():
    y = Y.clone()
    y[0, 0] = 100
    for data in ((X, y), [(X, y)], [(X[cut], y[cut]) for cut in CUTS]):
        with pytest.raises(NonFiniteError, match="the loss is nan"):
            lg.NeuralCoupling(network(), nan_without_gradient, data)


# second derivatives --------------------------------------------------------------------------------


class Deviations(nn.Module):
    """Beside activations their deviation, of which samples have 0 whose activations are all off."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(5, 3), nn.Linear(3, 2)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.c(torch.tanh(self.b(torch.cat([h, h.std(1, keepdim=True)], 1))))


def without_second_derivatives(net):
    torch.manual_seed(0)
    model, x, y = net().double(), 2 * torch.randn(60, 3).double(), torch.randn(60, 2).double()
    with torch.no_grad():
        model.a.bias.sub_(1.0)
    off = torch.relu(model.a(x)).sum(1) == 0
    assert off.any()
    assert not off.all()
    return model, (x, y), [(x[:30], y[:30]), (x[30:], y[30:])]


@pytest.mark.parametrize("kind", ["signed", "flow", "energy"])
@pytest.mark.parametrize("batched", [False, True])
def test_transposed_products_without_second_derivatives(kind, batched):
    model, pair, parts = without_second_derivatives(Deviations)
    P = lg.NeuralCoupling(model, F.mse_loss, parts if batched else pair, kind=kind)
    assert (P @ torch.ones(P.num_nodes).double()).isfinite().all()
    assert P.in_strength().isfinite().all()
    where = r"in batch \d of the data, " if batched else ""
    for ask in TRANSPOSED.values():
        with pytest.raises(
            NonFiniteError, match=rf"{where}.*Pᵀ v is not finite.* call 1 \(linear with 'b\.weight'\), from the second"
        ):
            ask(P)
    with pytest.raises(NonFiniteError, match="second derivative"):
        P.verify()


def test_what_needs_no_second_derivative_is_there():
    model, pair, parts = without_second_derivatives(Deviations)
    whole, P = (lg.NeuralCoupling(model, F.mse_loss, data) for data in (pair, parts))
    expected = whole.to_graph()
    v = torch.randn(P.num_nodes).double()
    for found in (whole, P):
        close(found.in_strength(), expected.in_strength())
        assert found.total(v) == pytest.approx(expected.total(v), rel=1e-9)
        assert lg.capacitance(found).beta_eff == pytest.approx(lg.capacitance(expected).beta_eff, rel=1e-9)
    with pytest.raises(NonFiniteError, match="second derivative"):
        _ = lg.capacitance(P).heterogeneity  # of which out-strengths are a part


# vectors and ranges --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_comes_in_comes_out(kind, value):
    P = lg.NeuralCoupling(network(), F.mse_loss, [(X[cut], Y[cut]) for cut in CUTS], kind=kind)
    v = torch.ones(P.num_nodes).double()
    v[-1] = value
    assert not (P @ v).isfinite().all()
    v[0] = value
    assert not (P.T @ v).isfinite().all()
    assert not math.isfinite(P.total(v))


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
@pytest.mark.parametrize("batched", [False, True])
def test_products_that_leave_the_range_of_their_type(kind, batched):
    model = network().float()
    x, y = 100 * X.float(), 1e6 * Y.float()
    P = lg.NeuralCoupling(model, F.mse_loss, [(x[cut], y[cut]) for cut in CUTS] if batched else (x, y), kind=kind)
    v = torch.full((P.num_nodes,), 2e38)
    for product in (lambda: P @ v, lambda: P.T @ v, lambda: P @ torch.stack([v, v], 1)):
        with pytest.raises(NonFiniteError, match=r"divide the vector|range"):
            product()
    assert (P @ (v / 1e38)).isfinite().all()


def test_squares_that_leave_the_range():
    model = network().float()
    P = lg.NeuralCoupling(model, lambda o, t: 1e25 * F.mse_loss(o, t), (X.float(), Y.float()), kind="energy")
    for ask in (P.in_strength, P.out_strength, lambda: P @ torch.ones(P.num_nodes)):
        with pytest.raises(NonFiniteError, match=r"kind='energy' exceeds the range of torch\.float32"):
            ask()
