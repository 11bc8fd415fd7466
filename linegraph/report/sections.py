"""Sections of a page that may have nothing to show, and then say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from linegraph.errors import LinegraphError
from linegraph.report.page import Page

__all__ = ["add_figure", "attempt"]


def attempt(page: Page, what: str, add: Callable[[], None]) -> None:
    """Add a part; if it cannot be computed, say why.

    Args:
        page: the page.
        what: the part in words, as the beginning of a sentence.
        add: computes the part and adds it.
    """
    try:
        add()
    except LinegraphError as error:
        page.text(f"{what}: not available. {type(error).__name__}: {error}")


def add_figure(
    page: Page, title: str, draw: Callable[[], Any], *, data: pd.DataFrame | None = None, caption: str = ""
) -> None:
    """Draw a figure, add it to the page, and close it; no window or notebook shows it.

    Args:
        page: the page.
        title: the heading of the figure.
        draw: draws a new figure, and returns its Axes.
        data: what is drawn.
        caption: text below the figure.
    """
    from matplotlib import pyplot

    with pyplot.ioff():
        axes = draw()
    try:
        page.figure(title, axes, data=data, caption=caption)
    finally:
        pyplot.close(axes.figure)
