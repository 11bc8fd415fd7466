"""Bad input to a coupling of a network, and what it says."""

import copy
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
from tests.cases import CASES, Written, weight
from tests.comparison import left_out


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


def test_complex_weights_are_part_of_the_path():
    class Spectral(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)
            self.filter = nn.Parameter(torch.randn(4, 4, dtype=torch.cdouble))

        def forward(self, x):
            return self.last(torch.fft.ifft(torch.fft.fft(self.first(x)) @ self.filter).real)

    model, data = Spectral().double(), (torch.randn(6, 5).double(), torch.randn(6, 3).double())
    match = r"'filter' is complex.*two real parameters.*include=lambda"
    assert len(left_out((model, F.mse_loss, data), "filter", match=match).synapses) == 2
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
        (nn.CrossEntropyLoss, LossError, r"the class CrossEntropyLoss; pass an instance, CrossEntropyLoss\(\)"),
        ("cross_entropy", LossError, "got a str"),
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
    with pytest.raises(NonFiniteError, match=r"first leave call 1 \(linear with '2.weight'\)"):
        lg.NeuralCoupling(model, loss, (x, y))


@pytest.mark.parametrize("spoiled", ["0.weight", "0.bias", "5.weight", "5.bias"])
def test_non_finite_parameters_are_named_by_their_own_call(spoiled):
    model, loss, data = CASES["mlp"].make()
    with torch.no_grad():
        dict(model.named_parameters())[spoiled].fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=rf"first leave call \d \(linear with '{spoiled[0]}\.weight'\)"):
        lg.NeuralCoupling(model, loss, data)


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
    with pytest.raises(DataError, match="got TensorDataset; wrap it in a DataLoader"):
        lg.NeuralCoupling(model, loss, torch.utils.data.TensorDataset(x, y))
    with pytest.raises(DataError, match=r"inputs are a NumPy array; torch.as_tensor"):
        lg.NeuralCoupling(model, loss, (x.numpy(), y.numpy()))


@pytest.mark.parametrize(("model", "given"), [("resnet", "'resnet'"), (nn.Linear, "the class Linear")])
def test_a_model_is_a_module(model, given):
    with pytest.raises(TypeError, match=f"torch.nn.Module, got {given}"):
        lg.NeuralCoupling(model, F.mse_loss, (torch.ones(1, 1), torch.ones(1, 1)))


def test_a_coupling_of_a_network_is_not_copied():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    assert repr(P).startswith("NeuralCoupling(kind='signed', shape=(")
    with pytest.raises(TypeError, match=r"keep P.to_graph\(\)"):
        copy.deepcopy(P)


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
    torch.testing.assert_close(P.in_strength(), plain.in_strength())
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
        ([nn.Linear, "0"], "all of one sort, got class, str"),
        (nn.Linear(2, 2), "not a module: got a Linear"),
        ([torch.ones(1)], "got Tensor"),
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
    P = left_out((Net(), F.mse_loss, data), "gate", match=r"torch.softmax.*'gate'.*include=lambda")
    assert [s.name for s in P.synapses] == ["first.weight"]
    P = lg.NeuralCoupling(Net(), F.mse_loss, data, include=lambda name, p: name != "gate" and p.ndim > 1)
    assert [s.name for s in P.synapses] == ["first.weight"]


