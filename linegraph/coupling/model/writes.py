"""``Unwritten``, a mode that refuses to write into parameters during a forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import BoundArguments, signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from linegraph.coupling.model.hooks import WITHOUT_HOOKS
from linegraph.coupling.model.modes import Mode
from linegraph.coupling.operations.names import describe, is_in_place
from linegraph.errors import UnsupportedOperationError

__all__ = ["Unwritten", "memory", "renormalising"]


class Unwritten(Mode):
    """A mode in which an operation that writes into a parameter raises an error, since its numbers would be lost.

    An embedding with ``max_norm``, which rescales rows of its weight in place, does so on a copy. Hooks on gradients
    that the model adds during the pass are not added.

    Args:
        modules: the model, followed by all its submodules.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._model = modules[0]
        parameters = (p for module in modules for p in module._parameters.values() if p is not None and p.numel())
        self._memories = {held for p in parameters if (held := memory(p))}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.is_of_another_pass():
            return function(*args, **(kwargs or {}))
        if (stand_in := WITHOUT_HOOKS.get(function)) is not None:
            return stand_in(*args, **(kwargs or {}))
        if is_in_place(function) and (written := memory(next(iter(args), None))) in self._memories:
            if getattr(function, "__name__", "") == "__set__" and _is_same(*args):
                return None
            name = next(name for name, p in self._model.named_parameters() if memory(p) == written)
            raise UnsupportedOperationError(
                f"{describe(function)} writes into the parameter {name!r} in the forward pass, or as the model "
                "changes its mode, but a coupling leaves the model unchanged; take that out of the forward pass "
                "(clipping, moving averages of another network), couple only the part of the model that learns, or "
                "put the model in the coupling's mode before making the coupling"
            )
        if call := renormalising(function, args, kwargs or {}):
            call.arguments["weight"] = call.arguments["weight"].clone()
            return function(*call.args, **call.kwargs)
        return function(*args, **(kwargs or {}))


def renormalising(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundArguments | None:
    """The arguments of an embedding that rescales rows of its weight in place (``max_norm``); None for other calls."""
    if function not in (F.embedding, F.embedding_bag):
        return None
    call = signature(function).bind(*args, **kwargs)
    return None if call.arguments.get("max_norm") is None else call


def _is_same(p: Tensor, data: Any) -> bool:
    """Whether a parameter has these data already, as after ``module.to(dtype)`` with its own number type."""
    same = isinstance(data, Tensor) and memory(data) == memory(p) and data.storage_offset() == p.storage_offset()
    return same and (data.dtype, data.shape, data.stride()) == (p.dtype, p.shape, p.stride())


def memory(t: Any) -> int:
    """The address of a tensor's storage; 0 if it has none, as for sparse tensors and those within a vmap."""
    return t.untyped_storage()._cdata if isinstance(t, Tensor) and torch._C._has_storage(t) else 0
