import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.coupling.entries import explicit
from linegraph.errors import DataError
from tests.cases import CASES

KINDS = [("signed", name) for name in CASES] + [("magnitude", name) for name in CASES] + [("flow", "mlp")]


def groups_of(P, by):
    """The groups, from names of layers and neurons."""
    layers = torch.cat([torch.full((s.numel,), i) for i, s in enumerate(P.synapses)])
    if by == "layer":
        return layers
    pairs = torch.stack([layers, P.neurons()[1]], 1)
    return torch.unique(pairs, dim=0, return_inverse=True)[1]


def matrix(data):
    dense = torch.zeros(data.num_nodes, data.num_nodes, dtype=data.edge_weight.dtype)
    dense[data.edge_index[1], data.edge_index[0]] = data.edge_weight
    return dense


@pytest.mark.parametrize("by", ["layer", "neuron"])
@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_sums_of_the_explicit_graph(kind, name, by):
    P = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    data = lg.coarse_graph(P, by)
    assert data.validate()
    Z = one_hot(groups_of(P, by)).double()
    dense = P.to_graph().to_dense()
    expected, terms = Z.T @ dense @ Z, Z.T @ dense.abs() @ Z
    torch.testing.assert_close(matrix(data), expected, rtol=1e-10, atol=1e-12 * float(terms.max()))
    assert torch.equal(matrix(data) != 0, expected.abs() > 1e-11 * terms)  # sums that vanish are 0
    assert torch.equal(data.group_size, Z.sum(0).long())
    assert data.num_nodes == len(data.layer) == len(data.neuron)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("groups", ["layer", "numbers"])
def test_sums_that_vanish_are_no_edges(groups, dtype):
    """Σ_k g_k = 0 for softmax with cross entropy, and a layer norm lets no constant pass back."""
    x, y = torch.randn(8, 5, dtype=dtype), torch.randint(3, (8,))
    normalised = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    for model, edges in (
        (nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), []),
        (normalised.eval(), []),
        (nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3)), [[1, 0]]),
    ):
        P = lg.NeuralCoupling(model.to(dtype), nn.functional.cross_entropy, (x, y))
        data = lg.coarse_graph(P, groups if groups == "layer" else groups_of(P, "layer"))
        assert data.edge_index.T.tolist() == edges


def test_signed_weights_of_a_graph_that_cancel():
    weight = torch.tensor([0.1, 0.2, -0.3, 1e-30], dtype=torch.float64)
    G = lg.GraphCoupling(torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4]]), weight)
    assert lg.coarse_graph(G, torch.tensor([0, 0, 0, 2, 1])).edge_index.tolist() == [[2], [1]]


def test_a_transposed_network():
    P = lg.NeuralCoupling(*CASES["concatenation"].make())
    assert torch.allclose(matrix(lg.coarse_graph(P.T, "neuron")), matrix(lg.coarse_graph(P, "neuron")).T)


def test_nothing_but_sums_is_formed(monkeypatch):
    P = lg.NeuralCoupling(*CASES["residual_batch_norm"].make(), kind="magnitude")
    for name in ("graph", "entries", "backbone"):
        monkeypatch.setattr(explicit, name, None)
    monkeypatch.setattr(P, "pull", None)
    data = lg.coarse_graph(P, "channel")
    assert data.edge_weight.sum() > 0
    assert data.layer_names[int(data.layer[0])] == "stem.weight"


def test_batches():
    model, loss, (x, y) = CASES["cnn"].make(samples=7)
    whole = lg.coarse_graph(lg.NeuralCoupling(model, loss, (x, y)), "neuron")
    loader = DataLoader(TensorDataset(x, y), batch_size=3)
    parts = lg.coarse_graph(lg.NeuralCoupling(model, loss, loader), "neuron")
    assert torch.allclose(matrix(parts), matrix(whole), rtol=1e-10, atol=1e-13)


def test_strengths_are_sums():
    P = lg.NeuralCoupling(*CASES["cnn"].make(), kind="magnitude")
    data = lg.coarse_graph(P, "neuron")
    group = groups_of(P, "neuron")
    expected = torch.zeros(data.num_nodes, dtype=torch.float64).index_add(0, group, P.in_strength())
    assert torch.allclose(matrix(data).sum(1), expected)


@pytest.mark.parametrize("P", ["network", "graph"])
def test_groups_of_ones_own(P):
    if P == "network":
        P = lg.NeuralCoupling(*CASES["mlp"].make())
        dense = P.to_graph().to_dense()
    else:
        P = lg.GraphCoupling(torch.randint(0, 40, (2, 200)), torch.randn(200, dtype=torch.float64), num_nodes=40)
        dense = P.to_dense()
    group = torch.randint(-1, 12, (P.num_nodes,))
    Z = one_hot(group + 1, 13).double()[:, 1:]
    data = lg.coarse_graph(P, group)
    assert data.num_nodes == int(group.max()) + 1
    assert torch.allclose(matrix(data), (Z.T @ dense @ Z)[: data.num_nodes, : data.num_nodes])


def test_groups_in_any_form():
    G = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, 2.0, 4.0]))
    group = torch.tensor([0, 0, 1])
    for P in (G, G.to_pyg()):
        for by in (group, group.tolist(), group.numpy(), group.int()):
            assert matrix(lg.coarse_graph(P, by)).tolist() == [[1, 4], [2, 0]]


def test_capacitance_of_layers():
    """The coarse graph is a coupling like any other."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    P = lg.NeuralCoupling(model, nn.functional.mse_loss, (torch.randn(8, 4), torch.randn(8, 2)), kind="magnitude")
    G = lg.from_pyg(lg.coarse_graph(P))
    assert float(G.in_strength().sum()) == pytest.approx(float(P.in_strength().sum()), rel=1e-5)


def test_empty_and_bad_input():
    G = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), num_nodes=0)
    assert lg.coarse_graph(G, torch.empty(0, dtype=torch.long)).num_nodes == 0
    G = lg.GraphCoupling(torch.tensor([[0], [1]]), num_nodes=3)
    assert lg.coarse_graph(G, torch.tensor([0, 0, 1])).edge_index.tolist() == [[0], [0]]
    assert lg.coarse_graph(G, [0, 0, 1]).edge_index.tolist() == [[0], [0]]
    assert lg.coarse_graph(G, torch.full((3,), -1)).num_nodes == 0
    with pytest.raises(DataError, match="'layer', 'neuron', 'channel' or one integer per node, got 'module'"):
        lg.coarse_graph(G, "module")
    with pytest.raises(DataError, match="only a network has layers"):
        lg.coarse_graph(G)
    for wrong in (torch.zeros(2).long(), torch.zeros(3)):
        with pytest.raises(DataError, match="one integer for each of the 3 nodes"):
            lg.coarse_graph(G, wrong)
    with pytest.raises(DataError, match="holds -2"):
        lg.coarse_graph(G, torch.tensor([0, -2, 1]))
