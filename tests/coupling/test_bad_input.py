"""Bad input to a coupling of a network, and what it says."""

from collections import UserDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.errors import (
    DataError,
    LossError,
    NonFiniteError,
    NoSynapseError,
    SynapseSelectionError,
    UnsupportedOperationError,
)
from tests.cases import CASES


def test_no_synapse():
    data = torch.randn(2, 3), torch.randn(2, 3)
    with pytest.raises(NoSynapseError, match="no parameter of two or more dimensions"):
        lg.NeuralCoupling(nn.ReLU(), F.mse_loss, data)
    frozen = nn.Linear(3, 3).requires_grad_(False)
    with pytest.raises(NoSynapseError, match=r"frozen.*requires_grad_\(True\).*'weight'"):
        lg.NeuralCoupling(frozen, F.mse_loss, data)
    with pytest.raises(NoSynapseError, match="no shape yet"):
        lg.NeuralCoupling(nn.LazyLinear(3), F.mse_loss, data)
    lazy = nn.Sequential(nn.Linear(3, 3), nn.LazyBatchNorm1d(affine=False))
    with pytest.raises(NoSynapseError, match=r"'1\.running_mean' has no shape yet"):
        lg.NeuralCoupling(lazy, F.mse_loss, data)


def test_complex_weights_are_refused_and_may_be_path():
    class Spectral(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)
            self.filter = nn.Parameter(torch.randn(4, 4, dtype=torch.cdouble))

        def forward(self, x):
            return self.last(torch.fft.ifft(torch.fft.fft(self.first(x)) @ self.filter).real)

    model, data = Spectral().double(), (torch.randn(6, 5).double(), torch.randn(6, 3).double())
    with pytest.raises(UnsupportedOperationError, match=r"'filter' is complex.*two real parameters.*include=lambda"):
        lg.NeuralCoupling(model, F.mse_loss, data)
    P = lg.NeuralCoupling(model, F.mse_loss, data, include=lambda name, p: name != "filter" and p.ndim > 1)
    weights = [model.first.weight, model.last.weight]
    gradient = torch.autograd.grad(F.mse_loss(model(data[0]), data[1]), weights)
    torch.testing.assert_close(P @ P.weights() + P.drive(), -torch.cat([g.flatten() for g in gradient]))


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda o, t: o, LossError, r"shape \(6, 3\).*mean"),
        (lambda o, t: 1.0, LossError, "float"),
        (lambda o, t: o.detach().sum(), LossError, "does not depend on any synapse"),
        (lambda o, t: (o / 0).sum(), NonFiniteError, "all synapse calls are finite.*loss function"),
    ],
)
def test_bad_loss(loss, error, message):
    model, _, data = CASES["mlp"].make()
    with pytest.raises(error, match=message):
        lg.NeuralCoupling(model, loss, data)


def test_non_finite_activations_name_the_first_call():
    model, loss, (x, y) = CASES["mlp"].make()
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"leave call 1 \(linear with '2.weight'\)|enter call 2"):
        lg.NeuralCoupling(model, loss, (x, y))


