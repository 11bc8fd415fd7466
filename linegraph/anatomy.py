"""``anatomy``: the contents of any object, as a label, bytes, and parts, for :mod:`linegraph.identity` to hash.

The contents of an object are its class and its attributes. An object of compiled code without attributes has the
contents that pickle would store; if it cannot be pickled (a lock, an open file, a running generator), its class only.
"""

from __future__ import annotations

import enum
import functools
import marshal
import random
import types
import weakref
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from linegraph.functions import UsedModule, cells, global_variables, home, narrowed
from linegraph.packages import installed
from linegraph.quiet import ignoring

__all__ = ["ATOMS", "Anatomy", "Step", "anatomy"]

Step = tuple[str, Any]
"""How a part is reached from its object: a kind, such as "attribute", "item" or "cell", and a name."""

ATOMS = frozenset({type(None), bool, int, float, str, bytes})


class Anatomy(NamedTuple):
    """The contents of an object.

    Attributes:
        label: text that describes the object itself, without its parts.
        parts: the objects that it consists of, each with the step by which it is reached.
        content: bytes, as of a tensor.
    """

    label: str
    parts: Sequence[tuple[Step, Any]] = ()
    content: Any = b""


@functools.singledispatch
def anatomy(thing: Any) -> Anatomy:
    """The contents of any object: by default its class and attributes, or what it would pickle if it has none."""
    kind = type(thing)
    parts: list[tuple[Step, Any]] = [(("type", ""), kind)]
    attributes = _attributes(thing)
    if not attributes or (installed(kind.__module__) and _pickles_itself(kind)):
        return Anatomy("object", [*parts, (("reduced", ""), _reduced(thing))])
    return Anatomy("object", parts + attributes)


# plain values ------------------------------------------------------------------------------------------------------


def _of(thing: Any, *exact: type) -> list[tuple[Step, Any]]:
    """The class and attributes of an instance of a subclass of a built-in class; none for the class itself."""
    return [] if type(thing) in exact else [(("type", ""), type(thing)), *_attributes(thing)]


@anatomy.register
def _(thing: None) -> Anatomy:
    return Anatomy("None")


@anatomy.register(bool)
@anatomy.register(int)
def _(thing: int) -> Anatomy:
    return Anatomy(f"{'bool' if isinstance(thing, bool) else 'int'} {int(thing):x}", _of(thing, bool, int))


@anatomy.register(float)
@anatomy.register(complex)
def _(thing: complex) -> Anatomy:
    return Anatomy(f"number {thing!r}", _of(thing, float, complex))


@anatomy.register
def _(thing: str) -> Anatomy:
    return Anatomy("str", _of(thing, str), thing.encode("utf-8", "surrogatepass"))


@anatomy.register(bytes)
@anatomy.register(bytearray)
@anatomy.register(memoryview)
@anatomy.register(array)
def _(thing: Any) -> Anatomy:
    return Anatomy(type(thing).__name__, [], bytes(thing))


@anatomy.register
def _(thing: enum.Enum) -> Anatomy:
    return Anatomy(f"member {type(thing).__qualname__}.{thing.name}", [(("value", ""), thing.value)])


@anatomy.register(list)
@anatomy.register(tuple)
@anatomy.register(deque)
def _(thing: Any) -> Anatomy:
    label = f"{_base(thing, list, tuple, deque)} {getattr(thing, 'maxlen', '')}"
    if set(map(type, thing)) <= ATOMS:  # fast for long lists; version 0 of marshal does not mark interned strings
        return Anatomy(f"{label} of plain values", _of(thing, list, tuple, deque), marshal.dumps(list(thing), 0))
    return Anatomy(label, [(("item", i), part) for i, part in enumerate(thing)] + _of(thing, list, tuple, deque))


@anatomy.register(set)
@anatomy.register(frozenset)
def _(thing: Any) -> Anatomy:
    if set(map(type, thing)) <= ATOMS:
        content = "\n".join(sorted(map(repr, thing))).encode("utf-8", "surrogatepass")
        return Anatomy(f"{_base(thing, set, frozenset)} of plain values", _of(thing, set, frozenset), content)
    return Anatomy(
        _base(thing, set, frozenset), [(("member", ""), part) for part in thing] + _of(thing, set, frozenset)
    )


