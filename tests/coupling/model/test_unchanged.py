"""P belongs to the parameters and buffers that it was made with, however they are changed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from tests.comparison import close

torch.manual_seed(0)
X, Y = torch.randn(12, 3, 5, 5).double(), torch.randint(4, (12,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.frozen = nn.Linear(6 * 9, 8).requires_grad_(False)
        self.scale = nn.Parameter(torch.rand(8) + 1)
        self.head = nn.Linear(8, 4)
        self.register_buffer("shift", torch.rand(8))
        self.register_buffer("empty", None)
        for t in (self.norm.running_mean, self.norm.running_var, self.norm.weight):
            t.data.uniform_(1, 2)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(torch.tanh(self.frozen(h) * self.scale + self.shift))


def network(training=False):
    torch.manual_seed(1)
    return Net().double().train(training)


def swap_rows(t):
    t.data[[0, 1]] = t.data[[1, 0]]


def replace(net, name, t):
    holder, _, key = name.rpartition(".")
    module = net.get_submodule(holder)
    kept = module._parameters if key in module._parameters else module._buffers
    kept[key] = type(kept[key])(t.clone() + 1) if isinstance(kept[key], nn.Parameter) else t.clone() + 1


WAYS = {
    "through data": lambda t: t.data.mul_(3),
    "one number of them": lambda t: t.data.view(-1)[-1:].add_(1e-12 + t.data.view(-1)[-1:].abs()),
    "without gradients": lambda t: torch.no_grad()(torch.Tensor.add_)(t, 1),
    "by detaching": lambda t: t.detach().sub_(1),
    "rows that change places": swap_rows,
    "through NumPy": lambda t: t.detach().numpy().__iadd__(1),
    "other memory": lambda t: setattr(t, "data", t.data + 1),
    "not a number": lambda t: t.data.fill_(float("nan")),
}
NAMES = ["conv.weight", "conv.bias", "norm.weight", "frozen.weight", "frozen.bias", "scale", "head.weight", "head.bias"]
NAMES += ["norm.running_mean", "norm.running_var", "shift"]
PRODUCTS = {
    "P v": lambda P: P @ torch.ones(P.num_nodes).double(),
    "a block": lambda P: P @ torch.ones(P.num_nodes, 2).double(),
    "its transpose": lambda P: P.T @ torch.ones(P.num_nodes).double(),
    "in-strengths": lambda P: P.in_strength(),
    "out-strengths": lambda P: P.out_strength(),
    "the gradient": lambda P: P.gradient(),
    "the drive": lambda P: P.drive(),
    "a total": lambda P: P.total(torch.ones(P.num_nodes).double()),
    "walks": lambda P: P.walks(),
    "the graph": lambda P: P.to_graph(),
    "verify": lambda P: P.verify(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_changed_is_named(name, way):
    net = network()
    tensor = net.state_dict(keep_vars=True)[name]
    P = lg.NeuralCoupling(net, F.cross_entropy, (X, Y))
    P.in_strength()
    WAYS[way](tensor)
    with pytest.raises(RuntimeError, match=rf"'{name}' has changed since this coupling was made.*new NeuralCoupling"):
        P.gradient()


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("batched", [False, True])
def test_every_product_looks(product, batched):
    net = network()
    P = lg.NeuralCoupling(net, F.cross_entropy, [(X[:5], Y[:5]), (X[5:], Y[5:])] if batched else (X, Y))
    PRODUCTS[product](P)
    before = net.frozen.bias.data.clone()
    net.frozen.bias.data[3] += 1e-9
    with pytest.raises(RuntimeError, match=r"'frozen\.bias' has changed"):
        PRODUCTS[product](P)
    net.frozen.bias.data.copy_(before)
    PRODUCTS[product](P)  # and what is put back has not changed


@pytest.mark.parametrize("kind", ["magnitude", "flow", "energy"])
def test_every_kind_looks(kind):
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4))
    x, y = torch.randn(6, 5), torch.randint(4, (6,))
    P = lg.NeuralCoupling(net, F.cross_entropy, (x, y), kind=kind)
    P.in_strength(), P.out_strength()
    net[2].bias.data[1] += 1
    for product in (P.in_strength, P.out_strength, lambda: P @ torch.ones(P.num_nodes)):
        with pytest.raises(RuntimeError, match=r"'2\.bias' has changed"):
            product()


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_are_replaced(name):
    net = network()
    P = lg.NeuralCoupling(net, F.cross_entropy, (X, Y))
    replace(net, name, net.state_dict()[name])
    with pytest.raises(RuntimeError, match=f"'{name}' has changed"):
        P.in_strength()


@pytest.mark.parametrize(
    "change", [nn.Module.float, lambda net: net.to(memory_format=torch.channels_last), lambda net: net.half()]
)
def test_models_that_are_converted(change):
    net = network()
    P = lg.NeuralCoupling(net, F.cross_entropy, (X, Y))
    change(net)
    with pytest.raises(RuntimeError, match=r"'[\w.]+' has changed"):
        P.in_strength()


def test_steps_of_training():
    net = network(training=True)
    P = lg.NeuralCoupling(net, F.cross_entropy, (X, Y))
    net(X)  # moves running statistics
    with pytest.raises(RuntimeError, match=r"'norm\.running_mean' has changed"):
        P.in_strength()
    in_training = lg.NeuralCoupling(net, F.cross_entropy, (X, Y), training=True)
    first = in_training.in_strength()
    net(X)  # which norms in training mode do not read
    close(in_training.in_strength(), first)
    torch.optim.SGD(net.parameters(), lr=0.1).step()  # no gradients, no step
    close(in_training.in_strength(), first)
    F.cross_entropy(net(X), Y).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    with pytest.raises(RuntimeError, match="has changed"):
        in_training.in_strength()


def test_what_changes_no_number():
    net = network()
    P = lg.NeuralCoupling(net, F.cross_entropy, (X, Y))
    first = P.gradient()
    net.train()
    net.head.weight.requires_grad_(False)
    net.shift.copy_(net.shift.clone())
    net.register_buffer("new", torch.ones(2))
    net.head.weight.grad = torch.ones_like(net.head.weight)
    copy.deepcopy(net).conv.weight.data.zero_()
    close(P.gradient(), first)


def test_layouts_in_memory():
    net = network().to(memory_format=torch.channels_last)
    net.head.weight.data = torch.randn(8, 4).double().mT
    net.shift = torch.zeros(1).double().expand(8)
    P = lg.NeuralCoupling(net, F.cross_entropy, (X, Y))
    P.gradient()
    for name in ("conv.weight", "head.weight"):
        t = net.state_dict()[name]
        kept = t.clone()
        t.data[1, 2].add_(1)
        with pytest.raises(RuntimeError, match=f"'{name}' has changed"):
            P.gradient()
        t.data.copy_(kept)
    net.head.weight.data = net.head.weight.data.clone().T.contiguous().view(4, 8)
    with pytest.raises(RuntimeError, match=r"'head\.weight' has changed"):
        P.gradient()


def test_weights_of_classes_in_the_loss():
    loss = nn.CrossEntropyLoss(torch.ones(4).double())
    P = lg.NeuralCoupling(network(), loss, [(X[:5], Y[:5]), (X[5:], Y[5:])])
    P.gradient()
    loss.weight[2] = 3
    with pytest.raises(RuntimeError, match=r"'loss_fn\.weight' has changed"):
        P.gradient()


def test_large_frozen_weights_and_sparse_buffers():
    """A frozen weight of several rows of a sketch counts as changed as soon as its bits differ."""
    net = nn.Sequential(nn.Linear(80, 80), nn.Tanh(), nn.Linear(80, 80), nn.Tanh(), nn.Linear(80, 3))
    net[0].requires_grad_(False)
    net.register_buffer("mask", torch.eye(3).to_sparse())
    data = torch.randn(5, 80), torch.randn(5, 3)
    P = lg.NeuralCoupling(net, F.mse_loss, data)
    step = torch.full((80, 80), 0.1)
    for factor in (1, -1):
        net[2].weight.data.add_(step, alpha=factor)
    P.in_strength()
    for factor in (1, -1):
        net[0].weight.data.add_(step, alpha=factor)
    with pytest.raises(lg.errors.StaleCouplingError, match=r"'0\.weight' has changed"):
        P.in_strength()
    P = lg.NeuralCoupling(net, F.mse_loss, data)
    net.mask.copy_(torch.ones(3, 3).to_sparse())
    with pytest.raises(lg.errors.StaleCouplingError, match="'mask' has changed"):
        P.in_strength()


def test_tied_and_empty_parameters():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    net[2].weight = net[0].weight
    net.register_parameter("none", None)
    net.nothing = nn.Parameter(torch.empty(0, 4))
    P = lg.NeuralCoupling(net, F.mse_loss, (torch.randn(5, 4), torch.randn(5, 3)))
    P.gradient()
    net[2].weight.data[0, 0] += 1
    with pytest.raises(RuntimeError, match=r"'0\.weight' has changed"):
        P.gradient()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["conv.weight", "frozen.bias", "shift"])
def test_what_is_moved_and_moved_back_has_not_changed(name, dtype):
    """Finite differences leave roundings, of weights that were 0 too; the smallest step of one weight alone is seen."""
    net = network().to(dtype)
    t = net.state_dict()[name]
    t.view(-1)[0] = 0
    P = lg.NeuralCoupling(net, F.cross_entropy, (X.to(dtype), Y))
    expected, step = P.in_strength(), 1e-3 * torch.randn_like(t)
    for factor in (1, -2, 1):
        t.data.add_(step, alpha=factor)
    close(P.in_strength(), expected, 1e-5 if dtype == torch.float32 else 1e-10)
    t.data.view(-1)[1] += 1e-4
    with pytest.raises(lg.errors.StaleCouplingError, match=name):
        P.in_strength()