def test_non_finite_numbers_are_named_wherever_they_arise():
    class Spiked(nn.Module):
        """Infinite for large inputs only, and then squashed, so that the loss is finite."""

        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            x = torch.exp(self.first(x))
            return self.last(torch.tanh(self.second(x)))

    model = Spiked()
    nn.init.ones_(model.first.weight)
    nn.init.ones_(model.second.weight)
    small, large = (torch.full((3, 2), value) for value in (0.1, 200.0))
    y = torch.zeros(3, 2)
    for data in ((large, y), [(small, y), (large, y)]):
        with pytest.raises(
            NonFiniteError, match=r"first enter call 1 \(linear with 'second.weight'\); the loss is 0\."
        ):
            lg.NeuralCoupling(model, F.mse_loss, data).in_strength()
    P = lg.NeuralCoupling(model, F.mse_loss, (small, y))
    assert (P @ torch.full((P.num_nodes,), float("nan"))).isnan().any()  # what comes in comes out


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda o, t: F.mse_loss(F.softmax(o, -1), F.one_hot(t, 3).float())])
def test_sums_that_vanish_in_exact_arithmetic_are_zero(loss):
    """Softmax makes the gradients of the outputs sum to 0: no row of the last block has a sum, in any precision."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
    P = lg.NeuralCoupling(model, loss, (torch.randn(20, 5), torch.randint(3, (20,))))
    parts = P.split(P.in_strength())
    assert not parts["2.weight"].any()
    assert parts["0.weight"].any()
    assert lg.capacitance(P).beta_eff == 0  # which lives on the middle layer alone
    plain = lg.NeuralCoupling(model, lambda o, t: o.square().mean(), (torch.randn(20, 5), torch.randint(3, (20,))))
    assert plain.split(plain.in_strength())["2.weight"].any()


@pytest.mark.parametrize("data", [[], (torch.empty(0, 5).double(), torch.empty(0).long())])
def test_empty_data(data):
    model, loss, _ = CASES["mlp"].make()
    with pytest.raises(DataError, match="empty"):
        lg.NeuralCoupling(model, loss, data)


def test_malformed_data():
    model, loss, (x, y) = CASES["mlp"].make()
    with pytest.raises(DataError, match="read only once"):
        lg.NeuralCoupling(model, loss, iter([(x, y)]))
    with pytest.raises(DataError, match="item 0 of data is a Tensor"):
        lg.NeuralCoupling(model, loss, [x, y, x])
    with pytest.raises(DataError, match="got Tensor"):
        lg.NeuralCoupling(model, loss, x)


def test_two_pairs_that_may_be_two_batches_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x, shift):
            return self.last(torch.tanh(self.first(x))) + shift

    (x, y), (x2, y2) = torch.randn(2, 2, 5, 3)
    with pytest.raises(DataError, match="may be two batches or one; pass a list"):
        lg.NeuralCoupling(Two(), lambda o, t: F.mse_loss(o, t[0]), ((x, y), (x2, y2)))
    with pytest.raises(DataError, match="may be two batches or one; pass a list"):
        lg.NeuralCoupling(nn.Linear(3, 3), F.mse_loss, ((x, y), (x2[:2], y2[:2])))
    for inputs, targets in (([x, y], (x2, y2)), ((x, y), (x2.argmax(1), y2))):
        assert lg.NeuralCoupling(Two(), lambda o, t: F.mse_loss(o, t[1]), (inputs, targets)).in_strength().any()
    assert lg.NeuralCoupling(nn.Linear(3, 3), F.mse_loss, [(x, y), (x2, y2)]).num_nodes == 9


def test_precisions_must_agree():
    model, loss, (x, y) = CASES["mlp"].make()
    with pytest.raises(DataError, match=r"linear with '0.weight' reads torch.float32.*is torch.float64; convert"):
        lg.NeuralCoupling(model, loss, (x.float(), y))


def test_samples_are_counted_in_mappings_of_any_class():
    class Encoding(UserDict):
        pass

    model, _, (x, y) = CASES["mlp"].make()
    inputs = Encoding(input=x)
    P = lg.NeuralCoupling(model, lambda o, _: F.cross_entropy(o, y), (inputs, None))
    plain = lg.NeuralCoupling(model, F.cross_entropy, (x, y))
    assert torch.equal(P.in_strength(), plain.in_strength())
    with pytest.raises(DataError, match="the model is on cpu, the data on meta"):
        lg.NeuralCoupling(model, F.cross_entropy, (Encoding(input=x.to("meta")), y))


def test_devices_must_agree():
    model, loss, (x, y) = CASES["mlp"].make()
    with pytest.raises(DataError, match="the model is on cpu, the data on meta"):
        lg.NeuralCoupling(model, loss, (x.to("meta"), y))
    model[0].to("meta")
    with pytest.raises(DataError, match=r"one device.*meta"):
        lg.NeuralCoupling(model, loss, (x, y))


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (["0.wieght"], "no parameter or module.*did you mean '0.weight'"),
        ("0.bias", "biases are not nodes"),
        ([nn.Linear, "0"], "not a mixture"),
        (int, "torch.nn.Module"),
    ],
)
def test_bad_include(include, message):
    model, loss, data = CASES["mlp"].make()
    with pytest.raises(SynapseSelectionError, match=message):
        lg.NeuralCoupling(model, loss, data, include=include)


def test_include_of_a_frozen_weight():
    model, loss, data = CASES["mlp"].make()
    model[0].weight.requires_grad_(False)
    with pytest.raises(SynapseSelectionError, match=r"'0\.weight', which is frozen"):
        lg.NeuralCoupling(model, loss, data, include="0.weight")
    with pytest.raises(NoSynapseError, match="chooses no trainable weight"):
        lg.NeuralCoupling(model, loss, data, include=nn.Conv2d)


@pytest.mark.parametrize("v", [torch.ones(3).double(), torch.ones(2, 2, 2).double()])
def test_vector_of_the_wrong_length(v):
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    with pytest.raises(ValueError, match=r"expected a vector of shape \(66,\)"):
        P @ v
    with pytest.raises(ValueError, match=r"expected a vector of shape \(66,\)"):
        P.split(v)


def test_an_operation_without_a_rule_names_itself_the_parameter_and_the_way_round():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate = nn.Linear(3, 3), nn.Parameter(torch.randn(3, 3))

        def forward(self, x):
            return self.first(x) @ torch.softmax(self.gate, 0)

    data = torch.randn(4, 3), torch.randn(4, 3)
    with pytest.raises(UnsupportedOperationError, match=r"torch.softmax.*'gate'.*include=lambda"):
        lg.NeuralCoupling(Net(), F.mse_loss, data)
    P = lg.NeuralCoupling(Net(), F.mse_loss, data, include=lambda name, p: name != "gate" and p.ndim > 1)
    assert [s.name for s in P.synapses] == ["first.weight"]


def test_an_operation_that_torch_hides():
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x)
            return x @ weight

        @staticmethod
        def backward(ctx, grad):
            return None, ctx.saved_tensors[0].T @ grad

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))

        def forward(self, x):
            return Hidden.apply(x, self.weight)

    with pytest.raises(UnsupportedOperationError, match=r"'weight'.*does not show"):
        lg.NeuralCoupling(Net(), F.mse_loss, (torch.randn(4, 3), torch.randn(4, 3)))


def test_magnitude_refuses_softmax_between_synapses_only():
    made = CASES["split_weight"].make()
    with pytest.raises(UnsupportedOperationError, match="magnitude has no absolute Jacobian for"):
        lg.NeuralCoupling(*made, kind="magnitude").in_strength()
    outer = nn.Sequential(nn.Softmax(1), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2), nn.LogSoftmax(1))
    P = lg.NeuralCoupling(outer, F.nll_loss, (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])), kind="magnitude")
    assert P.in_strength().any()


def test_weights_must_not_change_under_the_operator():
    model, loss, data = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, data)
    with torch.no_grad():
        model[2].weight.mul_(2)
    with pytest.raises(RuntimeError, match=r"'2\.weight' has changed"):
        P.in_strength()
    P = lg.NeuralCoupling(model, loss, data)
    model.float()
    with pytest.raises(RuntimeError, match=r"'0\.weight' has changed"):
        P.in_strength()


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of 'signed', 'magnitude'"):
        lg.NeuralCoupling(*CASES["mlp"].make(), kind="sign")
