import copy
import gc
import random
import weakref
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import linegraph as lg
from linegraph.coupling import products
from linegraph.errors import DataError, IdentityError, TooLargeError, UnsupportedOperationError
from tests.cases import CASES, MAGNITUDE, Written, squared, weight

ALL = pytest.mark.parametrize("name", CASES)
KINDS = [(kind, name) for kind in ("signed", "flow") for name in CASES] + [("magnitude", name) for name in MAGNITUDE]


def true_gradient(model, loss, data, names):
    inputs, targets = data
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(loss(model(inputs), targets), [parameters[n] for n in names], allow_unused=True)
    return torch.cat([g.flatten() for g in grads])


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(b.abs().max())))


@ALL
def test_identity(name):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data)
    gradient = true_gradient(model, loss, data, [s.name for s in P.synapses])
    close(P @ P.weights() + P.drive(), -gradient)
    close(P.gradient(), gradient)


@pytest.mark.parametrize(("kind", "name"), [("flow", "cnn"), ("energy", "cnn"), *(("signed", name) for name in CASES)])
def test_verify(name, kind):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data, kind=kind)
    table = P.verify(1e-9)
    assert set(table["name"]) >= {s.name for s in P.synapses}
    norms = {n: float(torch.linalg.vector_norm(g)) for n, g in P.split(P.gradient()).items()}
    for row in table.itertuples():
        assert row.gradient == pytest.approx(norms.get(row.name, 0.0), rel=1e-9)


def test_verify_over_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(), nn.Linear(3, 2)).double()
    x, y = torch.randn(7, 4).double(), torch.randn(7, 2).double()
    loader = DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True)
    assert len(lg.NeuralCoupling(model, F.mse_loss, loader).verify(1e-12)) == 2
    assert len(lg.NeuralCoupling(model, F.mse_loss, (x, y), training=True).verify(1e-12)) == 2
    assert len(lg.NeuralCoupling(model, nn.MSELoss(reduction="sum"), loader).verify(1e-12)) == 2


