import inspect

import pytest
import torch
from torch import nn

import linegraph as lg
from linegraph.coupling.entries import blocks, explicit
from linegraph.errors import TooLargeError
from tests.cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_edges_weights_and_features(name):
    P = lg.NeuralCoupling(*CASES[name].make())
    data = lg.line_graph(P)
    assert data.validate()
    assert (data.num_nodes, data.num_edges) == (P.num_nodes, P.num_edges)
    dense = P @ torch.eye(P.num_nodes, dtype=torch.float64)
    j, i = data.edge_index
    assert ((i * P.num_nodes + j).diff() > 0).all()  # sorted by target, then by source
    assert torch.allclose(data.edge_weight, dense[i, j], rtol=1e-10, atol=1e-12)
    columns = dict(zip(data.feature_names, data.x.unbind(1), strict=True))
    assert torch.equal(columns["weight"], P.weights())
    assert torch.allclose(columns["velocity"], P @ P.weights() + columns["drive"], rtol=1e-10, atol=1e-10)
    assert torch.allclose(columns["gradient"], -columns["velocity"])
    assert torch.allclose(columns["in_strength"], dense.sum(1), atol=1e-10)
    assert torch.allclose(columns["out_strength"], dense.sum(0), atol=1e-10)
    for number, synapse in enumerate(P.synapses):
        assert data.layer_names[number] == synapse.name
        assert int((columns["layer"] == number).sum()) == synapse.numel


def test_source_and_target_neurons():
    """Two synapses of consecutive layers meet where the target of one is the source of the other."""
    model, loss, data = CASES["mlp"].make()
    graph = lg.line_graph(lg.NeuralCoupling(model, loss, data))
    columns = dict(zip(graph.feature_names, graph.x.long().unbind(1), strict=True))
    later, earlier = graph.edge_index
    assert torch.equal(columns["source_neuron"][later], columns["target_neuron"][earlier])
    assert torch.equal(columns["layer"][later], columns["layer"][earlier] + 1)
    # Row-major: the first weight matrix is (6, 5).
    assert columns["source_neuron"][:30].tolist() == [*range(5)] * 6
    assert columns["target_neuron"][:30].tolist() == [i for i in range(6) for _ in range(5)]


def test_neurons_of_grouped_convolutions_are_channels():
    P = lg.NeuralCoupling(*CASES["cnn"].make())
    weight = next(s for s in P.synapses if s.name == "body.3.weight")  # 4 groups, from 4 to 8 channels
    into, out = (n[weight.offset : weight.offset + weight.numel].view(weight.shape) for n in P.neurons())
    assert out[:, 0, 0, 0].tolist() == [*range(8)]
    assert into[:, 0, 2, 2].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_edges_run_from_the_later_synapse_to_the_earlier():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    P = lg.NeuralCoupling(model, nn.functional.mse_loss, (torch.randn(4, 2), torch.randn(4, 2)))
    sources, targets = lg.line_graph(P).edge_index
    edges = set(zip(sources.tolist(), targets.tolist(), strict=True))
    # Row-major: weight 0.weight[i, j] is node 2i + j, 2.weight[k, i] is node 6 + 3k + i; they meet at neuron i.
    assert edges == {(6 + 3 * k + i, 2 * i + j) for i in range(3) for j in range(2) for k in range(2)}


def test_too_large_says_how_large_and_what_to_do():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    with pytest.raises(TooLargeError, match=rf"has {P.num_edges} edges, more than max_edges=10;.*include=.*operator"):
        lg.line_graph(P, max_edges=10)
    with pytest.raises(TooLargeError, match=r"the 3 strongest.*are 162 edges, more than max_edges=100; lower top"):
        lg.line_graph(P, top=3, max_edges=100)
    assert lg.line_graph(P, top=1, max_edges=100).num_edges == 30 + 24  # the whole graph has more than 100


