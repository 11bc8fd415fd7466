"""Networks written in ways that a pass must see through."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import linegraph as lg
from linegraph.errors import UnsupportedOperationError
from tests.cases import CASES, Written, squared, weight
from tests.comparison import close, true_gradient


def hidden(net, x):
    return torch.tanh(net.a(x))


def constant_copy(net, x):
    h = hidden(net, x)
    with torch.no_grad():
        copy = net.w.t() * 0.9
    return net.out(torch.tanh(h @ copy + F.linear(h, net.w) + F.linear(h, net.w.detach())))


def constant_branch(net, x):
    with torch.no_grad():
        gate = torch.tanh(net.a(x))
    return net.out(torch.tanh(F.linear(hidden(net, x), net.w)) * gate[:, :1])


def constant_gradient(net, x):
    """A step of gradient descent inside the network, not differentiated."""
    y = F.linear(hidden(net, x), net.w)
    (step,) = torch.autograd.grad(y.square().mean(), net.w, retain_graph=True)
    return net.out(y + F.linear(hidden(net, x), step))


def compiled(module):
    return torch.compile(module, backend="eager")


WRITTEN = {
    "bias_from_a_layer": lambda net, x: net.out(torch.tanh(F.linear(x, net.w, hidden(net, x).mean(0)))),
    "bias_also_used_elsewhere": lambda net, x: net.out(
        torch.tanh(F.linear(x, net.w, hidden(net, x).mean(0)) + hidden(net, x))
    ),
    "bias_of_a_frozen_layer": lambda net, x: net.out(
        torch.tanh(F.linear(hidden(net, x), net.w.detach(), net.a(x).mean(0)))
    ),
    "bias_of_a_frozen_convolution": lambda net, x: net.out(
        torch.tanh(F.conv1d(hidden(net, x)[..., None], net.w.detach()[..., None], net.a(x).mean(0)).squeeze(-1))
    ),
    "bias_and_scale": lambda net, x: net.out(
        torch.tanh(F.linear(x, net.w * hidden(net, x).mean(0)[:, None], hidden(net, x).mean(0)))
    ),
    "output_written_into": lambda net, x: net.out(
        F.linear(torch.tanh(net.a(torch.stack([x, -x], -1).movedim(-1, 0)).div_(2)), net.w).sum(0)
    ),
    "functional_call": lambda net, x: net.out(
        torch.func.functional_call(net.a, {"bias": hidden(net, x).mean(0)}, torch.tanh(x))
    ),
    "constant_copy": constant_copy,
    "constant_branch": constant_branch,
    "constant_gradient": constant_gradient,
    "keywords": lambda net, x: net.out(hidden(net, x) @ torch.transpose(input=net.w, dim0=0, dim1=1)),
    "inner": lambda net, x: net.out(torch.inner(hidden(net, x), net.w) + torch.inner(net.w, x[0])),
    "weight_of_a_weight": lambda net, x: net.out(hidden(net, x) * F.linear(net.w, net.a.weight, net.w[0])[1:2]),
    "diagonal": lambda net, x: net.out(torch.tanh(torch.einsum("bi,ii->bi", hidden(net, x), net.w))),
    "rows": lambda net, x: net.out(F.linear(hidden(net, x), net.w.index_select(0, torch.tensor([3, 1, 1, 0])))),
    "no_dropout": lambda net, x: net.out(F.linear(hidden(net, x), F.dropout(net.w, 0.5, training=False))),
    "normalised": lambda net, x: net.out(F.linear(F.normalize(hidden(net, x)), F.normalize(net.w))),
    "norm": lambda net, x: net.out(hidden(net, x) @ (net.w / net.w.norm(1))) + net.a.weight.norm(),
    "largest": lambda net, x: net.out(hidden(net, x) @ net.w / torch.linalg.vector_norm(hidden(net, x), torch.inf)),
    "negative": lambda net, x: net.out(torch.tanh(F.linear(hidden(net, x), -net.w) + hidden(net, x) @ (net.w * -0.5))),
    "two_weights": lambda net, x: net.out(torch.tanh(x @ (net.w @ net.a.weight.t()))),
    "two_factors": lambda net, x: net.out(torch.tanh(x @ (net.w * net.a.weight[:, :1]))),
    "centred": lambda net, x: net.out(hidden(net, x) + (net.w - net.w.mean(0)).sum(1)),
    "linalg": lambda net, x: net.out(
        torch.linalg.matmul(hidden(net, x), net.w) + torch.linalg.multi_dot([hidden(net, x), net.w, net.w.detach()])
    ),
    "vectors": lambda net, x: net.out(
        torch.linalg.vecdot(hidden(net, x).unsqueeze(1), net.w)
        + torch.addmv(x[0], net.w, hidden(net, x)[0], beta=-1, alpha=2)
        + torch.addbmm(x, hidden(net, x).unsqueeze(0), net.w.unsqueeze(0), alpha=-1)
    ),
    "turned": lambda net, x: net.out(
        hidden(net, x) @ (net.w.flip(0) + net.w.rot90()) + hidden(net, x) @ net.w.roll(1, 0)
    ),
    "repeated": lambda net, x: net.out(F.linear(hidden(net, x), net.w[:2].repeat_interleave(2, 0))),
    "causal": lambda net, x: net.out(hidden(net, x) @ net.w.tril() + F.linear(x, torch.triu(net.w, 1))),
    "filled": lambda net, x: net.out(hidden(net, x) @ net.w.masked_fill(net.w.detach() > 0, 0.5)),
    "quotients": lambda net, x: net.out(net.w[0] / (2 + hidden(net, x)) + torch.lerp(hidden(net, x), x, net.w[:1])),
    "interpolated": lambda net, x: net.out(
        hidden(net, x) + F.interpolate(net.w[None], size=4, mode="linear")[0, :1] + F.pad(net.w[:1, :2], (1, 1))
    ),
    "hard_sigmoid": lambda net, x: net.out(F.hardsigmoid(F.linear(F.hardsigmoid(net.a(x), inplace=True), net.w) * 9)),
    "checkpoint": lambda net, x: net.out(
        checkpoint(lambda h: torch.tanh(h @ net.w), hidden(net, x), use_reentrant=False)
    ),
    "reentrant_checkpoint": lambda net, x: net.out(
        checkpoint(lambda h: torch.tanh(h @ net.w), hidden(net, x), use_reentrant=True)
    ),
    "compiled_function": lambda net, x: net.out(compiled(lambda h: torch.tanh(-(h @ net.w)))(hidden(net, x))),
}


def written(name):
    torch.manual_seed(0)
    net = Written(WRITTEN[name], a=nn.Linear(4, 4), w=weight(4, 4), out=nn.Linear(4, 3)).double()
    return net, squared, (torch.randn(5, 4).double(), torch.randn(5, 3).double())


def gradients_of_training(model, loss, data):
    loss(model(data[0]), data[1]).backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.ndim > 1 and p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_identity_however_it_is_written(name):
    model, loss, data = written(name)
    P, gradients = lg.NeuralCoupling(model, loss, data), gradients_of_training(model, loss, data)
    assert [s.name for s in P.synapses] == sorted(gradients, key=[n for n, _ in model.named_parameters()].index)
    gradient = torch.cat([g.flatten() for g in gradients.values()])
    close(P @ P.weights() + P.drive(), -gradient)
    close(P.gradient(), gradient)
    identity = torch.eye(P.num_nodes).double()
    close(P.T @ identity, (P @ identity).T)
    if name == "constant_gradient":
        with pytest.raises(UnsupportedOperationError, match=r"differentiates itself.*edges are not counted"):
            P.to_graph()
    else:
        close(P.to_graph().to_dense(), P @ identity)
    assert (lg.NeuralCoupling(model, loss, data, kind="magnitude") @ identity >= (P @ identity).abs() - 1e-12).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_compiled_parts_run_as_they_were_written(frozen):
    model, loss, data = CASES["mlp"].make()
    model[2].requires_grad_(not frozen)
    expected = lg.NeuralCoupling(model, loss, data)
    parts = copy.deepcopy(model)
    parts[2] = torch.compile(parts[2], backend="aot_eager")
    whole = copy.deepcopy(model)
    whole.compile(backend="eager")
    forward = copy.deepcopy(model)
    forward.forward = compiled(forward.forward)
    for made in (parts, whole, forward):
        P = lg.NeuralCoupling(made, loss, data)
        close(P.in_strength(), expected.in_strength())
        close(P.out_strength(), expected.out_strength())
        assert P.num_edges == expected.num_edges
    assert lg.neuron_graph(whole, data[0]).num_edges == lg.neuron_graph(model, data[0]).num_edges


def test_frozen_attention_on_a_path():
    torch.manual_seed(0)
    frozen = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True).requires_grad_(False)
    model = nn.Sequential(nn.Linear(4, 4), frozen, nn.Linear(4, 3)).double().eval()
    P = lg.NeuralCoupling(model, F.mse_loss, tuple(torch.randn(2, 3, n).double() for n in (4, 3)))
    identity = torch.eye(P.num_nodes).double()
    close(P.T @ identity, (P @ identity).T)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norm_in_training(norm):
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)).double().train()
    data, before = tuple(torch.randn(6, n).double() for n in (5, 3)), copy.deepcopy(model.state_dict())
    P = lg.NeuralCoupling(model, squared, data, training=True)
    weights = P.weights()
    close(P.out_strength(), P.T @ torch.ones_like(weights))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))
    close(P @ weights + P.drive(), -true_gradient(model, squared, data, [s.name for s in P.synapses]))


def test_layers_that_the_loss_calls():
    """As an adaptive softmax is called: they are layers of the network like any other."""
    net, loss, (x, y) = written("keywords")
    inside = lg.NeuralCoupling(Written(lambda net, x: net.out(hidden(net, x)), a=net.a, out=net.out), loss, (x, y))
    body = Written(hidden, a=net.a, out=net.out)
    P = lg.NeuralCoupling(body, lambda outputs, targets: loss(net.out(outputs), targets), (x, y))
    assert P.num_edges == inside.num_edges == 4 * 4 * 3
    close(P.to_graph().to_dense(), inside @ torch.eye(P.num_nodes).double())


def quantised(net, x):
    return F.linear(x, net.w + (torch.round(net.w) - net.w).detach())


def quantised_apart(net, x):
    return F.linear(x, net.w) + F.linear(x, (torch.round(net.w) - net.w).detach())


def masked(net, x):
    return F.conv1d(x.unsqueeze(1), (net.w * (net.w.detach() > 0) - 1).unflatten(1, (1, 4))).flatten(1)


def masked_apart(net, x):
    w = (net.w * (net.w.detach() > 0)).unsqueeze(1)
    return (F.conv1d(x.unsqueeze(1), w) - F.conv1d(x.unsqueeze(1), torch.ones_like(w))).flatten(1)


def fixed_in_parts(net, x):
    some, others = torch.tensor_split(input=2 * (net.fixed + net.w), sections=2)
    return torch.cat([x @ some.mT, x @ others.mT], 1)


def fixed_in_parts_apart(net, x):
    return torch.cat(
        [2 * (x @ part.mT + x @ fixed.mT) for part, fixed in zip(net.w.chunk(2), net.fixed.chunk(2), strict=True)], 1
    )


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize(
    ("whole", "apart"), [(quantised, quantised_apart), (masked, masked_apart), (fixed_in_parts, fixed_in_parts_apart)]
)
def test_what_is_added_to_a_weight_is_a_path_beside_it(whole, apart, kind):
    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 4), "w": nn.Parameter(2 * torch.randn(6, 4)), "out": nn.LazyLinear(3)}
    fixed = torch.randn(6, 4, dtype=torch.float64)
    data = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)

    def coupling(function):
        net = Written(lambda net, x: net.out(torch.tanh(function(net, torch.tanh(net.a(x))))), fixed=fixed, **parts)
        net.double()(data[0])
        return lg.NeuralCoupling(net, squared, data, kind=kind)

    P, Q = coupling(whole), coupling(apart)
    close(P.to_graph().to_dense(), Q.to_graph().to_dense())
    assert P.num_edges == Q.num_edges
    assert float((P @ torch.ones(P.num_nodes).double())[P.synapses[0].numel :][:24].abs().sum()) > 0


def dropped_in_place(x):
    return F.dropout(x, 0.5, training=True, inplace=True)


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_may_be_written_into(shape, bias, kind):
    """Those of linear maps of many dimensions are views to torch."""
    layers = nn.Linear(4, 4, bias=bias), nn.Linear(4, 3)
    nets = (nn.Sequential(layers[0], nn.ReLU(inplace), layers[1]).double() for inplace in (True, False))
    data = torch.randn(*shape).double(), torch.randn(*shape[:-1], 3).double()
    P, Q = (lg.NeuralCoupling(net, squared, data, kind=kind) for net in nets)
    identity = torch.eye(P.num_nodes).double()
    close(P @ identity, Q @ identity)
    close(P.T @ identity, Q.T @ identity)


REPEATED = {
    "bmm": (lambda w, h: torch.bmm(h, w.expand(5, 4, 4)), lambda w, h: h @ w),
    "with a dimension of its own": (lambda w, h: torch.bmm(h, w.unsqueeze(0).expand(5, -1, -1)), lambda w, h: h @ w),
    "on the left": (lambda w, h: torch.bmm(w.expand(5, 4, 4), h.mT).mT, lambda w, h: (w @ h.mT).mT),
    "baddbmm": (lambda w, h: torch.baddbmm(h, h, w.expand(5, 4, 4), alpha=2), lambda w, h: h + h @ w * 2),
    "masked": (lambda w, h: torch.bmm(h, (w * MASK).expand(5, 4, 4)), lambda w, h: h @ (w * MASK)),
    "masked afterwards": (lambda w, h: torch.bmm(h, w.expand(5, 4, 4) * MASK), lambda w, h: h @ (w * MASK)),
    "factors": (lambda w, h: h * w[:3].expand_as(h), lambda w, h: h * w[:3]),
    "terms": (lambda w, h: h + w[:3].expand_as(h), lambda w, h: h + w[:3]),
    "tokens": (lambda w, h: torch.cat([h, w.expand(5, 4, 4)], 1), lambda w, h: torch.cat([h, w.repeat(5, 1, 1)], 1)),
    "means": (lambda w, h: h + w.expand(5, 4, 4).mean(2, keepdim=True)[:, :3], lambda w, h: h + w.mean(1)[:3, None]),
    "transposed": (lambda w, h: torch.bmm(h, w.expand(5, 4, 4).mT), lambda w, h: torch.bmm(h, w.repeat(5, 1, 1).mT)),
    "of einsum": (lambda w, h: torch.einsum("bni,oi->bno", h, w * MASK), lambda w, h: h @ (w * MASK).t()),
    "in place": (lambda w, h: (h * 2).mul_(w[:3]).addcmul_(w[:3], h), lambda w, h: h * 2 * w[:3] + w[:3] * h),
}
MASK = torch.ones(4, 4).tril()


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("name", REPEATED)
def test_a_weight_repeated_for_a_batch_is_one_weight(name, kind):
    def coupling(function):
        torch.manual_seed(0)
        net = Written(
            lambda net, x: net.out(torch.tanh(function(net.w, hidden(net, x))).mean(1)),
            a=nn.Linear(4, 4), w=weight(4, 4), out=nn.Linear(4, 3),
        ).double()  # fmt: skip
        return lg.NeuralCoupling(net, squared, (torch.randn(5, 3, 4).double(), torch.randn(5, 3).double()), kind=kind)

    P, Q = (coupling(function) for function in REPEATED[name])
    found = P @ torch.eye(P.num_nodes).double()
    close(found, Q @ torch.eye(P.num_nodes).double())
    close(P.to_graph().to_dense(), found)
    assert P.num_edges == Q.num_edges or name == "means"  # a sum over features after the repetition


@pytest.mark.parametrize("read", [torch.Tensor.view_as, torch.Tensor.reshape_as, torch.Tensor.to, torch.Tensor.type_as])
def test_a_weight_of_which_only_the_shape_is_read(read):
    torch.manual_seed(0)
    net = Written(
        lambda net, x: net.out(torch.tanh(read(hidden(net, x), net.w) @ net.w)),
        a=nn.Linear(4, 4), w=weight(4, 4), out=nn.Linear(4, 3),
    ).double()  # fmt: skip
    P = lg.NeuralCoupling(net, squared, (torch.randn(4, 4).double(), torch.randn(4, 3).double()))
    P.verify(1e-10)
    assert {s.op for s in P.synapses} == {"linear", "matmul"}


def added_in_place(x):
    x += 1
    return x


def written_into(x):
    x[:, 1] = 1.0
    return x


@pytest.mark.parametrize("write", [dropped_in_place, added_in_place, written_into])
@pytest.mark.parametrize("samples", [1, 2])
def test_codes_of_places_may_be_written_into(write, samples):
    """What is added to one fixed sample has the shape of the code, which may be a weight until it is written into."""
    torch.manual_seed(0)
    model = Written(
        lambda net, x: net.out(torch.tanh(net.a(write(x + net.w)))).mean(1),
        w=nn.Parameter(torch.randn(1, 3, 4)), a=nn.Linear(4, 4), out=nn.Linear(4, 2),
    ).double()  # fmt: skip
    data = torch.randn(samples, 3, 4, dtype=torch.float64), torch.randn(samples, 2, dtype=torch.float64)
    P = lg.NeuralCoupling(model, squared, data)
    P.verify(1e-12)
    close(P.to_graph() @ P.weights(), P @ P.weights())
    assert P.synapses[0].name == "w"


def test_normalised_weights_are_those_of_weight_norm():
    torch.manual_seed(0)
    one, other, out = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 3)
    other.load_state_dict(one.state_dict())
    normed = nn.utils.parametrizations.weight_norm(other)
    nn.init.ones_(normed.parametrizations.weight.original0).requires_grad_(False)
    plain = Written(lambda net, x: net.out(torch.tanh(F.linear(x, F.normalize(net.a.weight)))), a=one, out=out).double()
    other = Written(lambda net, x: net.out(torch.tanh(net.a(x))), a=normed, out=out).double()
    data = torch.randn(5, 4).double(), torch.randn(5, 3).double()
    P, Q = lg.NeuralCoupling(plain, squared, data), lg.NeuralCoupling(other, squared, data)
    close(P @ torch.eye(28).double(), Q @ torch.eye(28).double())
    assert P.num_edges == Q.num_edges


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no products of groups")
@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_a_product_with_a_matrix_for_each_group_of_rows(kind):
    ends = torch.tensor([3, 3, 8], dtype=torch.int32)

    def grouped(net, x):
        return net.out(torch.tanh(torch._grouped_mm(hidden(net, x), net.w, offs=ends)))

    def one_by_one(net, x):
        h = hidden(net, x)
        return net.out(torch.tanh(torch.cat([h[:3] @ net.w[0], h[3:] @ net.w[2]])))

    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 4), "w": weight(3, 4, 4), "out": nn.Linear(4, 3)}
    data = torch.randn(8, 4), torch.randn(8, 3)
    P, Q = (lg.NeuralCoupling(Written(f, **parts), squared, data, kind=kind) for f in (grouped, one_by_one))
    found = P @ torch.eye(P.num_nodes)
    torch.testing.assert_close(found, Q @ torch.eye(P.num_nodes), rtol=1e-4, atol=1e-6)
    assert found.any()


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_an_expert_without_tokens(kind):
    def forward(net, x):
        busy, idle = (torch.tanh(F.linear(h, net.w)) for h in (hidden(net, x), hidden(net, x)[:0]))
        return net.out(torch.cat([busy, torch.tanh(net.idle(idle))]))

    torch.manual_seed(0)
    net = Written(forward, a=nn.Linear(4, 4), w=weight(4, 4), idle=nn.Linear(4, 4), out=nn.Linear(4, 3)).double()
    data = torch.randn(5, 4).double(), torch.randn(5, 3).double()
    P, ones = lg.NeuralCoupling(net, squared, data, kind=kind), torch.ones(4 * 4 * 3 + 12).double()
    received = P @ ones
    close(P.in_strength(), received)
    close(P.out_strength(), P.T @ ones)
    assert received.any()
    assert P.walks().two == pytest.approx(float((P @ received).sum()))
    assert not P.split(received)["idle.weight"].any()


def test_one_square_matrix_used_both_ways_round():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 3))

        def forward(self, x):
            return F.linear(torch.tanh(x @ self.w), self.w)

    P = lg.NeuralCoupling(Net().double(), squared, tuple(torch.randn(2, 5, 3).double()))
    G = P.to_graph()
    close(G.to_dense(), P @ torch.eye(9, dtype=torch.float64))
    assert G.num_edges == P.num_edges
