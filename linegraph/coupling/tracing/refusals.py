"""Errors for operations that a pass cannot record; each names the operation, the weight and a way around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from linegraph.coupling.operations import Bound
from linegraph.coupling.operations.names import describe
from linegraph.coupling.tracing.node_notes import is_dual
from linegraph.errors import UnsupportedOperationError

__all__ = [
    "THROUGH_A_VIEW",
    "DifferentiatesOthersError",
    "RefusedWeightError",
    "check_input",
    "no_rule",
    "renormalises",
    "unseen",
    "writes",
]


class DifferentiatesOthersError(UnsupportedOperationError):
    """The model calls ``torch.autograd.grad`` for a tensor that needs no gradient in this pass.

    The pass is repeated with gradients for all trainable parameters, which may avoid the error.
    """

    def __init__(self) -> None:
        super().__init__(
            "the model differentiates itself by a tensor that needs no gradient (torch.autograd.grad in its forward "
            "pass or in its loss): a frozen parameter, or a tensor computed from frozen parameters only; let it "
            "require a gradient, or do not differentiate by it"
        )


class RefusedWeightError(UnsupportedOperationError):
    """Synapse weights are used in a way that a pass cannot record; as parts of the path they would be no trouble.

    Attributes:
        reasons: what is wrong and what to do, by the name of each weight concerned.
    """

    def __init__(self, names: Sequence[str], reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reasons = dict.fromkeys(names, (reason, advice))


THROUGH_A_VIEW = "the model, through a view,"


def writes(what: str, name: str) -> RefusedWeightError:
    """The error for an operation that writes into a weight."""
    return RefusedWeightError(
        [name],
        f"{what} writes into the synapse weight '{name}', or into a copy of it, in place, and P belongs "
        "to weights as they are",
        "use an operation that makes a new tensor (a product with a mask, torch.cat), or leave the weight out, with "
        f"include=lambda name, parameter: name != {name!r} and parameter.ndim > 1",
    )


def renormalises(function: Callable[..., Any], name: str) -> RefusedWeightError:
    """The error for a look-up with ``max_norm=``, which writes into rows of a weight."""
    return RefusedWeightError(
        [name],
        f"max_norm= makes {function.__name__} shorten rows of the synapse weight '{name}' in place in every forward "
        "pass, and P belongs to weights as they are",
        "run the model once, so that they are short, and take max_norm off (module.max_norm = None) for the coupling",
    )


def no_rule(function: Callable[..., Any], names: Sequence[str]) -> RefusedWeightError:
    """The error for an operation without a rule that reads weights of these names."""
    names = [*dict.fromkeys(names)]
    listed = " and ".join(f"'{name}'" for name in names)
    return RefusedWeightError(
        names,
        f"no rule covers {describe(function)}, which the synapse weight {listed} enters",
        f"leave the weight out, with include=lambda name, parameter: name != {names[0]!r} and parameter.ndim > 1 "
        "(it is then part of the path), or write a rule for it with linegraph.operations (docs/own_operation.md)",
    )


def unseen(names: Sequence[str]) -> RefusedWeightError:
    """The error for an operation on weights of these names that torch does not show to Python."""
    listed = " and ".join(f"'{name}'" for name in names)
    return RefusedWeightError(
        names,
        f"the loss depends on {listed} through an operation that torch does not show to Python (scripted code, a "
        "custom autograd function)",
        "leave it out with include=, or write that operation with torch functions",
    )


def check_input(bound: Bound, name: str) -> None:
    """Raise for an input of a synapse call with which its products cannot be formed."""
    x, where = bound.x, f"{bound.rule.op} with '{name}'"
    if torch._C._are_functorch_transforms_active():
        raise RefusedWeightError(
            [name],
            f"{where} runs under a transform of torch.func (vmap, grad, jvp, ...), where it cannot be followed",
            "write it for the whole batch, without the transform, or leave the weight out with include=",
        )
    if is_dual(x):
        raise RefusedWeightError(
            [name],
            f"{where} runs in forward mode (torch.autograd.forward_ad), and the loss then depends on derivatives of "
            "outputs by inputs, which P does not include",
            "take them out of the loss, or leave the weight out with include=",
        )
    if x.is_nested or isinstance(x, torch.masked.MaskedTensor):
        sort, made = ("nested", "padded") if x.is_nested else ("masked", "plain")
        raise RefusedWeightError(
            [name],
            f"{where} reads a {sort} tensor, with which P forms no products",
            f"pass {made} tensors and a mask, or leave the weight out with include=",
        )
