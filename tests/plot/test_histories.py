import pandas as pd
import pytest
from matplotlib.figure import Figure

import linegraph as lg

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
