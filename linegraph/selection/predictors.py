"""Final accuracy predicted from the first epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from linegraph.arguments import check_type
from linegraph.errors import DataError
from linegraph.selection.baselines import last_seen, mean_seen

__all__ = ["METHODS", "Prediction", "predict_final"]


@dataclass(frozen=True)
class Prediction:
    """A predicted final accuracy with its standard deviation.

    Values are not clipped to [0, 1]: a mean above 1 shows that the regression is extrapolated too far.

    Attributes:
        mean: the predicted accuracy, in the unit of the history.
        std: its standard deviation, in the same unit; nan if the method gives none.
    """

    mean: float
    std: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of a normal distribution, mean ± 1.96 std."""
        return self.mean - 1.96 * self.std, self.mean + 1.96 * self.std


def predict_final(history: pd.DataFrame, *, method: str = "capacitance") -> Prediction:
    """Predict the final accuracy of a training run from its first epochs.

    Args:
        history: one row per epoch with the columns ``accuracy`` and, for "capacitance", ``beta_eff``; such as
            :attr:`CapacitanceTracker.history <linegraph.CapacitanceTracker>`. Epochs in which one of these is not
            finite are ignored.
        method: "capacitance": Bayesian ridge regression of accuracy on β_eff, extrapolated to β_eff = 0, which
            training approaches; "last_seen" and "mean_seen": the baselines, the last and the mean accuracy seen.

    Returns:
        The prediction, in the unit of ``accuracy``, fractions or percent.

    Raises:
        ArgumentTypeError: if the history is not a DataFrame.
        DataError: if the method is unknown, a column is missing, or no epoch is finite, or for "capacitance" fewer than
            two.

    Cost: well below a second; the history has one row per epoch.

    Source: C. Jiang et al., arXiv 2201.04194, for the regression extrapolated to β_eff = 0.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> history = pd.DataFrame({"beta_eff": [0.4, 0.3, 0.2, 0.1], "accuracy": [0.5, 0.6, 0.7, 0.8]})
        >>> round(lg.predict_final(history).mean, 2)
        0.9
    """
    check_type("history", history, pd.DataFrame, "a pandas DataFrame, such as tracker.history")
    if not isinstance(method, str) or method not in METHODS:
        raise DataError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    needed = ["accuracy", "beta_eff"] if method == "capacitance" else ["accuracy"]
    if missing := [column for column in needed if column not in history]:
        raise DataError(
            f"the history has no column {missing[0]!r}; it has {', '.join(map(str, history.columns)) or 'none'}"
        )
    finite = history[np.isfinite(history[needed].astype(float)).all(axis=1)]
    if finite.empty:
        raise DataError(f"the history has no epoch with finite {' and '.join(needed)}")
    return Prediction(*METHODS[method](finite))


def at_zero_capacitance(history: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy at β_eff = 0 by Bayesian ridge regression.

    β_eff is divided by its standard deviation first, so that the prior on the slope does not depend on the unit of
    β_eff. If β_eff does not vary, there is no slope, and mean and standard deviation are those of the accuracy.
    """
    from sklearn.linear_model import BayesianRidge

    if len(history) < 2:
        raise DataError(f"a regression on β_eff needs two epochs with finite accuracy and β_eff, found {len(history)}")
    beta = history["beta_eff"].to_numpy(dtype=float)
    spread = beta.std()
    if spread <= 1e-12 * np.abs(beta).max():
        return mean_seen(history)
    fit = BayesianRidge().fit((beta / spread)[:, None], history["accuracy"].to_numpy(dtype=float))
    mean, std = fit.predict(np.zeros((1, 1)), return_std=True)
    return float(mean[0]), float(std[0])


METHODS: dict[str, Callable[[pd.DataFrame], tuple[float, float]]] = {
    "capacitance": at_zero_capacitance,
    "last_seen": last_seen,
    "mean_seen": mean_seen,
}