@pytest.mark.parametrize("at_once", [1, 40, 2**24])
@pytest.mark.parametrize("top", [1, 2, 5])
@pytest.mark.parametrize("name", ["concatenation", "residual_batch_norm", "shared", "rnn", "split_weight"])
def test_top_keeps_the_strongest_into_each_node(name, top, at_once, monkeypatch):
    monkeypatch.setattr(blocks, "ENTRIES_PER_BLOCK", at_once)
    P = lg.NeuralCoupling(*CASES[name].make())
    data = lg.line_graph(P, top=top, features=False)
    assert "x" not in data
    full = P.to_graph()
    dense = full.to_dense()
    for node in range(0, P.num_nodes, 7):
        into = full.weight[full.edge_index[1] == node].abs().sort(descending=True).values[:top]
        kept = data.edge_weight[data.edge_index[1] == node].abs().sort(descending=True).values
        assert torch.allclose(kept, into, rtol=1e-10, atol=1e-13)
    assert torch.allclose(dense[data.edge_index[1], data.edge_index[0]], data.edge_weight, rtol=1e-10, atol=1e-13)
    assert ((data.edge_index[1] * P.num_nodes + data.edge_index[0]).diff() > 0).all()


@pytest.mark.parametrize("kind", ["flow", "energy", "magnitude"])
def test_top_of_other_kinds(kind):
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind=kind)
    data, expected = lg.line_graph(P, top=2), explicit.strongest(P.to_graph(), 2)
    assert torch.equal(data.edge_index, expected.edge_index)
    assert torch.allclose(data.edge_weight, expected.weight, rtol=1e-12)


def test_top_does_not_hold_the_graph(monkeypatch):
    """A backbone is taken from blocks, none larger than asked for and none of the whole graph's size."""
    model = nn.Sequential(nn.Linear(60, 50), nn.Tanh(), nn.Linear(50, 40), nn.Tanh(), nn.Linear(40, 5))
    P = lg.NeuralCoupling(model, nn.functional.mse_loss, (torch.randn(4, 60), torch.randn(4, 5)))
    monkeypatch.setattr(blocks, "ENTRIES_PER_BLOCK", 6000)
    sizes = []
    original = explicit._zeros

    def watched(P, target, columns):
        block = original(P, target, columns)
        sizes.append(block.numel())
        return block

    monkeypatch.setattr(explicit, "_zeros", watched)
    assert lg.line_graph(P, top=3, max_edges=20_000).num_edges == 3 * (3000 + 2000)
    assert max(sizes) <= 6000 < P.num_edges / 20


def test_top_must_be_positive():
    with pytest.raises(ValueError, match="top must be 1 or more, got 0"):
        lg.line_graph(lg.NeuralCoupling(*CASES["mlp"].make()), top=0)


def test_other_types_are_named():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    with pytest.raises(TypeError, match=r"got ndarray.*from_scipy"):
        lg.line_graph(torch.zeros(2, 2).numpy())
    with pytest.raises(TypeError, match=r"NeuralCoupling\(.*\).T has no line graph"):
        lg.line_graph(P.T)
    with pytest.raises(TypeError, match="unexpected keyword argument 'topp'"):
        lg.line_graph(P, topp=3)


def test_options_belong_to_networks_or_to_graphs():
    P, G = lg.NeuralCoupling(*CASES["mlp"].make()), lg.GraphCoupling(torch.tensor([[0], [1]]))
    with pytest.raises(TypeError, match="directed= belongs to graphs"):
        lg.line_graph(P, directed=False)
    with pytest.raises(TypeError, match="top= belongs to couplings of a network"):
        lg.line_graph(G, top=1)
    assert {"top", "features", "directed"} <= inspect.signature(lg.line_graph).parameters.keys()


def test_line_graph_of_a_transposed_graph():
    G = lg.GraphCoupling(torch.tensor([[0, 1, 1], [1, 1, 2]]), torch.tensor([1.0, 2.0, 3.0]))
    turned = lg.line_graph(G.T)
    ahead = lg.line_graph(G).edge_index
    assert sorted(map(tuple, turned.edge_index.T.tolist())) == sorted(map(tuple, ahead.flip(0).T.tolist()))
    assert turned.node_weight.tolist() == [1, 2, 3]
