"""Notes on autograd nodes, which tell operations that a pass has recorded from those it could not see.

torch shows every operation to Python except scripted code and the inside of custom autograd functions. The autograd
nodes that those leave have no note.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

__all__ = ["is_custom", "is_dual", "notes", "written_parts"]


def notes(node: Node) -> dict[Any, Any]:
    """The notes of an autograd node: a dictionary that lives as long as the node."""
    return cast("dict[Any, Any]", node.metadata)


def is_custom(node: Node | None) -> bool:
    """Whether a node belongs to a custom autograd function."""
    return isinstance(node, BackwardCFunction)


def is_dual(t: Tensor) -> bool:
    """Whether a tensor carries a tangent of forward-mode differentiation."""
    return unpack_dual(t).tangent is not None


def written_parts(t: Tensor) -> list[Tensor]:
    """A tensor, after the tensor that it is a view of, if any: a write into one is a write into both."""
    return [t] if t._base is None else [t._base, t]
