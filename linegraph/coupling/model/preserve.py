"""Contexts in which a pass may change the user's model, and which restore it on leaving."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.fx import GraphModule

from linegraph.coupling.model.precision import Modes
from linegraph.coupling.model.writes import Unwritten
from linegraph.errors import UnsupportedOperationError
from linegraph.randomness import preserved_randomness
from linegraph.turns import undoing

__all__ = ["differentiable", "preserved"]


@contextmanager
def differentiable(parameters: Iterable[nn.Parameter], chosen: set[int]) -> Iterator[None]:
    """A context in which only some parameters require gradients; restored on leaving.

    It enables gradients even under ``torch.no_grad`` or ``inference_mode``. Hooks on gradients of parameters are not
    called, since they are made for the training step.

    Args:
        parameters: all parameters of the model.
        chosen: the ids of those that require gradients.
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
        # Read after the turn is taken: another thread's pass may have changed them temporarily.
        changed += [p for p in parameters if p.requires_grad != (id(p) in chosen)]
        hooked += [(p, p._backward_hooks) for p in parameters if p._backward_hooks]
        for p in changed:
            p.requires_grad_(id(p) in chosen)
        for p, _ in hooked:
            p._backward_hooks = None
        yield


def _with_gradients() -> AbstractContextManager[Any]:
    """A context with gradients enabled.

    A null context if they are, since entering takes longer than a small product.
    """
    if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
        return nullcontext()
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return stack


_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


@contextmanager
def preserved(model: nn.Module, *, training: bool) -> Iterator[Unwritten]:
    """A context with the model in training or evaluation mode, which restores the model on leaving.

    Restored are the modes of all modules, their attributes (buffers, running statistics, states, caches) and the random
    states, also after an error or Ctrl-C. Backward hooks, which are made for the training step, are not called.

    Parameters are not restored. Instead, a pass enters the mode that this context returns, which raises an error if the
    model writes into one. It must be entered after all other modes, so that it intercepts the operations of the model
    and not those by which other modes replace them.

    Args:
        model: the model.
        training: whether to run in training mode.
    """
    with preserved_randomness(), torch.inference_mode(False):
        modules = list(model.modules())
        before = [_Attributes(module) for module in modules]
        unwritten, modes = Unwritten(modules), Modes()

        def restore() -> None:
            modes.restore()
            for attributes in before:
                attributes.restore()

        with undoing(restore):
            for module in modules:
                # The pass uses copies, so that running statistics do not change, nor count as overwritten in the
                # backward pass.
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.detach().clone()
                for name in _BACKWARD_HOOKS:
                    if hooks := getattr(module, name):
                        setattr(module, name, type(hooks)())
            for module in modules:
                if isinstance(module, GraphModule) and "train" in module.__dict__:  # exported, in a fixed mode
                    _check_exported(module, training)
                    module.__dict__["train"] = lambda mode=True, module=module: module
            if any(module.training is not training for module in modules):
                with unwritten:
                    model.train(training)
            yield unwritten


def _check_exported(module: GraphModule, training: bool) -> None:
    """Refuse an exported module with operations that are fixed in the other mode.

    Raises:
        UnsupportedOperationError: names the first such operation.
    """
    for node in (node for part in module.modules() if isinstance(part, GraphModule) for node in part.graph.nodes):
        if not isinstance(node.target, OpOverload):
            continue
        names = [argument.name for argument in node.target._schema.arguments]
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        mode = given.get("training", given.get("train"))
        if isinstance(mode, bool) and mode is not training and given.get("p") != 0:
            made, other = ("training", "evaluation") if mode else ("evaluation", "training")
            raise UnsupportedOperationError(
                f"the model was exported in {made} mode, which fixes {node.target} in that mode, but the coupling is "
                f"for {other} mode; export the model in {other} mode, or pass training={mode}"
            )


class _Attributes:
    """The attributes of a module, and the contents of those that are dictionaries, lists or sets, to restore them."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._training = module, module.training
        self._values, self._buffers = dict(module.__dict__), dict(module._buffers.items())
        held = (value for value in self._values.values() if type(value) in (dict, OrderedDict, list, set))
        self._contents = [(value, value.copy() if value else None) for value in held]  # most are empty

    def restore(self) -> None:
        """Restore all attributes and contents."""
        self._module.__dict__.clear()
        self._module.__dict__.update(self._values)
        if self._module.training is not self._training:  # scripted modules keep the mode and buffers elsewhere
            self._module.training = self._training
        for value, content in self._contents:
            if value:
                value.clear()
            if content:
                (value.extend if isinstance(value, list) else value.update)(content)
        for name, buffer in self._buffers.items():
            self._module._buffers[name] = buffer
