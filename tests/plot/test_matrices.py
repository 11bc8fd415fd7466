import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import DataError
from tests.cases import CASES


def test_coupling_matrix_shows_sizes_with_receivers_as_rows():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude")
    data = lg.coarse_graph(P, "neuron")
    ax = lg.plot.coupling_matrix(data, Figure().add_subplot())
    drawn = ax.images[0].get_array().filled(0)
    expected = np.zeros((13, 13))
    expected[data.edge_index[1], data.edge_index[0]] = data.edge_weight
    assert np.array_equal(np.nan_to_num(drawn), expected)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "2", "5"]
    groups = lg.coarse_graph(lg.from_pyg(data), torch.arange(13) // 5)
    ticks = lg.plot.coupling_matrix(groups).get_xticks()
    assert np.array_equal(ticks, np.round(ticks))
    with pytest.raises(DataError, match="no coupling"):
        lg.plot.coupling_matrix(Data(edge_index=torch.empty(2, 0).long(), edge_weight=torch.empty(0), num_nodes=2))


def test_many_groups_are_summed_in_blocks_of_their_layers():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 400), torch.nn.Tanh(), torch.nn.Linear(400, 7)).double()
    data = torch.randn(8, 5).double(), torch.randn(8, 7).double()
    coarse = lg.coarse_graph(lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data), "neuron")
    ax = lg.plot.coupling_matrix(coarse)
    drawn = ax.images[0].get_array().filled(0)
    assert drawn.shape == (150 + 7, 150 + 7)
    assert np.nansum(drawn) == pytest.approx(float(coarse.edge_weight.abs().sum()))
    block = np.r_[np.arange(400) * 150 // 400, 150 + np.arange(7)]
    size = coarse.edge_weight.abs().numpy()
    (acting, receiving), expected = block[coarse.edge_index.numpy()], np.zeros((157, 157))
    np.add.at(expected, (receiving, acting), size)
    np.testing.assert_allclose(np.nan_to_num(drawn), expected)


def test_chosen_layers_are_shown_in_detail():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude")
    coarse = lg.coarse_graph(P, "neuron")
    of = coarse.layer.numpy()
    dense = np.zeros((13, 13))
    dense[coarse.edge_index[1], coarse.edge_index[0]] = coarse.edge_weight
    ax = lg.plot.coupling_matrix(coarse, layers=["2.weight", "5"])
    kept = of > 0
    np.testing.assert_allclose(np.nan_to_num(ax.images[0].get_array().filled(0)), dense[np.ix_(kept, kept)])
    with pytest.raises(DataError, match="no coupling to draw in these layers"):
        lg.plot.coupling_matrix(coarse, layers=0)
    with pytest.raises(DataError, match=r"layers are 0\.weight, 2\.weight, 5\.weight"):
        lg.plot.coupling_matrix(coarse, layers="first")