def test_verify_names_what_is_wrong():
    class Wrong(nn.Module):
        """A network whose second weight acts otherwise once P is made."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)
            self.changed = False

        def forward(self, x):
            y = self.second(self.first(x).tanh())
            return y.square() if self.changed else y

    model, data = Wrong().double(), (torch.randn(5, 4).double(), torch.randn(5, 2).double())
    P = lg.NeuralCoupling(model, F.mse_loss, data)
    P.verify()
    model.changed = True
    with pytest.raises(IdentityError, match=r"'first\.weight' by .*, 'second\.weight' by "):
        P.verify()
    with pytest.raises(UnsupportedOperationError, match="kind='signed'"):
        lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude").verify()


def test_verify_sees_a_transpose_that_is_none(monkeypatch):
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    monkeypatch.setattr(P, "push", torch.zeros_like)
    with pytest.raises(IdentityError, match="not the transpose"):
        P.verify()


# Networks written in ways that a pass must see through -----------------------------------------------------


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
        assert torch.equal(P.in_strength(), expected.in_strength())
        assert torch.equal(P.out_strength(), expected.out_strength())
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


@ALL
def test_drive_only_on_synapses_followed_by_the_loss(name):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data)
    driven = {n for n, b in P.split(P.drive()).items() if b.any()}
    assert driven == set(CASES[name].driven or [P.synapses[-1].name])


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_adjoint(kind, name):
    P = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    u, v = torch.randn(2, P.num_nodes, dtype=torch.float64)
    close(u @ (P @ v), (P.T @ u) @ v)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_strengths_are_products_with_ones(kind, name):
    P = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    ones = torch.ones(P.num_nodes, dtype=torch.float64)
    close(P.in_strength(), P @ ones)
    close(P.out_strength(), P.T @ ones)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_explicit_graph_equals_operator(kind, name):
    P = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    G = P.to_graph()
    dense = P @ torch.eye(P.num_nodes, dtype=torch.float64)
    close(G.to_dense(), dense)
    assert G.num_edges == P.num_edges


@pytest.mark.parametrize("name", MAGNITUDE)
def test_magnitude_bounds_signed(name):
    made = CASES[name].make()
    signed, magnitude = (lg.NeuralCoupling(*made, kind=kind).to_graph().to_dense() for kind in ("signed", "magnitude"))
    assert (magnitude >= signed.abs() - 1e-12).all()


@pytest.mark.parametrize("name", ["mlp", "linear_only"])
def test_magnitude_of_one_sample_is_the_absolute_value_where_paths_do_not_meet(name):
    made = CASES[name].make(samples=1)
    signed, magnitude = (lg.NeuralCoupling(*made, kind=kind).to_graph().to_dense() for kind in ("signed", "magnitude"))
    close(magnitude, signed.abs())


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_absolute_total_is_at_least_the_sum(kind, name):
    P = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    total = float(P.in_strength().sum())
    assert P.absolute_total() >= abs(total) * (1 - 1e-12) - 1e-15
    if kind == "magnitude":
        assert P.absolute_total() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
@pytest.mark.parametrize("name", ["mlp", "residual_batch_norm"])
def test_loader_equals_concatenated_data(kind, name):
    model, loss, (x, y) = CASES[name].make(samples=7)
    whole = lg.NeuralCoupling(model, loss, (x, y), kind=kind)
    parts = lg.NeuralCoupling(model, loss, DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True), kind=kind)
    v = torch.randn(whole.num_nodes, 2, dtype=torch.float64)
    for product in ("matvec", "rmatvec"):
        close(getattr(parts, product)(v), getattr(whole, product)(v))
    for vector in ("in_strength", "out_strength", "gradient", "drive"):
        close(getattr(parts, vector)(), getattr(whole, vector)())
    assert lg.capacitance(parts).beta_eff == pytest.approx(lg.capacitance(whole).beta_eff, rel=1e-9)


def marked(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum")


marked.reduction = "sum"


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        partial(F.cross_entropy, reduction="sum"),
        partial(nn.CrossEntropyLoss(reduction="sum")),
        marked,
        partial(marked),
    ],
)
def test_a_loss_that_sums_adds_over_batches(loss):
    model, _, (x, y) = CASES["mlp"].make(samples=7)
    whole = lg.NeuralCoupling(model, loss, (x, y))
    parts = lg.NeuralCoupling(model, loss, [(x[:4], y[:4]), (x[4:], y[4:])])
    close(parts.in_strength(), whole.in_strength())


def test_a_loader_without_a_length():
    model, loss, (x, y) = CASES["mlp"].make(samples=7)

    class Stream(IterableDataset):
        def __iter__(self):
            return zip(x, y, strict=True)

    P = lg.NeuralCoupling(model, loss, DataLoader(Stream(), 3))
    close(P.in_strength(), lg.NeuralCoupling(model, loss, (x, y)).in_strength())


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


def test_streaming_keeps_no_pass():
    model, loss, (x, y) = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, [(x, y), (x, y)])
    tapes = []
    for tape, _ in P.passes.tapes():
        tapes.append(weakref.ref(tape))
        del tape
    assert all(reference() is None for reference in tapes)  # freed without the garbage collector
    gc.collect()


def test_single_precision_agrees_with_double():
    model, loss, (x, y) = CASES["residual_batch_norm"].make()
    exact = lg.capacitance(lg.NeuralCoupling(model, loss, (x, y))).beta_eff
    P = lg.NeuralCoupling(copy.deepcopy(model).float(), loss, (x.float(), y))
    assert P.dtype == torch.float32
    assert lg.capacitance(P).beta_eff == pytest.approx(exact, rel=1e-4)


def test_half_precision_is_summed_in_single():
    model, loss, (x, y) = CASES["mlp"].make(samples=64)
    exact = lg.capacitance(lg.NeuralCoupling(model, loss, (x, y), kind="magnitude")).beta_eff
    P = lg.NeuralCoupling(copy.deepcopy(model).bfloat16(), loss, (x.bfloat16(), y), kind="magnitude")
    assert P.dtype == P.weights().dtype == P.in_strength().dtype == torch.float32
    assert (P @ P.weights()).isfinite().all()
    assert lg.capacitance(P).beta_eff == pytest.approx(exact, rel=0.02)


def test_products_of_convolutions_on_few_positions():
    """Large kernels whose weight gradients are products of matrices, against the convolutions."""
    model = nn.Sequential(nn.Conv2d(3, 70, 1), nn.Tanh(), nn.Conv2d(70, 110, 3, stride=2, padding=1), nn.Tanh())
    model = nn.Sequential(model, nn.Conv2d(110, 2, 1)).double()
    P = lg.NeuralCoupling(model, squared, (torch.randn(2, 3, 3, 3).double(), torch.tensor(0.0).double()))
    v = torch.randn(P.num_nodes).double()
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "is_one_product", lambda rule: not taken.append(rule))
        found = P @ v, P.T @ v
        patch.setattr(products, "is_one_product", lambda rule: False)
        for one, other in zip(found, (P @ v, P.T @ v), strict=True):
            close(one, other)
    assert {rule.stride for rule in taken} == {(2, 2)}


def test_vectors_are_copies():
    model = nn.Linear(3, 2)
    P = lg.NeuralCoupling(model, F.mse_loss, (torch.randn(4, 3), torch.randn(4, 2)))
    before = model.weight.detach().clone()
    for vector in (P.weights(), P.in_strength(), P.gradient()):
        vector.fill_(7)
    assert torch.equal(model.weight, before)
    assert not P.in_strength().any()


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


def test_the_model_comes_back_as_it_was():
    model, loss, data = CASES["residual_batch_norm"].make()
    model.train()
    model.norm2.eval()
    model.conv.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    seen = []
    model.head.register_forward_hook(lambda *_: seen.append(1))
    state = copy.deepcopy(model.state_dict())
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    randomness = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    P = lg.NeuralCoupling(model, loss, DataLoader(TensorDataset(*data), 2, shuffle=True), training=True)
    lg.capacitance(P)
    assert P.num_edges
    assert seen, "the user's hooks run"
    assert [m.training for m in model.modules()] == modes
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert model.head.weight.grad.eq(1).all()
    assert model.stem.weight.grad is None
    assert torch.equal(torch.get_rng_state(), randomness[0])
    assert (np.random.get_state()[1] == randomness[1]).all()  # noqa: NPY002
    assert random.getstate() == randomness[2]


def test_inputs_of_other_classes_are_passed_on_as_they_are():
    class Lengths(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.out = nn.GRU(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = x if isinstance(x, nn.utils.rnn.PackedSequence) else x["sequence"][0]
            return self.out(self.cells(x)[1][0])

    torch.manual_seed(0)
    model, y = Lengths().double(), torch.randn(2, 2).double()
    sequence = nn.utils.rnn.pack_sequence([torch.randn(4, 3).double(), torch.randn(2, 3).double()])
    P = lg.NeuralCoupling(model, F.mse_loss, (sequence, y))
    assert len(P.verify(1e-9)) == 3

    class Opaque:
        def __getitem__(self, name):
            return [sequence]

    def loss(outputs, _):
        return F.mse_loss(outputs, y)

    Q = lg.NeuralCoupling(model, loss, (Opaque(), None))
    assert torch.equal(Q.gradient(), P.gradient())
    with pytest.raises(DataError, match=r"number of samples, by which batches are weighted.*pass targets"):
        lg.NeuralCoupling(model, loss, [(Opaque(), None)] * 2)


def test_what_a_forward_pass_keeps_is_forgotten():
    """States, counters, caches, buffers that are filled: the next pass starts from what the caller's model holds."""

    def forward(net, x):
        net.state = torch.tanh(net.a(x) + net.state)
        net.steps += 1
        net.kept.append(net.state)
        net.cache["state"] = net.filled = net.state.detach()
        net.register_buffer("new", net.filled)
        return net.out(net.state)

    torch.manual_seed(0)
    net = Written(forward, a=nn.Linear(4, 4), out=nn.Linear(4, 3), state=torch.zeros(4), steps=0, kept=[], cache={})
    net.register_buffer("filled", None)
    state, batch = net.double().state, (torch.randn(5, 4).double(), torch.randn(5, 3).double())
    P = lg.NeuralCoupling(net, squared, [batch, batch])
    assert len(P.verify(1e-9)) == 2
    assert P.num_edges == 48
    assert (net.state is state, net.steps, net.kept, net.cache) == (True, 0, [], {})
    assert dict(net.named_buffers(remove_duplicate=False)) == {}
    assert net.filled is None


