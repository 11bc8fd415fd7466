import pytest
import torch
from torch import nn

import linegraph as lg
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
    assert torch.allclose(data.edge_weight, dense[i, j], rtol=1e-10, atol=1e-12)
    columns = dict(zip(data.feature_names, data.x.unbind(1), strict=True))
    assert torch.equal(columns["weight"], P.weights())
    assert torch.allclose(columns["velocity"], P @ P.weights() + columns["drive"], rtol=1e-10, atol=1e-10)
    assert torch.allclose(columns["in_strength"], dense.sum(1), atol=1e-10)
    assert torch.allclose(columns["out_strength"], dense.sum(0), atol=1e-10)
    first = columns["layer"] == 0
    assert data.layer_names[0] == P.synapses[0].name
    assert int(first.sum()) == P.synapses[0].numel


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


@pytest.mark.parametrize("top", [1, 2, 5])
def test_top_keeps_the_strongest_into_each_node(top):
    P = lg.NeuralCoupling(*CASES["concatenation"].make())
    data = lg.line_graph(P, top=top, features=False)
    assert "x" not in data
    full = P.to_graph()
    for node in range(P.num_nodes):
        into = full.weight[full.edge_index[1] == node].abs().sort(descending=True).values[:top]
        kept = data.edge_weight[data.edge_index[1] == node].abs().sort(descending=True).values
        assert torch.equal(kept, into)
    dense = full.to_dense()
    assert torch.equal(dense[data.edge_index[1], data.edge_index[0]], data.edge_weight)


def test_top_must_be_positive():
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        lg.line_graph(lg.NeuralCoupling(*CASES["mlp"].make()), top=0)
