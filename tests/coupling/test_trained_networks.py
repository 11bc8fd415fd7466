"""Networks that torch trains have P, or an error that names the weight and a way round."""

import copy

import pytest
import torch
import torch.autograd.forward_ad as forward_mode
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import linegraph as lg
from linegraph.errors import DataError, NoSynapseError, UnsupportedOperationError
from tests.cases import Written, weight
from tests.comparison import close, left_out


def two_layers():
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.fixture(autouse=True)
def _in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def data():
    return torch.randn(6, 5), torch.randn(6, 3)


def check(model, data, loss=F.mse_loss, **settings):
    """The identity, against the gradient of training, and the transpose."""
    P = lg.NeuralCoupling(model, loss, data, **settings)
    loss(model(data[0]), data[1]).backward()
    trained = {name: p.grad for name, p in model.named_parameters()}
    for name, g in P.split(P @ P.weights() + P.drive()).items():
        close(g, -trained[name])
    identity = torch.eye(P.num_nodes)
    close(P.T @ identity, (P @ identity).T)
    P.verify(1e-9)
    return P


# sparse features and graphs -----------------------------------------------------------------------------


LAYOUTS = {
    "COO": torch.Tensor.to_sparse_coo,
    "CSR": torch.Tensor.to_sparse_csr,
    "CSC": torch.Tensor.to_sparse_csc,
}
READERS = {
    "linear": lambda net, x: net.out(torch.tanh(F.linear(x, net.w.t()))),
    "@": lambda net, x: net.out(torch.tanh(x @ net.w)),
    "mm": lambda net, x: net.out(torch.tanh(torch.mm(x, net.w))),
    "sparse.mm": lambda net, x: net.out(torch.tanh(torch.sparse.mm(x, net.w))),
    "sparse.addmm": lambda net, x: net.out(torch.tanh(torch.sparse.addmm(torch.ones(6, 4), x, net.w, beta=2, alpha=3))),
}


@pytest.mark.filterwarnings("ignore:Sparse CS")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reader", READERS)
def test_sparse_features(layout, reader, data):
    x, y = data
    x = x * (x > 0.3)
    if layout == "CSC" and reader.startswith("sparse"):
        pytest.skip("torch has no such product")
    model = Written(READERS[reader], w=weight(5, 4), out=nn.Linear(4, 3))
    for kind in ("signed", "magnitude"):
        dense = lg.NeuralCoupling(model, F.mse_loss, (x, y), kind=kind)
        P = lg.NeuralCoupling(model, F.mse_loss, (LAYOUTS[layout](x), y), kind=kind)
        close(P.in_strength(), dense.in_strength())
        close(P.out_strength(), dense.out_strength())
    P = lg.NeuralCoupling(model, F.mse_loss, (LAYOUTS[layout](x), y))
    P.verify(1e-10)
    assert P.num_edges == dense.num_edges
    close(P.to_graph().to_dense(), P @ torch.eye(P.num_nodes))


@pytest.mark.filterwarnings("ignore:Sparse CS")
@pytest.mark.parametrize("layout", ["COO", "CSR"])
def test_sparse_graphs(layout, data):
    dense = (torch.rand(6, 6) > 0.5).double() / 3
    adjacency = LAYOUTS[layout](dense)

    def network(product, adjacency):
        return Written(
            lambda net, x: product(adjacency, torch.relu(product(adjacency, x @ net.w)) @ net.v),
            w=weight(5, 4),
            v=weight(4, 3),
        )

    for product in (torch.sparse.mm, torch.mm, torch.matmul):
        model = network(product, adjacency)
        P, magnitude = check(model, data), lg.NeuralCoupling(model, F.mse_loss, data, kind="magnitude")
        plain = copy.deepcopy(network(torch.mm, dense))
        plain.load_state_dict(model.state_dict())
        expected = lg.NeuralCoupling(plain, F.mse_loss, data, kind="magnitude")
        close(magnitude.in_strength(), expected.in_strength())
        assert P.num_edges == expected.num_edges


# networks that differentiate themselves -----------------------------------------------------------------


def adapted(steps=1, create_graph=False, clones=False):
    """MAML: steps on a support set, then the loss."""

    def forward(net, x):
        p = {name: w.clone() if clones else w for name, w in net.net.named_parameters()}
        for _ in range(steps):
            support = functional_call(net.net, p, (x[:3],)).square().mean()
            gradients = torch.autograd.grad(support, list(p.values()), create_graph=create_graph)
            p = {name: w - 0.1 * g for (name, w), g in zip(p.items(), gradients, strict=True)}
        return functional_call(net.net, p, (x,))

    return Written(forward, net=two_layers())


