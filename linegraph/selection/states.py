"""States that training changes: find them in objects, store them and restore them.

A state is a number, a string, a tensor, a random generator, or a container of such. States are the leaves of a search
through attributes, items, closures, globals, default arguments and hooks of an object. The search finds, for instance,
the epoch of a sampler, and a learning-rate schedule that a hook of the optimizer steps. When a run is resumed, the code
of the user makes the objects anew, and the states are restored in them.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from linegraph.anatomy import Step, anatomy
from linegraph.identity import digest

__all__ = ["Path", "UnstorableError", "assign", "decode", "encode", "forget_workers", "held", "leaves", "rewound"]

Path = tuple[Step, ...]

_ATOMS = (type(None), bool, int, float, str, bytes)
_CONTAINERS = (list, tuple, dict, OrderedDict, set, deque)
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_LEADS_ON = frozenset(
    {"attribute", "item", "key", "cell", "global", "hook", "self", "function", "args", "defaults", "kwdefaults"}
)
_LONGEST = 1000


class UnstorableError(Exception):
    """A state has a type that cannot be stored without pickling."""


# finding ------------------------------------------------------------------------------------------------------------


def leaves(root: Any, *, tensors: bool, but: Collection[Any] = ()) -> Iterator[tuple[Path, Any]]:
    """The states within an object, with their paths; each is yielded once.

    Args:
        root: the object to search.
        tensors: whether all tensors and arrays are states, as in a model or a loss. In data they are the samples; only
            integer vectors, such as a permutation that is shuffled in place, are states then.
        but: objects to leave out, since they are stored elsewhere.
    """
    met = {id(thing): thing for thing in but}
    stack: list[tuple[Path, Any]] = [((), root)]
    while stack:
        path, thing = stack.pop()
        if id(thing) in met:
            continue
        if _is_state(thing, tensors):
            yield path, thing
        elif not isinstance(thing, (Tensor, np.ndarray, type)):
            met[id(thing)] = thing
            stack += [((*path, step), part) for step, part in _parts(thing)]


def assign(root: Any, path: Path, value: Any, but: Collection[Tensor] = ()) -> None:
    """Restore the state at a path within an object; nothing happens if the path no longer exists.

    A tensor that shares memory with one of ``but``, which are restored separately, is replaced and not written into.
    """
    try:
        whole = root
        for step in path[:-1]:
            whole = _part(whole, step)
        present = _part(whole, path[-1], missing=None)
        if any(_share_memory(present, tensor) for tensor in but) or not _fill(present, value):
            _replace(whole, path[-1], value)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):
        return


@contextmanager
def rewound(*roots: Any, tensors: bool = False) -> Iterator[Callable[[], None]]:
    """Restore the states of objects, as :func:`leaves` finds them, on exit; yields a function that does so at once."""
    before = [(root, path, held(leaf)) for root in roots for path, leaf in leaves(root, tensors=tensors)]
    known = [digest(value) for *_, value in before]

    def rewind() -> None:
        forget_workers(*roots)
        for (root, path, value), same in zip(before, known, strict=True):
            if digest(held(_at(root, path))) != same:
                assign(root, path, held(value))

    try:
        yield rewind
    finally:
        rewind()


def held(leaf: Any) -> Any:
    """A copy of a state that training does not change; for a random generator, the copy of its internal state."""
    if isinstance(leaf, torch.Generator):
        return leaf.get_state()
    if isinstance(leaf, np.random.Generator):
        return leaf.bit_generator.state
    if isinstance(leaf, np.random.RandomState):
        return leaf.get_state(legacy=False)
    if isinstance(leaf, random.Random):
        return leaf.getstate()
    if isinstance(leaf, Tensor):
        return leaf.detach().clone()
    if isinstance(leaf, dict):
        return type(leaf)((key, held(value)) for key, value in leaf.items())
    if isinstance(leaf, deque):
        return deque(map(held, leaf), leaf.maxlen)
    if isinstance(leaf, (list, tuple, set)):
        return type(leaf)(map(held, leaf))
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _is_state(thing: Any, tensors: bool, depth: int = 0) -> bool:
    if type(thing) in _ATOMS or (isinstance(thing, _GENERATORS) and depth == 0):
        return True
    if isinstance(thing, np.generic):
        return not thing.dtype.hasobject
    if isinstance(thing, Tensor):
        if isinstance(thing, nn.Parameter) and depth:  # others refer to it, so it is written into, not replaced
            return False
        plain = thing.layout is torch.strided and thing.device.type != "meta" and not thing.is_quantized
        return plain and (tensors or (thing.ndim == 1 and not thing.dtype.is_floating_point and not thing.is_complex()))
    if isinstance(thing, np.ndarray):
        plain = type(thing) is np.ndarray and thing.dtype.kind in "biufc"
        return plain and (tensors or (thing.ndim == 1 and thing.dtype.kind in "iu"))
    if type(thing) not in _CONTAINERS or depth > 20:
        return False
    parts = [*thing, *thing.values()] if isinstance(thing, dict) else thing
    return all(_is_state(part, tensors, depth + 1) for part in parts)


def _parts(thing: Any) -> list[tuple[Step, Any]]:
    found = [part for part in anatomy(thing).parts if part[0][0] in _LEADS_ON]
    if isinstance(thing, nn.Module):
        found = [part for part in found if part[0][1] not in ("_parameters", "_buffers")]
        found += [(("parameter", name), parameter) for name, parameter in thing._parameters.items()]
        found += [(("buffer", name), buffer) for name, buffer in thing._buffers.items()]
    return found if not isinstance(thing, _CONTAINERS) or len(found) <= _LONGEST else []


def _at(root: Any, path: Path) -> Any:
    try:
        for step in path:
            root = _part(root, step)
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    return root


_RAISE = object()


def _part(whole: Any, step: Step, missing: Any = _RAISE) -> Any:
    if step[0] == "item" and isinstance(whole, (list, tuple)):
        return whole[step[1]]
    for found, part in _parts(whole):
        if found == step:
            return part
    if missing is _RAISE:
        raise KeyError(step)
    return missing


# restoring ----------------------------------------------------------------------------------------------------------


def _fill(present: Any, value: Any) -> bool:
    """Write a state into the present object, to which others may refer; returns whether that was possible."""
    if isinstance(present, torch.Generator):
        present.set_state(value)
    elif isinstance(present, np.random.Generator):
        present.bit_generator.state = value
    elif isinstance(present, np.random.RandomState):
        present.set_state(value)
    elif isinstance(present, random.Random):
        present.setstate(value)
    elif isinstance(present, Tensor) and isinstance(value, Tensor):
        if (present.shape, present.dtype) != (value.shape, value.dtype):
            return False
        with torch.no_grad():
            present.copy_(value)
    elif type(present) is not type(value):
        return False
    elif isinstance(present, list) and len(present) == len(value):
        for i, (old, new) in enumerate(zip(present, value, strict=True)):
            if not _fill(old, new):
                present[i] = new
    elif isinstance(present, list):
        present[:] = value
    elif isinstance(present, dict) and list(present) == list(value):
        for key, new in value.items():
            if not _fill(present[key], new):
                present[key] = new
    elif isinstance(present, (dict, set)):
        present.clear()
        present.update(value)
    elif isinstance(present, deque):
        present.clear()
        present.extend(value)
    else:
        return False
    return True


def _share_memory(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _replace(whole: Any, step: Step, value: Any) -> None:
    kind, name = step
    if kind == "attribute":
        object.__setattr__(whole, name, value)
    elif kind == "buffer":
        whole._buffers[name] = value
    elif kind in ("item", "key"):
        whole[name] = value
    elif kind == "cell":
        whole.__closure__[whole.__code__.co_freevars.index(name)].cell_contents = value
    elif kind == "global":
        whole.__globals__[name] = value


def forget_workers(*data: Any) -> None:
    """Make data loaders start new workers: persistent workers have states of their own."""
    for part in data:
        if isinstance(part, DataLoader):
            part._iterator = None


# storing ------------------------------------------------------------------------------------------------------------


def encode(state: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """A state as JSON with its types; its tensors are added to ``tensors``, under names that start with ``name``.

    Raises:
        UnstorableError: if a part has a type that cannot be stored; names the part.
    """
    if type(state) in (type(None), bool, int, float, str):
        return state
    if isinstance(state, Tensor) and state.layout is torch.strided and not state.is_quantized:
        # A copy on the host, since a file refuses tensors that share memory, as tied weights do.
        kept = state.detach().to("cpu", copy=True).contiguous()
        tensors[name] = torch.view_as_real(kept.resolve_conj()) if kept.is_complex() else kept.resolve_neg()
        return {"complex" if kept.is_complex() else "tensor": name, "of the CPU": state.device.type == "cpu"}
    if isinstance(state, np.ndarray) and state.dtype.kind in "biufc":
        return {"array": encode(torch.from_numpy(np.ascontiguousarray(state)), tensors, name), "shape": state.shape}
    if isinstance(state, np.generic):
        return {"number": state.dtype.str, "bytes": state.tobytes().hex()}
    if isinstance(state, bytes):
        return {"bytes": state.hex()}
    if isinstance(state, (torch.dtype, torch.device)):
        return {type(state).__name__: str(state).removeprefix("torch.")}
    if isinstance(state, dict):
        pairs = [
            [encode(key, tensors, f"{name}.key {i}"), encode(value, tensors, f"{name}.{_plain(key, i)}")]
            for i, (key, value) in enumerate(state.items())
        ]
        return {"OrderedDict" if isinstance(state, OrderedDict) else "dict": pairs}
    if type(state) in (list, tuple, set, deque):
        items = [encode(item, tensors, f"{name}.{i}") for i, item in enumerate(state)]
        return {type(state).__name__: items, **({"length": state.maxlen} if isinstance(state, deque) else {})}
    raise UnstorableError(f"{name} is a {type(state).__name__}")


def decode(written: Any, tensors: Mapping[str, Tensor], place: torch.device | str = "cpu") -> Any:
    """The state that :func:`encode` stored; tensors that were not on the CPU are moved to ``place``."""
    if not isinstance(written, dict):
        return written
    (kind, content), *more = written.items()
    if kind in ("dict", "OrderedDict"):
        pairs = [(decode(key, tensors, place), decode(value, tensors, place)) for key, value in content]
        return OrderedDict(pairs) if kind == "OrderedDict" else dict(pairs)
    if kind in ("list", "tuple", "set", "deque"):
        items = [decode(item, tensors, place) for item in content]
        return deque(items, more[0][1]) if kind == "deque" else {"list": list, "tuple": tuple, "set": set}[kind](items)
    if kind == "array":
        return decode(content, tensors).numpy().reshape(more[0][1])
    if kind == "number":
        return np.frombuffer(bytes.fromhex(more[0][1]), content)[0]
    if kind in ("tensor", "complex"):
        tensor = tensors[content] if kind == "tensor" else torch.view_as_complex(tensors[content])
        return tensor if more[0][1] else tensor.to(place)
    readers: dict[str, Callable[[Any], Any]] = {
        "bytes": bytes.fromhex,
        "dtype": lambda name: getattr(torch, name),
        "device": torch.device,
    }
    return readers[kind](content)


def _plain(key: Any, otherwise: int) -> str:
    """A key of a dictionary as part of the name of a tensor; its index if it is not a string or an integer."""
    return str(key) if isinstance(key, (str, int)) else f"value {otherwise}"
