import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.coupling import products
from linegraph.coupling.operations import Rule
from linegraph.errors import TooLargeError
from tests.cases import CASES, squared
from tests.comparison import close, true_gradient

ALL = pytest.mark.parametrize("name", CASES)


KINDS = [(kind, name) for kind in ("signed", "flow") for name in CASES] + [("magnitude", name) for name in CASES]


@ALL
def test_identity(name):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data)
    gradient = true_gradient(model, loss, data, [s.name for s in P.synapses])
    close(P @ P.weights() + P.drive(), -gradient)
    close(P.gradient(), gradient)


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_gradient_and_drive_come_from_one_reading(kind):
    model, loss, (x, y) = CASES["cnn"].make()
    for data in ((x, y), [(x[:2], y[:2]), (x[2:], y[2:])]):
        P = lg.NeuralCoupling(model, loss, data, kind=kind)
        gradient, drive = P.gradient_and_drive()
        close(gradient, P.gradient())
        close(drive, P.drive())


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


@ALL
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
        patch.setattr(Rule, "is_one_product", property(lambda rule: not taken.append(rule)))
        found = P @ v, P.T @ v
        patch.setattr(Rule, "is_one_product", property(lambda rule: False))
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
        monkeypatch.setattr(products, "FEW_WEIGHTS", 0)
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
