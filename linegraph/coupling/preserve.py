"""Leave the caller's model as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from inspect import BoundArguments, signature
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd.graph import saved_tensors_hooks
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode

from linegraph.coupling.hooks import WITHOUT_HOOKS
from linegraph.coupling.operations import describe, is_in_place
from linegraph.coupling.randomness import preserved_randomness
from linegraph.coupling.turns import depth, undoing
from linegraph.errors import UnsupportedOperationError

__all__ = [
    "Autocast",
    "Mode",
    "Unwritten",
    "autocast_dtype",
    "differentiable",
    "preserved",
    "remembering_nothing",
    "renormalising",
    "without_autocast",
]


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
    if not any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
        yield  # to leave what is not entered takes longer than a small product
        return
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@contextmanager
def differentiable(parameters: Iterable[nn.Parameter], chosen: set[int]) -> Iterator[None]:
    """With gradients for the parameters of these ids only, whatever the caller's modes; restored on leaving.

    Hooks on gradients of parameters are not called: they are made for the training step.
    """
    parameters = list(parameters)
    changed: list[nn.Parameter] = []
    hooked: list[tuple[nn.Parameter, Any]] = []

    def restore() -> None:
        for p, hooks in hooked:
            p._backward_hooks = hooks
        for p in changed:
            p.requires_grad_(id(p) not in chosen)

    with _with_gradients(), undoing(restore):
        # Looked at in the turn: another pass may have changed them for a time.
        changed += [p for p in parameters if p.requires_grad != (id(p) in chosen)]
        hooked += [(p, p._backward_hooks) for p in parameters if p._backward_hooks]
        for p in changed:
            p.requires_grad_(id(p) in chosen)
        for p, _ in hooked:
            p._backward_hooks = None
        yield


def _with_gradients() -> AbstractContextManager[Any]:
    """Whatever the caller's modes; to enter what is so already takes a while, beside a small product."""
    if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
        return nullcontext()
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return stack


def remembering_nothing() -> saved_tensors_hooks:
    """For a pass that is recorded but never differentiated: its operations keep no activations.

    Those of a pass within it do, as of a loss that makes a coupling.
    """
    here = depth()

    def keep(t: Tensor) -> Tensor | None:
        return None if depth() == here else t

    def kept(t: Tensor | None) -> Tensor:
        if t is not None:
            return t
        raise UnsupportedOperationError(
            "the model differentiates within its forward pass, and the pass that reads the structure of P cannot; "
            "leave that part out of the model"
        )

    return saved_tensors_hooks(keep, kept)


_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


@contextmanager
def preserved(model: nn.Module, *, training: bool) -> Iterator[Unwritten]:
    """Put the model in one mode; restore all on leaving.

    Modes of single modules, what modules have as attributes (buffers and running statistics, states, caches) and random
    states come back as they were, also after an error or Ctrl-C. Backward hooks, made for the training step, are not
    called on the way. Parameters are not among what is restored: the passes enter what this gives, after every other
    mode, so that it sees what the model does and not what those do about it.
    """
    with preserved_randomness(), torch.inference_mode(False):
        modules = list(model.modules())
        before = [_Attributes(module) for module in modules]
        unwritten = Unwritten(modules)

        def restore() -> None:
            for attributes in before:
                attributes.restore()

        with undoing(restore):
            for module in modules:
                # The pass gets copies, so that running statistics neither move nor count as overwritten afterwards.
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.detach().clone()
                for name in _BACKWARD_HOOKS:
                    if hooks := getattr(module, name):
                        setattr(module, name, type(hooks)())
            for module in modules:
                if isinstance(module, GraphModule) and "train" in module.__dict__:  # exported, in the mode it was in
                    _check_exported(module, training)
                    module.__dict__["train"] = lambda mode=True, module=module: module
            if any(module.training is not training for module in modules):
                with unwritten:
                    model.train(training)
            yield unwritten


def _check_exported(module: GraphModule, training: bool) -> None:
    """Refuse operations of an exported module that act in the other mode."""
    for node in (node for part in module.modules() if isinstance(part, GraphModule) for node in part.graph.nodes):
        if not isinstance(node.target, OpOverload):
            continue
        names = [argument.name for argument in node.target._schema.arguments]
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        mode = given.get("training", given.get("train"))
        if isinstance(mode, bool) and mode is not training and given.get("p") != 0:
            made, other = ("training", "evaluation") if mode else ("evaluation", "training")
            raise UnsupportedOperationError(
                f"the model was exported in {made} mode, in which {node.target} stays, and the coupling is to be of "
                f"{other} mode; export it in {other} mode, or pass training={mode}"
            )


class _Attributes:
    """What a module has as attributes, and what those hold that are dictionaries, lists or sets."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._training = module, module.training
        self._values, self._buffers = dict(module.__dict__), dict(module._buffers.items())
        held = (value for value in self._values.values() if type(value) in (dict, OrderedDict, list, set))
        self._contents = [(value, value.copy() if value else None) for value in held]  # most are empty

    def restore(self) -> None:
        """Put all of it back."""
        self._module.__dict__.clear()
        self._module.__dict__.update(self._values)
        if self._module.training is not self._training:  # which scripted modules keep elsewhere, as buffers
            self._module.training = self._training
        for value, content in self._contents:
            if value:
                value.clear()
            if content:
                (value.extend if isinstance(value, list) else value.update)(content)
        for name, buffer in self._buffers.items():
            self._module._buffers[name] = buffer


class Mode(TorchFunctionMode):
    """What sees the operations of a pass, and should let be those of a pass within it, as of a loss that couples."""

    _depth = 0

    def __enter__(self) -> Self:
        self._depth = depth()
        super().__enter__()
        return self

    def is_of_another_pass(self) -> bool:
        """Whether an operation that this sees now belongs to a pass within that in which this was entered."""
        return depth() != self._depth


class Unwritten(Mode):
    """Refuses to write into parameters, since what they held would be lost; look-ups shorten rows of a copy.

    Hooks on gradients, which the model adds on the way, are not added.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._model = modules[0]
        parameters = (p for module in modules for p in module._parameters.values() if p is not None and p.numel())
        self._memories = {memory for p in parameters if (memory := _memory(p))}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.is_of_another_pass():
            return function(*args, **(kwargs or {}))
        if (stand_in := WITHOUT_HOOKS.get(function)) is not None:
            return stand_in(*args, **(kwargs or {}))
        if is_in_place(function) and (memory := _memory(next(iter(args), None))) in self._memories:
            name = next(name for name, p in self._model.named_parameters() if _memory(p) == memory)
            raise UnsupportedOperationError(
                f"{describe(function)} writes into the parameter {name!r} in the forward pass, or as the model changes "
                "its mode, and the model is to stay as it is; take that out of the forward pass (clipping, moving "
                "averages of another network), couple the part of the model that learns, or put the model in the mode "
                "of the coupling before it is made"
            )
        if call := renormalising(function, args, kwargs or {}):
            call.arguments["weight"] = call.arguments["weight"].clone()
            return function(*call.args, **call.kwargs)
        return function(*args, **(kwargs or {}))


def renormalising(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundArguments | None:
    """The call of a look-up that shortens rows of its weight in place; None for any other."""
    if function not in (F.embedding, F.embedding_bag):
        return None
    call = signature(function).bind(*args, **kwargs)
    return None if call.arguments.get("max_norm") is None else call


def _memory(t: Any) -> int:
    """Where a tensor's numbers lie; 0 for what holds none itself, as sparse ones and those inside of a vmap."""
    return t.untyped_storage()._cdata if isinstance(t, Tensor) and torch._C._has_storage(t) else 0