def test_hooks_on_gradients_are_those_of_the_training_step():
    """They are neither called nor lost, and P is that of the loss without them."""
    model, loss, data = CASES["mlp"].make()
    expected = lg.NeuralCoupling(model, loss, data)
    called = []

    def double(*given):
        called.append(given)
        return tuple(2 * g for g in given[1]) if isinstance(given[0], nn.Module) else 2 * given[0]

    def hook_output(module, inputs, output):
        output.retain_grad()
        output.register_hook(double)

    shared = nn.modules.module.register_module_full_backward_hook(lambda *given: called.append(given))
    model[1].register_full_backward_hook(lambda *given: double(*given))
    model[2].register_full_backward_pre_hook(lambda module, g: double(module, g))
    model[2].weight.register_hook(double)
    model[3].register_forward_hook(hook_output)
    P = lg.NeuralCoupling(model, loss, data)
    for vector in ("in_strength", "out_strength", "gradient", "drive"):
        assert torch.equal(getattr(P, vector)(), getattr(expected, vector)())
    assert not called
    loss(model(data[0].requires_grad_()), data[1]).backward()
    shared.remove()
    assert len(called) == 4 + len(list(model.modules()))


def test_a_frozen_embedding_is_not_shortened():
    torch.manual_seed(0)
    table = nn.Embedding(4, 5, max_norm=0.5).requires_grad_(False)
    model = nn.Sequential(table, nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    before = table.weight.clone()
    index, y = torch.tensor([0, 2, 3]), torch.randn(3, 3).double()
    P = lg.NeuralCoupling(model, squared, (index, y))
    found = P.gradient()
    assert P.num_edges
    assert len(P.verify()) == 2
    assert torch.equal(table.weight, before)
    close(found, true_gradient(model, squared, (index, y), [s.name for s in P.synapses]))
    assert not torch.equal(table.weight, before)  # as the model itself does


@pytest.mark.parametrize("after", [1, 2, 4])
def test_the_model_comes_back_after_an_interruption(after):
    """In the first pass, and in the middle of a stream; what is asked of P afterwards is whole."""
    model, loss, data = CASES["residual_batch_norm"].make()
    model.train()
    model.stem.weight.requires_grad_(False)
    batches, state = [data] * 3, copy.deepcopy(model.state_dict())
    calls = []

    def interrupted(outputs, targets):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return loss(outputs, targets)

    made = []

    def stream():
        made.append(lg.NeuralCoupling(model, interrupted, batches, training=True))
        made[0].in_strength()

    randomness = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        stream()
    assert all(m.training for m in model.modules())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["stem.weight"]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert torch.equal(torch.get_rng_state(), randomness)
    assert len(made) == (after > 1)
    for P in made:
        close(P.in_strength(), lg.NeuralCoupling(model, loss, batches, training=True).in_strength())


def test_training_mode_draws_dropout_once():
    model, loss, data = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, [data], training=True)
    assert torch.equal(P.gradient(), P.gradient())
    assert not torch.equal(P.gradient(), lg.NeuralCoupling(model, loss, data).gradient())


