"""Forward passes in operations that can be seen: nothing compiled, computed again or called back.

Other threads go on as they are. Where torch decides for all threads at once (whether to compile, what a checkpoint
keeps, which hooks all modules share), it decides for each thread by itself while a pass runs.
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
from linegraph.turns import pass_depth, turn, undoing

__all__ = ["in_the_open", "remembering_nothing"]


@contextmanager
def in_the_open(model: nn.Module) -> Iterator[None]:
    """A forward pass in operations that can be seen.

    Compiled code runs as it was written, checkpoints keep what they would compute again, and hooks that all modules
    share are not called back.
    """
    with turn(), ExitStack() as stack:
        if not _passes.depth:
            for owner, name, value in _decided_by_thread():
                stack.enter_context(_replaced(owner, name, value))
        stack.enter_context(_unfused_scripts(model))
        stack.enter_context(_passes)
        yield


class _Passes(threading.local):
    """Counts the passes that this thread is in, one within the other."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: Any) -> None:
        self.depth -= 1


_passes = _Passes()


# what torch decides for all threads ---------------------------------------------------------------------


def _decided_by_thread() -> Iterator[tuple[Any, str, Any]]:
    """Owner, name and what decides for each thread."""
    if "torch._dynamo" in sys.modules:
        frames = sys.modules["torch._dynamo.eval_frame"]
        yield frames, "_stance", _Stance(frames._stance)
    else:  # nothing is compiled yet, and to import the compiler would take seconds
        yield torch, "compile", _by_thread(_as_written, torch.compile)
    generator = "_checkpoint_without_reentrant_generator"
    yield checkpoint, generator, _by_thread(_keep_all, getattr(checkpoint, generator))
    yield checkpoint.CheckpointFunction, "apply", _by_thread(_call, checkpoint.CheckpointFunction.apply)
    for name, hidden in _HIDDEN.items():
        if hidden.hooks:
            yield modules, name, hidden


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """With another value of an attribute, unless somebody else has replaced it too."""
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
        return (in_pass if _passes.depth else elsewhere)(*args, **kwargs)

    return decide


class _Stance:
    """The stance of the compiler: within a pass compiled code runs as it was written."""

    def __init__(self, elsewhere: Any) -> None:
        self._elsewhere = elsewhere

    @property
    def stance(self) -> str:
        return "force_eager" if _passes.depth else self._elsewhere.stance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._elsewhere, name)


def _as_written(model: Any = None, **_options: Any) -> Any:
    """What is compiled within a pass stays as it is."""
    return (lambda function: function) if model is None else model


def _keep_all(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """What surrounds a checkpointed function: nothing."""
    yield


def _call(function: Callable[..., Any], _preserve_rng_state: bool, *args: Any) -> Any:
    return function(*args)


class _Hidden(MutableMapping[int, Any]):
    """Hooks that all modules share, of which a pass sees none."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self.hooks = hooks

    def __getitem__(self, key: int) -> Any:
        return self.hooks[key]

    def __setitem__(self, key: int, hook: Any) -> None:
        self.hooks[key] = hook

    def __delitem__(self, key: int) -> None:
        del self.hooks[key]

    def __iter__(self) -> Iterator[int]:
        return iter(() if _passes.depth else self.hooks)

    def __len__(self) -> int:
        return 0 if _passes.depth else len(self.hooks)


# Made once: handles of hooks that are registered meanwhile know them.
_HIDDEN = {name: _Hidden(getattr(modules, name)) for name in ("_global_backward_hooks", "_global_backward_pre_hooks")}


def _unfused_scripts(model: nn.Module) -> AbstractContextManager[Any]:
    """Attention in scripted code is seen by no mode; that it is not fused, torch has to decide for all threads."""
    is_scripted = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    return sdpa_kernel(SDPBackend.MATH) if is_scripted else nullcontext()


def remembering_nothing() -> saved_tensors_hooks:
    """For a pass that is recorded but never differentiated: its operations keep no activations.

    Those of a pass within it do, as of a loss that makes a coupling.
    """
    here = pass_depth()

    def keep(t: Tensor) -> Tensor | None:
        return None if pass_depth() == here else t

    def kept(t: Tensor | None) -> Tensor:
        if t is not None:
            return t
        raise UnsupportedOperationError(
            "the model differentiates within its forward pass, and the pass that reads the structure of P cannot; "
            "leave that part out of the model"
        )

    return saved_tensors_hooks(keep, kept)
