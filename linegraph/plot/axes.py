"""Axes to draw into, and their ticks."""

from __future__ import annotations

from typing import Any

from linegraph.errors import ArgumentTypeError

__all__ = ["axes_or_new", "plain_ticks"]

SAME = 1e-6
"""Relative difference below which the limits of an axis count as equal."""


def axes_or_new(ax: Any, *, width: float = 7.5, height: float = 4.5) -> Any:
    """The given Axes, or those of a new figure of this size in inches, which notebooks show.

    Raises:
        ArgumentTypeError: if ``ax`` is neither None nor Axes.
    """
    if ax is not None:
        if not callable(getattr(ax, "get_xlim", None)):
            raise ArgumentTypeError(f"ax must be the Axes of a matplotlib figure, got {type(ax).__name__}")
        return ax
    from linegraph.plot.shown import ShownAxes, ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained").add_subplot(axes_class=ShownAxes)


def plain_ticks(axis: Any) -> None:
    """Put ticks of a logarithmic axis that spans less than a decade at round numbers, as it has few powers of ten."""
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
