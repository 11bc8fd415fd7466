import itertools

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import trapezoid
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


def random_graph(n=400):
    weight = torch.from_numpy(1 + np.random.default_rng(0).pareto(1.5, n))
    return lg.GraphCoupling(torch.arange(n).expand(2, n), weight)


def test_strength_ccdf_with_its_fit():
    distribution = lg.strength_distribution(random_graph(), direction="in")
    fit = distribution.power_law()
    ax = Figure().add_subplot()
    assert lg.plot.strength_ccdf(distribution, ax, fit=fit) is ax
    points, line = ax.lines
    assert list(points.get_xdata()) == list(distribution.values)
    assert list(points.get_ydata()) == list(distribution.ccdf)
    # The line starts where the tail does, on the curve, and falls with the exponent.
    x, y = line.get_xdata(), line.get_ydata()
    assert (x[0], y[0]) == (pytest.approx(fit.x_min), pytest.approx(fit.tail / 400))
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(np.full(len(x) - 1, 1 - fit.alpha))
    empty = lg.strength_distribution(lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), num_nodes=3))
    with pytest.raises(DataError, match="no strength is positive"):
        lg.plot.strength_ccdf(empty)


def test_many_strengths_are_thinned_but_for_the_ends():
    distribution = lg.strength_distribution(random_graph(20_000), direction="in")
    (points,) = lg.plot.strength_ccdf(distribution).lines
    assert len(points.get_xdata()) <= 3002
    assert (points.get_xdata()[0], points.get_xdata()[-1]) == (distribution.values[0], distribution.values[-1])


def test_spectra():
    values = torch.tensor([3.0, 1.0, 0.0])
    ax = lg.plot.singular_values(values, label="P")
    assert ax.lines[0].get_xydata().tolist() == [[1, 3], [2, 1]]
    density = lg.spectral_density(random_graph(30), probes=2, steps=5)
    drawn = lg.plot.spectral_density(density, ax, width=0.5, points=7)
    assert drawn is ax
    line = ax.lines[-1]
    folded = density.density(line.get_xdata(), width=0.5) + density.density(-line.get_xdata(), width=0.5)
    assert list(line.get_ydata()) == pytest.approx(list(folded))
    assert len(line.get_xdata()) == 7
    with pytest.raises(DataError, match="no singular value is positive"):
        lg.plot.singular_values(torch.zeros(3))
    rounded = lg.plot.singular_values(torch.tensor([3.0, 1e-3, 1e-16, 1e-30], dtype=torch.float64))
    assert rounded.lines[0].get_ydata().tolist() == [3, 1e-3]


def test_later_curves_are_not_cut_off():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, 2.0, 4.0]))
    density = lg.spectral_density(ring)
    ax = lg.plot.spectral_density(density, width=0.5)
    lg.plot.spectral_density(density, ax, width=0.05)
    assert ax.get_ylim()[1] > max(line.get_ydata().max() for line in ax.lines)
    small, large = (lg.strength_distribution(random_graph(n), direction="in") for n in (400, 4000))
    ax = lg.plot.strength_ccdf(small, fit=small.power_law())
    assert ax.lines[1].get_ydata()[-1] >= small.ccdf[-1] / 2 * (1 - 1e-9)
    lg.plot.strength_ccdf(large, ax)
    assert ax.get_ylim()[0] < large.ccdf[-1]


def test_two_densities_tell_their_smoothing_and_have_all_of_their_mass():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, 2.0, 4.0]))
    ax = lg.plot.spectral_density(lg.spectral_density(ring), label="symmetrised", width=0.25)
    lg.plot.spectral_density(lg.singular_value_density(ring), ax, width=0.5)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["symmetrised, smoothed by 0.25", "density, smoothed by 0.5"]
    for line in ax.lines:
        assert trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=0.01)
    assert ax.lines[1].get_xdata().min() == 0


@pytest.mark.parametrize("values", [[2.0, 2.0], [2.0, 2.0 - 1e-15]])
def test_one_value_but_for_rounding_has_room_around_it(values):
    ax = lg.plot.singular_values(torch.tensor(values, dtype=torch.float64))
    low, high = ax.get_ylim()
    assert low < 1.9 < 2.1 < high
    lg.plot.singular_values(torch.tensor([30.0, 20.0]), ax)
    assert ax.get_ylim()[1] > 30


