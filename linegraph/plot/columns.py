"""Layered graphs in columns: where nodes stand, which share a place, and which edges are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from linegraph.errors import DataError

__all__ = ["Columns", "Lines", "chosen_layers", "curves", "in_columns", "layer_columns", "strongest_lines"]

DENSE = 10_000_000
"""Pairs of places up to which sums over all pairs are kept in an array."""


@dataclass(frozen=True)
class Columns:
    """Nodes in columns. Consecutive nodes of a column that has too many share a place, a block.

    Attributes:
        block: (n,), the place of each node; −1 for nodes that are left out.
        place: (m, 2), where each block is drawn: the number of its column, and from 0 at the top to −1.
        room: (m,), the height of a block.
        column: (m,), the column of each block.
        nodes: (m,), the number of nodes in each block.
    """

    block: np.ndarray
    place: np.ndarray
    room: np.ndarray
    column: np.ndarray
    nodes: np.ndarray

    @property
    def has_blocks(self) -> bool:
        """Whether any nodes share a place."""
        return bool((self.nodes > 1).any())

    @property
    def longest(self) -> int:
        """The number of places of the longest column."""
        return int(np.bincount(self.column).max(initial=0))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean of values (n,) of the nodes in each block (m,)."""
        kept = self.block >= 0
        return np.asarray(np.bincount(self.block[kept], values[kept], len(self.nodes)) / self.nodes)


@dataclass(frozen=True)
class Lines:
    """Edges to draw between blocks, the weakest first.

    Attributes:
        ends: (2, k), the blocks at both ends.
        weight: (k,), the sum of weights.
        share: (k,), the sum of absolute weights, divided by the largest of its group.
        of: the number of lines out of which these are the strongest.
    """

    ends: np.ndarray
    weight: np.ndarray
    share: np.ndarray
    of: int


def in_columns(column: np.ndarray, most: int) -> Columns:
    """Places of nodes in columns of at most ``most`` blocks.

    Args:
        column: (n,), the column of each node; −1 leaves it out. Columns without nodes are not drawn.
        most: largest number of blocks in a column.
    """
    block = np.full(len(column), -1)
    count = 0
    places, rooms, columns = [], [], []
    for x, value in enumerate(np.unique(column[column >= 0])):
        nodes = np.flatnonzero(column == value)
        height = min(len(nodes), most)
        block[nodes] = count + np.arange(len(nodes)) * height // len(nodes)
        places.append(np.stack([np.full(height, float(x)), -(np.arange(height) + 0.5) / height], 1))
        rooms.append(np.full(height, 1 / height))
        columns.append(np.full(height, x))
        count += height
    return Columns(
        block,
        np.concatenate([np.empty((0, 2)), *places]),
        np.concatenate([np.empty(0), *rooms]),
        np.concatenate([np.empty(0, int), *columns]),
        np.bincount(block[block >= 0], minlength=count),
    )


def strongest_lines(columns: Columns, ends: np.ndarray, weight: np.ndarray, group: np.ndarray, most: int) -> Lines:
    """The strongest lines between blocks; every group of lines, such as the weights of a layer, has its share of them.

    Without blocks every edge is a line, also parallel ones; with blocks a line is the sum of all edges between two.

    Args:
        columns: where nodes stand.
        ends: (2, E), the nodes at the ends of each edge; edges of nodes that are left out are not drawn.
        weight: (E,); edges of weight 0 are not drawn.
        group: (n,), the group of the lines that end at a node, from 0.
        most: largest number of lines.
    """
    blocks = columns.block[ends]
    drawn = (blocks >= 0).all(0) & (weight != 0)
    blocks, weight = blocks[:, drawn], weight[drawn]
    size = np.abs(weight)
    if columns.has_blocks:
        blocks, weight, size = _summed(blocks, weight, size, len(columns.nodes))
    of_block = np.zeros(len(columns.nodes), dtype=int)
    of_block[columns.block[columns.block >= 0]] = group[columns.block >= 0]
    of_line = of_block[blocks[1]]
    order = np.lexsort((-size, of_line))
    first = np.r_[0, np.flatnonzero(np.diff(of_line[order])) + 1]
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) if len(order) else order
    largest = np.zeros(int(of_block.max(initial=0)) + 1)
    np.maximum.at(largest, of_line, size)
    kept = order[np.lexsort((-size[order], rank))][:most]
    kept = kept[np.argsort(size[kept] / largest[of_line[kept]], kind="stable")]
    return Lines(blocks[:, kept], weight[kept], size[kept] / largest[of_line[kept]], len(size))


