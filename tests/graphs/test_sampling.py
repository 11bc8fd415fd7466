import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.loader import NeighborLoader
from torch_geometric.nn import GCNConv
from torch_geometric.typing import WITH_PYG_LIB, WITH_TORCH_SPARSE

import linegraph as lg
from linegraph.errors import DataError
from tests.cases import CASES


def dense(P):
    return P.to_graph().to_dense() if isinstance(P, lg.NeuralCoupling) else P.to_dense()


@pytest.mark.parametrize("name", CASES)
def test_all_neighbours_of_some_hops(name):
    """With −1 it is the subgraph of all that act on the chosen nodes, found by powers of the structure."""
    P = lg.NeuralCoupling(*CASES[name].make())
    G = P.to_graph()
    chosen = [0, P.num_nodes // 2, 3]
    part = lg.sample_line_graph(P, chosen, [-1, -1])
    assert part.validate()
    assert part.n_id[:3].tolist() == chosen
    assert part.batch_size == 3
    reached = [set(chosen)]
    for _ in range(2):
        into = torch.isin(G.edge_index[1], torch.tensor(sorted(reached[-1])))
        reached.append(reached[-1] | set(G.edge_index[0, into].tolist()))
    assert set(part.n_id.tolist()) == reached[2]
    inside = torch.isin(G.edge_index[1], torch.tensor(sorted(reached[1])))
    edges = part.n_id[part.edge_index].T.tolist()
    assert sorted(edges) == sorted(G.edge_index[:, inside].T.tolist())
    j, i = part.n_id[part.edge_index]
    assert torch.allclose(part.edge_weight, dense(P)[i, j], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_all_nodes_and_all_neighbours_are_the_graph(name):
    P = lg.NeuralCoupling(*CASES[name].make())
    G, part = P.to_graph(), lg.sample_line_graph(P, range(P.num_nodes), [-1])
    assert part.num_edges == P.num_edges
    edges = part.n_id[part.edge_index]
    assert sorted(edges.T.tolist()) == sorted(G.edge_index.T.tolist())
    assert torch.allclose(part.edge_weight, G.to_dense()[edges[1], edges[0]], rtol=1e-10, atol=1e-12)


def test_weights_that_no_operation_sees_have_no_neighbours():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Parameter(torch.randn(4, 3)), nn.Linear(2, 2)

        def forward(self, x):
            return self.last(torch.tanh(nn.functional.linear(x, self.first[:2])))

    P = lg.NeuralCoupling(Half(), nn.functional.mse_loss, (torch.randn(5, 3), torch.randn(5, 2)))
    part = lg.sample_line_graph(P, range(P.num_nodes), [-1])
    assert part.num_edges == P.num_edges == 12


@pytest.mark.parametrize("kind", ["network", "graph"])
def test_fan_outs(kind):
    if kind == "network":
        P = lg.NeuralCoupling(*CASES["concatenation"].make(), kind="flow")
    else:
        P = lg.GraphCoupling(torch.randint(0, 50, (2, 600)), torch.randn(600, dtype=torch.float64), num_nodes=50)
    chosen = torch.tensor([5, 2])
    part = lg.sample_line_graph(P, chosen, [4, 2], generator=torch.Generator().manual_seed(1))
    into = torch.bincount(part.edge_index[1], minlength=part.num_nodes)
    assert into[:2].tolist() == [4, 4]
    assert (into[2:] <= 2).all()
    assert (part.edge_hop == torch.tensor([0] * 8 + [1] * (part.num_edges - 8))).all()
    j, i = part.n_id[part.edge_index]
    if kind == "network":
        assert torch.allclose(part.edge_weight, dense(P)[i, j], rtol=1e-10, atol=1e-12)
        assert len({(a, b) for a, b in zip(j.tolist(), i.tolist(), strict=True)}) == part.num_edges
    again = lg.sample_line_graph(P, chosen, [4, 2], generator=torch.Generator().manual_seed(1))
    other = lg.sample_line_graph(P, chosen, [4, 2], generator=torch.Generator().manual_seed(2))
    assert torch.equal(again.n_id, part.n_id)
    assert not torch.equal(other.edge_index, part.edge_index) or not torch.equal(other.n_id, part.n_id)


def test_every_neighbour_is_drawn_as_often():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    generator = torch.Generator().manual_seed(0)
    count = torch.zeros(P.num_nodes)
    for _ in range(300):
        part = lg.sample_line_graph(P, [0], [2], generator=generator)
        count[part.n_id[1:]] += 1
    drawn = count[count > 0]
    assert len(drawn) == 4  # the weights that leave the neuron
    assert drawn.sum() == 600
    assert (drawn - 150).abs().max() < 45  # 4 standard deviations of a binomial


def test_parallel_edges_of_a_graph_stay_apart():
    G = lg.GraphCoupling(torch.tensor([[0, 0, 2], [1, 1, 1]]), torch.tensor([2.0, 3.0, 4.0]))
    part = lg.sample_line_graph(G, [1], [-1])
    assert sorted(part.edge_weight.tolist()) == [2.0, 3.0, 4.0]


def test_features_are_those_of_the_nodes():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    part, whole = lg.sample_line_graph(P, [7], [3], features=True), lg.line_graph(P)
    assert part.feature_names == whole.feature_names
    torch.testing.assert_close(part.x, whole.x[part.n_id])


def test_a_mask_chooses_nodes():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    mask = torch.zeros(P.num_nodes, dtype=torch.bool)
    mask[[7, 3]] = True
    part = lg.sample_line_graph(P, mask, [-1])
    assert part.n_id[:2].tolist() == [3, 7]
    assert part.batch_size == 2


def test_nothing_and_bad_input():
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    assert lg.sample_line_graph(P, [], [3]).num_nodes == 0
    assert lg.sample_line_graph(P, [4], []).num_nodes == 1
    last = P.num_nodes - 1
    assert lg.sample_line_graph(P, [last], [3]).num_edges == 0  # nothing acts on the last layer
    with pytest.raises(DataError, match=rf"numbered 0 to {last}, got 3 to {last + 1}"):
        lg.sample_line_graph(P, [3, last + 1], [3])
    with pytest.raises(DataError, match="given twice"):
        lg.sample_line_graph(P, [3, 3], [3])
    for wrong in (torch.tensor([0.5]), [0.5]):
        with pytest.raises(DataError, match=r"integers, or a mask, got torch\.float"):
            lg.sample_line_graph(P, wrong, [3])
    with pytest.raises(DataError, match=rf"shape \({P.num_nodes},\).*got \(2,\)"):
        lg.sample_line_graph(P, torch.tensor([True, False]), [3])
    with pytest.raises(TypeError, match=r"a NeuralCoupling or a GraphCoupling, got .*; .* P.T is P.to_graph\(\).T"):
        lg.sample_line_graph(P.T, [3], [3])
    with pytest.raises(DataError, match="holds -2"):
        lg.sample_line_graph(P, [3], [-2])
    with pytest.raises(DataError, match="couplings of a network"):
        lg.sample_line_graph(lg.GraphCoupling(torch.tensor([[0], [1]])), [1], [1], features=True)
    for wrong in ([2.5], ["5"], [None]):
        with pytest.raises(DataError, match=r"num_neighbors holds .*; it is the most edges of each hop, integers"):
            lg.sample_line_graph(P, [3], wrong)
    for wrong in (["a"], [None], [[1], [2, 3]]):
        with pytest.raises(DataError, match="nodes must be numbers of nodes, integers, or a mask"):
            lg.sample_line_graph(P, wrong, [3])
    number = torch.tensor(1)
    for wrong in ((1, [1]), ([1], 1), (np.int64(1), [1]), ([1], np.int64(1)), (number, [1]), ([1], number), ("1", [1])):
        with pytest.raises(DataError, match="nodes and num_neighbors are lists"):
            lg.sample_line_graph(lg.GraphCoupling(torch.tensor([[0], [1]])), *wrong)


def test_a_part_of_a_network_too_big_to_write_down():
    model = nn.Sequential(nn.Linear(500, 400), nn.ReLU(), nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 10))
    P = lg.NeuralCoupling(model, nn.functional.cross_entropy, (torch.randn(4, 500), torch.tensor([0, 1, 2, 3])))
    assert P.num_edges > 60_000_000
    part = lg.sample_line_graph(P, range(10), [5, 5])
    rows = P.T @ torch.eye(P.num_nodes, 10)
    j, i = part.n_id[part.edge_index[:, part.edge_hop == 0]]
    assert torch.allclose(part.edge_weight[part.edge_hop == 0], rows[j, i], rtol=1e-4, atol=1e-8)


# into PyG's own tools ----------------------------------------------------------------------------------------------


def line_graph_of_case():
    data = lg.line_graph(lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude"))
    data.x, data.edge_weight = data.x.float(), data.edge_weight.float()
    return data


def test_graph_convolution():
    data = line_graph_of_case()
    torch.manual_seed(0)
    layer = GCNConv(9, 2, add_self_loops=False, normalize=False, bias=False)
    out = layer(data.x, data.edge_index, data.edge_weight)
    # Without normalisation it is P x W.
    P = lg.from_pyg(data)
    assert torch.allclose(out, P @ (data.x @ layer.lin.weight.T), atol=1e-5)
    normalised = GCNConv(9, 2)(data.x, data.edge_index, data.edge_weight)
    normalised.sum().backward()
    assert normalised.isfinite().all()


def test_graph_convolution_on_a_sample():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude")
    part = lg.sample_line_graph(P, [0, 1], [3, 3], features=True)
    out = GCNConv(9, 2).double()(part.x, part.edge_index, part.edge_weight)
    assert out[: part.batch_size].shape == (2, 2)


@pytest.mark.skipif(not (WITH_PYG_LIB or WITH_TORCH_SPARSE), reason="NeighborLoader needs pyg-lib or torch-sparse")
def test_neighbor_loader():
    data = line_graph_of_case()
    loader = NeighborLoader(data, [3, 2], batch_size=8, input_nodes=torch.arange(20))
    layer, seen = GCNConv(9, 2), 0
    whole = lg.from_pyg(data).to_dense()
    for batch in loader:
        seen += batch.batch_size
        j, i = batch.n_id[batch.edge_index]
        assert torch.equal(batch.edge_weight, whole[i, j])
        assert layer(batch.x, batch.edge_index, batch.edge_weight).isfinite().all()
    assert seen == 20


def test_a_transposed_graph_is_sampled_along_its_own_edges():
    G = lg.GraphCoupling(torch.tensor([[0, 1, 1], [1, 2, 3]]), torch.tensor([1.0, 2.0, 3.0]))
    part = lg.sample_line_graph(G.T, [1], torch.tensor([-1]))
    assert sorted(part.n_id.tolist()) == [1, 2, 3]
    assert sorted(part.edge_weight.tolist()) == [2, 3]
