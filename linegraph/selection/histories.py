"""Rows of a recorded history that a method reads."""

from __future__ import annotations

import numpy as np
import pandas as pd

from linegraph.errors import DataError

__all__ = ["epochs_with"]


def epochs_with(history: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The trained epochs in which all of the columns are finite, as floats.

    The row of epoch 0, recorded at initialisation, is left out: no training has been seen there.

    Raises:
        DataError: if a column is missing or not of numbers, or no epoch is left.
    """
    if missing := [column for column in columns if column not in history]:
        raise DataError(
            f"the history has no column {missing[0]!r}; it has {', '.join(map(str, history.columns)) or 'none'}"
        )
    trained = history[history["epoch"] != 0] if "epoch" in history else history
    try:
        values = trained[list(columns)].astype(float)
    except (TypeError, ValueError) as error:
        raise DataError(f"the history has other values than numbers in {' or '.join(columns)} ({error})") from None
    finite = values[np.isfinite(values).all(axis=1)]
    if finite.empty:
        raise DataError(f"the history has no epoch with finite {' and '.join(columns)}")
    return finite
