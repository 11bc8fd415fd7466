import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.stats import spearmanr

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
    reading = lg.predict_final(HISTORY[:3], method="capacitance").mean
    assert list(regression.get_ydata()) == [pytest.approx(0.6), reading]
    assert (open_marker.get_xdata()[0], open_marker.get_ydata()[0]) == (0, reading)


def test_only_the_best_are_named_and_extrapolated():
    rng = np.random.default_rng(0)
    finals = dict(zip("abcdefghijkl", rng.permutation(np.linspace(0.5, 0.9, 12)), strict=True))
    history = pd.DataFrame(
        {"name": name, "epoch": epoch, "beta_eff": 1 / epoch, "accuracy": final * (1 - 0.3 / epoch)}
        for name, final in finals.items()
        for epoch in (1, 2, 3)
    )
    ax = lg.plot.accuracy_against_capacitance(history, top=4)
    best = sorted(finals, key=lambda name: -finals[name])[:4]
    # accuracy = final − 0.3 final β, whose value at β = 0 is the final accuracy
    drawn = [
        line.get_ydata()[0] for line in ax.lines if line.get_transform() != ax.transData and len(line.get_xdata()) == 1
    ]
    assert sorted(drawn, reverse=True) == pytest.approx([finals[name] for name in best], rel=1e-3)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*best, "8 others"]


def test_capacitance_over_training_draws_the_history_in_the_order_of_epochs():
    history = pd.DataFrame(
        {
            "name": ["b", "a", "a", "b", "a"],
            "epoch": [2, 0, 2, 1, 1],
            "beta_eff": [5.0, 3.0, 1.0, 4.0, np.nan],
            "accuracy": [0.9, 0.1, 0.5, 0.8, 0.3],
        }
    )
    ax = lg.plot.capacitance_over_training(history, Figure().add_subplot())
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn == {"b": [[1, 4], [2, 5]], "a": [[0, 3], [2, 1]]}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b", "a"]  # by the last accuracy
    one = lg.plot.capacitance_over_training(history, top=1)
    assert {line.get_label(): line.get_color() == "0.72" for line in one.lines} == {"1 others": True, "b": False}
    assert lg.plot.capacitance_over_training(history, column="accuracy").get_ylabel() == "validation accuracy"


@pytest.mark.parametrize(
    ("values", "scale"), [([100.0, 1.0], "log"), ([2.0, 1.0], "linear"), ([100.0, -1.0], "linear")]
)
def test_values_over_decades_have_a_logarithmic_axis(values, scale):
    ax = lg.plot.capacitance_over_training(pd.DataFrame({"beta_eff": values}))
    assert ax.get_yscale() == scale
    assert ax.lines[0].get_xdata().tolist() == [1, 2]


def test_capacitance_against_has_a_point_per_network_and_their_correlation():
    rng = np.random.default_rng(1)
    zoo = pd.DataFrame({"clustering": rng.random(40), "family": list("ab") * 20})
    zoo["beta_eff"] = zoo["clustering"] + 0.3 * rng.random(40)
    zoo.loc[3, "beta_eff"] = np.nan
    known = zoo.dropna()
    rho = spearmanr(known["clustering"], known["beta_eff"]).statistic
    ax = lg.plot.capacitance_against(zoo, "clustering", ax=Figure().add_subplot())
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), known[["clustering", "beta_eff"]])
    title = " ".join(ax.get_title().split())
    assert title.startswith(f"Spearman ρ = {rho:.2f} (95 % interval ")
    assert title.endswith("39 networks (1 without both values)")
    low, high = map(float, title.split("interval ")[1].split(")")[0].split(" to "))
    assert low < rho < high
    ax = lg.plot.capacitance_against(zoo, "clustering", group="family")
    for points in ax.collections:
        of = known[known["family"] == points.get_label()]
        np.testing.assert_array_equal(points.get_offsets(), of[["clustering", "beta_eff"]])
    assert to_rgba(ax.collections[0].get_facecolor()[0][:3]) != to_rgba(ax.collections[1].get_facecolor()[0][:3])
    with pytest.raises(DataError, match="not of numbers"):
        lg.plot.capacitance_against(zoo, "family")
