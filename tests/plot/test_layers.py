import numpy as np
import pandas as pd
import pytest

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
