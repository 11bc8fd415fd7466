"""A weighted operation that is added from outside the package."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.errors import CoverageWarning, RuleError
from tests.cases import Written, weight
from tests.comparison import close

HOW_TO = Path(__file__).parents[3] / "docs" / "own_operation.md"


@pytest.fixture
def example():
    """The names that the blocks of the how-to define; their binder is removed afterwards."""
    torch.manual_seed(0)
    found = {"__name__": "example"}
    try:
        for block in re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL):
            exec(block, found)
        yield found
    finally:
        lg.operations.unbinds(found["bind_long_convolution"])


def circulant(w):
    """The matrices of the long convolution: (c, t, s) ↦ w[c, (t − s) mod T]."""
    shift = (torch.arange(w.shape[-1]).unsqueeze(1) - torch.arange(w.shape[-1])) % w.shape[-1]
    return w[:, shift]


def network(convolution):
    torch.manual_seed(0)
    net = Written(
        lambda net, x: net.out(torch.tanh(convolution(torch.tanh(net.a(x)), net.w)).mean(-1)),
        a=nn.Conv1d(1, 3, 1),
        w=weight(3, 6),
        out=nn.Linear(3, 2),
    ).double()
    return net, F.mse_loss, (torch.randn(4, 1, 6).double(), torch.randn(4, 2).double())


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_the_how_to(example, kind):
    """The rule gives what matrices that hold the filters give, as far as these are not synapses."""
    made = network(example["long_convolution"])
    P = lg.NeuralCoupling(*made, kind=kind)
    assert [s.op for s in P.synapses] == ["long_convolution", "conv1d", "linear"]
    if kind == "signed":
        P.verify(1e-12)
    identity = torch.eye(P.num_nodes).double()
    dense = P @ identity
    close(P.T @ identity, dense.T)
    close(P.to_graph().to_dense(), dense)
    close(P.in_strength(), dense.sum(1))
    close(P.out_strength(), dense.sum(0))
    assert P.num_edges == 3 * 6 + 18 * 2  # a weight of the first layer meets a filter, a weight of a filter two outputs
    by_matrix = network(lambda x, w: torch.einsum("cts,bcs->bct", circulant(w), x))
    Q = lg.NeuralCoupling(*by_matrix, kind=kind, include=["a", "out"])
    R = lg.NeuralCoupling(*made, kind=kind, include=["a", "out"])
    close(R @ torch.eye(R.num_nodes).double(), Q @ torch.eye(R.num_nodes).double())


def test_without_its_rule_the_weight_is_left_out(example):
    made = network(example["long_convolution"])
    lg.operations.unbinds(example["bind_long_convolution"])
    with pytest.warns(CoverageWarning, match="no rule covers torch.fft.rfft"):
        P = lg.NeuralCoupling(*made)
    assert [s.name for s in P.synapses] == ["a.weight", "out.weight"]
    P.verify(1e-12)


@pytest.mark.parametrize(
    ("member", "wrong", "message"),
    [
        ("apply", lambda self, x, weight: x * weight.sum(-1, keepdim=True), "apply, with bias.*is not the call"),
        ("apply_ones", lambda self, x, shape: x, "apply_ones .*is not apply with a weight of ones"),
        ("apply_ones", lambda self, x, shape: x.sum(-1, keepdim=True), r"its shape is \(2, 3, 1\), not \(2, 3, 8\)"),
        ("to_input", lambda self, weight, g, shape: g * weight, "to_input.*"),
        ("to_input_ones", lambda self, g, x_shape, shape: g, "to_input_ones .*is not to_input with a weight of ones"),
        ("to_weight", lambda self, x, g, weight: (x * g).sum(0), "to_weight .*is not the derivative"),
        ("matrices", lambda self, x, g, shape: (g[0], x[0].mT), "the product of matrices .*is not to_weight"),
        ("degrees", lambda self, shape: (torch.ones(3), torch.ones(3)), "the first of degrees"),
        (
            "neurons",
            lambda self, shape: (torch.arange(3).view(3, 1), torch.arange(3).flip(0).view(3, 1)),
            "output neuron",
        ),
        (
            "neurons",
            lambda self, shape: (torch.arange(3).flip(0).view(3, 1), torch.arange(3).view(3, 1)),
            "input neuron",
        ),
    ],
)
def test_check_rule_names_what_is_wrong(example, monkeypatch, member, wrong, message):
    monkeypatch.setattr(example["LongConvolution"], member, wrong)
    with pytest.raises(RuleError, match=message):
        lg.operations.check_rule(example["long_convolution"], (example["x"], example["w"]), weight=example["w"])


def test_check_rule_needs_a_binder(example):
    with pytest.raises(RuleError, match="no binder of softmax takes this call"):
        lg.operations.check_rule(torch.softmax, (example["w"], 0), weight=example["w"])
    with pytest.raises(RuleError, match="no binder of long_convolution takes this call"):
        lg.operations.check_rule(example["long_convolution"], (example["x"], example["w"]), weight=example["x"])


@torch.library.custom_op("linegraph_tests::halved", mutates_args=())
def halved(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x @ w / 2


halved.register_autograd(
    lambda ctx, g: (g @ ctx.saved_tensors[1].T / 2, ctx.saved_tensors[0].T @ g / 2),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@pytest.mark.parametrize("call", [halved, torch.ops.linegraph_tests.halved, torch.ops.linegraph_tests.halved.default])
@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_a_custom_operator(call, kind):
    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 4), "w": weight(4, 4), "out": nn.Linear(4, 3)}
    data = torch.randn(5, 4).double(), torch.randn(5, 3).double()
    nets = [
        Written(lambda net, x, f=f: net.out(torch.tanh(f(torch.tanh(net.a(x)), net.w))), **parts).double()
        for f in (call, lambda x, w: x / 2 @ w)
    ]

    @lg.operations.binds(torch.ops.linegraph_tests.halved)
    def binder(x, w):
        return lg.operations.Bound(lg.operations.Matmul(), x / 2, w)

    try:
        lg.operations.check_rule(torch.ops.linegraph_tests.halved, (data[0], nets[0].w), weight=nets[0].w)
        P, Q = (lg.NeuralCoupling(net, F.mse_loss, data, kind=kind) for net in nets)
        close(P @ torch.eye(P.num_nodes).double(), Q @ torch.eye(P.num_nodes).double())
        assert P.num_edges == Q.num_edges
    finally:
        lg.operations.unbinds(binder)
    with pytest.warns(CoverageWarning, match="'w'.*linegraph_tests"):
        lg.NeuralCoupling(nets[0], F.mse_loss, data)
