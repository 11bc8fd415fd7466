"""Words in figures: short names, labels of points that do not overlap, and quantities as mathematics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["BETA_EFF", "HALO", "X_EFF", "in_lines", "label_points", "quantity", "short_names", "signed", "with_note"]

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

SHIFT = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
"""Where the place of a text is within its box."""

NEAR = 6
"""Points from a point to its name, from which on a line joins them."""

COMFORTABLE = 24
"""Characters up to which names are not shortened further."""

LONGEST = 32
"""Characters of a name; the middle of a longer one is left out."""

WIDTH = 0.52
"""Mean width of a character, relative to the size of the font."""

HALO: dict[str, Any] = {"linewidth": 2.5, "foreground": "white", "alpha": 0.8}
"""Around words that may lie on lines."""

SPOTS = [
    *((6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 6, "center", "bottom"), (0, -6, "center", "top")),
    *((5, 5, "left", "bottom"), (5, -5, "left", "top"), (-5, 5, "right", "bottom"), (-5, -5, "right", "top")),
]
"""Where a label may stand beside its point: offset in points and alignment, the best first."""

SPOTS_AWAY = [
    (radius * dx, radius * dy, "left" if dx > 0 else "right", "bottom" if dy > 0 else "top")
    for radius in (14, 24, 36, 50, 66, 84, 104, 128, 156)
    for dx, dy in [
        (-0.9, 0.4),
        (-0.6, 0.8),
        (0.6, 0.8),
        (0.9, 0.4),
        (0.6, -0.8),
        (0.9, -0.4),
        (-0.6, -0.8),
        (-0.9, -0.4),
    ]
]
"""Where it may stand further away, joined to its point by a line."""


def quantity(column: str) -> str:
    """What a column is called on an axis; other columns than those of the package by their own names."""
    return QUANTITIES.get(column, column.replace("_", " "))


def short_names(names: Iterable[Any]) -> tuple[list[str], str]:
    """Names without the words that all begin and end with, and these words, such as "encoder.….weight"; "" if none.

    Words end at dots, dashes, underscores, slashes, colons and spaces. Every name keeps at least one word. Where names
    are still long, "…" also stands for what most of them begin and end with.
    """
    full = [str(name) for name in names]
    words = [re.split(r"(?<=[./\-_: ])|(?=[./\-_: ])", name) for name in full]
    words = [[word for word in split if word] for split in words]
    if len(set(full)) < 2 or not all(words):
        return [_elided(name, LONGEST) for name in full], ""
    head, tail = _shared(words)
    short = _without_usual_words([split[head : len(split) - tail] for split in words])
    note = "".join(words[0][:head]) + "…" + "".join(words[0][len(words[0]) - tail :]) if head or tail else ""
    for longest in range(LONGEST, max(map(len, short)) + 1, 4):
        elided = [_elided(name, longest) for name in short]
        if len(set(elided)) == len(set(short)):
            return elided, note
    return short, note


def with_note(label: str, note: str) -> str:
    """The label of an axis with the part that all names on it share."""
    return f"{label} ({note})" if note else label


def in_lines(text: str, room: float, size: float) -> str:
    """The text in lines that fit into so many points, with font ``size``; what is in parentheses stays together.

    A word that is longer than a line loses its middle.
    """
    longest = max(int(room / (WIDTH * size)), 12)
    lines: list[str] = []
    for word in re.findall(r"\([^)]*\)\S*|\S+", text):
        fitted = word if "$" in word or len(word) <= longest else re.sub(r"\.*…[.…]*", "…", _elided(word, longest))
        if lines and _seen_length(lines[-1]) + 1 + _seen_length(fitted) <= longest:
            lines[-1] += f" {fitted}"
        else:
            lines.append(fitted)
    return "\n".join(lines)


def signed(value: float, digits: int = 2) -> str:
    """A number with the minus sign of print."""
    return f"{value:.{digits}f}".replace("-", "−")


def label_points(ax: Any, x: Any, y: Any, names: Sequence[str], *, obstacles: Any = ()) -> list[str]:
    """Write names beside points, where no name covers another, a point, the legend, or leaves the Axes.

    A name without room beside its point stands further away, joined to the point by a line.

    Args:
        ax: the Axes, in which everything else is drawn.
        x: of the points.
        y: of the points.
        names: in the order of importance.
        obstacles: further points (k, 2) to keep free.

    Returns:
        The names for which there is no room.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    ax.figure.figure.draw_without_rendering()  # to know where everything stands
    points = np.column_stack([x, y]).astype(float).reshape(-1, 2)
    taken = [_around(ax.transData.transform(p), ax) for p in [*points, *np.reshape(obstacles, (-1, 2))]]
    taken += [text.get_window_extent() for text in ax.texts]
    if ax.get_legend() is not None:
        taken.append(ax.get_legend().get_window_extent())
    names_taken: list[Any] = []
    without = []
    style = {"textcoords": "offset points", "fontsize": FONT, "zorder": 5, "path_effects": [withStroke(**HALO)]}
    for name, point in zip(names, points, strict=True):
        text = ax.annotate(name, point, xytext=(0, 0), **style)
        text.set_in_layout(False)
        size, pixel = text.get_window_extent().size, ax.transData.transform(point)
        for dx, dy, across, along in [*SPOTS, *SPOTS_AWAY]:
            to = pixel + np.array([dx, dy]) * ax.figure.dpi / 72
            begin = to - size * [SHIFT[across], SHIFT[along]]
            box = Bbox([begin, begin + size])
            line = [_around(pixel + share * (to - pixel), ax, 1) for share in np.linspace(0, 1, 12)]
            away = max(abs(dx), abs(dy)) > NEAR
            crosses = away and any(part.count_overlaps(names_taken) for part in line)
            if (
                ax.bbox.containsx(box.x0)
                and ax.bbox.containsx(box.x1)
                and ax.bbox.containsy(box.y0)
                and ax.bbox.containsy(box.y1)
                and not box.count_overlaps(taken)
                and not crosses
            ):
                break
        else:
            text.remove()
            without.append(name)
            continue
        text.set(position=(dx, dy), ha=across, va=along)
        taken.append(box)
        names_taken.append(box)
        if away:
            taken += line
            ends = ax.transData.inverted().transform([pixel, to])
            ax.plot(*ends.T, color="0.45", linewidth=0.7, zorder=4, gid="to a name")
    return without