@pytest.mark.parametrize(("values", "plain"), [([3.7, 3.4, 3.1], True), ([100.0, 1.0], False)])
def test_ticks_of_less_than_a_decade_are_plain(values, plain):
    ax = lg.plot.singular_values(torch.tensor(values))
    ax.figure.draw_without_rendering()
    labels = [text.get_text() for text in [*ax.get_yticklabels(), *ax.get_yticklabels(minor=True)] if text.get_text()]
    assert len(labels) > 2
    assert all("$" in label for label in labels) is not plain


def test_axes_are_pictures_to_a_notebook():
    ax = lg.plot.singular_values(torch.tensor([3.0, 1.0]))
    assert ax._repr_png_() == ax.figure._repr_png_()
    assert ax._repr_png_().startswith(b"\x89PNG")


def test_layers():
    table = pd.DataFrame({"layer": ["first", "second"], "share": [0.7, 0.3]})
    ax = lg.plot.layer_bars(table)
    assert [bar.get_width() for bar in ax.patches] == [0.7, 0.3]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    for column in ("beta", "layer", "op"):
        with pytest.raises(DataError, match=f"no column '{column}' of numbers; this table has 'share'"):
            lg.plot.layer_bars(table.assign(op="linear"), column=column)
    pairs = pd.DataFrame([[0.0, -1.0], [0.5, 0.0]], ["a", "b"], ["a", "b"])
    image = lg.plot.layer_pairs(pairs).images[0]
    assert np.array_equal(image.get_array().filled(np.nan), [[np.nan, -1], [0.5, np.nan]], equal_nan=True)
    assert image.get_clim() == (-1, 1)
    assert lg.plot.layer_pairs(pairs.abs()).images[0].get_clim() == (0, 1)


def test_coupling_matrix_shows_sizes_with_receivers_as_rows():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude")
    data = lg.coarse_graph(P, "neuron")
    ax = lg.plot.coupling_matrix(data, Figure().add_subplot())
    drawn = ax.images[0].get_array().filled(0)
    expected = np.zeros((13, 13))
    expected[data.edge_index[1], data.edge_index[0]] = data.edge_weight
    assert np.array_equal(np.nan_to_num(drawn), expected)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.weight", "2.weight", "5.weight"]
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
    assert names[:4] == ["input", "stem.weight", "conv.weight", "junction"]
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


def resilience():
    web = lg.from_networkx(nx.random_regular_graph(6, 24, seed=0))
    model = lg.dynamics.Mutualistic()
    return lg.dynamics.resilience_curve(web, model, "links", [0.0, 0.5, 1.0], 2), model


def test_state_against_capacity_has_the_theory_behind_the_points():
    curve, model = resilience()
    ax = Figure().add_subplot()
    assert lg.plot.state_against_capacity(curve, model, ax) is ax
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["theory, stable", "theory, unstable", "network, start low", "network, start high"]
    (tipping,) = lg.dynamics.tipping_points(model)
    assert any(list(line.get_xdata()) == [tipping, tipping] for line in ax.lines)
    points = ax.collections[1].get_offsets()
    high = curve[(curve["start"] == "high") & curve["x_eff"].notna()]
    np.testing.assert_allclose(points, high[["beta_eff", "x_eff"]])
    for line in ax.lines:  # every branch solves f + β g = 0 and is drawn as stable where it is
        if len(line.get_xdata()) > 2:
            beta, x = line.get_data()
            middle = len(x) // 2
            nearest = min(lg.dynamics.branches(model, beta[middle]), key=lambda b: abs(b.x - x[middle]))
            assert nearest.x == pytest.approx(x[middle], rel=1e-6)
            assert nearest.stable == (line.get_linestyle() == "-")


def test_a_tipping_point_far_off_does_not_set_the_scale():
    model = lg.dynamics.Neuronal(tau=2.65, mu=7.76)
    web = lg.from_networkx(nx.complete_graph(8))
    curve = lg.dynamics.resilience_curve(web, model, "weights", [0.0, 0.5], 1)
    ax = lg.plot.state_against_capacity(curve, model)
    near, far = lg.dynamics.tipping_points(model)
    assert far > 1e7
    assert curve["beta_eff"].max() < ax.get_xlim()[1] < 2 * near
    assert [text.get_text() for text in ax.texts] == [f"β = {near:.3g}", f"β = {far:.3g} →"]


