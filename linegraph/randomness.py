"""The states of the global random generators, which all threads of the process share."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch

from linegraph.turns import preserving

__all__ = ["preserved_randomness", "random_state", "seed_generators", "set_random_state"]

RandomState = tuple[torch.Tensor, list[torch.Tensor], Any, Any]


def random_state() -> RandomState:
    """The states of the global generators: torch's, on the CPU and on CUDA devices in use, NumPy's and Python's."""
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), on_devices, np.random.get_state(), random.getstate()  # noqa: NPY002


def set_random_state(state: RandomState) -> None:
    """Set the global generators to states that :func:`random_state` returned."""
    of_torch, on_devices, of_numpy, of_python = state
    torch.set_rng_state(of_torch)
    if on_devices:
        torch.cuda.set_rng_state_all(on_devices)
    np.random.set_state(of_numpy)  # noqa: NPY002
    random.setstate(of_python)


def seed_generators(number: int) -> None:
    """Seed the generators of torch, NumPy and Python."""
    torch.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 (seeds the global generator)
    random.seed(number)


def preserved_randomness() -> AbstractContextManager[None]:
    """A context that restores the states of the global generators on leaving, also after an error or Ctrl-C."""
    return preserving(_present)


def _present() -> Callable[[], None]:
    return partial(set_random_state, random_state())
