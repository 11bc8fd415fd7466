import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import linegraph as lg
from linegraph.errors import DataError

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
