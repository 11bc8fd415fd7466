"""Parameters that ``fully_shard`` (FSDP2) splits over processes, gathered for the operations that read them.

A *unit* is what one ``fully_shard`` manages: the parameters of a module outside of the units nested in it. In a pass
the modules hold *stand-ins* in place of their sharded parameters: plain parameters of full shape, whose memory is
allocated only while their unit is gathered. A unit is gathered before the forward of its module, and whenever an
operation reads a stand-in whose memory is not there, as in a backward sweep. So what the passes record refers to
stand-ins, and keeps no weight in memory. FSDP's own hooks do not run in a pass: they are made for training steps.

A gather is a collective operation, but processes need not run the same passes: one may have fewer batches, or fail.
Therefore they agree on each one, as :class:`~linegraph.processes.Exchanges` describes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.utils import _apply_to_tensors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from linegraph.coupling.model.writes import memory
from linegraph.errors import UnsupportedOperationError
from linegraph.processes import Exchanges
from linegraph.turns import undoing

__all__ = ["Shards", "refuse_shards"]

T = TypeVar("T")

RECENT = 2
"""Units that stay gathered outside of their forward: in training these are the present one and the next."""

_FSDP, _TENSOR_PARALLEL = "torch.distributed.fsdp", "torch.distributed.tensor"
_NO_DATA = {"aten::detach", "aten::empty_like", "aten::new_zeros", "aten::new_empty", "aten::ones_like"}
"""Operations that read no memory of their argument. Views do: they check that it is large enough."""


class Shards:
    """The sharded parameters of a model; without any, all contexts of this object do nothing.

    Args:
        model: the model. Units that are gathered, as after a forward pass without a backward pass, are sharded again.

    Raises:
        UnsupportedOperationError: names a parameter that is sharded in another way than by ``fully_shard``.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._units: dict[int, _Unit] = {}
        self._unit_of: dict[nn.Module, _Unit] = {}
        self._stand_ins: dict[int, nn.Parameter] = {}
        _refuse_flat(model, self._modules)
        parameters = (p for module in self._modules for p in module._parameters.values())
        if any(map(_is_unit, self._modules)) or any(map(_is_sharded, parameters)):
            self._reshard()
            self._collect(model, None, {id(p): name for name, p in model.named_parameters()})
            _refuse_tensor_parallel(model)
        self._owners = {memory(s): unit for unit in self._units.values() for s in unit.stand_ins}
        self.exchanges = Exchanges(next((s.device for s in self._stand_ins.values()), torch.device("cpu")))
        help_others = [partial(unit.gather, keep=False) for unit in self._units.values()]
        self._numbers = dict(zip(self._units.values(), self.exchanges.offer(help_others), strict=True))
        self._gathered: list[_Unit] = []  # the latest last

    def __bool__(self) -> bool:
        return bool(self._stand_ins)

    def in_place_of(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Parameters by name, with stand-ins for those that are sharded."""
        return {name: self._stand_ins.get(id(p), p) for name, p in parameters.items()}

    def _collect(self, module: nn.Module, unit: _Unit | None, names: Mapping[int, str]) -> None:
        if _is_unit(module):
            state: Any = module._get_fsdp_state()  # type: ignore[operator]
            unit = self._unit_of[module] = self._units.setdefault(id(state), _Unit(state._mp_policy))
        held: Iterable[Any] = module._parameters.values()
        for p in held:
            if _is_sharded(p) and id(p) not in self._stand_ins:
                _check_covered(names[id(p)], p, unit)
                assert unit is not None
                self._stand_ins[id(p)] = unit.add(p)
        for child in module.children():
            self._collect(child, unit, names)

    # collective calls ------------------------------------------------------------------------------

    def shared(self, work: Callable[[], T]) -> Callable[[], T]:
        """``work``, after which this process takes part in the exchanges of the others, until the work of all is over.

        Passes and sweeps run within such work. It is a collective call.
        """
        if not self:
            return work

        def run() -> T:
            try:
                self._reshard()
                result = work()
            except Exception:
                self._end()
                raise
            self._end()
            return result

        return run

    def _end(self) -> None:
        """Release all memory, and take part in the exchanges of others."""
        self._gathered.clear()
        for unit in self._numbers:
            unit.release(everything=True)
        with torch.no_grad():
            self.exchanges.end()

    def _gather(self, unit: _Unit, needed: Iterable[_Unit]) -> None:
        """Gather a unit, and release those that were gathered long ago and are not needed now."""
        is_there = unit in self._gathered
        if is_there:
            self._gathered.remove(unit)
        self._gathered.append(unit)  # first, since the operations of a gather pass through the mode of the pass
        if not is_there:
            with torch._C.DisableTorchFunction(), torch.no_grad():
                self.exchanges.ask(self._numbers[unit])
                unit.gather()
        idle = [u for u in self._gathered if not u.running and u not in needed]
        for old in idle[: max(0, len(idle) - RECENT)]:
            self._gathered.remove(old)
            old.release()

    def need(self, tensors: Iterable[Any]) -> None:
        """Gather the units of all stand-ins among some tensors, and among the tensors that these are views of."""
        units = [self._owners.get(memory(t)) for t in tensors]
        needed = [unit for unit in dict.fromkeys(units) if unit is not None]
        for unit in needed:
            self._gather(unit, needed)

    # contexts of passes ----------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[Any]:
        """A context in which operations gather the stand-ins that they read; for passes and sweeps."""
        return _Reading(self) if self else nullcontext()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the modules hold stand-ins, and gather them without FSDP's own hooks."""
        if not self:
            yield
            return
        before: list[tuple[Any, Any]] = [
            (held, dict(held))
            for module in self._modules
            for held in (module._parameters, module._forward_pre_hooks, module._forward_hooks)
            if held
        ]

        def restore() -> None:
            for held, content in before:
                held.update(content)
            for unit in self._numbers:
                unit.running = 0

        with undoing(restore):
            self._reshard()
            for module in self._modules:
                for key, p in module._parameters.items():
                    module._parameters[key] = self._stand_ins.get(id(p), p)
                if (unit := self._unit_of.get(module)) is not None:
                    _replace(module._forward_pre_hooks, self._entering(unit))
                    _replace(module._forward_hooks, unit.leave)
            yield

    def _entering(self, unit: _Unit) -> Callable[..., Any]:
        def enter(_module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
            unit.running += 1
            if unit.stand_ins:
                self._gather(unit, ())
            return unit.cast_inputs(args), unit.cast_inputs(kwargs)

        return enter

    def _reshard(self) -> None:
        """Let the modules hold their sharded parameters again, if a forward pass has left them gathered."""
        for module in self._modules:
            if _is_unit(module):
                module.reshard()  # type: ignore[operator]


class _Unit:
    """The parameters that one ``fully_shard`` manages, and their stand-ins.

    Args:
        policy: the mixed-precision policy of the unit.

    Attributes:
        running: the number of forwards of its module that run now.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._shards: list[_Shard] = []
        self.running = 0

    @property
    def stand_ins(self) -> list[nn.Parameter]:
        """The stand-ins, in the order of the parameters."""
        return [shard.stand_in for shard in self._shards]

    def add(self, p: nn.Parameter) -> nn.Parameter:
        """Add a sharded parameter; returns its stand-in, which has no memory yet."""
        self._shards.append(_Shard(p, self._policy.param_dtype if p.is_floating_point() else None))
        return self._shards[-1].stand_in

    def gather(self, *, keep: bool = True) -> None:
        """Fill the stand-ins, or only help others to; a collective call, of one exchange for each type of number."""
        alike: dict[Any, list[_Shard]] = {}
        for shard in self._shards:
            alike.setdefault((shard.group, shard.stand_in.dtype), []).append(shard)
        for (group, _), shards in alike.items():
            sent = torch.cat([shard.padded().flatten() for shard in shards])
            received = sent.new_empty(1 if group is None else dist.get_world_size(group), len(sent))
            if group is None:
                received.copy_(sent)
            else:
                dist.all_gather([*received.unbind()], sent, group=group)
            if keep:
                sizes = [shard.numel for shard in shards]
                for shard, parts in zip(shards, received.split(sizes, 1), strict=True):
                    shard.fill(parts)

    def release(self, *, everything: bool = False) -> None:
        """Free the memory of the stand-ins.

        Vectors, which take little, stay until the end of the work: kernels of other libraries, as for fused norms, read
        them in the backward pass without an operation of torch.
        """
        for stand_in in self.stand_ins:
            if everything or stand_in.ndim > 1:
                stand_in.untyped_storage().resize_(0)

    def cast_inputs(self, part: Any) -> Any:
        """The arguments of the module in the precision that the policy asks for."""
        return _cast(part, self._policy.param_dtype) if self._policy.cast_forward_inputs else part

    def leave(self, _module: nn.Module, _inputs: Any, outputs: Any) -> Any:
        """The hook that ends a forward of the module."""
        self.running -= 1
        return _cast(outputs, self._policy.output_dtype)


class _Shard:
    """A sharded parameter and its stand-in.

    Args:
        p: the parameter.
        dtype: the type of its numbers in a pass; None for its own.

    Attributes:
        group: the processes that hold the parts of it; None if this process holds all.
    """

    def __init__(self, p: Any, dtype: torch.dtype | None) -> None:
        self._p = p
        with torch.inference_mode(False):
            self.stand_in = nn.Parameter(torch.empty(p.shape, dtype=dtype or p.dtype, device=p.device), p.requires_grad)
        self.stand_in.untyped_storage().resize_(0)
        self.group, self._dim, self._part = None, 0, list(p.shape)
        for mesh_dim, placement in enumerate(p.placements):
            if placement.is_shard():
                self.group, self._dim = p.device_mesh.get_group(mesh_dim), placement.dim
                self._part[self._dim] = -(-p.shape[self._dim] // dist.get_world_size(self.group))

    @property
    def numel(self) -> int:
        """Numbers of a part."""
        return math.prod(self._part)

    def padded(self) -> Tensor:
        """This process's part, padded to the size of the largest one."""
        part = self._p.to_local().detach().to(self.stand_in.dtype)
        if list(part.shape) == self._part:
            return part
        whole = part.new_zeros(self._part)
        whole.narrow(self._dim, 0, part.shape[self._dim]).copy_(part)
        return whole

    def fill(self, parts: Tensor) -> None:
        """Allocate the stand-in and write all parts into it, the rows of ``parts``."""
        dim, stand_in = self._dim, self.stand_in
        whole = parts.unflatten(1, self._part).movedim(0, dim).flatten(dim, dim + 1)
        stand_in.untyped_storage().resize_(stand_in.numel() * stand_in.element_size())
        # By .data, so that the version of what is recorded does not change.
        stand_in.data.copy_(whole.narrow(dim, 0, stand_in.shape[dim]))


class _Reading(TorchDispatchMode):
    """A mode that gathers the stand-ins which operations read, also those of autograd's backward passes."""

    supports_higher_order_operators = True  # which have no schema

    def __init__(self, shards: Shards) -> None:
        super().__init__()
        self._shards = shards

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(getattr(function, "_schema", None), "name", "") not in _NO_DATA:
            self._shards.need(tree_leaves((args, kwargs)))
        return function(*args, **kwargs)


def _cast(part: Any, dtype: torch.dtype | None) -> Any:
    """The arguments or results of a module with real tensors converted, in the containers that FSDP looks into."""
    if dtype is None:
        return part
    converted: Any = _apply_to_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, part)
    return converted


def _replace(hooks: dict[int, Any], own: Callable[..., Any]) -> None:
    """Replace FSDP's hook of a module by another one, called in its turn."""
    for key, hook in hooks.items():
        if _home(hook).startswith(_FSDP):
            hooks[key] = own


def _home(hook: Any) -> str:
    return getattr(hook, "__module__", None) or ""


# what is sharded -----------------------------------------------------------------------------------


def _is_unit(module: nn.Module) -> bool:
    """Whether ``fully_shard`` was called with a module."""
    unit = getattr(sys.modules.get(_FSDP), "FSDPModule", None)
    return unit is not None and isinstance(module, unit)


def _is_sharded(p: Any) -> bool:
    """Whether this process may hold only a part of a parameter."""
    return type(p).__name__ == "DTensor"


_COPY = (
    "in every process, load a full state dict into a plain model and make the coupling of that, with the process's "
    "shard of the data: sums over samples are then added up over processes"
)


def _check_covered(name: str, p: Any, unit: _Unit | None) -> None:
    """Refuse parameters that are sharded in another way than by ``fully_shard`` alone.

    Raises:
        UnsupportedOperationError: names the parameter.
    """
    if unit is None:
        raise UnsupportedOperationError(
            f"{name!r} is sharded over processes ({type(p).__name__}), and not by torch.distributed.fsdp.fully_shard, "
            f"which is the only way that P can gather; shard the model by it, or {_COPY}"
        )
    splits = [placement for placement in p.placements if placement.is_shard()]
    if len(splits) > 1 or any(placement.is_partial() for placement in p.placements):
        raise UnsupportedOperationError(f"{name!r} is sharded in several ways, {p.placements}, and {_PARALLEL}")
    if type(p.to_local().data) is not Tensor:
        raise UnsupportedOperationError(
            f"the shards of {name!r} are of the class {type(p.to_local().data).__name__}, whose gathered form only "
            f"FSDP knows; {_COPY}"
        )
    if p.device.type != p.device_mesh.device_type:
        raise UnsupportedOperationError(
            f"the shards of {name!r} are kept on {p.device} and computed with on {p.device_mesh.device_type} "
            f"(CPUOffloadPolicy); move them to it before making the coupling, or {_COPY}"
        )


_PARALLEL = (
    "processes that hold parts of one layer (tensor parallel) are not shards of the data, of which P is a sum; " + _COPY
)


def _refuse_tensor_parallel(model: nn.Module) -> None:
    for name, module in model.named_modules():
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            if _home(hook).startswith(_TENSOR_PARALLEL):
                raise UnsupportedOperationError(f"the module {name!r} is computed in parallel, and {_PARALLEL}")


def _refuse_flat(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Refuse the wrapper of FSDP1, which flattens parameters."""
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in modules):
        name = next((name for name, _ in model.named_parameters()), "")
        raise UnsupportedOperationError(
            f"{name!r} is sharded over processes by FullyShardedDataParallel, and P gathers parameters sharded by "
            f"torch.distributed.fsdp.fully_shard only; shard the model by it, or {_COPY}"
        )


def refuse_shards(model: nn.Module) -> None:
    """Refuse a model with sharded parameters, for functions that read whole weights in one process.

    Raises:
        UnsupportedOperationError: names the first sharded parameter.
    """
    _refuse_flat(model, model.modules())
    for name, p in model.named_parameters():
        if _is_sharded(p):
            raise UnsupportedOperationError(
                f"{name!r} is sharded over processes ({type(p).__name__}), and this function reads whole weights; load "
                "a full state dict into a plain model"
            )
