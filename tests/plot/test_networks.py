import itertools

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


def test_neuron_graph_draws_the_strongest_weights_and_all_paths():
    model, _, (x, _) = CASES["residual_batch_norm"].make()
    data = lg.neuron_graph(model, x)
    ax = lg.plot.neuron_graph(data, Figure().add_subplot(), strongest=30)
    paths, weights, neurons = ax.collections
    assert len(paths.get_segments()) == int((data.edge_synapse < 0).sum())
    assert len(weights.get_segments()) == 30
    assert np.array_equal(neurons.get_array(), data.activation)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names[:4] == ["input", "stem", "conv", "junction"]
    assert ax.get_title().startswith(
        f"{data.num_nodes} neurons, the 30 strongest of {int(data.edge_synapse.max()) + 1}"
    )


def test_neuron_graph_draws_the_taps_of_a_kernel_side_by_side():
    data = lg.neuron_graph(torch.nn.Conv1d(1, 2, 3), torch.randn(4, 1, 5))
    weights = lg.plot.neuron_graph(data).collections[1]
    segments = np.stack(weights.get_segments()).round(9)
    ends, middle = segments[:, [0, -1]].reshape(6, 4), segments[:, 10, 1]
    assert len(np.unique(ends, axis=0)) == 2
    assert len(np.unique(middle)) == 6
    assert (weights.get_colors()[:, 3] == 1).all()  # red over blue is not purple


@pytest.mark.parametrize("layers", [2, 12])
def test_names_of_columns_do_not_overlap(layers):
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(layers)))
    ax = lg.plot.neuron_graph(lg.neuron_graph(model, torch.randn(4, 3)))
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