@anatomy.register(dict)
@anatomy.register(types.MappingProxyType)
def _(thing: Any) -> Anatomy:
    parts: list[tuple[Step, Any]] = []
    for i, (key, value) in enumerate(thing.items()):
        if type(key) not in ATOMS:
            parts.append((("the key", i), key))
        parts.append((("key", key if type(key) in ATOMS else i), value))
    factory = [(("factory", ""), thing.default_factory)] if hasattr(thing, "default_factory") else []
    return Anatomy("dict", parts + factory + _of(thing, dict))


# tensors, arrays and random generators -----------------------------------------------------------------------------


@anatomy.register
def _(thing: Tensor) -> Anatomy:
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        kind = _of(thing, Tensor)
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            kind += [(("hook", (name, i)), hook) for i, hook in enumerate((getattr(thing, name) or {}).values())]
        if isinstance(thing, UninitializedTensorMixin):
            return Anatomy("tensor without a shape", kind)
        label = f"tensor {thing.dtype} {thing.layout}"
        if isinstance(thing, nn.Parameter):
            label += f" requires_grad={thing.requires_grad}"
        if thing.is_nested:
            return Anatomy(f"nested {label}", kind + [(("item", i), part) for i, part in enumerate(thing.unbind())])
        label += f" {tuple(thing.shape)}"
        if thing.device.type == "meta":
            return Anatomy(f"empty {label}", kind)
        if thing.is_quantized:
            return Anatomy(label, [*kind, (("item", 0), thing.int_repr()), (("item", 1), thing.dequantize())])
        if thing.layout is torch.sparse_coo:
            return Anatomy(label, [*kind, (("item", 0), thing._indices()), (("item", 1), thing._values())])
        if thing.layout is not torch.strided:
            thing = thing.to_dense()
        raw = thing.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return Anatomy(label, kind, raw.view(torch.uint8).numpy().data)


@anatomy.register
def _(thing: np.ndarray) -> Anatomy:
    kind = _of(thing, np.ndarray)
    label = f"array {thing.dtype.descr if thing.dtype.names else thing.dtype.str} {thing.shape}"
    if thing.dtype.hasobject:
        return Anatomy(label, [*kind, (("values", ""), thing.tolist())])
    if isinstance(thing, np.ma.MaskedArray):
        kind.append((("mask", ""), np.ma.getmaskarray(thing)))
    return Anatomy(label, kind, np.ascontiguousarray(thing).tobytes())


@anatomy.register
def _(thing: np.generic) -> Anatomy:
    return Anatomy(f"numpy {thing.dtype.str}", [], thing.tobytes())


@anatomy.register(torch.dtype)
@anatomy.register(torch.device)
@anatomy.register(torch.layout)
@anatomy.register(torch.memory_format)
@anatomy.register(np.dtype)
@anatomy.register(torch._ops.OpOverload)
@anatomy.register(torch._ops.OpOverloadPacket)
def _(thing: Any) -> Anatomy:
    return Anatomy(f"{type(thing).__name__} {thing!s}")


@anatomy.register
def _(thing: torch.Generator) -> Anatomy:
    return Anatomy("torch.Generator", [(("state", ""), thing.get_state())])


@anatomy.register
def _(thing: np.random.Generator) -> Anatomy:
    return Anatomy("numpy Generator", [(("state", ""), thing.bit_generator.state)])


@anatomy.register
def _(thing: np.random.RandomState) -> Anatomy:
    return Anatomy("numpy RandomState", [(("state", ""), thing.get_state(legacy=False))])


@anatomy.register
def _(thing: random.Random) -> Anatomy:
    return Anatomy("random.Random", [(("state", ""), thing.getstate()), *_of(thing, random.Random)])


# functions, classes and modules ------------------------------------------------------------------------------------


