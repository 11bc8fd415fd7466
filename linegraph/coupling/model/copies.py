"""Copies of parameters, possibly in another precision, with which a model can run without being written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from linegraph.turns import undoing

__all__ = ["Copy"]


class Copy:
    """Copies of the parameters of some modules.

    Args:
        modules: their parameters and those of their submodules are copied; a shared parameter has one copy.
        dtype: the precision of all copies, and of buffers and data; None leaves each in its own.
    """

    def __init__(self, modules: Sequence[nn.Module], dtype: torch.dtype | None) -> None:
        self._modules = [module for root in modules for module in root.modules()]
        self._dtype = dtype
        self._copies: dict[int, nn.Parameter] = {}
        for p in (p for module in self._modules for p in module._parameters.values() if p is not None):
            if id(p) not in self._copies:
                number = p.detach().clone()
                self._copies[id(p)] = nn.Parameter(self.cast(number), requires_grad=False)

    def of(self, p: Tensor) -> nn.Parameter:
        """The copy of a parameter."""
        return self._copies[id(p)]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the modules use the copies. A copy requires gradients if its parameter does."""
        before = [(module, dict(module._parameters), dict(module._buffers)) for module in self._modules]

        def restore() -> None:
            for module, parameters, buffers in before:
                module._parameters.update(parameters)
                module._buffers.update(buffers)

        with undoing(restore):
            for module, parameters, buffers in before:
                for name, p in parameters.items():
                    if p is not None:
                        module._parameters[name] = self.of(p)
                        self.of(p).requires_grad_(p.requires_grad)
                module._buffers.update({name: self.cast(buffer) for name, buffer in buffers.items()})
            yield

    def cast(self, part: Any) -> Any:
        """Convert a part of the data, or anything else that holds tensors, to the precision of the copies."""
        if isinstance(part, Mapping) and type(part) is not dict:  # as batches of Hugging Face
            return {name: self.cast(value) for name, value in part.items()}
        return tree_map(self._cast, part)

    def _cast(self, leaf: Any) -> Any:
        if self._dtype is None or not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_complex():
            return leaf.to(self._dtype.to_complex())
        return leaf.to(self._dtype) if leaf.is_floating_point() else leaf
