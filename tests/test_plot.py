import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import DataError
from tests.cases import CASES

HISTORY = pd.DataFrame(
    {"name": ["a"] * 3 + ["b"] * 3, "beta_eff": [3.0, 2, 1, 0.2, None, 0.1], "accuracy": [0.5, 0.6, 0.7, 0.1, 0.2, 0.3]}
)


def test_accuracy_against_capacitance_draws_into_the_axes_it_is_given():
    ax = Figure().add_subplot()
    assert lg.plot.accuracy_against_capacitance(HISTORY, ax) is ax
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]
    regression, open_marker = ax.lines[1:3]
    reading = lg.predict_final(HISTORY[:3]).mean
    assert list(regression.get_ydata()) == [pytest.approx(0.6), reading]
    assert (open_marker.get_xdata()[0], open_marker.get_ydata()[0]) == (0, reading)


def test_predicted_against_true():
    table = pd.DataFrame({"name": ["a", "b"], "capacitance": [0.9, 0.8], "last_seen": [0.7, 0.6], "final": [0.9, 0.7]})
    ax = lg.plot.predicted_against_true(table)
    assert [c.get_label() for c in ax.collections] == ["capacitance", "last_seen"]
    assert ax.collections[0].get_offsets().tolist() == [[0.9, 0.9], [0.7, 0.8]]
    assert sorted(text.get_text() for text in ax.texts) == ["a", "b"]
    with pytest.raises(DataError, match="train_fully"):
        lg.plot.predicted_against_true(table.drop(columns="final"))


def test_coupling_matrix_shows_sizes_with_receivers_as_rows():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude")
    data = lg.coarse_graph(P, "neuron")
    ax = lg.plot.coupling_matrix(data, Figure().add_subplot())
    drawn = ax.images[0].get_array().filled(0)
    expected = np.zeros((13, 13))
    expected[data.edge_index[1], data.edge_index[0]] = data.edge_weight
    assert np.array_equal(np.nan_to_num(drawn), expected)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.weight", "2.weight", "5.weight"]
    with pytest.raises(DataError, match="no coupling"):
        lg.plot.coupling_matrix(Data(edge_index=torch.empty(2, 0).long(), edge_weight=torch.empty(0), num_nodes=2))


def test_neuron_graph_draws_the_strongest_weights_and_all_paths():
    model, _, (x, _) = CASES["residual_batch_norm"].make()
    data = lg.neuron_graph(model, x)
    ax = lg.plot.neuron_graph(data, Figure().add_subplot(), strongest=30)
    paths, weights, neurons = ax.collections
    assert len(paths.get_segments()) == int((data.synapse < 0).sum())
    assert len(weights.get_segments()) == 30
    assert np.array_equal(neurons.get_array(), data.activation)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names[:4] == ["input", "stem.weight", "conv.weight", "junction"]
