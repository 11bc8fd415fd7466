"""Where figures are drawn."""

from __future__ import annotations

from typing import Any

__all__ = ["axes_or_new", "plain_ticks"]

SAME = 1e-6
"""Relative difference of values that are one but for rounding, whose digits no axis should spell out."""


def axes_or_new(ax: Any, *, width: float = 7.5, height: float = 4.5) -> Any:
    """The axes given, or those of a new figure, which a notebook shows where they are the last value of a cell."""
    if ax is not None:
        return ax
    from linegraph.plot.shown import ShownAxes, ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained").add_subplot(axes_class=ShownAxes)


def plain_ticks(axis: Any) -> None:
    """Tick a logarithmic axis that spans less than a decade at round numbers: there is hardly a power of ten on it."""
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    low, high = sorted(axis.get_view_interval())
    if high < low * (1 + SAME):
        along = {f"update{name}": axis.axis_name == name for name in "xy"}
        axis.axes.update_datalim([(0.9 * low, 0.9 * low), (1.1 * high, 1.1 * high)], **along)
        axis.axes.autoscale_view()
        low, high = sorted(axis.get_view_interval())
    if high < 10 * low:
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