def test_starts_are_told_apart():
    curve, model = resilience()
    curve["start"] = curve["start"].map({"low": 0.01, "high": 1.0})
    points = lg.plot.state_against_capacity(curve, model).collections[:2]
    assert not np.array_equal(points[0].get_paths()[0].vertices, points[1].get_paths()[0].vertices)
    lines = lg.plot.state_against_loss(curve).lines
    assert len({line.get_linestyle() for line in lines}) == 2


@pytest.mark.parametrize("model", [lg.dynamics.SIS(), lg.dynamics.Regulatory(), lg.dynamics.Neuronal()])
def test_branches_of_every_model_can_be_drawn(model):
    web = lg.from_networkx(nx.complete_graph(8))
    curve = lg.dynamics.resilience_curve(web, model, "weights", [0.0, 0.5], 1)
    assert len(lg.plot.state_against_capacity(curve, model).lines) > 1


def test_state_against_loss():
    curve, _ = resilience()
    ax = lg.plot.state_against_loss(curve)
    assert ax.get_xlabel() == "fraction of links lost"
    assert [line.get_label().split(",")[0] for line in ax.lines] == ["start low", "start high"]
    median = curve[(curve["start"] == "high")].groupby("fraction")["x_eff"].median().dropna()
    np.testing.assert_allclose(ax.lines[1].get_ydata(), median)


def test_a_curve_with_nothing_to_draw():
    curve, model = resilience()
    nothing = curve[curve["fraction"] == 1.0]
    assert lg.plot.state_against_capacity(nothing, model).lines
    assert not lg.plot.state_against_loss(nothing).lines


def test_networks_of_no_or_negative_capacity_are_shown_beside_the_theory():
    for betas in ([0.0, 0.0], [-3.0, 0.0]):
        curve = pd.DataFrame(
            {"kind": "nodes", "fraction": [0.0, 0.5], "start": "high", "beta_eff": betas, "x_eff": [0.1, 5.0]}
        )
        ax = lg.plot.state_against_capacity(curve, lg.dynamics.Mutualistic())
        low, high = ax.get_xlim()
        assert low <= min(betas)
        assert high > lg.dynamics.tipping_points(lg.dynamics.Mutualistic())[0]
        assert len(ax.lines) > 2


P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))
GIVEN = {
    "state_against_capacity": (lambda t: lg.plot.state_against_capacity(t, lg.dynamics.SIS()), "resilience_curve"),
    "state_against_loss": (lg.plot.state_against_loss, "resilience_curve"),
    "accuracy_against_capacitance": (lg.plot.accuracy_against_capacitance, "lg.rank"),
    "predicted_against_true": (lg.plot.predicted_against_true, "lg.rank"),
    "layer_bars": (lg.plot.layer_bars, "lg.diagnose"),
    "layer_pairs": (lg.plot.layer_pairs, "lg.layer_pairs"),
    "coupling_matrix": (lg.plot.coupling_matrix, "lg.coarse_graph"),
    "neuron_graph": (lg.plot.neuron_graph, "lg.neuron_graph"),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("given", [pd.DataFrame({"other": [1.0]}), Data(), P, [1, 2], None], ids=str)
def test_wrong_tables_and_graphs_are_told_what_makes_them(name, given):
    draw, maker = GIVEN[name]
    with pytest.raises(DataError, match=f"made by .*{maker}"):
        draw(given)


def test_missing_columns_are_all_named():
    history = HISTORY.drop(columns=["name", "accuracy"])
    with pytest.raises(DataError, match="no columns 'name', 'accuracy'; it has 'beta_eff'; such a table is made by"):
        lg.plot.accuracy_against_capacitance(history)
    table = pd.DataFrame({"name": ["a"], "final": [0.9]})
    with pytest.raises(DataError, match="no column 'capacitance'; it has 'name', 'final'"):
        lg.plot.predicted_against_true(table, methods=["capacitance"])
