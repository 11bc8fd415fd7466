"""Figures of capacitance and accuracy over training, and of capacitance over a zoo of networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from linegraph.arguments import check_number_of, check_seed
from linegraph.plot.axes import add_legend, axes_or_new, label_axes, points_of
from linegraph.plot.labels import BETA_EFF, quantity, short_names, signed
from linegraph.plot.style import GREY, TOP, line_of, look
from linegraph.plot.tables import check_numeric, check_table
from linegraph.selection.agreement import bootstrap_interval, spearman
from linegraph.selection.predictors import Prediction, predict_final

__all__ = ["accuracy_against_capacitance", "capacitance_against", "capacitance_over_training"]

HISTORY = "lg.rank, as .attrs['history'], and by CapacitanceTracker.history with a column 'name' added"

ZOO = "hand, one row per network: a measure from lg.topology or lg.summary beside lg.capacitance(P).beta_eff"

DODGE = 4.5
"""Points between predictions that stand at the same place."""

SPAN = 30
"""Ratio of the largest to the smallest number above which an axis is logarithmic, if all are positive."""


def accuracy_against_capacitance(history: pd.DataFrame, ax: Any = None, *, top: int = TOP) -> Any:
    """Accuracy against β_eff over the first epochs, a line per candidate, extrapolated to β_eff = 0.

    β_eff is divided by its absolute value in the first epoch, since candidates differ by orders of magnitude. Markers
    grow with the epoch. The open markers are the accuracies that the method "capacitance" predicts, the regression of
    accuracy on β_eff extrapolated to β_eff = 0, with their 95 % intervals; they stand side by side around β_eff = 0.

    Args:
        history: columns ``name``, ``beta_eff``, ``accuracy``, one row per epoch and candidate; epoch 0 and
            epochs without a finite β_eff are left out.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        top: so many candidates, those of highest prediction, are named; the others are grey, without prediction.

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
        >>> lg.plot.accuracy_against_capacitance(history).get_ylabel()
        'validation accuracy'
    """
    check_table(history, ("name", "beta_eff", "accuracy"), HISTORY)
    check_numeric(history, ("beta_eff", "accuracy"))
    check_number_of("top", top, least=0)
    finite = history[np.isfinite(history["beta_eff"].to_numpy(float))]
    if "epoch" in finite:
        finite = finite[finite["epoch"] != 0]  # before training, which the regression does not read
    runs = dict(iter(finite.groupby("name", sort=False)))
    read = {name: _prediction(rows) for name, rows in runs.items()}
    best = sorted(runs, key=lambda name: -np.nan_to_num(read[name].mean, nan=-np.inf))[:top]
    within = ax is not None
    ax = axes_or_new(ax, width=7.2)
    for number, (name, label) in enumerate(_named_last(runs, best)):
        rows, is_best = runs[name], name in best
        style = look(best.index(name)) if is_best else {"color": GREY, "marker": "o"}
        relative = rows["beta_eff"].to_numpy(float) / (abs(float(rows["beta_eff"].iloc[0])) or 1.0)
        seen, grown = rows["accuracy"].to_numpy(float), np.linspace(6, 42, len(rows))
        order = 1 + number / len(runs)
        size = {"markersize": 5, "markevery": [len(seen) - 1]} if is_best else {"markersize": 0}
        ax.plot(relative, seen, linewidth=1.2 if is_best else 0.7, zorder=order, label=label, **style, **size)
        ax.scatter(relative, seen, s=grown if is_best else grown / 6, linewidths=0, zorder=order, **style)
        if is_best and np.isfinite(read[name].mean):
            _draw_prediction(ax, read[name], best.index(name) - (len(best) - 1) / 2, relative, seen, style)
    _limit(ax, finite, [read[name] for name in best if np.isfinite(read[name].mean)])
    ax.axvline(0, color="0.5", linewidth=0.8, zorder=0)
    what = f"markers grow with the epoch; open: prediction at {BETA_EFF} = 0, 95 % interval"
    label_axes(ax, x=f"{BETA_EFF} relative to the first epoch", y=quantity("accuracy"), title=what)
    ax.grid(alpha=0.3)
    add_legend(ax, within=within, order=_short(runs, best), title=_of_names(runs, best))
    return ax


def capacitance_over_training(
    history: pd.DataFrame, ax: Any = None, *, column: str = "beta_eff", top: int = TOP
) -> Any:
    """β_eff, or another column of a history, against the epoch, a line per network.

    The axis of β_eff is logarithmic if all values are positive and span more than a factor of 30.

    Args:
        history: one row per epoch with ``column``, and optionally ``epoch`` and ``name``, such as
            :attr:`CapacitanceTracker.history <linegraph.CapacitanceTracker>`; epochs without a finite value are left
            out.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        column: name of the column to draw.
        top: so many networks, those of highest last ``accuracy`` if the history has it, are named; the others are grey.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks a column; names it.

    Cost: proportional to the rows of the table.

    Source: C. Jiang et al., arXiv 2201.04194, for β_eff over training.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> history = pd.DataFrame({"epoch": [0, 1, 2], "beta_eff": [0.9, 0.4, 0.1]})
        >>> lg.plot.capacitance_over_training(history).get_xlabel()
        'epoch'
    """
    check_table(history, (column,), HISTORY)
    check_numeric(history, (column,))
    check_number_of("top", top, least=0)
    table = history.assign(
        name=history.get("name", ""),
        epoch=history["epoch"] if "epoch" in history else np.arange(1, len(history) + 1),
    )
    values = table[column].to_numpy(float)
    finite = table[np.isfinite(values)]
    runs = dict(iter(finite.sort_values("epoch", kind="stable").groupby("name", sort=False)))
    runs = {name: runs[name] for name in dict.fromkeys(finite["name"])}
    best = list(runs)
    if "accuracy" in table:
        last = table.dropna(subset=["accuracy"]).groupby("name")["accuracy"].last()
        best.sort(key=lambda name: -last.get(name, -np.inf))
    best = best[:top]
    within = ax is not None
    ax = axes_or_new(ax, width=7.2 if len(runs) > 1 else 6.4)
    for name, label in _named_last(runs, best):
        rows, chosen = runs[name], name in best
        style = {**look(best.index(name)), "linestyle": line_of(best.index(name))} if chosen else {"color": GREY}
        size = 4.5 if len(rows) < 40 else 0
        ax.plot(rows["epoch"], rows[column].astype(float), linewidth=1.4, markersize=size, label=label or None, **style)
    _scale(ax, "y", values)
    label_axes(ax, x="epoch", y=quantity(column))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    if list(runs) != [""]:
        add_legend(ax, within=within, order=_short(runs, best), title=_of_names(runs, best))
    return ax


def capacitance_against(
    table: pd.DataFrame, x: str, y: str = "beta_eff", ax: Any = None, *, group: str | None = None, seed: int = 0
) -> Any:
    """Capacitance against a measure, such as a topological one, over a zoo: one point per network.

    The title gives Spearman's rank correlation of the two with its 95 % interval (percentile bootstrap over networks).
    An axis is logarithmic if all its values are positive and span more than a factor of 30.

    Args:
        table: one row per network with the columns ``x``, ``y`` and ``group``; rows without two finite numbers are left
            out.
        x: name of the column of the measure.
        y: name of the column of the capacitance, or of what else is to be compared, such as an accuracy.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        group: name of a column, such as a family of networks, whose values are told apart by looks; the eight most
            frequent are named.
        seed: seed of the bootstrap.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or lacks a column; names it. If a column is not of numbers.

    Cost: 1,000 rank correlations for the interval.

    Source: C. Spearman, American Journal of Psychology 15 (1904); B. Efron, Annals of Statistics 7 (1979).

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> zoo = pd.DataFrame({"clustering": [0.1, 0.3, 0.2], "beta_eff": [0.5, 0.9, 0.6]})
        >>> lg.plot.capacitance_against(zoo, "clustering").get_title()
        'Spearman ρ = 1.00 (95 % interval 1.00 to 1.00), 3 networks'
    """
    check_table(table, [x, y, *([] if group is None else [group])], ZOO)
    check_numeric(table, (x, y))
    check_seed(seed)
    known = table[np.isfinite(table[[x, y]].to_numpy(float)).all(1)]
    across, along = known[x].to_numpy(float), known[y].to_numpy(float)
    within = ax is not None
    ax = axes_or_new(ax, width=6.4 if group is None else 7.2)
    size = float(np.clip(1500 / max(len(known), 1), 20, 40))
    point = {"s": size, "alpha": 0.8, "linewidths": 0.4, "edgecolors": "white"}
    if group is None:
        ax.scatter(across, along, **look(0), **point)
    else:
        counts = known[group].astype(str).value_counts(sort=True)
        of = known[group].astype(str).to_numpy()
        best = list(counts.index[:TOP])
        for name, label in _named_last(counts, best):
            style = look(best.index(name)) if name in best else {"color": GREY, "marker": "o"}
            ax.scatter(across[of == name], along[of == name], label=label, **style, **point)
        add_legend(ax, within=within, order=_short(counts, best), title=quantity(group))
    for axis, values in (("x", across), ("y", along)):
        _scale(ax, axis, values)
    low, high = bootstrap_interval(spearman, across, along, seed=seed)
    rho = f"Spearman ρ = {signed(spearman(across, along))} (95 % interval {signed(low)} to {signed(high)})"
    left_out = f" ({len(table) - len(known)} without both values)" if len(known) < len(table) else ""
    label_axes(ax, x=quantity(x), y=quantity(y), title=f"{rho}, {len(known)} networks{left_out}")
    ax.grid(alpha=0.3)
    return ax


def _prediction(rows: pd.DataFrame) -> Prediction:
    """What the regression on β_eff predicts; nan from a single epoch."""
    return predict_final(rows, method="capacitance") if len(rows) > 1 else Prediction(np.nan, np.nan)


def _limit(ax: Any, history: pd.DataFrame, drawn: list[Prediction]) -> None:
    """Limits with room for predictions beside β_eff = 0, and for their intervals up to a fifth of the range."""
    ends = [*history["accuracy"].to_numpy(float), *(read.mean for read in drawn)]
    if ends:
        low, high = np.nanmin(ends), np.nanmax(ends)
        span = high - low or 1.0
        intervals = np.array([read.interval for read in drawn]).reshape(-1, 2)
        near = 0.05 * span
        low = np.clip(np.nanmin([low, *intervals[:, 0]]), low - 0.2 * span, low)
        high = np.clip(np.nanmax([high, *intervals[:, 1]]), high, high + 0.2 * span)
        ax.set_ylim(low - near, high + near)
    low, high = ax.dataLim.intervalx if len(history) else (0, 1)
    low, high = min(0, low), max(high, 0)
    aside = min((DODGE * len(drawn) / 2 + 8) / (0.7 * points_of(ax)[0]), 0.4)
    room = high - low or 1.0
    ax.set_xlim(min(low - 0.05 * room, -aside * room / (1 - aside)), high + 0.04 * room)


def _draw_prediction(
    ax: Any, read: Prediction, aside: float, relative: np.ndarray, seen: np.ndarray, style: dict[str, Any]
) -> None:
    """The regression line from its mean to β_eff = 0, and there the prediction with its interval, set aside."""
    from matplotlib.transforms import ScaledTranslation

    # A regression line with an intercept contains the mean of its points.
    line = [relative.mean(), 0], [seen.mean(), read.mean]
    ax.plot(*line, ":", color=style["color"], linewidth=1.2, gid="regression")
    beside = ScaledTranslation(aside * DODGE / 72, 0, ax.figure.dpi_scale_trans)
    error = np.nan_to_num([[read.mean - read.interval[0]], [read.interval[1] - read.mean]])
    drawn = {"transform": ax.transData + beside, "markerfacecolor": "white", "markersize": 6, "elinewidth": 1.2}
    ax.errorbar([0], [read.mean], yerr=error, linestyle="", zorder=4, gid="prediction", **drawn, **style)


def _named_last(runs: Any, best: list[Any]) -> Iterator[tuple[Any, str | None]]:
    """All names, with labels for the legend: first the grey ones, of which one stands for all, then the best."""
    others = [name for name in runs.keys() if name not in best]  # noqa: SIM118
    for number, name in enumerate(others):
        yield name, f"{len(others)} others" if number == 0 else None
    yield from zip(best, _short(runs, best), strict=True)


def _short(runs: Any, best: list[Any]) -> list[str]:
    """The short names of the best."""
    return [dict(zip(runs.keys(), short_names(runs.keys())[0], strict=True))[name] for name in best]


def _of_names(runs: dict[Any, Any], best: list[Any]) -> str | None:
    """The title of a legend of names: what all begin and end with, and how many are shown."""
    note = short_names(runs.keys())[1]
    first = f"best {len(best)} of {len(runs)}" if len(best) < len(runs) else ""
    return "\n".join(filter(None, [note, first])) or None


def _scale(ax: Any, axis: str, values: np.ndarray) -> None:
    """A logarithmic axis where all values are positive and span more than a factor of ``SPAN``."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > SPAN * finite.min():
        getattr(ax, f"set_{axis}scale")("log")
    elif axis == "y" and len(finite) and finite.min() < 0 < finite.max():
        ax.axhline(0, color="0.5", linewidth=0.8, zorder=0)
