"""Devices other than the host: CUDA where there is one, and one that is simulated in the host's memory.

A tensor of the simulated device wraps one of the host that does its arithmetic. Torch knows it as a tensor of another
device all the same, and operations here are as strict as those of CUDA: they refuse to mix devices, NumPy cannot read
their results, and whoever reads them has waited. So code that assumes the host is found out without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

HOST_ARGUMENTS = {aten._pack_padded_sequence.default}
"""Operations that take tensors of the host beside those of the device."""

COPIES = {
    aten._to_copy.default,
    aten.copy_.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
"""Operations that move what is on the other device, such as indices."""

DEPENDS_ON_VALUES = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.unique_consecutive.default,
    aten._unique2.default,
}
"""Operations whose shape or result the host cannot know before the device is done."""


class SimulatedTensor(Tensor):
    """A tensor of the simulated device."""

    held: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> SimulatedTensor:
        placed = {}
        if values.layout == torch.strided:
            placed = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device=SIMULATED, **placed)
        made.held = values
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operate(function, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"SimulatedTensor({self.held})"

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def tolist(self) -> Any:
        _wait("tolist")
        return self.held.tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError("a tensor of another device has no NumPy view; copy it to the host with .cpu() first")

    __array__ = numpy


class Simulation(TorchDispatchMode):
    """Where the simulated device exists."""

    patient = True
    """Whether the host may wait for the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operate(function, args, kwargs or {})


def _wait(for_what: str) -> None:
    if not Simulation.patient:
        raise RuntimeError(f"the host waits for the device in {for_what}")


def _operate(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = any(isinstance(t, SimulatedTensor) for t in tensors)
    target = kwargs.get("device") or (SIMULATED if here else None)
    stays = target is not None and target.type == SIMULATED.type
    if not here and not stays:
        return function(*args, **kwargs)
    _check(function, tensors, stays)
    inside, options = tree_map(lambda x: x.held if isinstance(x, SimulatedTensor) else x, (args, kwargs))
    result = function(*inside, **options | ({"device": torch.device("cpu")} if "device" in options else {}))
    if not stays:
        return result
    if function is aten._pack_padded_sequence.default:
        return SimulatedTensor(result[0]), result[1]  # the lengths are of the host
    wrapped = tree_map(lambda x: SimulatedTensor(x) if isinstance(x, Tensor) else x, result)
    return return_and_correct_aliasing(function, args, kwargs, wrapped)


def _check(function: Any, tensors: list[Tensor], stays: bool) -> None:
    """Refuse what CUDA would; ``stays`` tells whether the result is of the device."""
    strangers = any(t.ndim and not isinstance(t, SimulatedTensor) for t in tensors)
    if function in DEPENDS_ON_VALUES:
        _wait(str(function))
    if function in COPIES:
        if strangers or not stays:
            _wait(str(function))
    elif strangers and function not in HOST_ARGUMENTS:
        raise RuntimeError(f"{function} meets tensors of two devices")


@contextmanager
def unwaited(device: torch.device) -> Iterator[None]:
    """Where it is an error that the host waits for the device."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    Simulation.patient = False
    try:
        yield
    finally:
        Simulation.patient = True
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def _made_by(function: Any) -> Any:
    """What makes a tensor of the simulated device."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return SimulatedTensor(function(*args, **kwargs))

    return made


def _copy_from(source: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    return _operate(aten.copy_.default, (to, source), {})


class _Unasked:
    """The module of the device. Nothing goes there by itself, as DataParallel goes to what is available."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass


def _register() -> tuple[torch.device, torch.library.Library]:
    """The device, and what torch calls past every mode: to make a tensor from numbers, and in other threads."""
    backend_registration._setup_privateuseone_for_python_backend("simulated", backend_module=_Unasked())
    kernels = torch.library.Library("aten", "IMPL")
    for made in (aten.empty.memory_format, aten.empty_strided.default, aten.arange.default, aten.arange.start):
        kernels.impl(made, _made_by(made), "PrivateUse1")
    kernels.impl(aten._copy_from.default, _copy_from, "PrivateUse1")
    return torch.device("simulated", 0), kernels


# Torch takes what is registered for the one accelerator there is, so where there is a GPU nothing is.
CAN_SIMULATE = not torch.cuda.is_available() and hasattr(
    backend_registration, "_setup_privateuseone_for_python_backend"
)
if CAN_SIMULATE:
    SIMULATED, _kernels = _register()