@pytest.mark.parametrize(("steps", "clones"), [(1, False), (3, False), (2, True)])
def test_meta_learning_of_first_order(steps, clones, data):
    model = adapted(steps, clones=clones)
    P = check(model, data)
    assert [s.name for s in P.synapses] == ["net.0.weight", "net.2.weight"]
    assert (lg.NeuralCoupling(model, F.mse_loss, data, kind="magnitude").in_strength() >= 0).all()
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(UnsupportedOperationError, match="edges are not counted"):
        P.num_edges  # noqa: B018


def test_one_weight_adapted_among_several_batches(data):
    def forward(net, x):
        (step,) = torch.autograd.grad(net.net(x).square().mean(), [net.net[0].bias])
        return functional_call(net.net, {"0.bias": net.net[0].bias - step}, (x,))

    x, y = data
    model = Written(forward, net=two_layers())
    P = lg.NeuralCoupling(model, F.mse_loss, [(x[:3], y[:3]), (x[3:], y[3:])])
    P.verify(1e-9)


def test_meta_learning_that_is_not_followed_says_so(data):
    with pytest.raises(UnsupportedOperationError, match=r"create_graph=True.*include="):
        lg.NeuralCoupling(adapted(create_graph=True), F.mse_loss, data)
    model = Written(
        lambda net, x: net.a(x) - torch.autograd.grad(net.a(x).square().mean(), [net.b])[0],
        a=nn.Linear(5, 3),
        b=weight(3),
    )
    model.b.requires_grad_(False)
    with pytest.raises(UnsupportedOperationError, match="by a tensor that needs no gradient"):
        lg.NeuralCoupling(model, F.mse_loss, data)
    with pytest.raises(UnsupportedOperationError, match="differentiates itself"):
        lg.neuron_graph(adapted(), data[0])


def test_derivatives_of_forward_mode(data):
    def derivative(net, x):
        with forward_mode.dual_level():
            return forward_mode.unpack_dual(net.net(forward_mode.make_dual(x, torch.ones_like(x)))).tangent

    made = Written(lambda net, x: net.out(derivative(net, x)), net=two_layers(), out=nn.Linear(3, 3)), F.mse_loss, data
    left_out(made, "net.0.weight", "net.2.weight", match="linear with 'net.0.weight' runs in forward mode.*include=")

    def between(net, x):
        h = net.a(x)
        with forward_mode.dual_level():
            slope = forward_mode.unpack_dual(torch.tanh(forward_mode.make_dual(h, torch.ones_like(h)))).tangent
        return net.b(slope)

    model = Written(between, a=nn.Linear(5, 4), b=nn.Linear(4, 3))
    check(model, data)
    plain = Written(lambda net, x: net.b(torch.cosh(net.a(x)) ** -2), a=model.a, b=model.b)
    found, expected = (lg.NeuralCoupling(m, F.mse_loss, data, kind="magnitude") for m in (model, plain))
    close(found.in_strength(), expected.in_strength())


# exported and traced networks --------------------------------------------------------------------------


