"""Leave the caller's model and random state as they were."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from linegraph.errors import UnsupportedOperationError

__all__ = [
    "Autocast",
    "autocast_dtype",
    "differentiable",
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
    """With gradients for the parameters of these ids only, whatever the caller's modes; restored on leaving."""
    changed = [p for p in parameters if p.requires_grad != (id(p) in chosen)]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for p in changed:
                p.requires_grad_(id(p) in chosen)
            yield
        finally:
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


@contextmanager
def preserved(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in one mode; restore all on leaving.

    Modes of single modules, buffers (running statistics move in training mode) and random states come back as they
    were, also after an error or Ctrl-C.
    """
    modules = list(model.modules())
    modes = [(module, module.training) for module in modules]
    buffers = [
        (module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None
    ]
    with preserved_randomness(), torch.inference_mode(False):
        try:
            # The pass gets copies, so that running statistics neither move nor count as overwritten afterwards.
            for module, name, buffer in buffers:
                module._buffers[name] = buffer.detach().clone()
            model.train(training)
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