class Product(torch.autograd.Function):
    """x W, unseen."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad


def written(function, **parts):
    torch.manual_seed(0)
    net = Written(function, a=nn.Linear(4, 4), w=weight(4, 4), out=nn.Linear(4, 3), **parts).double()
    return net, F.mse_loss, (torch.randn(5, 4).double(), torch.randn(5, 3).double())


@pytest.mark.parametrize("seen_as", [lambda w: w, lambda w: w.to(torch.float64), torch.Tensor.contiguous, torch.t])
@pytest.mark.parametrize("also_seen", [False, True])
def test_an_operation_that_torch_hides(seen_as, also_seen):
    def forward(net, x):
        h = torch.tanh(net.a(x))
        y = Product.apply(h, seen_as(net.w))
        return net.out(y + F.linear(x, net.w) if also_seen else y)

    left_out(written(forward), "w", match=r"'w'.*does not show")


@pytest.mark.parametrize("copy", [torch.clone, lambda w: w * 2.0, lambda w: w * torch.ones_like(w).tril()])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("__setitem__", lambda w: w.__setitem__(0, 0.0)),
        ("add_", lambda w: w.add_(0.5)),
        ("mul_", lambda w: w.mul_(0.5)),
        ("fill_diagonal_", lambda w: w.fill_diagonal_(0)),
        ("zero_", torch.no_grad()(torch.Tensor.zero_)),
        ("the model, through a view,", lambda w: w.detach().zero_()),
    ],
)
def test_writing_into_a_copy_of_a_weight(copy, name, write):
    def forward(net, x):
        w = copy(net.w)
        write(w)
        return net.out(torch.tanh(F.linear(x, w)))

    left_out(written(forward), "w", match=rf"{name} writes into the synapse weight 'w'.*include=")


def test_writing_into_a_row_of_a_multiple_of_a_weight():
    def forward(net, x):
        w = net.w * 2.0
        w[0].zero_()
        return net.out(torch.tanh(F.linear(x, w)))

    left_out(written(forward), "w", match=r"zero_ writes into the synapse weight 'w'")


def clipped(net, x):
    net.w.data = net.w.data.clamp(-0.1, 0.1)
    return net.out(torch.tanh(x @ net.w))


def clipped_in_place(net, x):
    net.w.data.clamp_(-0.1, 0.1)
    return net.out(torch.tanh(x @ net.w))


def moving_average(net, x):
    with torch.no_grad():
        net.w.lerp_(net.a.weight, 0.1)
    return net.out(torch.tanh(net.a(x)) @ net.w)


def reset_row(net, x):
    net.w.detach()[0].zero_()
    return net.out(torch.tanh(net.a(x)) @ net.w)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("forward", [clipped, clipped_in_place, moving_average, reset_row])
def test_writing_into_a_parameter_is_refused_before_it_happens(forward, frozen, training):
    net, loss, data = written(forward)
    net.w.requires_grad_(not frozen)
    before = net.w.detach().clone()
    with pytest.raises(UnsupportedOperationError, match=r"torch\.Tensor\.\w+.* writes into the .*'w'"):
        lg.NeuralCoupling(net, loss, data, training=training)
    assert torch.equal(net.w, before)


def test_a_model_that_merges_weights_as_it_changes_its_mode():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode=True):
            if self.merged is mode:
                self.weight.data.mul_(2 if mode else 0.5)
                self.merged = not mode
            return super().train(mode)

    model, data = Merging(4, 3), (torch.randn(5, 4), torch.randn(5, 3))
    before = model.weight.detach().clone()
    with pytest.raises(UnsupportedOperationError, match="as the model changes its mode"):
        lg.NeuralCoupling(model, F.mse_loss, data)
    assert (model.training, model.merged) == (True, False)
    assert torch.equal(model.weight, before)
    assert lg.NeuralCoupling(model.eval(), F.mse_loss, data).num_nodes == 12


def test_what_only_looks_like_writing_into_a_parameter():
    def forward(net, x):
        net.a.bias.requires_grad_(False).detach_()
        net.out = net.out.to(x.dtype)  # a number type that it has
        return net.out(torch.relu_(net.a(x)))

    net, loss, data = written(forward)
    assert len(lg.NeuralCoupling(net, loss, data).verify(1e-9)) == 3


def test_writing_a_weight_into_a_buffer():
    def forward(net, x):
        buffer = torch.zeros(4, 4, dtype=x.dtype)
        buffer[:] = net.w
        return net.out(torch.tanh(F.linear(x, buffer)))

    left_out(written(forward), "w", match=r"no rule covers torch\.Tensor\.__setitem__.*'w' enters")


def test_a_weight_that_the_model_changes_in_every_pass():
    model = nn.Sequential(nn.Embedding(4, 5, max_norm=0.5), nn.Linear(5, 3))
    before = model[0].weight.clone()
    made = model, F.mse_loss, (torch.tensor([0, 2]), torch.randn(2, 3))
    left_out(made, "0.weight", match=r"max_norm.*'0\.weight' in place.*max_norm = None")
    assert torch.equal(model[0].weight, before)


def penalty(outputs, targets):
    x, y = outputs
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return F.mse_loss(y, targets) + slope.square().mean()


def forces(net, x):
    x = x.clone().requires_grad_()
    energy = net.out(torch.tanh(net.a(x))) + x[:, :3] ** 2
    return torch.autograd.grad(energy.sum(), x, create_graph=True)[0][:, :3]


@pytest.mark.parametrize("in_the_loss", [False, True])
def test_a_loss_made_of_gradients(in_the_loss):
    def forward(net, x):
        x = x.clone().requires_grad_()
        return x, net.out(torch.tanh(net.a(x)))

    model, loss, data = written(forward if in_the_loss else forces)
    with pytest.raises(
        UnsupportedOperationError, match=r"differentiates itself at call 1 \(linear with 'out\.weight'\)"
    ):
        lg.NeuralCoupling(model, penalty if in_the_loss else loss, data)


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.vmap,
        lambda f: lambda x: torch.func.jvp(f, (x,), (x,))[1],
        lambda f: torch.func.jacrev(lambda x: f(x)),
    ],
)
def test_transforms_of_functions(transform):
    def forward(net, x):
        return F.linear(transform(lambda z: torch.tanh(net.a(z)))(x).flatten(1)[:, :4], net.w)

    model, _, data = written(forward)
    made = model, lambda outputs, targets: outputs.mean(), data
    match = r"linear with 'a\.weight' runs under a transform of torch\.func"
    assert [s.name for s in left_out(made, "a.weight", match=match).synapses] == ["w"]


def test_no_weight_that_can_be_a_node():
    model, loss, data = written(lambda net, x: torch.func.vmap(lambda z: net.out(torch.tanh(net.a(z))))(x))
    with pytest.raises(NoSynapseError, match=r"2 are left out.*'a\.weight' runs under a transform.*whole batch"):
        lg.NeuralCoupling(model, loss, data)
    del model.w
    with pytest.raises(NoSynapseError, match=r"2 are left out.*'a\.weight' runs under a transform.*whole batch"):
        lg.NeuralCoupling(model, loss, data)


class Swish(torch.autograd.Function):
    """Differentiable once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * s * (1 + x * (1 - s))


