"""Graph objects of PyG, which is imported only with the first of them: the import takes as long as that of torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from linegraph.quiet import ignoring

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["is_data", "new_data"]


def new_data(**attributes: Any) -> Data:
    """A PyG ``Data`` with the given attributes."""
    # PyG imports tqdm.auto, which in notebooks without ipywidgets warns about a progress bar that is never shown.
    with ignoring("IProgress not found"):
        from torch_geometric.data import Data
    return Data(**attributes)


def is_data(graph: Any) -> bool:
    """Whether an object is a PyG ``Data``; False if PyG has not been imported."""
    pyg = sys.modules.get("torch_geometric.data")
    return pyg is not None and isinstance(graph, pyg.Data)
