import math

import numpy as np
import pandas as pd
import pytest

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection import seen

HISTORY = pd.DataFrame(
    {
        "epoch": [0, 1, 2, 3, 4],
        "accuracy": [0.9, 0.2, 0.7, 0.6, math.nan],
        "loss": [math.nan, 2.0, 1.5, 1.0, 0.9],
        "valid_loss": [3.0, 2.5, 2.0, math.inf, 2.2],
    }
)


def test_accuracies_of_trained_epochs():
    found = {name: lg.predict_final(HISTORY, method=name) for name in ("last_seen", "best_seen", "mean_seen")}
    assert [found[name].mean for name in found] == pytest.approx([0.6, 0.7, 0.5])
    assert math.isnan(found["last_seen"].std)
    assert math.isnan(found["best_seen"].std)
    assert found["mean_seen"].std == pytest.approx(np.std([0.2, 0.7, 0.6], ddof=1))


def test_losses():
    assert seen.last_loss(HISTORY) == pytest.approx(0.9)
    assert seen.last_valid_loss(HISTORY) == pytest.approx(2.2)
    assert seen.sum_of_losses(HISTORY) == pytest.approx(5.4)


def test_one_epoch_and_none():
    assert math.isnan(lg.predict_final(HISTORY[:2], method="mean_seen").std)
    with pytest.raises(DataError, match="no epoch with finite accuracy"):
        seen.last_seen(HISTORY[:1])
    with pytest.raises(DataError, match="no column 'valid_loss'; it has accuracy"):
        seen.last_valid_loss(pd.DataFrame({"accuracy": [0.5]}))
    with pytest.raises(DataError, match="other values than numbers in accuracy"):
        seen.last_seen(pd.DataFrame({"accuracy": ["high"]}))
