import numpy as np
import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph.errors import DataError


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


def two_layers():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 10), torch.nn.Tanh(), torch.nn.Linear(10, 4)).double()
    data = torch.randn(8, 20).double(), torch.randn(8, 4).double()
    return lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)


def test_layer_values_draws_the_quantiles_of_each_layer():
    P = two_layers()
    values = torch.randn(240).double()
    ax = lg.plot.layer_values(P, values, label="a number")
    for number, part in enumerate((values[:200], values[200:])):
        low, first, median, third, high = np.quantile(part.numpy(), [0.05, 0.25, 0.5, 0.75, 0.95])
        line, bar = ax.lines[2 * number : 2 * number + 2]
        assert line.get_xdata() == pytest.approx([low, high])
        assert bar.get_xdata() == pytest.approx([median, median])
        box = ax.collections[number].get_paths()[0].vertices
        assert (box[:, 0].min(), box[:, 0].max()) == pytest.approx((first, third))
        assert abs(box[:, 1].mean() - number) < 0.1
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "2"]
    assert ax.get_xscale() == "linear"


def test_layer_values_over_decades_tell_which_share_is_zero():
    values = torch.logspace(-3, 3, 240, dtype=torch.float64)
    values[:50], values[50:60] = 0, 1e-18  # both are 0 beside 1000
    ax = lg.plot.layer_values(two_layers(), values)
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0 (30% are 0)", "2"]
    low, high = ax.lines[0].get_xdata()
    assert (low, high) == pytest.approx(tuple(np.quantile(values[60:200].numpy(), [0.05, 0.95])))


def test_layer_values_of_zeros_say_so():
    ax = lg.plot.layer_values(two_layers(), torch.zeros(240), label="PageRank")
    assert [text.get_text() for text in ax.texts] == ["PageRank: 0 everywhere"]
    with pytest.raises(DataError, match=r"one number for each of the 240 nodes, .* got the shape \(3,\)"):
        lg.plot.layer_values(two_layers(), torch.zeros(3))


def test_contributions_that_are_zero_up_to_rounding_are_not_coloured():
    names = ["a", "b"]
    image = lg.plot.layer_pairs(pd.DataFrame([[1.0, 1e-9], [-1e-12, 0.5]], names, names)).images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), [[1, np.nan], [np.nan, 0.5]])
    ax = lg.plot.layer_pairs(pd.DataFrame(np.zeros((2, 2)), names, names))
    assert [text.get_text() for text in ax.texts] == ["all contributions are 0\nup to rounding"]
    nothing = lg.plot.layer_bars(pd.DataFrame({"layer": names, "share": [np.nan, np.nan]}))
    assert [text.get_text() for text in nothing.texts] == ["every share is undefined (0/0)"]
