"""Leave the caller's model as it was."""

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
        unwritten, modes = Unwritten(modules), Modes()

        def restore() -> None:
            modes.restore()
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
