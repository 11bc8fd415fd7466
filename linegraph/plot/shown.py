"""Figures that notebooks show with any backend. They have no window and are not registered with pyplot."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ShownAxes", "ShownFigure"]


class ShownFigure(Figure):
    """A figure with a PNG representation for notebooks."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


class ShownAxes(Axes):
    """Axes with the PNG representation of their figure for notebooks."""

    def _repr_png_(self) -> bytes | None:
        return self.figure._repr_png_() if isinstance(self.figure, ShownFigure) else None
