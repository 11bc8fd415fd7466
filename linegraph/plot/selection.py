"""Figures of training histories and of predicted final accuracies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from linegraph.arguments import check_type
from linegraph.plot.axes import axes_or_new
from linegraph.plot.tables import check_table
from linegraph.selection.predictors import predict_final

__all__ = ["accuracy_against_capacitance", "predicted_against_true"]

HISTORY = "lg.rank, as .attrs['history'], and by CapacitanceTracker.history with a column 'name' added"

MARKERS = "osD^vP*X<>"


def accuracy_against_capacitance(history: pd.DataFrame, ax: Any = None) -> Any:
    """Accuracy against β_eff over the first epochs, a line per candidate, extrapolated to β_eff = 0.

    β_eff is divided by its absolute value in the first epoch, since candidates differ by orders of magnitude.

    Args:
        history: columns ``name``, ``beta_eff``, ``accuracy``, one row per epoch and candidate; epoch 0 and
            epochs without a finite β_eff are left out.
        ax: the matplotlib Axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks a column; names it. If a candidate has several epochs, but
            fewer than two with a finite accuracy.

    Cost: one :func:`~linegraph.predict_final` per candidate.

    Source: C. Jiang et al., arXiv 2201.04194, for accuracy against β_eff and its extrapolation to β_eff = 0.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> history = pd.DataFrame({"name": "a", "beta_eff": [0.2, 0.1], "accuracy": [0.7, 0.8]})
        >>> lg.plot.accuracy_against_capacitance(history).get_xlabel()
        'neural capacitance β_eff, relative to the first epoch'
    """
    check_table(history, ("name", "beta_eff", "accuracy"), HISTORY)
    ax = axes_or_new(ax)
    finite = history[np.isfinite(history["beta_eff"].astype(float))]
    if "epoch" in finite:
        finite = finite[finite["epoch"] != 0]  # before training, which the regression does not read
    for i, (name, rows) in enumerate(finite.groupby("name", sort=False)):
        # The regression does not depend on the unit of β_eff.
        relative = rows["beta_eff"] / abs(rows["beta_eff"].iloc[0])
        style = {"color": f"C{i % 10}", "marker": MARKERS[i % len(MARKERS)]}
        ax.plot(relative, rows["accuracy"], linewidth=1.2, markersize=5, label=name, **style)
        if len(rows) > 1:
            reading = predict_final(rows, method="capacitance").mean
            # A regression line with an intercept contains the mean of its points.
            mean = relative.mean(), rows["accuracy"].mean()
            ax.plot([mean[0], 0], [mean[1], reading], ":", linewidth=1.2, color=style["color"])
            ax.plot([0], [reading], markerfacecolor="white", markersize=6, linestyle="", clip_on=False, **style)
    ax.set(xlabel="neural capacitance β_eff, relative to the first epoch", ylabel="validation accuracy")
    ax.set_title("Accuracy against capacitance; dotted: regression from its mean to β_eff = 0", fontsize=10)
    ax.set_xlim(left=min(0, ax.get_xlim()[0]))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return ax


def predicted_against_true(table: pd.DataFrame, ax: Any = None, *, methods: Any = None) -> Any:
    """Predicted against true final accuracy, with a marker for each method and the names of the candidates.

    Args:
        table: what :func:`~linegraph.rank` returns with ``train_fully``.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        methods: names of the columns to draw; by default those of all methods in the table that predict
            an accuracy.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks the column ``final``, ``name`` or that of a given method;
            names it.

    Cost: proportional to the rows of the table.

    Source: the table of :func:`~linegraph.rank`.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"name": ["a"], "capacitance": [0.9], "final": [0.92]})
        >>> lg.plot.predicted_against_true(table).get_ylabel()
        'predicted final accuracy'
    """
    from linegraph.selection.methods import METHODS

    if methods is not None:
        check_type("methods", methods, Iterable, "the name of a column, or a list of names")
    named = [] if methods is None else [methods] if isinstance(methods, str) else list(methods)
    check_table(table, ("name", "final", *named), "lg.rank with train_fully=")
    ax = axes_or_new(ax)
    known = table.dropna(subset=["final"])
    drawn = [m.name for m in METHODS.values() if m.predicts and m.name in table] if methods is None else named
    for i, method in enumerate(drawn):
        style = {"s": 44, "alpha": 0.85, "linewidths": 1.2}
        ax.scatter(known["final"], known[method], marker="o^v"[i % 3], label=method, color=f"C{i}", **style)
    # The axes have different scales: predictions spread far more than true accuracies.
    low, high = ax.get_xlim()
    ax.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0, label="predicted = true")
    ax.set(xlabel="true final accuracy", ylabel="predicted final accuracy", xlim=(low, high))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    if drawn and len(known):
        _name_in_margin(ax, known["name"], known["final"], known[drawn[0]])
    return ax


def _name_in_margin(ax: Any, names: pd.Series, x: pd.Series, y: pd.Series) -> None:
    """Write the names to the right of the axes without overlap, each joined to its point by a thin line."""
    low, high = ax.get_ylim()
    heights = ((y - low) / (high - low)).sort_values(ascending=False)
    place = 1.05
    for index, height in heights.items():
        place = min(height, place - 0.048)
        ax.annotate(
            str(names[index]),
            (x[index], y[index]),
            xytext=(1.04, place),
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
