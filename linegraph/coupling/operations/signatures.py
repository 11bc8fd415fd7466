"""Calls of torch functions, rewritten in one canonical form.

torch accepts the same call in many forms: ``torch.mm(x, w)``, ``torch.mm(input=x, mat2=w)``, ``x.mm(mat2=w)``,
``torch.ops.aten.mm.default(x, w)``. The rest of the package sees one form: a function of ``torch`` whose tensors and
required arguments are given by position, in the order of its documented signature, and whose other arguments stay by
position or by documented keyword, as they were given.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter, signature
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

__all__ = ["argument", "in_one_form"]

Function = Callable[..., Any]
Call = tuple[Function, tuple[Any, ...], dict[str, Any]]


def in_one_form(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The same call in canonical form: a function of torch, with tensors and required arguments by position."""
    args, kwargs = _by_position(function, args, kwargs)
    if isinstance(function, OpOverload | OpOverloadPacket):
        function = _plain(function)
    translation = _TRANSLATIONS.get(function)
    return (function, args, kwargs) if translation is None else translation(*args, **kwargs)


def argument(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of the argument with a documented name, given by position or by keyword; else ``default``."""
    if name in kwargs:
        return kwargs[name]
    for form in _forms(function):
        if name in form.places:
            place = form.places.index(name)
            if place < len(args):
                return args[place]
    return default


@dataclass(frozen=True)
class _Form:
    """One of the signatures that a function accepts."""

    places: tuple[str, ...]
    """The names of the arguments that may be given by position."""
    required: int
    """The number of those without a default."""
    names: frozenset[str]
    """The names of all arguments."""

    def takes(self, args: tuple[Any, ...], kwargs: Iterable[str]) -> bool:
        given = set(self.places[: len(args)])
        return len(args) <= len(self.places) and all(name in self.names and name not in given for name in kwargs)


_ALIASES = {
    "self": "input",
    "axis": "dim",
    "keepdims": "keepdim",
    "x": "input",
    "a": "input",
    "x1": "input",
    "x2": "other",
}
"""Other names of arguments: ``self`` in operators, and the names that torch takes from NumPy."""


def _by_position(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Args and kwargs with tensors and required arguments moved to args, as long as every argument before is given."""
    if not kwargs:
        return args, kwargs
    forms = _forms(function)
    form = next((form for form in forms if form.takes(args, kwargs)), None)
    if form is None:
        kwargs = {_ALIASES.get(name, name): value for name, value in kwargs.items()}
        form = next((form for form in forms if form.takes(args, kwargs)), None)
    if form is None:
        return args, kwargs
    moved = list(takewhile(kwargs.__contains__, form.places[len(args) :]))
    while moved and len(args) + len(moved) > form.required and not _holds_tensor(kwargs[moved[-1]]):
        moved.pop()
    rest = {name: value for name, value in kwargs.items() if name not in moved}
    return (*args, *(kwargs[name] for name in moved)), rest


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensor, value)))