class DetachedSwish(Swish):
    """Differentiable once, and silent about it."""

    @staticmethod
    def backward(ctx, grad):
        with torch.no_grad():
            return F.silu(ctx.saved_tensors[0]) * 0 + Swish.backward(ctx, grad)


class SwishByHand(Swish):
    @staticmethod
    def backward(ctx, grad):
        with torch.no_grad():
            x = ctx.saved_tensors[0]
            slope = torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))
        return grad * slope


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("custom function Swish", Swish.apply),
        ("custom function DetachedSwish", DetachedSwish.apply),
        ("cdist", lambda h: torch.cdist(h, torch.eye(4).double())),
    ],
)
def test_functions_without_second_derivatives(name, activation):
    model, loss, data = written(lambda net, x: net.out(activation(h := net.a(x)) + F.linear(h, net.w)))
    P = lg.NeuralCoupling(model, loss, data)
    torch.testing.assert_close(P @ P.weights() + P.drive(), -P.gradient())
    torch.testing.assert_close(P @ torch.ones(P.num_nodes, 2).double(), P.in_strength().unsqueeze(1).expand(-1, 2))
    for product in (P.out_strength, lambda: P.T @ P.weights(), lambda: P.T @ torch.eye(P.num_nodes).double()):
        with pytest.raises(UnsupportedOperationError, match=rf"(?s)second derivatives.*{name}.*include="):
            product()


def test_a_function_with_a_backward_of_its_own():
    """It need not be differentiable but in what comes to it, and functions without slope send nothing."""
    nets = [
        written(lambda net, x, f=f: net.out(f(net.a(x)) + torch.sign(net.a(x)))) for f in (SwishByHand.apply, F.silu)
    ]
    own, torchs = (lg.NeuralCoupling(*net) for net in nets)
    v = torch.randn(own.num_nodes).double()
    torch.testing.assert_close(own.T @ v, torchs.T @ v)


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


class WithMask(nn.Module):
    """Called by keywords, as models of Hugging Face are."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))

    def forward(self, input_ids, attention_mask):
        return self.head((self.embed(input_ids) * attention_mask.unsqueeze(2)).mean(1))


def test_batches_that_are_mappings_are_told_how_to_become_pairs():
    def batch(key="labels"):
        return {"input_ids": torch.arange(6).view(2, 3), "attention_mask": torch.ones(2, 3), key: torch.tensor([0, 1])}

    model, loss = WithMask(), nn.CrossEntropyLoss()
    advice = (
        r"a dict with the keys 'input_ids', 'attention_mask', '{0}', not an .* batch.pop\('{0}'\)\) for batch in data\]"
    )
    for couple in (lg.NeuralCoupling, lambda *given: lg.CapacitanceTracker(*given).record()):
        for key in ("labels", "label", "targets"):
            with pytest.raises(DataError, match="item 0 of data is " + advice.format(key)):
                couple(model, loss, [batch(key)])
        with pytest.raises(
            DataError, match=r"data is a UserDict .*, not .*; \(batch, batch.pop\('labels'\)\) makes a pair"
        ):
            couple(model, loss, UserDict(batch()))
    data = [batch(), batch()]
    with pytest.raises(DataError, match="train: item 0 of data is a dict with the keys"):
        lg.rank({"a": WithMask, "b": WithMask}, data, data)
    pairs = [(batch, batch.pop("labels")) for batch in data]  # what the message says
    P = lg.NeuralCoupling(model, loss, pairs)
    torch.testing.assert_close(P @ P.weights() + P.drive(), -P.gradient())
    assert lg.rank({"a": WithMask, "b": WithMask}, pairs, pairs, epochs=2)["error"].isna().all()