def _shared(words: list[list[str]]) -> tuple[int, int]:
    """How many first and how many last words all share, up to and from a separator; at least one is left of each."""
    room = min(map(len, words)) - 1
    head = _common(words, room)
    while head and words[0][head - 1] not in tuple("./-_: "):
        head -= 1
    tail = _common([split[::-1] for split in words], room - head)
    while tail and words[0][-tail] not in tuple("./-_: "):
        tail -= 1
    return head, tail


def _without_usual_words(words: list[list[str]]) -> list[str]:
    """Names, in which "…" stands for words that more than half of them, though not all, begin or end with."""
    names = ["".join(split) for split in words]
    before, after = [""] * len(words), [""] * len(words)
    while max(map(len, names)) > COMFORTABLE:
        first = Counter(split[0] for split in words).most_common(1)[0][0]
        usual = [number for number, split in enumerate(words) if split[0] == first]
        head, tail = _shared([words[number] for number in usual])
        if len(usual) <= max(len(words) / 2, 3) or not head + tail:
            break
        for number in usual:
            before[number] = "…" if head else before[number]
            after[number] = "…" if tail else after[number]
        words = [s[head : len(s) - tail] if number in usual else s for number, s in enumerate(words)]
        shorter = [b + "".join(split) + a for b, split, a in zip(before, words, after, strict=True)]
        if len(set(shorter)) < len(set(names)):
            break
        names = shorter
    return names


def _common(words: list[list[str]], most: int) -> int:
    """How many of the first words all lists share, at most ``most``."""
    count = 0
    while count < most and len({split[count] for split in words}) == 1:
        count += 1
    return count


def _elided(name: str, longest: int) -> str:
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[len(name) - half :]}"


def _seen_length(text: str) -> int:
    """Characters of a text as it is drawn, without the marks of mathematics."""
    return len(re.sub(r"\\mathrm|[\\${}_^]", "", text))


def _around(pixel: np.ndarray, ax: Any, points: float = 3) -> Any:
    from matplotlib.transforms import Bbox

    half = points * ax.figure.dpi / 72
    return Bbox([pixel - half, pixel + half])
