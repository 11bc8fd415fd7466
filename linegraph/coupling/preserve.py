"""Leave the caller's model and random state as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["preserved", "preserved_randomness", "random_state", "set_random_state"]


def random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The states of torch's generators, on the CPU and on CUDA devices in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    """Put torch's generators into a state that :func:`random_state` gave."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


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
def preserved(model: nn.Module, *, training: bool, differentiable: set[int]) -> Iterator[None]:
    """Put the model in one mode with gradients for the parameters of these ids only; restore all on leaving.

    Modes of single modules, ``requires_grad``, buffers (running statistics move in training mode) and
    random states come back as they were, also after an error or Ctrl-C.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with ExitStack() as stack:
        stack.enter_context(preserved_randomness())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        try:
            # The pass gets copies, so that running statistics neither move nor count as overwritten afterwards.
            for module, name, buffer in buffers:
                module._buffers[name] = buffer.detach().clone()
            model.train(training)
            for p, _ in flags:
                p.requires_grad_(id(p) in differentiable)
            yield
        finally:
            for p, flag in flags:
                p.requires_grad_(flag)
            for module, mode in modes:
                module.training = mode
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