@anatomy.register
def _(thing: types.FunctionType) -> Anatomy:
    if (original := vars(thing).get("_torchdynamo_orig_callable")) is not None:  # compiled: results are the same
        return anatomy(original)
    parts: list[tuple[Step, Any]] = [
        (("defaults", ""), thing.__defaults__),
        (("kwdefaults", ""), thing.__kwdefaults__),
        *((("cell", name), cell) for name, cell in cells(thing)),
        *((("attribute", name), value) for name, value in sorted(vars(thing).items())),
    ]
    library = installed(home(thing))
    if library is not None and "<" not in thing.__code__.co_qualname:
        return Anatomy(f"function {home(thing)}.{thing.__code__.co_qualname} of {library}", parts)
    return Anatomy(
        "function",
        [
            (("code", ""), thing.__code__),
            *parts,
            *((("global", name), value) for name, value in global_variables(thing)),
        ],
    )


@anatomy.register
def _(thing: types.CodeType) -> Anatomy:
    counts = thing.co_argcount, thing.co_posonlyargcount, thing.co_kwonlyargcount, thing.co_flags
    names = thing.co_names, thing.co_varnames, thing.co_freevars, thing.co_cellvars
    return Anatomy(f"code {counts} {names}", [(("constants", ""), thing.co_consts)], thing.co_code)


@anatomy.register(functools.partial)
def _(thing: functools.partial[Any]) -> Anatomy:
    named: list[tuple[Step, Any]] = [(("key", name), value) for name, value in sorted(thing.keywords.items())]
    called: list[tuple[Step, Any]] = [(("function", ""), thing.func), (("args", ""), thing.args)]
    return Anatomy("partial", called + named + _of(thing, functools.partial))


@anatomy.register
def _(thing: types.MethodType) -> Anatomy:
    return Anatomy("method", [(("self", ""), thing.__self__), (("function", ""), thing.__func__)])


@anatomy.register(types.BuiltinFunctionType)
@anatomy.register(types.MethodWrapperType)
def _(thing: Any) -> Anatomy:
    owner = None if isinstance(thing.__self__, types.ModuleType) else thing.__self__
    return Anatomy(f"builtin {thing.__qualname__} of {installed(thing.__module__)}", [(("self", ""), owner)])


@anatomy.register(types.MethodDescriptorType)
@anatomy.register(types.WrapperDescriptorType)
@anatomy.register(types.GetSetDescriptorType)
@anatomy.register(types.MemberDescriptorType)
@anatomy.register(types.ClassMethodDescriptorType)
def _(thing: Any) -> Anatomy:
    return Anatomy(f"member {thing.__qualname__} of {installed(thing.__objclass__.__module__)}")


@anatomy.register
def _(thing: property) -> Anatomy:
    return Anatomy("property", [(("function", name), getattr(thing, name)) for name in ("fget", "fset", "fdel")])


@anatomy.register(staticmethod)
@anatomy.register(classmethod)
def _(thing: Any) -> Anatomy:
    return Anatomy(type(thing).__name__, [(("function", ""), thing.__func__)])


@anatomy.register(functools._lru_cache_wrapper)
def _(thing: Any) -> Anatomy:
    return Anatomy("cached function", [(("function", ""), thing.__wrapped__)])


@anatomy.register(weakref.ref)
def _(thing: weakref.ref[Any]) -> Anatomy:
    return Anatomy("weakref", [(("referent", ""), thing())])


@anatomy.register
def _(thing: type) -> Anatomy:
    library = installed(thing.__module__)
    if library is not None and "<" not in thing.__qualname__:
        return Anatomy(f"class {thing.__module__}.{thing.__qualname__} of {library}")
    parts: list[tuple[Step, Any]] = [(("base", i), base) for i, base in enumerate(thing.__bases__)]
    names = sorted(name for name in vars(thing) if isinstance(name, str) and name not in _NOT_OF_A_CLASS)
    parts += [(("member", name), vars(thing)[name]) for name in names]
    return Anatomy(f"class {thing.__qualname__}", parts)


@anatomy.register
def _(thing: types.ModuleType) -> Anatomy:
    library, file = installed(thing.__name__), getattr(thing, "__file__", None)
    source = b"" if library is not None or file is None or not Path(file).is_file() else Path(file).read_bytes()
    return Anatomy(f"module {thing.__name__} of {library}", [], source)


