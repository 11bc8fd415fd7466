"""Axes to draw into, their colour bars and legends, and their ticks."""

from __future__ import annotations

from threading import Lock
from typing import Any

from linegraph.errors import ArgumentTypeError

__all__ = ["add_colour_bar", "axes_or_new", "plain_ticks"]

SAME = 1e-6
"""Relative difference below which the limits of an axis count as equal."""

_NUMBERING = Lock()
"""pyplot numbers its figures without a lock of its own, and two threads would draw into one figure."""


def axes_or_new(ax: Any, *, width: float = 6.4, height: float = 4.2) -> Any:
    """The given Axes, or those of a new figure of pyplot, of this size in inches, with constrained layout.

    Raises:
        ArgumentTypeError: if ``ax`` is neither None nor Axes.
    """
    if ax is not None:
        if not callable(getattr(ax, "get_xlim", None)):
            raise ArgumentTypeError(f"ax must be the Axes of a matplotlib figure, got {type(ax).__name__}")
        return ax
    from matplotlib import pyplot

    with _NUMBERING:
        return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def add_colour_bar(ax: Any, mappable: Any, label: str) -> Any:
    """A colour bar as high as the Axes, at their right, in the room that they had; no other Axes move."""
    spec = ax.get_subplotspec()
    if ax.figure.get_layout_engine() is None:  # a layout engine makes room by itself
        if spec is None:
            place = ax.get_position(original=True)
            ax.set_position([place.x0, place.y0, 0.82 * place.width, place.height])
        else:
            ax.set_subplotspec(spec.subgridspec(1, 2, width_ratios=[0.82, 0.18], wspace=0)[0])
    return ax.figure.colorbar(mappable, cax=ax.inset_axes([1.03, 0, 0.04, 1]), label=label)


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