def test_training_mode_identity_with_batch_statistics():
    model, loss, data = CASES["residual_batch_norm"].make()
    P = lg.NeuralCoupling(model, loss, data, training=True)
    model.train()
    gradient = true_gradient(model, loss, data, [s.name for s in P.synapses])
    close(P @ P.weights() + P.drive(), -gradient)


def test_vectors_are_laid_out_in_registration_order():
    model, loss, data = CASES["concatenation"].make()
    P = lg.NeuralCoupling(model, loss, data)
    expected = [(n, tuple(p.shape)) for n, p in model.named_parameters() if p.ndim > 1]
    assert [(s.name, s.shape) for s in P.synapses] == expected
    assert [s.op for s in P.synapses] == ["conv2d", "conv2d", "conv2d", "linear"]
    weights = P.split(P.weights())
    assert all(torch.equal(weights[n], p) for n, p in model.named_parameters() if p.ndim > 1)
    assert P.shape == (P.num_nodes, P.num_nodes)


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["0.weight", "5.weight"], ["0.weight", "5.weight"]),
        ("2", ["2.weight"]),
        (nn.Linear, ["0.weight", "2.weight", "5.weight"]),
        ([nn.Linear, nn.Conv2d], ["0.weight", "2.weight", "5.weight"]),
        (lambda name, p: p.shape[0] > 3 and p.ndim > 1, ["0.weight", "2.weight"]),
    ],
)
def test_include(include, expected):
    model, loss, data = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, data, include=include)
    assert [s.name for s in P.synapses] == expected
    close(P @ P.weights() + P.drive(), -true_gradient(model, loss, data, expected))


def test_what_is_not_included_is_path():
    """Leaving out the middle layer couples its neighbours through it."""
    model, loss, data = CASES["linear_only"].make()
    deep = nn.Sequential(nn.Linear(4, 4), *model).double()
    P = lg.NeuralCoupling(deep, loss, data, include=["0.weight", "2.weight"])
    frozen = copy.deepcopy(deep)
    frozen[1].weight.requires_grad_(False)
    Q = lg.NeuralCoupling(frozen, loss, data)
    v = torch.randn(P.num_nodes, dtype=torch.float64)
    close(P @ v, Q @ v)
    assert (P @ v).any()
    assert P.num_edges == 4 * 4 * 5 * 3  # every neuron of layer 0 reaches every neuron of layer 2


