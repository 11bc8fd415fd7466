"""Weights that are nodes, and those that the default leaves out."""

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.errors import CoverageWarning, LossError, UnsupportedOperationError
from tests.cases import CASES, Written, squared, weight
from tests.comparison import close, left_out

CALLS = []


def decay(net, x):
    """Two weights enter operations without a rule, one of them a linear map too, and a third one both at once."""
    CALLS.append(1)
    h = torch.tanh(net.a(x)) * torch.exp(-net.decay.exp()).sum(0)
    h = F.linear(h, net.both) + torch.softmax(net.both, 0).sum(0)
    return net.out(torch.tanh(h) * torch.cdist(net.decay, net.third).sum())


def made():
    torch.manual_seed(0)
    parts = {"decay": weight(2, 4), "both": weight(4, 4), "third": weight(3, 4)}
    net = Written(decay, a=nn.Linear(4, 4), out=nn.Linear(4, 3), norm=nn.LayerNorm(4), **parts).double()
    return net, squared, (torch.randn(6, 4).double(), torch.randn(6, 3).double())


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
def test_the_coupling_is_that_of_the_other_weights(kind):
    model, loss, data = made()
    P = left_out((model, loss, data), "decay", "both", "third", match="no rule covers torch.Tensor.exp", kind=kind)
    expected = lg.NeuralCoupling(model, loss, data, kind=kind, include=["a", "out"])
    assert [s.name for s in P.synapses] == ["a.weight", "out.weight"]
    assert P.num_edges == expected.num_edges
    close(P.in_strength(), expected.in_strength())
    close(P.T @ P.weights(), expected.T @ P.weights())
    assert f"covered={28 / 68:.4g}, " in repr(P)
    assert lg.summary(P)["covered"] == pytest.approx(28 / 68)


def test_all_weights_without_a_rule_are_found_in_one_pass():
    model, loss, data = made()
    CALLS.clear()
    with pytest.warns(CoverageWarning, match=r"'decay', 'both', 'third', 52\.94% of the trainable weights") as warned:
        P = lg.NeuralCoupling(model, loss, data)
    assert len(CALLS) == 2
    assert warned[0].filename == __file__
    reasons = P.coverage().set_index("name")["reason"]
    assert reasons["decay"] == "left out: no rule covers torch.cdist, which the synapse weight 'third' enters" or (
        "torch.Tensor.exp" in reasons["decay"]
    )


def test_every_function_that_couples_by_default():
    model, loss, data = made()
    with pytest.warns(CoverageWarning):
        assert lg.neuron_graph(model, data[0]).layer_names == ["a.weight", "out.weight"]
    with pytest.warns(CoverageWarning):
        P = lg.NeuralCoupling(model, loss, data)
    assert lg.line_graph(P).num_nodes == 28
    assert lg.coarse_graph(P).num_nodes == 2
    with pytest.raises(UnsupportedOperationError, match="no rule covers"):
        lg.neuron_graph(model, data[0], include=["a", "decay"])


def test_a_use_without_a_rule_in_a_later_batch():
    def forward(net, x):
        return net.out(torch.tanh(x @ (net.w if len(x) > 2 else torch.softmax(net.w, 0))))

    model = Written(forward, w=weight(4, 4), out=nn.Linear(4, 3)).double()
    batches = [(torch.randn(n, 4).double(), torch.randn(n, 3).double()) for n in (4, 3, 2)]
    P = lg.NeuralCoupling(model, squared, batches)
    with pytest.raises(
        UnsupportedOperationError, match=r"in batch 2 of the data, though not in the first.*softmax.*'w'"
    ):
        P.in_strength()
    P = left_out((model, squared, batches[::-1]), "w", match="softmax")
    close(P.in_strength(), lg.NeuralCoupling(model, squared, batches, include="out").in_strength())


def test_batches_and_loaders():
    model, loss, (x, y) = made()
    P = left_out((model, loss, [(x[:4], y[:4]), (x[4:], y[4:])]), "decay", "both", "third", match="exp")
    with pytest.warns(CoverageWarning):
        whole = lg.NeuralCoupling(model, loss, (x, y))
    close(P.in_strength(), whole.in_strength())


def test_gradients_within_the_model():
    """Weights that get gradients though they are no synapses."""

    def forward(net, x):
        y = net.out(torch.tanh(net.a(x)) * net.w.exp().sum(0))
        (step,) = torch.autograd.grad(y.square().mean(), net.out.bias, retain_graph=True)
        return y - step

    model = Written(forward, a=nn.Linear(4, 4), w=weight(2, 4), out=nn.Linear(4, 3)).double()
    data = torch.randn(6, 4).double(), torch.randn(6, 3).double()
    left_out((model, squared, data), "w", match="exp")


def test_other_errors_are_as_before():
    model, _, data = made()
    with pytest.raises(LossError, match="scalar"):
        lg.NeuralCoupling(model, lambda o, t: o, data)


def test_the_table_of_a_network_without_such_weights():
    P = lg.NeuralCoupling(*CASES["tokens"].make())
    table = P.coverage()
    assert isinstance(table, pd.DataFrame)
    assert not table["reason"].str.startswith("left out").any()
    assert P.covered == pytest.approx(P.num_nodes / (P.num_nodes + 4))  # the weight of layer norm
