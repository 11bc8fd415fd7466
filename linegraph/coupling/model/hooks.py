"""Hooks on gradients, which a model adds for its training step, and which P leaves out.

A model may add them while it runs, to tensors and to autograd nodes. Within a pass, the functions here replace those
of torch that add hooks, and add none. Hooks that pack and unpack tensors saved for the backward pass remain.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

__all__ = ["WITHOUT_HOOKS"]


def _no_hook(*_args: Any, **_kwargs: Any) -> RemovableHandle:
    return RemovableHandle(OrderedDict())


class _Hookless:
    """An autograd node as the model sees it within a pass: adding a hook to it has no effect."""

    register_hook = staticmethod(_no_hook)
    register_prehook = staticmethod(_no_hook)

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def __eq__(self, other: Any) -> bool:
        return self._node == getattr(other, "_node", other)

    def __hash__(self) -> int:
        return hash(self._node)

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        return tuple((_hookless(node), place) for node, place in self._node.next_functions)


def _hookless(node: Node | None) -> Any:
    return None if node is None else _Hookless(node)


def _node_of(t: Tensor, *_: Any) -> Any:
    return _hookless(t.grad_fn)


WITHOUT_HOOKS: dict[Any, Callable[..., Any]] = {
    Tensor.register_hook: _no_hook,
    Tensor.register_post_accumulate_grad_hook: _no_hook,
    Tensor.retain_grad: _no_hook,
    Tensor.grad_fn.__get__: _node_of,  # type: ignore[union-attr]
}
"""Functions of torch by which a model adds hooks, and what is called in their place within a pass."""
