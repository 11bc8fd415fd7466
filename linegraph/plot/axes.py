"""Where figures are drawn."""

from __future__ import annotations

from typing import Any

__all__ = ["axes_or_new"]


def axes_or_new(ax: Any, *, width: float = 7.5, height: float = 4.5) -> Any:
    """The axes given, or those of a new figure that no window belongs to."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()
