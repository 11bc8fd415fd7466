"""Which parameters are synapses, the nodes of the line graph, and the role of all others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.arguments import check_module
from linegraph.errors import (
    CoverageWarning,
    DataError,
    NoSynapseError,
    SynapseSelectionError,
    UnsupportedOperationError,
)

__all__ = ["Choice", "Include", "Synapse", "choose", "coverage", "covered", "lay_out"]

Include = str | type[nn.Module] | Iterable[str] | Iterable[type[nn.Module]] | Callable[[str, nn.Parameter], bool] | None


@dataclass(frozen=True)
class Synapse:
    """A parameter whose entries are nodes.

    Attributes:
        name: its name in the model.
        shape: its shape.
        offset: its first node; its entries are the nodes ``offset`` to ``offset + numel - 1``, in row-major order.
        op: the operation that it enters, such as "linear".
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    op: str

    @property
    def numel(self) -> int:
        """Number of nodes."""
        return prod(self.shape)


Reason = tuple[str, str]
"""Why a weight cannot be a node, and what to do about it."""


@dataclass
class Choice:
    """The parameters that are to be synapses.

    Attributes:
        weights: the parameters by name, in the order in which the model registers them.
        is_open: whether those without a rule may still be left out, as none was named by ``include=``.
        left_out: those that were left out, with the reason for each.
    """

    weights: dict[str, nn.Parameter]
    is_open: bool
    left_out: dict[str, Reason] = field(default_factory=dict)

    def leave_out(self, reasons: Mapping[str, Reason]) -> None:
        """Leave out some weights, which are then part of the path; ``weights`` is changed in place.

        Raises:
            NoSynapseError: if none is left.
        """
        for name in reasons:
            del self.weights[name]
        self.left_out |= reasons
        if not self.weights:
            raise self.nothing_left()

    def nothing_left(self) -> NoSynapseError:
        """The error for a model in which no weight is left on which the loss depends."""
        reason, advice = next(iter(self.left_out.values()))
        return NoSynapseError(
            f"the model has no synapse: no weight on which the loss depends can be a node ({len(self.left_out)} are "
            f"left out). For one: {reason}; {advice}"
        )

    def warn(self, trainable: Mapping[str, Tensor]) -> None:
        """Warn of the weights that were left out.

        Args:
            trainable: the trainable parameters of the model by name.

        Warns:
            CoverageWarning: names them, and the share of the trainable weights that they hold.
        """
        if not self.left_out:
            return
        names, ((reason, _), *_) = list(self.left_out), self.left_out.values()
        listed = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
        warnings.warn(
            f"the entries of {listed}, {covered(trainable, names):.2%} of the trainable weights, are no nodes but part "
            f"of the path: {reason}. P.coverage() has the reason for each weight. To choose the nodes yourself, pass "
            "include=; to make nodes of these weights, write a rule with linegraph.operations",
            CoverageWarning,
            stacklevel=3,
        )


