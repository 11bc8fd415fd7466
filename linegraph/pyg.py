"""The graph objects of PyG, which is imported with the first of them: importing it takes as long as torch does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from linegraph.quiet import ignoring

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["is_data", "new_data"]


def new_data(**attributes: Any) -> Data:
    """A ``Data`` with these attributes."""
    # PyG imports tqdm.auto, which in notebooks without ipywidgets warns of a bar that nobody asked for.
    with ignoring("IProgress not found"):
        from torch_geometric.data import Data
    return Data(**attributes)


def is_data(graph: Any) -> bool:
    """Whether a graph is a ``Data``; where PyG is not imported nothing is."""
    pyg = sys.modules.get("torch_geometric.data")
    return pyg is not None and isinstance(graph, pyg.Data)
