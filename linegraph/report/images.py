"""Figures of matplotlib as images within a page."""

from __future__ import annotations

import base64
import re
import struct
from io import BytesIO
from typing import Any, NamedTuple

from linegraph.errors import ArgumentTypeError

__all__ = ["Image", "as_image", "figure_of"]

HEAVY = 300_000
"""Bytes of an SVG above which a figure becomes a PNG: a heat map or 10⁴ markers; text and lines take a tenth of it."""
DOTS_PER_INCH = 192
"""Of a PNG: two dots for each pixel of a page, which has 96 per inch."""


class Image(NamedTuple):
    """An image within a page.

    Attributes:
        address: its data as a ``data:`` address.
        width: in pixels of the page.
        height: in pixels of the page.
        suffix: of its file, "svg" or "png".
    """

    address: str
    width: int
    height: int
    suffix: str


def figure_of(drawn: Any) -> Any:
    """The figure that Axes are in, or the figure itself.

    Raises:
        ArgumentTypeError: if it is neither.
    """
    from matplotlib.artist import Artist

    figure: Any = getattr(drawn, "figure", None) if isinstance(drawn, Artist) else None
    while getattr(figure, "figure", figure) is not figure:  # a figure within a figure
        figure = figure.figure
    if not callable(getattr(figure, "savefig", None)):
        raise ArgumentTypeError(
            f"axes must be the Axes or the Figure of matplotlib, got {type(drawn).__name__}; functions of lg.plot "
            "return Axes"
        )
    return figure


def as_image(figure: Any) -> Image:
    """A figure as SVG, or as PNG if the SVG is heavy.

    The browser shows it as an image of its own: a script or an address in it does nothing, and its names, styles and
    fonts do not meet those of the page.
    """
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "linegraph"}):
        svg = _without_metadata(_saved(figure, format="svg"))
    if len(svg) <= HEAVY:
        points = re.findall(r' (?:width|height)="([\d.]+)pt"', svg)[:2]
        width, height = (round(float(each) * 96 / 72) for each in points)
        return Image(_address("image/svg+xml", svg.encode()), width, height, "svg")
    png = _saved(figure, format="png", dpi=DOTS_PER_INCH)
    width, height = (round(dots * 96 / DOTS_PER_INCH) for dots in struct.unpack(">II", png[16:24]))
    return Image(_address("image/png", png), width, height, "png")


def _saved(figure: Any, **options: Any) -> Any:
    buffer = BytesIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type") if options["format"] == "svg" else ("Software",))
    figure.savefig(buffer, bbox_inches="tight", pad_inches=0.08, facecolor="white", metadata=empty, **options)
    return buffer.getvalue()


def _without_metadata(svg: bytes) -> str:
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<!DOCTYPE.*?>", "", svg.decode(), flags=re.DOTALL)
    return re.sub(r"\n\s*", "\n", text)


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
