"""Forward passes that run every operation plainly, so that it can be intercepted.

Nothing runs compiled, scripted code runs operation by operation unless torch has optimised it before, checkpoints
recompute nothing, and global backward hooks are not called. Torch has most of these settings for all threads of the
process. While a pass runs, they are replaced by ones that depend on the thread, so that passes run plainly and other
threads are not affected.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as modules
from torch.utils import checkpoint

from linegraph.errors import UnsupportedOperationError
from linegraph.turns import latest_change, turn, undoing

__all__ = ["in_the_open", "remembering_nothing"]


@contextmanager
def in_the_open(model: nn.Module) -> Iterator[None]:
    """A context for a forward pass whose operations can all be intercepted.

    Compiled code runs as it was written, checkpoints keep all activations, and global backward hooks are not called.
    """
    with turn(), ExitStack() as stack:
        if not _passes.within:
            for owner, name, value in _decided_by_thread():
                stack.enter_context(_replaced(owner, name, value))
        stack.enter_context(_unfused_scripts(model))
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]  # of this thread
        stack.enter_context(_within())
        yield


class _Passes(threading.local):
    """Whether the present thread is in a pass."""

    within = False


_passes = _Passes()


@contextmanager
def _within() -> Iterator[None]:
    """A context in which the present thread is in a pass."""
    before, thread = _passes.within, threading.get_ident()

    def undo() -> None:
        if threading.get_ident() == thread:
            _passes.within = before

    with undoing(undo):
        _passes.within = True
        yield


# settings of torch for all threads ---------------------------------------------------------------------


def _decided_by_thread() -> Iterator[tuple[Any, str, Any]]:
    """Settings to replace.

    The object that has it, the name of its attribute, and a value that depends on the thread.
    """
    if "torch._dynamo" in sys.modules:
        frames = sys.modules["torch._dynamo.eval_frame"]
        yield frames, "_stance", _Stance(frames._stance)
    else:  # nothing is compiled yet; importing the compiler takes seconds
        yield torch, "compile", _by_thread(_as_written, torch.compile)
    generator = "_checkpoint_without_reentrant_generator"
    yield checkpoint, generator, _by_thread(_keep_all, getattr(checkpoint, generator))
    yield checkpoint.CheckpointFunction, "apply", _by_thread(_call, checkpoint.CheckpointFunction.apply)
    for name, hidden in _HIDDEN.items():
        if hidden.hooks:
            yield modules, name, hidden


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """A context with another value of an attribute; on leaving it is put back, unless others have replaced it since."""
    is_own, before = name in vars(owner), vars(owner).get(name)

    def undo() -> None:
        if vars(owner).get(name) is value:
            setattr(owner, name, before) if is_own else delattr(owner, name)

    with undoing(undo):
        setattr(owner, name, value)
        yield


def _by_thread(in_pass: Callable[..., Any], elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(elsewhere)
    def decide(*args: Any, **kwargs: Any) -> Any:
        return (in_pass if _passes.within else elsewhere)(*args, **kwargs)

    return decide


class _Stance:
    """A stance of ``torch.compiler`` by which compiled code runs eagerly within a pass, and as before elsewhere."""

    def __init__(self, elsewhere: Any) -> None:
        self._elsewhere = elsewhere

    @property
    def stance(self) -> str:
        return "force_eager" if _passes.within else self._elsewhere.stance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._elsewhere, name)


def _as_written(model: Any = None, **_options: Any) -> Any:
    """Stands for ``torch.compile`` within a pass: returns the function or module uncompiled."""
    return (lambda function: function) if model is None else model


def _keep_all(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """Stands for the generator that wraps a checkpointed function: does nothing before or after it."""
    yield


def _call(function: Callable[..., Any], _preserve_rng_state: bool, *args: Any) -> Any:
    return function(*args)


class _Hidden(MutableMapping[int, Any]):
    """Global hooks of modules, a mapping that is empty for a thread within a pass."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self.hooks = hooks

    def __getitem__(self, key: int) -> Any:
        return self.hooks[key]

    def __setitem__(self, key: int, hook: Any) -> None:
        self.hooks[key] = hook

    def __delitem__(self, key: int) -> None:
        del self.hooks[key]

    def __iter__(self) -> Iterator[int]:
        return iter(() if _passes.within else self.hooks)

    def __len__(self) -> int:
        return 0 if _passes.within else len(self.hooks)


# Made once: handles of hooks that are registered during a pass refer to these objects.
_HIDDEN = {name: _Hidden(getattr(modules, name)) for name in ("_global_backward_hooks", "_global_backward_pre_hooks")}


def _unfused_scripts(model: nn.Module) -> AbstractContextManager[Any]:
    """A context in which scripted attention runs unfused, in all threads: modes cannot intercept scripted code."""
    is_scripted = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    return sdpa_kernel(SDPBackend.MATH) if is_scripted else nullcontext()


def remembering_nothing() -> saved_tensors_hooks:
    """Hooks for a pass that autograd records but that is never differentiated: its operations save no activations.

    Operations of a pass within it, as of a loss that makes a coupling, do save theirs.
    """
    here = latest_change()

    def keep(t: Tensor) -> Tensor | None:
        return None if latest_change() is here else t

    def kept(t: Tensor | None) -> Tensor:
        if t is not None:
            return t
        raise UnsupportedOperationError(
            "the model computes gradients within its forward pass, which is not possible while the structure of P is "
            "read; leave that part out of the model"
        )

    return saved_tensors_hooks(keep, kept)
