"""Axes to draw into, their colour bars and legends."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

from linegraph.errors import ArgumentTypeError
from linegraph.plot.labels import in_lines

__all__ = ["add_colour_bar", "add_legend", "add_message", "axes_or_new", "label_axes", "points_of"]

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
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    spec = ax.get_subplotspec()
    if ax.figure.get_layout_engine() is None:  # a layout engine makes room by itself
        if spec is None:
            place = ax.get_position(original=True)
            ax.set_position([place.x0, place.y0, 0.8 * place.width, place.height])
        else:
            ax.set_subplotspec(spec.subgridspec(1, 2, width_ratios=[0.8, 0.2], wspace=0)[0])
    width = 0.14 / (ax.get_position().width * ax.figure.figure.get_figwidth())  # 0.14 inches
    label = in_lines(label, 0.8 * points_of(ax)[1], 10)
    bar = ax.figure.colorbar(mappable, cax=ax.inset_axes([1 + width, 0, width, 1]), label=label)
    if isinstance(mappable.norm, LogNorm) and mappable.norm.vmax < 10 * mappable.norm.vmin:  # type: ignore[operator]
        bar.locator, bar.formatter, bar.minorlocator = MaxNLocator(6), ScalarFormatter(), NullLocator()
        bar.update_ticks()
    return bar


def label_axes(ax: Any, *, x: str = "", y: str = "", title: str = "") -> None:
    """Labels of both axes and a title, in lines that are not longer than the Axes."""
    width, height = points_of(ax)
    ax.set(xlabel=in_lines(x, width, 10), ylabel=in_lines(y, height, 10))
    ax.set_title(in_lines(title, width, 9), fontsize=9)


def add_legend(ax: Any, *, within: bool, order: Sequence[str] = (), title: str | None = None) -> None:
    """A legend, if there is anything to name: within the Axes, or at their right; ``order`` are its first entries."""
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    if not handles:
        return
    labels = [label for label in order if label in handles]
    labels += [label for label in handles if label not in labels]
    place: dict[str, Any] = {"loc": "best"} if within else {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    style = {"fontsize": 8, "title_fontsize": 8, "frameon": within, "borderaxespad": 0.4 if within else 0}
    ax.legend([handles[label] for label in labels], labels, title=title, alignment="left", **style, **place)


def points_of(ax: Any) -> tuple[float, float]:
    """About the width and height of the Axes in points, before a layout engine makes room for what is around them."""
    place, figure = ax.get_position(), ax.figure.figure
    width, height = 72 * place.width * figure.get_figwidth(), 72 * place.height * figure.get_figheight()
    return (width, height) if ax.get_aspect() == "auto" else (0.8 * min(width, height),) * 2


def add_message(ax: Any, text: str) -> None:
    """Words in the middle of Axes that have nothing to show."""
    style = {"boxstyle": "round", "facecolor": "white", "edgecolor": "0.7"}
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=9, zorder=6, bbox=style)
