import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import DataError, NoSynapseError, TooLargeError
from tests.cases import CASES

# Every layer reads each of its inputs from one neuron, so that the line graph is that of the neuron graph.
UNBRANCHED = ["mlp", "linear_only", "cnn", "concatenation", "functional", "transposed"]


@pytest.mark.parametrize("name", CASES)
def test_every_synapse_is_an_edge(name):
    model, loss, (x, y) = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, (x, y))
    data = lg.neuron_graph(model, x)
    assert data.validate()
    weights = data.edge_synapse >= 0
    assert torch.equal(data.edge_weight[weights], P.weights()[data.edge_synapse[weights]])
    assert set(data.edge_synapse[weights].tolist()) == set(range(P.num_nodes))
    assert data.layer_names == [s.name for s in P.synapses]
    if P.bicliques.disjoint:
        assert torch.equal(data.edge_synapse[: P.num_nodes], torch.arange(P.num_nodes))
        # A synapse of P enters the neuron that its edge enters.
        targets = data.edge_index[1, : P.num_nodes]
        assert torch.equal(data.neuron[targets], P.neurons()[1])
    paths = data.edge_index[:, ~weights]
    assert (data.kind[paths[1]] == data.kind_names.index("junction")).all()
    assert (data.kind[paths[0]] == data.kind_names.index("neuron")).all()
    assert (data.edge_weight[~weights] == 1).all()
    assert data.activation.isfinite().all()


@pytest.mark.parametrize("name", UNBRANCHED)
def test_its_line_graph_is_that_of_the_network(name):
    model, loss, (x, y) = CASES[name].make()
    ordinary = lg.line_graph(lg.neuron_graph(model, x), directed=True)
    network = lg.line_graph(lg.NeuralCoupling(model, loss, (x, y)))
    # Influence flows against the signal.
    assert sorted(ordinary.edge_index.flip(0).T.tolist()) == sorted(network.edge_index.T.tolist())


def test_a_perceptron():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    x = torch.randn(50, 3)
    data = lg.neuron_graph(model, x)
    assert data.kind.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.layer.tolist() == [-1, -1, -1, 0, 0, 1, 1]
    assert data.neuron.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert data.edge_index[:, :6].T.tolist() == [[j, i] for i in (3, 4) for j in (0, 1, 2)]
    assert data.edge_index[:, 6:].T.tolist() == [[j, i] for i in (5, 6) for j in (3, 4)]
    assert data.activation_functions == ["relu", "identity"]
    assert data.module_names == ["0", "2"]
    hidden = torch.relu(model[0](x))
    expected = torch.cat([x.mean(0), hidden.mean(0), model[2](hidden).mean(0)])
    assert torch.allclose(data.activation, expected, atol=1e-6)
    assert torch.equal(data.x[:, 0], data.activation)


def test_activations_are_means_over_positions():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randn(5, 2, 6, 6)
    data = lg.neuron_graph(model, x)
    assert data.num_nodes == 2 + 3 + 2
    assert torch.allclose(data.activation[:2], x.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(data.activation[2:5], model[2](torch.tanh(model[0](x))).mean((0, 2, 3)), atol=1e-6)
    parallel = (torch.tensor([2, 5]) == data.edge_index.T).all(1)
    assert int(parallel.sum()) == 4  # the positions that the dense layer reads from one channel


def test_residual_branches_meet_in_junctions():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.branch, self.last = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)

        def forward(self, x):
            x = torch.relu(self.first(x))
            return self.last(x + self.branch(x))

    data = lg.neuron_graph(Net(), torch.randn(4, 2))
    junctions = (data.kind == 2).nonzero().squeeze(1).tolist()
    assert len(junctions) == 3
    for number, node in enumerate(junctions):
        entering = data.edge_index[0, data.edge_index[1] == node]
        assert sorted(data.layer[entering].tolist()) == [0, 1]
        assert data.neuron[entering].tolist() == [number, number]
    assert set(data.edge_index[0, data.layer[data.edge_index[1]] == 2].tolist()) == set(junctions)


def test_layers_that_read_the_same_share_their_inputs():
    model, _, (x, _) = CASES["concatenation"].make()
    data = lg.neuron_graph(model, x)
    assert int((data.kind == 0).sum()) == 2


def test_include_and_the_model_as_it_was():
    model, _, (x, _) = CASES["mlp"].make()
    model.train()
    data = lg.neuron_graph(model, x, include=["0.weight", "2.weight"])
    assert data.layer_names == ["0.weight", "2.weight"]
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_bad_input():
    model, _, (x, _) = CASES["mlp"].make()
    with pytest.raises(TooLargeError, match="has 66 edges, more than max_edges=10"):
        lg.neuron_graph(model, x, max_edges=10)
    with pytest.raises(NoSynapseError):
        lg.neuron_graph(nn.ReLU(), x)
    with pytest.raises(DataError, match="NumPy array"):
        lg.neuron_graph(model, x.numpy())
    with pytest.raises(DataError, match=r"one batch.*not a loader"):
        lg.neuron_graph(model, DataLoader(TensorDataset(x)))

    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return x

    with pytest.raises(NoSynapseError, match="no operation of this pass"):
        lg.neuron_graph(Unused(), x)
    with pytest.raises(DataError, match="no sample"):
        lg.neuron_graph(model, x[:0])
    with pytest.raises(NoSynapseError, match="has no shape yet"):
        lg.neuron_graph(nn.Sequential(nn.LazyLinear(2)), x)
