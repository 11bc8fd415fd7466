import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import linegraph as lg
from linegraph.errors import DataError


def test_predicted_against_true():
    table = pd.DataFrame({"name": ["a", "b"], "capacitance": [0.9, 0.8], "last_seen": [0.7, 0.6], "final": [0.9, 0.7]})
    table["snip"] = [30.0, 20.0]  # no accuracy
    ax = lg.plot.predicted_against_true(table)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["capacitance", "last_seen", "predicted = true"]
    drawn = {collection.get_label(): collection for collection in ax.collections}
    assert drawn["capacitance"].get_offsets().tolist() == [[0.9, 0.9], [0.7, 0.8]]
    assert sorted(text.get_text() for text in ax.texts) == ["a", "b"]
    with pytest.raises(DataError, match="train_fully"):
        lg.plot.predicted_against_true(table.drop(columns="final"))


def ranked():
    return pd.DataFrame(
        {
            "name": ["net-b", "net-a", "net-c"],
            "combined": [0.9, 0.8, np.nan],
            "combined_std": [0.01, 0.02, np.nan],
            "last_seen": [0.7, 0.75, 0.6],
            "snip": [30.0, 20.0, 10.0],  # no accuracy
            "final": [0.88, 0.81, 0.5],
        }
    )


def test_ranking_draws_values_with_95_percent_intervals_best_first():
    ax = lg.plot.ranking(ranked(), Figure().add_subplot())
    (bars,) = ax.containers
    np.testing.assert_array_equal(bars.lines[0].get_xydata(), [[0.9, 0], [0.8, 1], [np.nan, 2]])
    ends = np.array(bars.lines[2][0].get_segments()[:2])
    np.testing.assert_allclose(ends[:, :, 0], [[0.9 - 0.0196, 0.9 + 0.0196], [0.8 - 0.0392, 0.8 + 0.0392]])
    points = {collection.get_label(): collection.get_offsets().tolist() for collection in ax.collections}
    assert points["last_seen"] == [[0.7, 0], [0.75, 1], [0.6, 2]]
    assert points["true final accuracy"] == [[0.88, 0], [0.81, 1], [0.5, 2]]
    assert "snip" not in points
    bottom, top = ax.get_ylim()
    assert bottom > 2 > 0 > top  # the first row is at the top
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a", "c"]
    assert ax.get_ylabel() == "candidate, best first (net-…)"
    assert [text.get_text() for text in ax.texts] == ["no value of combined"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["combined, 95 % interval", "last_seen", "true final accuracy"]


def test_ranking_by_scores_names_them_on_the_axis():
    assert lg.plot.ranking(ranked(), methods="snip").get_xlabel() == "snip"
    with pytest.raises(DataError, match="no column of this table is of a method that predicts an accuracy"):
        lg.plot.ranking(ranked()[["name", "snip"]])
    with pytest.raises(DataError, match="not of numbers"):
        lg.plot.ranking(ranked().assign(last_seen="high"))


def test_the_best_are_named_at_the_points_of_the_first_method():
    table = pd.DataFrame({"name": [f"n{i}" for i in range(30)], "last_seen": np.linspace(0.9, 0.5, 30)})
    table["final"] = table["last_seen"] + 0.05 * np.sin(np.arange(30))
    ax = lg.plot.predicted_against_true(table, top=3)
    best = table.nlargest(3, "final")
    assert {text.get_text(): tuple(text.xy) for text in ax.texts} == {
        name: (final, seen) for name, final, seen in best[["name", "final", "last_seen"]].itertuples(index=False)
    }
    assert ax.get_title() == "names of the best 3 of 30"
