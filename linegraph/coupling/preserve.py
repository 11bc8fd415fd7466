"""Leave the caller's model and random state as they were, and run its passes in the open."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import checkpoint

from linegraph.errors import UnsupportedOperationError

__all__ = [
    "Autocast",
    "autocast_dtype",
    "differentiable",
    "in_the_open",
    "preserved",
    "preserved_randomness",
    "random_state",
    "remembering_nothing",
    "set_random_state",
    "without_autocast",
]


def random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The states of torch's generators, on the CPU and on CUDA devices in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    """Put torch's generators into a state that :func:`random_state` gave."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


class Autocast:
    """The autocast settings of the place where this is made, for passes made later elsewhere."""

    def __init__(self) -> None:
        self._settings = [
            (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)) for device in ("cpu", "cuda")
        ]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """With those settings; casts of weights are not kept, since weights may change between passes."""
        with ExitStack() as stack:
            for device, dtype, enabled in self._settings:
                stack.enter_context(torch.autocast(device, dtype, enabled=enabled, cache_enabled=False))
            yield


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast runs matrix products in on a device, None where it is off."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


@contextmanager
def without_autocast() -> Iterator[None]:
    """What was recorded is computed with in the precision it was recorded in."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@contextmanager
def in_the_open() -> Iterator[None]:
    """A forward pass in operations that can be seen, and differentiated twice.

    Compiled code runs as it was written, attention is not fused, checkpoints keep what they would compute again, and
    hooks that all modules share are not called back.
    """
    with (
        torch.compiler.set_stance("force_eager"),
        patch.dict(nn.modules.module._global_backward_hooks, clear=True),
        patch.dict(nn.modules.module._global_backward_pre_hooks, clear=True),
        sdpa_kernel(SDPBackend.MATH),
        patch.object(checkpoint, "_checkpoint_without_reentrant_generator", _keep_all),
        patch.object(checkpoint.CheckpointFunction, "apply", _call),
    ):
        yield


def _keep_all(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """What surrounds a checkpointed function: nothing."""
    yield


def _call(function: Callable[..., Any], _preserve_rng_state: bool, *args: Any) -> Any:
    return function(*args)


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Restore the generators of torch, NumPy and Python on leaving, also after an error or Ctrl-C."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 (the global one is meant)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def differentiable(parameters: Iterable[nn.Parameter], chosen: set[int]) -> Iterator[None]:
    """With gradients for the parameters of these ids only, whatever the caller's modes; restored on leaving.

    Hooks on gradients of parameters are not called: they are made for the training step.
    """
    parameters = list(parameters)
    changed = [p for p in parameters if p.requires_grad != (id(p) in chosen)]
    hooked = [(p, p._backward_hooks) for p in parameters if p._backward_hooks]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for p in changed:
                p.requires_grad_(id(p) in chosen)
            for p, _ in hooked:
                p._backward_hooks = None
            yield
        finally:
            for p, hooks in hooked:
                p._backward_hooks = hooks
            for p in changed:
                p.requires_grad_(id(p) not in chosen)


def remembering_nothing() -> saved_tensors_hooks:
    """For a pass that is recorded but never differentiated: its operations keep no activations."""

    def refuse(_: Any) -> Tensor:
        raise UnsupportedOperationError(
            "the model differentiates within its forward pass, and the pass that reads the structure of P cannot; "
            "leave that part out of the model"
        )

    return saved_tensors_hooks(lambda _: None, refuse)


_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


@contextmanager
def preserved(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in one mode; restore all on leaving.

    Modes of single modules, buffers (running statistics move in training mode) and random states come back as they
    were, also after an error or Ctrl-C. Backward hooks, made for the training step, are not called on the way.
    """
    modules = list(model.modules())
    hooked = [
        (module, name, hooks) for module in modules for name in _BACKWARD_HOOKS if (hooks := getattr(module, name))
    ]
    modes = [(module, module.training) for module in modules]
    buffers = [
        (module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None
    ]
    with preserved_randomness(), torch.inference_mode(False):
        try:
            # The pass gets copies, so that running statistics neither move nor count as overwritten afterwards.
            for module, name, buffer in buffers:
                module._buffers[name] = buffer.detach().clone()
            for module, name, hooks in hooked:
                setattr(module, name, type(hooks)())
            model.train(training)
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            for module, name, hooks in hooked:
                setattr(module, name, hooks)
