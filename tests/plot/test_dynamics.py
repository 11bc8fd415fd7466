import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import linegraph as lg


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
    assert [text.get_text() for text in ax.texts] == [rf"$\beta$ = {near:.3g}", rf"$\beta$ = {far:.3g} →"]


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
