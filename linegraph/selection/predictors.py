"""Final accuracy predicted from the first epochs."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from linegraph.arguments import check_type
from linegraph.errors import DataError
from linegraph.selection.methods import METHODS, find_method

__all__ = ["Prediction", "predict_final"]


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


def predict_final(history: pd.DataFrame, *, method: str = "combined") -> Prediction:
    """Predict the final accuracy of a training run from its first epochs.

    Args:
        history: one row per epoch with the column ``accuracy`` and those that the method reads, such as
            :attr:`CapacitanceTracker.history <linegraph.CapacitanceTracker>` of a tracker with ``valid=``.
        method: the name of a predictor, a method of :func:`~linegraph.selection_methods` that gives an accuracy from
            histories. "combined": ridge regressions learnt from recorded runs of other networks on other tasks, which
            read accuracies in [0, 1]; the runs had 15 to 18 epochs, and what longer training gains is not foreseen.
            "capacitance": Bayesian ridge regression of accuracy on β_eff, extrapolated to β_eff = 0, which training
            approaches. "last_seen", "best_seen" and "mean_seen": the baselines, the last, the highest and the mean
            accuracy seen. Epochs in which a column that one of these reads is not finite are ignored, and so is epoch
            0, recorded before training.

    Returns:
        The prediction, in the unit of ``accuracy``, fractions or percent.

    Raises:
        ArgumentTypeError: if the history is not a DataFrame.
        DataError: if the method is unknown, gives no accuracy, or reads more than a history; if a column is missing, or
            no epoch is finite, or for "capacitance" fewer than two.

    Warns:
        IncompleteHistoryWarning: if "combined" reads a column that the history does not have.

    Cost: well below a second; the history has one row per epoch.

    Source: C. Jiang et al., arXiv 2201.04194, for the regression extrapolated to β_eff = 0.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> history = pd.DataFrame({"beta_eff": [0.4, 0.3, 0.2, 0.1], "accuracy": [0.5, 0.6, 0.7, 0.8]})
        >>> round(lg.predict_final(history, method="capacitance").mean, 2)
        0.9
    """
    check_type("history", history, pd.DataFrame, "a pandas DataFrame, such as tracker.history")
    found = find_method(method)
    if found.arguments not in ("history", "histories") or not found.predicts:
        why = f"reads {found.arguments}" if found.predicts else "only orders candidates"
        predictors = ", ".join(
            m.name for m in METHODS.values() if m.arguments in ("history", "histories") and m.predicts
        )
        raise DataError(
            f"the method {method!r} {why}, so it predicts no accuracy from a history; rank(methods=[{method!r}]) "
            f"evaluates it on candidates. Predictors are {predictors}"
        )
    alone = found.arguments == "histories"  # a candidate that is ranked alone
    mean, std = found.function({"": history})[""] if alone else found.function(history)
    return Prediction(float(mean), float(std))
