"""Places for the nodes of graphs without layers."""

from __future__ import annotations

import numpy as np

__all__ = ["spread_out"]


def spread_out(ends: np.ndarray, count: int) -> np.ndarray:
    """Places (n, 2) in the unit square, near those of the nodes that a node is joined to, by igraph's Kamada–Kawai.

    The layout starts from a circle and draws no random number.

    Args:
        ends: (2, E), the nodes at the ends of each edge.
        count: the number of nodes.
    """
    import igraph

    graph = igraph.Graph(count, [(int(a), int(b)) for a, b in ends.T if a != b]).simplify()
    place = np.array(graph.layout_kamada_kawai(seed=graph.layout_circle()).coords).reshape(count, 2)
    low, high = place.min(0, initial=np.inf), place.max(0, initial=-np.inf)
    return np.asarray((place - low) / np.where(high > low, high - low, 1.0))
