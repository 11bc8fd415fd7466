"""Figures that notebooks show, whatever the backend: no window belongs to them, and pyplot does not know them."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ShownAxes", "ShownFigure"]


class ShownFigure(Figure):
    """A figure that is a picture to a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


class ShownAxes(Axes):
    """Axes that a notebook shows as their figure."""

    def _repr_png_(self) -> bytes | None:
        return self.figure._repr_png_() if isinstance(self.figure, ShownFigure) else None
