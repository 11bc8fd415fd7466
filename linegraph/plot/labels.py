"""Words in figures: short names, labels of points that do not overlap, and quantities as mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["BETA_EFF", "X_EFF", "label_points", "quantity", "short_names", "with_note"]

BETA_EFF, X_EFF = r"$\beta_\mathrm{eff}$", r"$x_\mathrm{eff}$"

QUANTITIES = {
    "accuracy": "validation accuracy",
    "beta": f"contribution to {BETA_EFF} (units of $P$)",
    "beta_eff": f"neural capacitance {BETA_EFF} (units of $P$)",
    "beta_eff_drop": f"drop of {BETA_EFF}",
    "effective_degree": "effective degree",
    "final": "final accuracy",
    "heterogeneity": "heterogeneity of strengths (units of $P$)",
    "in_strength": r"sum of in-strengths $\delta_\mathrm{in}$ (units of $P$)",
    "mean_in_strength": r"mean in-strength $\delta_\mathrm{in}$ (units of $P$)",
    "mean_out_strength": r"mean out-strength $\delta_\mathrm{out}$ (units of $P$)",
    "mean_strength": "mean strength (units of $P$)",
    "out_strength": r"sum of out-strengths $\delta_\mathrm{out}$ (units of $P$)",
    "share": "share of all strength",
    "signed_beta_eff": f"neural capacitance {BETA_EFF}, signed (units of $P$)",
    "stable_rank": "stable rank",
    "symmetry": "symmetry (correlation of in- and out-strengths)",
    "synapses": "number of synapses",
}
"""What a column of the package's tables is called on an axis, with its unit."""

FONT = 8
"""Size of names in points."""

LONGEST = 32
"""Characters of a name; the middle of a longer one is left out."""

SPOTS = [
    *((6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 6, "center", "bottom"), (0, -6, "center", "top")),
    *((5, 5, "left", "bottom"), (5, -5, "left", "top"), (-5, 5, "right", "bottom"), (-5, -5, "right", "top")),
]
"""Where a label may stand beside its point: offset in points and alignment, the best first."""


def quantity(column: str) -> str:
    """What a column is called on an axis; other columns than those of the package by their own names."""
    return QUANTITIES.get(column, column.replace("_", " "))


def short_names(names: Iterable[Any]) -> tuple[list[str], str]:
    """Names without the words that all begin and end with, and these words, such as "encoder.….weight"; "" if none.

    Words end at dots, dashes, underscores, slashes, colons and spaces. Every name keeps at least one word.
    """
    full = [str(name) for name in names]
    words = [re.split(r"(?<=[./\-_: ])|(?=[./\-_: ])", name) for name in full]
    words = [[word for word in split if word] for split in words]
    if len(set(full)) < 2 or not all(words):
        return [_elided(name, LONGEST) for name in full], ""
    room = min(map(len, words)) - 1
    head = _common(words, room)
    while head and words[0][head - 1] not in tuple("./-_: "):
        head -= 1
    tail = _common([split[::-1] for split in words], room - head)
    while tail and words[0][-tail] not in tuple("./-_: "):
        tail -= 1
    short = ["".join(split[head : len(split) - tail]) for split in words]
    note = "".join(words[0][:head]) + "…" + "".join(words[0][len(words[0]) - tail :]) if head or tail else ""
    for longest in range(LONGEST, max(map(len, short)) + 1, 4):
        elided = [_elided(name, longest) for name in short]
        if len(set(elided)) == len(set(short)):
            return elided, note
    return short, note


def with_note(label: str, note: str) -> str:
    """The label of an axis with the part that all names on it share."""
    return f"{label} ({note})" if note else label


def label_points(ax: Any, x: Any, y: Any, names: Sequence[str], *, obstacles: Any = ()) -> list[str]:
    """Write names beside points, where no name covers another, a point, the legend, or leaves the Axes.

    Args:
        ax: the Axes, in which everything else is drawn.
        x: of the points.
        y: of the points.
        names: in the order of importance.
        obstacles: further points (k, 2) to keep free.

    Returns:
        The names for which there is no room.
    """
    ax.figure.figure.draw_without_rendering()  # to know where everything stands
    points = np.column_stack([x, y]).astype(float).reshape(-1, 2)
    taken = [_around(ax.transData.transform(p), ax) for p in [*points, *np.reshape(obstacles, (-1, 2))]]
    taken += [text.get_window_extent() for text in ax.texts]
    if ax.get_legend() is not None:
        taken.append(ax.get_legend().get_window_extent())
    without = []
    for name, point in zip(names, points, strict=True):
        text = ax.annotate(name, point, xytext=(0, 0), textcoords="offset points", fontsize=FONT, zorder=5)
        text.set_in_layout(False)
        for dx, dy, across, along in SPOTS:
            text.set_position((dx, dy))
            text.set(ha=across, va=along)
            box = text.get_window_extent()
            inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                break
        else:
            text.remove()
            without.append(name)
    return without


def _common(words: list[list[str]], most: int) -> int:
    """How many of the first words all lists share, at most ``most``."""
    count = 0
    while count < most and len({split[count] for split in words}) == 1:
        count += 1
    return count


def _elided(name: str, longest: int) -> str:
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[len(name) - half :]}"


def _around(pixel: np.ndarray, ax: Any) -> Any:
    from matplotlib.transforms import Bbox

    half = 3 * ax.figure.dpi / 72
    return Bbox([pixel - half, pixel + half])