EXPORTING = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        return self.head(self.drop(F.max_pool1d(torch.relu(self.norm(self.conv(x[:, None]))), 3, 1, 1).flatten(1)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.head(self.layer(torch.relu(self.embed(x)).view(2, 3, 8)).view(6, 8))


@EXPORTING
@pytest.mark.parametrize("make", [two_layers, Images, Attention])
def test_exported_modules(make, data):
    model = make().eval()
    exported = torch.export.export(model, (data[0],))
    P, expected = check(exported.module(), data), lg.NeuralCoupling(model, F.mse_loss, data)
    close(P.in_strength(), expected.in_strength())
    close(P.out_strength(), expected.out_strength())
    assert P.num_edges == expected.num_edges
    exported.module().zero_grad()
    check(exported.run_decompositions().module(), data)


@EXPORTING
def test_exported_modules_stay_in_their_mode(data):
    module = torch.export.export(two_layers(), (data[0],)).module()  # in training mode, which nothing in it depends on
    check(module, data)
    with pytest.raises(NotImplementedError):
        module.train()
    module = torch.export.export(Images(), (data[0],)).module()
    with pytest.raises(UnsupportedOperationError, match=r"exported in training mode.*or pass training=True"):
        lg.NeuralCoupling(module, F.mse_loss, data)
    lg.NeuralCoupling(module, F.mse_loss, data, training=True).verify(1e-9)


def test_traced_modules(data):
    check(torch.fx.symbolic_trace(two_layers()), data)


# parameters of all sorts -------------------------------------------------------------------------------


def test_inference_tensors(data):
    with torch.inference_mode():
        inputs, model = (data[0].clone(), data[1].clone()), two_layers()
    plain = two_layers()
    P = lg.NeuralCoupling(plain, F.mse_loss, inputs)
    close(P.in_strength(), lg.NeuralCoupling(plain, F.mse_loss, data).in_strength())
    P.verify(1e-10)
    with pytest.raises(UnsupportedOperationError, match=r"'0.weight' was made under torch.inference_mode.*deepcopy"):
        lg.NeuralCoupling(model, F.mse_loss, data)
    lg.NeuralCoupling(copy.deepcopy(model), F.mse_loss, data).verify(1e-10)


def test_layers_made_in_the_forward_pass(data):
    def forward(net, x):
        if not hasattr(net, "made"):
            net.made = nn.Linear(5, 4)
        return net.out(torch.tanh(net.made(x)))

    model = Written(forward, out=nn.Linear(4, 3))
    with pytest.raises(UnsupportedOperationError, match=r"'made.weight' in its forward pass; run it once"):
        lg.NeuralCoupling(model, F.mse_loss, data)
    assert not hasattr(model, "made")
    model(data[0])
    assert len(check(model, data).synapses) == 2
    with pytest.raises(NoSynapseError, match=r"make their layers in forward.*nn.ParameterList"):
        lg.NeuralCoupling(Written(lambda net, x: x), F.mse_loss, data)
    fresh = Written(
        lambda net, x: net.out(torch.tanh(nn.Linear(4, 4)(net.a(x)))), a=nn.Linear(5, 4), out=nn.Linear(4, 3)
    )
    for kind in ("signed", "magnitude"):  # random numbers of the same seed in every pass
        assert lg.NeuralCoupling(fresh, F.mse_loss, data, kind=kind).in_strength().any()


def test_parameters_without_numbers(data):
    with pytest.raises(DataError, match=r"'0.weight' is on the meta device.*to_empty"):
        lg.NeuralCoupling(two_layers().to("meta"), F.mse_loss, data)
    partly = nn.Sequential(two_layers(), nn.Linear(3, 3, device="meta").requires_grad_(False))
    with pytest.raises(DataError, match=r"'1.weight' is on the meta device"):
        lg.NeuralCoupling(partly, F.mse_loss, data)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_parameters_without_entries(data):
    def forward(net, x):
        return net.out(torch.cat([torch.tanh(net.a(x) + net.none(x[:, :0])), net.no(x)], 1))

    model = Written(forward, a=nn.Linear(5, 4), none=nn.Linear(0, 4), no=nn.Linear(5, 0), out=nn.Linear(4, 3))
    P = check(model, data)
    assert [s.name for s in P.synapses] == ["a.weight", "out.weight"]
    assert P.coverage().set_index("name")["reason"]["none.weight"] == "it has no entry"
    close(P.to_graph().to_dense(), P @ torch.eye(P.num_nodes))


@pytest.mark.filterwarnings("ignore:Sparse CS")
@pytest.mark.parametrize("layout", ["COO", "CSR"])
def test_sparse_parameters(layout, data):
    sparse = nn.Parameter(LAYOUTS[layout](torch.randn(4, 5)))
    model = Written(lambda net, x: net.out(torch.tanh((net.w @ x.t()).t())), w=sparse, out=nn.Linear(4, 3))
    left_out((model, F.mse_loss, data), "w", match=r"'w' is sparse.*include=lambda")


def test_nested_and_masked_tensors(data):
    x, y = data
    nested = torch.nested.nested_tensor([x[:2], x[2:]], layout=torch.jagged)

    def forward(net, x):
        return net.out(torch.stack([t.mean(0) for t in net.net(x).unbind()]))

    made = Written(forward, net=two_layers(), out=nn.Linear(3, 3)), F.mse_loss, (nested, y[:2])
    left_out(made, "net.0.weight", "net.2.weight", match=r"'net.0.weight' reads a nested tensor.*padded")


PRODUCTS = {
    "@": lambda w, h: w @ h.t(),
    "bmm": lambda w, h: torch.bmm(w.expand(2, 4, 4), h.view(2, 3, 4).mT),
    "inner": lambda w, h: torch.inner(w, h),
    "addmm": lambda w, h: torch.addmm(torch.ones(6), w, h.t()),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_lie_in_memory_as_those_of_torch(name, data):
    a, w, out = nn.Linear(5, 4), weight(4, 4), nn.Linear(4, 3)
    model = Written(lambda net, x: net.out(PRODUCTS[name](net.w, net.a(x)).view(6, 4)), a=a, w=w, out=out)
    check(model, data)
    model.w.requires_grad_(False)
    for kind in ("signed", "magnitude"):
        lg.NeuralCoupling(model, F.mse_loss, data, kind=kind).in_strength()


def test_a_weight_seen_as_itself(data):
    model = Written(lambda net, x: net.out(torch.tanh(x @ net.w.view_as(net.w))), w=weight(5, 4), out=nn.Linear(4, 3))
    check(model, data)
