"""Ticks of axes: names that fit, and logarithmic axes that span less than a decade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from linegraph.plot.axes import points_of

__all__ = ["NamedPlaces", "NamesOfPlaces", "name_ticks", "plain_ticks", "room_below", "room_beside"]

FONT = 8
"""Size of names in points."""

SAME = 1e-6
"""Relative difference below which the limits of an axis count as equal."""


def name_ticks(axis: Any, places: Sequence[float] | np.ndarray, names: Sequence[str], size: float = FONT) -> None:
    """Names as ticks; where there are too many for the axis as it is drawn, those that fit are shown.

    Names of a horizontal axis stand upright unless all fit side by side.
    """
    axis.set_major_locator(NamedPlaces(np.asarray(places, dtype=float), 1.15 * size))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(NamesOfPlaces(places, names))
    upright = axis.axis_name == "x" and _are_too_wide(names, points_of(axis.axes)[0] / 72, size)
    axis.set_tick_params(labelsize=size, labelrotation=90 if upright else 0, length=2)


def plain_ticks(axis: Any) -> None:
    """Put ticks of a logarithmic axis that spans less than a decade at round numbers, as it has few powers of ten."""
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


class NamedPlaces(FixedLocator):
    """The places in view that are at least ``apart`` points from each other on the axis as it is drawn."""

    axis: Any

    def __init__(self, places: np.ndarray, apart: float) -> None:
        super().__init__(places.tolist())
        self.places, self.apart = places, apart

    def __call__(self) -> Any:
        """The places to mark."""
        low, high = sorted(self.axis.get_view_interval())
        seen = self.places[(low <= self.places) & (self.places <= high)]
        pixels = self.axis.axes.transData.transform(np.stack([seen, seen], 1))[:, "xy".index(self.axis.axis_name)]
        points = pixels * 72 / self.axis.axes.figure.dpi
        kept: list[int] = []
        for number in np.argsort(points, kind="stable"):
            if not kept or points[number] - points[kept[-1]] >= self.apart:
                kept.append(number)
        return seen[sorted(kept)]


class NamesOfPlaces(FixedFormatter):
    """The name of each place."""

    def __init__(self, places: Sequence[float] | np.ndarray, names: Sequence[str]) -> None:
        super().__init__(list(names))
        self.names = {float(place): name for place, name in zip(places, names, strict=True)}

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The name of the place x."""
        return self.names.get(float(x), "")


def room_beside(names: Sequence[str], size: float = FONT) -> float:
    """Inches that names on the vertical axis take beyond those of short ones."""
    return max(max(map(len, names), default=0) - 8, 0) * 0.56 * size / 72


def room_below(names: Sequence[str], width: float, size: float = FONT) -> float:
    """Inches that names on a horizontal axis of so many inches take if they have to stand upright."""
    return room_beside(names, size) + 0.4 if _are_too_wide(names, width, size) else 0.0


def _are_too_wide(names: Sequence[str], width: float, size: float) -> bool:
    """Whether names on a horizontal axis of so many inches would touch each other."""
    return len(names) * (max(map(len, names), default=0) + 2) * 0.6 * size > 72 * width
