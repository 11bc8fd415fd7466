import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import linegraph as lg
from linegraph.errors import DataError, TooLargeError
from tests.cases import CASES


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


def network():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
    data = torch.randn(8, 4).double(), torch.randn(8, 2).double()
    return model, lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)


def ends_of(lines):
    return [[tuple(part[0].round(9)), tuple(part[-1].round(9))] for part in lines.get_segments()]


def test_line_graph_draws_every_coupling_between_its_synapses():
    model, P = network()
    data = lg.line_graph(P)
    ax = lg.plot.line_graph(data)
    lines, points = ax.collections
    # A synapse stands in the column of its layer, from the top in the order of nodes.
    places = [(0, -(i + 0.5) / 12) for i in range(12)] + [(1, -(i + 0.5) / 6) for i in range(6)]
    np.testing.assert_allclose(points.get_offsets(), places)
    weights = torch.cat([w.flatten() for w in (model[0].weight, model[2].weight)]).detach()
    np.testing.assert_allclose(points.get_array(), weights)
    number = {tuple(np.round(place, 9)): i for i, place in enumerate(places)}
    drawn = {(number[a], number[b]): colour for (a, b), colour in zip(ends_of(lines), lines.get_colors(), strict=True)}
    # Row j holds P e_j, the couplings from the node j.
    dense = torch.stack([P.matvec(unit) for unit in torch.eye(18).double()])
    assert set(drawn) == {tuple(pair) for pair in (dense.abs() > 1e-12).nonzero().tolist()}
    assert all((colour[0] > colour[2]) == (dense[pair] > 0) for pair, colour in drawn.items())  # red is positive


def test_line_graph_of_a_graph_names_its_edges_and_one_too_large_is_refused():
    web = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")])
    ax = lg.plot.line_graph(lg.line_graph(web))
    assert {text.get_text() for text in ax.texts} - {""} == {"a, b", "b, c", "c, a"}
    large = lg.line_graph(nx.gnm_random_graph(300, 1200, seed=0, directed=True))
    with pytest.raises(TooLargeError, match=r"lg\.plot\.coarse_graph"):
        lg.plot.line_graph(large)


def test_coarse_graph_of_layers_has_arcs_from_later_to_earlier_layers_above():
    data = lg.coarse_graph(network()[1])
    arcs, points = lg.plot.coarse_graph(data).collections
    (segment,) = arcs.get_segments()
    np.testing.assert_allclose(segment[[0, -1]], [[1, 0], [0, 0]], atol=1e-12)
    assert segment[:, 1].max() > 0.5
    received = np.bincount(data.edge_index[1], data.edge_weight.abs(), 2)
    np.testing.assert_allclose(points.get_array(), received)


def test_coarse_graph_of_many_neurons_has_blocks_with_all_they_receive():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 100), torch.nn.Tanh(), torch.nn.Linear(100, 7)).double()
    data = torch.randn(8, 5).double(), torch.randn(8, 7).double()
    coarse = lg.coarse_graph(lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data), "neuron")
    ax = lg.plot.coarse_graph(coarse, strongest=50)
    lines, points = ax.collections
    assert len(points.get_offsets()) == 40 + 7
    assert points.get_array().sum() == pytest.approx(float(coarse.edge_weight.abs().sum()))
    assert len(lines.get_segments()) == 50
    assert "107 groups in 47 blocks, the 50 strongest of 280 sums" in ax.get_title().replace("\n", " ")
    only = lg.plot.coarse_graph(coarse, layers="2")
    assert len(only.collections[1].get_offsets()) == 7
    for wrong in ("3.weight", 2, -1, True, []):
        with pytest.raises(DataError, match="layer"):
            lg.plot.coarse_graph(coarse, layers=wrong)


def test_neuron_graph_of_chosen_layers_has_their_weights_alone():
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(4)))
    data = lg.neuron_graph(model, torch.randn(4, 3))
    ax = lg.plot.neuron_graph(data, layers=["1", 2])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]  # and what they read
    _, weights, neurons = ax.collections
    assert len(weights.get_segments()) == 2 * 9
    assert len(neurons.get_offsets()) == 9


def test_activations_that_are_zero_up_to_rounding_say_so():
    data = lg.neuron_graph(torch.nn.Linear(3, 2, bias=False), torch.zeros(4, 3))
    ax = lg.plot.neuron_graph(data)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "mean activation, 0 up to rounding"
    assert not ax.collections[-1].get_array().any()
