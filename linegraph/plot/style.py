"""Colours, markers and lines that differ in grey and to the colour-blind."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "GREY", "MARKERS", "TOP", "line_of", "look"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of M. Okabe and K. Ito (2008) without yellow, which is faint on white."""

MARKERS = "osD^vP*X<>"

LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))

GREY = "0.72"
"""What is drawn for comparison and not named."""

TOP = 8
"""So many things of a kind are told apart by looks and named; the others are grey."""


def look(i: int) -> dict[str, Any]:
    """Colour and marker of thing number i."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def line_of(i: int) -> Any:
    """Line style of thing number i."""
    return LINES[i % len(LINES)]