@anatomy.register
def _(thing: UsedModule) -> Anatomy:
    there = vars(thing.module)
    return Anatomy(
        f"module {thing.module.__name__}",
        [(("global", name), narrowed(there[name], thing.names)) for name in thing.names if name in there],
    )


@anatomy.register
def _(thing: nn.Module) -> Anatomy:
    if isinstance(thing, torch.jit.ScriptModule):
        return Anatomy("scripted module", [(("code", ""), _code(thing)), (("state", ""), dict(thing.state_dict()))])
    original = thing._modules.get("_orig_mod")
    if original is not None and type(thing).__name__ == "OptimizedModule":  # compiled: results are the same
        return anatomy(original)
    parts: list[tuple[Step, Any]] = [(("type", ""), type(thing)), *_attributes(thing)]
    if isinstance(thing, torch.fx.GraphModule):
        parts = [part for part in parts if part[0][1] not in ("_graph", "_code")] + [(("code", ""), thing.code)]
    if type(thing).get_extra_state is not nn.Module.get_extra_state:
        parts.append((("state", ""), thing.get_extra_state()))
    return Anatomy("object", parts)


@anatomy.register
def _(thing: torch.optim.Optimizer) -> Anatomy:
    own = [part for part in _attributes(thing) if part[0][1] not in ("param_groups", "defaults")]
    # Loading a state changes the order of the keys of groups, and adds defaults that are not used.
    groups = [dict(sorted(group.items())) for group in thing.param_groups]
    return Anatomy("object", [(("type", ""), type(thing)), *own, (("groups", ""), groups)])


# what they share ---------------------------------------------------------------------------------------------------

# Attributes that change with use: a loader keeps its iterator and notes that len() was called, a compiler that it ran.
_NOT_OF_AN_OBJECT = frozenset({"__dict__", "__weakref__", "_iterator", "_IterableDataset_len_called"})
# Lightning keeps the arguments of the compiler.
_NOT_OF_AN_OBJECT |= {"_is_torch_compile", "_compiled_call_impl", "_compile_kwargs"}
_NOT_OF_A_CLASS = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__"})
_NOT_OF_A_CLASS |= {"__annotate__", "__annotate_func__", "__annotations_cache__", "__type_params__", "__orig_bases__"}
_NOT_OF_A_CLASS |= {"__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__"}
_NOT_OF_A_CLASS |= {"__dataclass_params__", "__dataclass_fields__", "__match_args__"}


def _base(thing: Any, *bases: type) -> str:
    return next(base.__name__ for base in bases if isinstance(thing, base))


def _attributes(thing: Any) -> list[tuple[Step, Any]]:
    """Attributes by name; hooks by their order, since torch numbers the hooks of all modules together."""
    own = getattr(thing, "__dict__", None) or {}
    found: list[tuple[Step, Any]] = []
    for name in sorted(name for name in own if isinstance(name, str) and name not in _NOT_OF_AN_OBJECT):
        value = own[name]
        if "_hooks" in name and isinstance(value, dict) and all(type(key) is int for key in value):
            found += [(("hook", (name, i)), hook) for i, hook in enumerate(value.values())]
        else:
            found.append((("attribute", name), value))
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and name[-2:] != "__" else name
            if name not in _NOT_OF_AN_OBJECT and hasattr(thing, mangled):
                found.append((("attribute", mangled), getattr(thing, mangled)))
    return found


def _pickles_itself(kind: type) -> bool:
    ways = ("__reduce_ex__", "__reduce__")
    return any(getattr(kind, way) is not getattr(object, way) for way in ways)


def _reduced(thing: Any) -> Any:
    """What a pickle of the object would hold; None if it cannot be pickled."""
    try:
        with ignoring():
            reduced = thing.__reduce_ex__(4)
    except Exception:
        return None
    if isinstance(reduced, str):
        return reduced
    # Items of lists and dictionaries are given as iterators.
    return [*reduced[:3], *(None if part is None else list(part) for part in reduced[3:5])]


def _code(module: torch.jit.ScriptModule) -> str:
    """The code of a scripted module and of its submodules."""
    return "\n".join(str(getattr(part, "code", "")) for part in module.modules())
