import pandas as pd
import pytest

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