def covered(trainable: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """The share of the entries of all trainable parameters that are no biases, which parameters of these names hold."""
    sizes = {name: p.numel() for name, p in trainable.items() if p.ndim > 1 or not _is_bias(name)}
    return sum(sizes[name] for name in names) / sum(sizes.values())


def choose(model: nn.Module, include: Include = None) -> Choice:
    """The parameters that are to be synapses.

    Args:
        model: the model.
        include: a name or names of parameters or modules, a module class or classes, or a predicate ``(name,
            parameter) -> bool``; by default every trainable parameter of two or more dimensions. One-dimensional
            weights are synapses if they are named, or if their module has no matrix, as normalisation layers. Biases
            never are. Complex and sparse parameters are left out by default.

    Raises:
        NoSynapseError: if nothing is chosen.
        SynapseSelectionError: if a name is unknown, or names a bias or a frozen parameter.
        DataError: if a parameter is on the meta device, and so has no numbers.
        UnsupportedOperationError: if a chosen parameter is complex or not dense, or one of the model cannot be trained.
    """
    parameters = dict(model.named_parameters())
    if include is None:
        chosen = {name for name, p in parameters.items() if _is_weight_matrix(p)}
    elif isinstance(include, type):
        chosen = _of_types(model, (include,))
    elif isinstance(include, str):
        chosen = _named(model, parameters, [include])
    elif isinstance(include, nn.Module):
        raise SynapseSelectionError(
            f"include= takes names or classes of modules, not a module: got a {type(include).__name__}; its name is "
            "that in dict(model.named_modules())"
        )
    elif callable(include):
        chosen = {name for name, p in parameters.items() if not _is_bias(name) and p.requires_grad and include(name, p)}
    elif not isinstance(include, Iterable):
        raise SynapseSelectionError(f"include= takes names, classes of modules or a function, got {include!r}")
    else:
        items: list[Any] = list(include)
        if all(isinstance(item, type) for item in items):
            chosen = _of_types(model, tuple(items))
        elif all(isinstance(item, str) for item in items):
            chosen = _named(model, parameters, items)
        else:
            sorts = dict.fromkeys("class" if isinstance(item, type) else type(item).__name__ for item in items)
            raise SynapseSelectionError(
                f"include= takes names or module classes, all of one sort, got {', '.join(sorts)}"
            )
    chosen = {name for name in chosen if parameters[name].numel()}  # empty parameters have no nodes
    if not chosen:
        raise NoSynapseError(_why_none(parameters, include))
    for name, p in parameters.items():
        _check_memory(name, p, others={parameters[name].device for name in chosen})
    choice = Choice({name: p for name, p in parameters.items() if name in chosen}, is_open=include is None)
    unfit = {name: found for name, p in choice.weights.items() if (found := _unfit(name, p))}
    if unfit and not choice.is_open:
        name, (reason, advice) = next(iter(unfit.items()))
        raise UnsupportedOperationError(
            f"{reason}; {advice}, or leave it out with include=lambda name, parameter: "
            f"name != {name!r} and parameter.ndim > 1 (it is then part of the path)"
        )
    choice.leave_out(unfit)
    return choice


def _unfit(name: str, p: Tensor) -> Reason | None:
    """Why the entries of a parameter cannot be nodes, and what to do; None if they can."""
    if p.layout is not torch.strided:
        return (
            f"the weight {name!r} is sparse, and P needs dense weights",
            "make it dense (to_dense()), multiplied by a mask if its zeros are to stay",
        )
    if p.is_complex():
        return (
            f"the weight {name!r} is complex, and nodes are real numbers",
            "hold its real and imaginary parts in two real parameters and multiply by each, "
            "(a + ib)(c + id) = (ac − bd) + i(ad + bc)",
        )
    return None


def _check_memory(name: str, p: Tensor, others: set[torch.device]) -> None:
    """Refuse parameters without numbers, on the meta device, and those that autograd refuses.

    A meta parameter among synapses on several devices is left to the check that all are on one.
    """
    if p.is_meta and len(others) == 1:
        raise DataError(
            f"the parameter {name!r} is on the meta device and has no numbers; allocate and load them "
            "(model.to_empty(device='cpu'), then load_state_dict) first"
        )
    if p.is_inference():
        raise UnsupportedOperationError(
            f"the parameter {name!r} was made under torch.inference_mode, so that autograd cannot differentiate it; "
            "make or load the model outside of that mode, or use copy.deepcopy(model), made outside of it"
        )


def lay_out(chosen: dict[str, nn.Parameter], ops: dict[str, str]) -> tuple[Synapse, ...]:
    """Number the nodes: the chosen parameters that an operation used, each with its first node.

    Args:
        chosen: parameters by name, in the order of their nodes.
        ops: the operation that each parameter entered, by name; parameters that are missing are left out.
    """
    synapses, offset = [], 0
    for name, p in chosen.items():
        if name in ops:
            synapses.append(Synapse(name, tuple(p.shape), offset, ops[name]))
            offset += p.numel()
    return tuple(synapses)


def coverage(model: nn.Module, choice: Choice, ops: dict[str, str], trainable: set[str]) -> pd.DataFrame:
    """A table of all parameters, with role and reason; shared ones once, under their first name."""
    rows = []
    for name, p in model.named_parameters():
        role, reason = _role(name, p, choice, ops, trainable)
        rows.append({"name": name, "shape": tuple(p.shape), "numel": p.numel(), "role": role, "reason": reason})
    return pd.DataFrame(rows, columns=["name", "shape", "numel", "role", "reason"])


def _role(name: str, p: Tensor, choice: Choice, ops: dict[str, str], trainable: set[str]) -> tuple[str, str]:
    if name in ops:
        return "synapse", f"trainable weight of {ops[name]}"
    if name in choice.weights:
        return "unreached", "chosen, but the loss does not depend on it through any operation of this pass"
    if name not in trainable:
        return "frozen", "requires_grad is False: it does not move, and is part of the path"
    if name in choice.left_out:
        return "path", f"left out: {choice.left_out[name][0]}"
    if _is_bias(name):
        return "bias", "biases shift activations; they are not nodes"
    if not p.numel():
        return "path", "it has no entry"
    if p.ndim < 2:
        return "path", "one-dimensional: it scales the path; include= can make it a node"
    return "path", "not chosen by include=: it is part of the path"


def _is_bias(name: str) -> bool:
    return name.rsplit(".", 1)[-1].startswith("bias")


def _is_weight_matrix(p: Tensor) -> bool:
    return p.requires_grad and p.ndim >= 2


def _of_types(model: nn.Module, types: tuple[type[nn.Module], ...]) -> set[str]:
    """Names of the weights of all modules of these classes: their matrices, or their vectors if they have no matrix."""
    if wrong := [t for t in types if not issubclass(t, nn.Module)]:
        raise SynapseSelectionError(f"include= takes subclasses of torch.nn.Module, not {wrong[0].__name__}")
    modules = [(name, m) for name, m in model.named_modules() if isinstance(m, types)]
    first_names = dict(model.named_parameters()).keys()
    return {weight for name, module in modules for weight in _weights_of(name, module)} & first_names


def _weights_of(prefix: str, module: nn.Module) -> set[str]:
    named = module.named_parameters(prefix=prefix, recurse=True)
    weights = {name: p for name, p in named if p.requires_grad and not _is_bias(name)}
    matrices = {name for name, p in weights.items() if p.ndim >= 2}
    return matrices or set(weights)


def _named(model: nn.Module, parameters: dict[str, nn.Parameter], names: Iterable[str]) -> set[str]:
    modules = dict(model.named_modules())
    first_names = {id(p): name for name, p in parameters.items()}
    aliases = {name: first_names[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    chosen: set[str] = set()
    for name in names:
        if name in aliases:
            chosen.add(_checked(aliases[name], parameters))
        elif name in modules and name:
            chosen |= {aliases[weight] for weight in _weights_of(name, modules[name])}
        else:
            near = get_close_matches(name, [*aliases, *modules], n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise SynapseSelectionError(f"include= names {name!r}, which is no parameter or module of the model{hint}")
    return chosen


def _checked(name: str, parameters: dict[str, nn.Parameter]) -> str:
    if _is_bias(name):
        raise SynapseSelectionError(f"include= names {name!r}: biases are not nodes of the line graph; name a weight")
    if not parameters[name].requires_grad:
        raise SynapseSelectionError(
            f"include= names {name!r}, which is frozen (requires_grad is False) and so part of the path; "
            "unfreeze it with requires_grad_(True) to make it a synapse"
        )
    return name


def _why_none(parameters: dict[str, nn.Parameter], include: Include) -> str:
    if include is not None:
        return "include= chooses no trainable weight of the model; see dict(model.named_parameters())"
    matrices = [name for name, p in parameters.items() if p.ndim >= 2]
    if matrices:
        return (
            f"the model has no synapse: all of its {len(matrices)} weight matrices are frozen; "
            f"unfreeze some with requires_grad_(True), for example {matrices[-1]!r}"
        )
    return (
        "the model has no synapse: it has no parameter of two or more dimensions (lazy modules, and models that make "
        "their layers in forward, need one pass first; parameters in plain lists are not registered, those of an "
        "nn.ParameterList are)"
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside a data-parallel or compiled wrapper, or the module itself.

    Raises:
        ArgumentTypeError: if it is no module.
        NoSynapseError: if a parameter or buffer of a lazy module has no shape yet.
    """
    check_module(model)
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod  # type: ignore[assignment]
    held = (t for module in model.modules() for t in (*module._parameters.values(), *module._buffers.values()))
    if any(t is not None and torch.nn.parameter.is_lazy(t) for t in held):
        tensors = (*model.named_parameters(), *model.named_buffers())
        name = next(name for name, t in tensors if torch.nn.parameter.is_lazy(t))
        raise NoSynapseError(f"{name!r} has no shape yet; run the model once on data first")
    return model
