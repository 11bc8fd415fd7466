"""Weights that are standardised, in every way to write it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from tests.cases import Written, weight
from tests.comparison import close


def rows(w):
    return w.reshape(1, len(w), -1)


def nfnet(net, w):
    gain = (net.gain * 0.7).view(-1)
    return F.batch_norm(rows(w), None, None, gain, training=True, momentum=0.0, eps=1e-3).reshape_as(w)


def nfnet_of_jax(net, w):
    mean, var = torch.mean(w, dim=[1, 2, 3], keepdim=True), torch.var(w, dim=[1, 2, 3], keepdim=True)
    return (w - mean) * torch.rsqrt(torch.maximum(var * 12, torch.tensor(1e-4))) * net.gain


def bit(net, w):
    variance, mean = torch.var_mean(w, dim=[1, 2, 3], keepdim=True, unbiased=False)
    return (w - mean) / torch.sqrt(variance + 1e-10)


def micro_batch(net, w):
    w = w - w.mean(dim=1, keepdim=True).mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)
    deviation = w.view(w.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
    return w / deviation.expand_as(w)


FORMS = {
    "NFNet": nfnet,
    "NFNet, as in JAX": nfnet_of_jax,
    "BiT": bit,
    "micro-batch training": micro_batch,
    "batch norm": lambda net, w: F.batch_norm(rows(w), None, None, training=True).view_as(w),
    "running statistics": lambda net, w: F.batch_norm(w, net.mean, net.var, -net.scale, net.mean, eps=0.1),
    "group norm": lambda net, w: F.group_norm(w, 1),
    "layer norm": lambda net, w: F.layer_norm(w, w.shape[1:]) * (net.gain * 2),
    "instance norm": lambda net, w: F.instance_norm(w.flatten(1).unsqueeze(0)).view_as(w),
    "rms norm": lambda net, w: F.rms_norm(w, w.shape[1:], eps=0.1),
    "std": lambda net, w: w / w.std((1, 2, 3), keepdim=True),
    "std_mean": lambda net, w: (w - torch.std_mean(w, (1, 2, 3), keepdim=True)[1]) / torch.std_mean(w)[0],
    "gain": lambda net, w: w * net.gain,
}


def network(form):
    torch.manual_seed(0)
    net = Written(
        lambda net, x: net.out(torch.tanh(F.conv2d(torch.tanh(net.first(x)), form(net, net.w))).mean((2, 3))),
        first=nn.Conv2d(2, 3, 3),
        w=weight(4, 3, 2, 2),
        gain=nn.Parameter(torch.rand(4, 1, 1, 1) + 0.5),
        scale=nn.Parameter(torch.rand(3) + 0.5),
        out=nn.Linear(4, 3),
        mean=nn.Parameter(torch.randn(3), requires_grad=False),
        var=nn.Parameter(torch.rand(3) + 0.5, requires_grad=False),
    ).double()
    return net, F.mse_loss, (torch.randn(5, 2, 5, 5).double(), torch.randn(5, 3).double())


@pytest.mark.parametrize("name", FORMS)
def test_the_coupling_is_that_of_an_operator(name):
    net, loss, data = network(FORMS[name])
    P = lg.NeuralCoupling(net, loss, data)
    assert {s.name: s.op for s in P.synapses}["w"] == "conv2d"
    P.verify(1e-10)
    dense = P @ torch.eye(P.num_nodes).double()
    close(P.T @ torch.eye(P.num_nodes).double(), dense.T)
    close(P.to_graph().to_dense(), dense)
    magnitude = lg.NeuralCoupling(net, loss, data, kind="magnitude") @ torch.eye(P.num_nodes).double()
    assert (magnitude >= dense.abs() - 1e-12).all()
    assert P.num_edges == (magnitude > 1e-12).sum()


def by_definition(net, data, form, v):
    """P v of the first layer and of the standardised weight, from its definition and by autograd.

    The standardised weight is W ∘ factor + shift. W ∘ factor is the weight of a synapse call, and shift is on the path.
    Statistics of W are synapse calls with a constant input. So the derivatives by W count factor and shift as well.
    """
    x, y = data
    w, out = net.w, net.out.weight

    def pooled(z):
        return torch.tanh(z).mean((2, 3))

    whole = form(net, w).detach()
    ends = (slice(None), 0, 0, 0), (slice(None), 1, 1, 1)
    factor = ((whole[ends[0]] - whole[ends[1]]) / (w[ends[0]] - w[ends[1]])).detach().view(-1, 1, 1, 1)
    shift = whole - w.detach() * factor
    h = torch.tanh(net.first(x))
    z = F.conv2d(h.detach(), whole).requires_grad_()
    scores = net.out(pooled(z))
    g_z, g_out = torch.autograd.grad(F.mse_loss(scores, y), [z, scores])
    through_w = (g_z * F.conv2d(h, v["w"] * factor)).sum()
    beside_w = F.conv2d(h.detach(), w.detach() * factor) + F.conv2d(h, shift)
    through_out = (g_out * (pooled(beside_w) @ v["out.weight"].T)).sum()
    of_w = (g_out * (pooled(F.conv2d(h.detach(), form(net, w))) @ v["out.weight"].T)).sum()
    return {
        "first.weight": -torch.autograd.grad(through_w + through_out, net.first.weight)[0],
        "w": -torch.autograd.grad(of_w, w)[0],
        "out.weight": torch.zeros_like(out),
    }


@pytest.mark.parametrize("name", [name for name in FORMS if name != "running statistics"])
def test_products_are_those_of_the_definition(name):
    net, loss, data = network(FORMS[name])
    P = lg.NeuralCoupling(net, loss, data)
    v = torch.randn(P.num_nodes).double()
    found, expected = P.split(P @ v), by_definition(net, data, FORMS[name], P.split(v))
    for layer, part in expected.items():
        close(found[layer], part)
    assert found["first.weight"].any()


def test_penalties_of_the_size_of_weights():
    """Squares, powers and absolute values of weights in the loss are part of the drive; all weights stay nodes."""
    net, loss, data = network(FORMS["gain"])
    matrices = [net.first.weight, net.w, net.out.weight]

    def penalised(outputs, targets):
        squares = sum((w**2).sum() + w.pow(4).mean() + w.square().sum((0, 1)).max() for w in matrices)
        return loss(outputs, targets) + 0.1 * squares + 0.2 * sum(w.abs().sum() for w in matrices)

    P, plain = lg.NeuralCoupling(net, penalised, data), lg.NeuralCoupling(net, loss, data)
    assert [s.name for s in P.synapses] == [s.name for s in plain.synapses]
    P.verify(1e-10)
    assert all(part.any() for name, part in P.split(P.drive()).items() if name != "gain")
    close(P @ torch.eye(P.num_nodes).double(), plain @ torch.eye(P.num_nodes).double())


def test_norms_by_hand():
    net, loss, data = network(lambda net, w: w * torch.rsqrt(w.pow(2).mean((1, 2, 3), keepdim=True) + 0.1))
    same = network(lambda net, w: F.rms_norm(w, w.shape[1:], eps=0.1))
    P, Q = lg.NeuralCoupling(net, loss, data), lg.NeuralCoupling(*same)
    close(P @ torch.eye(P.num_nodes).double(), Q @ torch.eye(P.num_nodes).double())
    assert P.num_edges == Q.num_edges


STATISTICS = {
    "var": lambda w: torch.var(w, (1, 2)),
    "var of all": torch.var,
    "biased var of all": lambda w: torch.var(w, False),
    "std of one dimension": lambda w: w.std(1, correction=0),
    "std_mean": lambda w: torch.cat(torch.std_mean(w, 0, keepdim=True)),
    "var_mean of all": lambda w: torch.stack(torch.var_mean(w)),
}


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("of", ["a weight", "an activation"])
def test_statistics(name, of, kind):
    statistic = STATISTICS[name]

    def forward(net, x):
        h = torch.tanh(net.a(x)).view(-1, 3, 4)
        return net.out(torch.tanh(h + statistic(net.w if of == "a weight" else h).sum()).flatten(1))

    torch.manual_seed(0)
    net = Written(forward, a=nn.Linear(4, 12), w=weight(2, 3, 4), out=nn.Linear(12, 3)).double()
    data = torch.randn(5, 4).double(), torch.randn(5, 3).double()
    P = lg.NeuralCoupling(net, F.mse_loss, data, kind=kind)
    if kind == "signed":
        P.verify(1e-10)
    dense = P @ torch.eye(P.num_nodes).double()
    close(P.T @ torch.eye(P.num_nodes).double(), dense.T)
    close(P.to_graph().to_dense(), dense)
