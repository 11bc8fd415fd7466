"""Notes on autograd nodes: which operations have been seen, and which were not.

torch shows operations to Python, but for scripted code and what custom autograd functions do outside of torch. Such an
operation leaves a tensor whose autograd node nobody has noted anything about.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

__all__ = ["is_custom", "is_dual", "notes", "written_parts"]


def notes(node: Node) -> dict[Any, Any]:
    """What is kept with an autograd node, as long as there is one."""
    return cast("dict[Any, Any]", node.metadata)


def is_custom(node: Node | None) -> bool:
    """Whether a node is that of a custom autograd function."""
    return isinstance(node, BackwardCFunction)


def is_dual(t: Tensor) -> bool:
    """Whether a tensor carries a derivative of forward mode."""
    return unpack_dual(t).tangent is not None


def written_parts(t: Tensor) -> list[Tensor]:
    """A tensor, and before it the one it is a view of: what is written to either is written to both."""
    return [t] if t._base is None else [t._base, t]