def test_coverage_names_every_parameter_and_why():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
            self.unused = nn.Linear(2, 2)
            self.body[3].weight.requires_grad_(False)

        def forward(self, x):
            return self.body(x)

    model = Net()
    P = lg.NeuralCoupling(model, F.mse_loss, (torch.randn(5, 3), torch.randn(5, 2)))
    table = P.coverage().set_index("name")
    assert list(table.index) == [n for n, _ in model.named_parameters()]
    assert table["role"].to_dict() == {
        "body.0.weight": "synapse",
        "body.0.bias": "bias",
        "body.1.weight": "path",
        "body.1.bias": "bias",
        "body.3.weight": "frozen",
        "body.3.bias": "bias",
        "body.4.weight": "synapse",
        "body.4.bias": "bias",
        "unused.weight": "unreached",
        "unused.bias": "bias",
    }
    assert table["reason"].str.len().min() > 10
    assert table.loc[table["role"] == "synapse", "numel"].sum() == P.num_nodes


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow"])
@pytest.mark.parametrize("name", ["cnn", "look_ups", "lstm", "residual_batch_norm"])
@pytest.mark.parametrize("small", [True, False])
def test_blocks_are_columns(name, kind, small, monkeypatch):
    if not small:
        monkeypatch.setattr(products, "SMALL", 0)
    P = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    block = torch.randn(P.num_nodes, 5, dtype=torch.float64)
    for product in (P.matvec, P.rmatvec):
        found = product(block)
        assert found.shape == block.shape
        for i in range(5):
            close(found[:, i], product(block[:, i]))
            close(product(block[:, i : i + 1]), found[:, i : i + 1])
    assert P.matvec(block[:, :0]).shape == (P.num_nodes, 0)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_total_is_the_sum_of_a_product(kind, name):
    model, loss, data = CASES[name].make()
    for P in (lg.NeuralCoupling(model, loss, data, kind=kind), lg.NeuralCoupling(model, loss, [data], kind=kind)):
        v = torch.randn(P.num_nodes, dtype=torch.float64)
        exact = P @ v
        assert P.total(v) == pytest.approx(float(exact.sum()), rel=1e-9, abs=1e-9 * float(exact.abs().sum()))


def test_num_edges_of_the_example_in_the_theory():
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    P = lg.NeuralCoupling(model, F.cross_entropy, (torch.randn(2, 784), torch.tensor([1, 2])))
    assert (P.num_nodes, P.num_edges) == (83_900, 3_970_000)


def test_num_edges_of_a_vgg_sized_network():
    layers, before = [], 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU())
    model.append(nn.Linear(4096, 1000))
    P = lg.NeuralCoupling(model, F.cross_entropy, (torch.randn(1, 3, 32, 32), torch.tensor([1])))
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    triples = list(zip(channels, channels[1:], channels[2:], strict=False))
    expected = sum(81 * a * b * c for a, b, c in triples)
    expected += 9 * 512 * 512 * 4096 + 512 * 4096 * 4096 + 4096 * 4096 * 1000
    assert P.num_edges == expected
    with pytest.raises(TooLargeError, match=f"{expected:,}.*max_edges=20,000,000"):
        P.to_graph()


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrappers_are_seen_through(wrap):
    model, loss, data = CASES["mlp"].make()
    P, Q = lg.NeuralCoupling(model, loss, data), lg.NeuralCoupling(wrap(model), loss, data)
    assert P.synapses == Q.synapses
    assert torch.equal(P.in_strength(), Q.in_strength())


def test_grad_mode_of_the_caller_does_not_matter():
    model, loss, data = CASES["mlp"].make()
    expected = lg.NeuralCoupling(model, loss, data).in_strength()
    with torch.no_grad():
        assert torch.equal(lg.NeuralCoupling(model, loss, data).in_strength(), expected)
    with torch.inference_mode():
        assert torch.equal(lg.NeuralCoupling(model, loss, data).in_strength(), expected)


def test_tuple_and_dict_inputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x, shift):
            return self.last(torch.relu(self.first(x) + shift))

    model, x, shift, y = Net(), torch.randn(5, 3), torch.ones(4), torch.randn(5, 2)
    strengths = [
        lg.NeuralCoupling(model, F.mse_loss, (inputs, y)).in_strength()
        for inputs in ((x, shift), {"shift": shift, "x": x})
    ]
    assert torch.equal(*strengths)
    assert strengths[0].any()