def curves(columns: Columns, ends: np.ndarray, rise: np.ndarray | float = 0.0) -> list[np.ndarray]:
    """Curves between blocks, raised by ``rise`` at the middle; one from a block to itself is a loop."""
    begin, end = columns.place[ends[0]], columns.place[ends[1]]
    t = np.linspace(0, 1, 21)
    lines = begin[:, None] * (1 - t[None, :, None]) + end[:, None] * t[None, :, None]
    lines[:, :, 1] += np.broadcast_to(rise, len(lines))[:, None] * np.sin(np.pi * t)
    loops = ends[0] == ends[1]
    height = 0.8 * columns.room[ends[0, loops], None]
    lines[loops, :, 0] += 0.12 * np.sin(2 * np.pi * t)
    lines[loops, :, 1] += height * (1 - np.cos(2 * np.pi * t)) / 2
    return list(lines)


def beside_each_other(ends: np.ndarray) -> np.ndarray:
    """The position of each line among those with the same ends, from −1/2 to 1/2; 0 for a single line."""
    pairs = pd.DataFrame(ends.T).groupby([0, 1])
    rank, count = pairs.cumcount().to_numpy(), pairs[0].transform("size").to_numpy()
    return np.where(count > 1, rank / np.maximum(count - 1, 1) - 0.5, 0.0)


def chosen_layers(layers: Any, names: Sequence[str]) -> np.ndarray:
    """The numbers of the chosen layers, given as one or several numbers or names; None chooses all.

    A name may leave out what follows its last dot: "0" is the layer "0.weight".

    Raises:
        DataError: if there is no such layer, or none is chosen; names those that exist.
    """
    if layers is None:
        return np.arange(len(names))
    known = {name.rpartition(".")[0]: number for number, name in reversed(list(enumerate(names)))}
    known |= {name: number for number, name in enumerate(names)}
    found = []
    for layer in [layers] if isinstance(layers, str | Integral) or not hasattr(layers, "__iter__") else layers:
        number = known.get(layer, -1) if isinstance(layer, str) else layer
        if not isinstance(number, Integral) or isinstance(number, bool) or not 0 <= int(number) < len(names):
            there = ", ".join(names) if len(names) <= 12 else ", ".join([*names[:6], "...", *names[-6:]])
            raise DataError(f"layers must be names or numbers (from 0) of layers, got {layer!r}; layers are {there}")
        found.append(int(number))
    if not found:
        raise DataError("layers chooses no layer; pass names or numbers of layers, or None for all")
    return np.unique(found)


def layer_columns(layer: np.ndarray, names: Sequence[str], layers: Any) -> tuple[np.ndarray, list[str]]:
    """The column (n,) of each node, one for each chosen layer, and the names of these layers that have nodes."""
    chosen = chosen_layers(layers, names)
    chosen = chosen[np.isin(chosen, layer)]
    return np.where(np.isin(layer, chosen), layer, -1), [names[number] for number in chosen]


def _summed(
    blocks: np.ndarray, weight: np.ndarray, size: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sums of weights and of their absolute values over each pair of blocks that edges join."""
    key = blocks[0] * count + blocks[1]
    if count**2 <= DENSE:
        sizes = np.bincount(key, size, count**2)
        joined = np.flatnonzero(sizes)
        return np.stack(np.divmod(joined, count)), np.bincount(key, weight, count**2)[joined], sizes[joined]
    joined, pair = np.unique(key, return_inverse=True)
    return np.stack(np.divmod(joined, count)), np.bincount(pair, weight), np.bincount(pair, size)