@lru_cache(maxsize=4096)
def _forms(function: Function) -> tuple[_Form, ...]:
    """The signatures of a function; none where its arguments are not named."""
    if isinstance(function, types.FunctionType):
        given = signature(function).parameters.values()
        if any(p.kind is Parameter.VAR_POSITIONAL for p in given):
            return ()
        placed = [p for p in given if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        required = sum(p.default is Parameter.empty for p in placed)
        return (_Form(tuple(p.name for p in placed), required, frozenset(p.name for p in given)),)
    return tuple(_form(schema) for schema in _schemas(function) if not any(a.is_out for a in schema.arguments))


def _schemas(function: Function) -> list[Any]:
    """torch's schemas of a function that is not written in Python."""
    if isinstance(function, OpOverload):
        return [function._schema]
    named = getattr(torch.ops.aten, getattr(function, "__name__", ""), None)
    packet = function if isinstance(function, OpOverloadPacket) else named
    if not isinstance(packet, OpOverloadPacket):
        return []
    return [getattr(packet, overload)._schema for overload in packet.overloads()]


def _form(schema: Any) -> _Form:
    """The signature in a schema, whose argument ``self`` is ``input`` in Python."""
    names = ["input" if a.name == "self" else a.name for a in schema.arguments]
    placed = [a for a in schema.arguments if not a.kwarg_only]
    required = sum(not a.has_default_value() for a in placed)
    return _Form(tuple(names[: len(placed)]), required, frozenset(names))


# methods that say the same as others -----------------------------------------------------------------


def _viewed_as(input: Tensor, other: Tensor) -> Call:
    return Tensor.view, (input, other.shape), {}


def _reshaped_as(input: Tensor, other: Tensor) -> Call:
    return Tensor.reshape, (input, other.shape), {}


def _expanded_as(input: Tensor, other: Tensor) -> Call:
    return Tensor.expand, (input, other.shape), {}


def _of_type_of(input: Tensor, other: Tensor) -> Call:
    return Tensor.to, (input, other.device, other.dtype), {}


def _reflected_matmul(input: Tensor, other: Tensor) -> Call:
    return torch.matmul, (other, input), {}


def _to(input: Tensor, *args: Any, **kwargs: Any) -> Call:
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    return Tensor.to, (input, *args), kwargs


# operators of torch.ops.aten, as exported networks call them -------------------------------------------


_HOMES: tuple[Any, ...] = (
    torch,
    *(getattr(torch._C, f"_{name}") for name in ("nn", "linalg", "special", "fft")),
    Tensor,
)


@lru_cache(maxsize=4096)
def _plain(function: Function) -> Function:
    """The public torch function of an operator; the operator without its overload where there is none."""
    namespace, name, *_ = str(function).split(".")
    packet = getattr(function, "overloadpacket", function)
    if namespace != "aten" or packet in _TRANSLATIONS:
        return packet
    found = next((getattr(home, name) for home in _HOMES if hasattr(home, name)), function)
    is_in_python = isinstance(found, types.FunctionType)  # and may then have another signature than the operator
    return function if is_in_python or not callable(found) else found  # Tensor.mT is no function


def _sliced(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Call:
    return Tensor.__getitem__, (input, (*(slice(None),) * (dim % input.ndim), slice(start, end, step))), {}


def _indexed(input: Tensor, indices: Iterable[Any]) -> Call:
    return Tensor.__getitem__, (input, tuple(slice(None) if i is None else i for i in indices)), {}


def _tensordot(input: Tensor, other: Tensor, dims_self: Iterable[int], dims_other: Iterable[int]) -> Call:
    return torch.tensordot, (input, other, (list(dims_self), list(dims_other))), {}


def _reshaped(input: Tensor, size: Iterable[int]) -> Call:
    return Tensor.reshape, (input, size), {}


def _converted(input: Tensor, **options: Any) -> Call:
    return Tensor.to, (input,), options


def _batch_norm(
    input: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    *others: Any,
    **named: Any,
) -> Call:
    momentum, eps = (*others, *(named[name] for name in ("momentum", "eps") if name in named))[:2]
    return F.batch_norm, (input, running_mean, running_var, weight, bias, training, momentum, eps), {}


def _instance_norm(
    input: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Call:
    return F.instance_norm, (input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps), {}


_TRANSLATIONS: dict[Function, Callable[..., Call]] = {
    Tensor.view_as: _viewed_as,
    Tensor.reshape_as: _reshaped_as,
    Tensor.expand_as: _expanded_as,
    Tensor.type_as: _of_type_of,
    Tensor.__rmatmul__: _reflected_matmul,
    Tensor.to: _to,
    torch.batch_norm: _batch_norm,
    torch.instance_norm: _instance_norm,
    torch.ops.aten.slice: _sliced,
    torch.ops.aten.index: _indexed,
    torch.ops.aten.tensordot: _tensordot,
    torch.ops.aten._unsafe_view: _reshaped,
    torch.ops.aten._to_copy: _converted,
}
"""Functions with another form of the same call, with the translation; ``view_as`` is a ``view``, for example."""
