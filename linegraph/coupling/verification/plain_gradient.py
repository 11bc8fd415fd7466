"""The loss of a model, its gradient by autograd, and its slope by finite differences, to compare P with.

They use plain forward and backward passes, and nothing of the tape and the products that P is computed from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, sqrt

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules._functions import BackwardHookFunction

from linegraph.coupling.model.copies import Copy
from linegraph.coupling.tracing.node_notes import is_custom
from linegraph.coupling.tracing.passes import Passes
from linegraph.processes import gathered_results, jointly, summed

__all__ = ["PlainGradient", "Slope", "in_double_precision", "plain_gradient", "slope"]


@dataclass
class PlainGradient:
    """∇C by autograd, and facts about the operations of its backward pass.

    Attributes:
        by_name: the gradient of each weight that may be a synapse, also of those that P does not reach.
        loss: C.
        depth: the number of operations on the longest path of the backward pass.
        rounding: the largest machine epsilon among the number types of their results.
        custom: names of custom autograd functions among them, whose backward may not be the derivative.
    """

    by_name: dict[str, Tensor]
    loss: float = 0.0
    depth: int = 0
    rounding: float = 0.0
    custom: set[str] = field(default_factory=set)


def plain_gradient(
    passes: Passes, weights: Mapping[str, Tensor], dtype: torch.dtype, copy: Copy | None = None
) -> PlainGradient:
    """The gradient of the loss with respect to some weights, over the data of all processes.

    Args:
        passes: the passes of P, whose model, loss and data are read.
        weights: the weights by name.
        dtype: the number type of the sums over batches.
        copy: copies of the weights to use in their place.
    """
    found = PlainGradient({name: torch.zeros_like(p, dtype=dtype).detach() for name, p in weights.items()})
    places = [p if copy is None else copy.of(p) for p in weights.values()]

    def add(loss: Tensor, share: float) -> None:
        _look_at(loss.grad_fn, found)
        found.loss += float(loss.detach()) * share
        parts = torch.autograd.grad(loss, places, allow_unused=True)
        for total, part in zip(found.by_name.values(), parts, strict=True):
            if part is not None:
                total.add_(part.to_dense() if part.layout is not torch.strided else part, alpha=share)

    divisor = passes.by_autograd(add, copy)
    others = gathered_results(lambda: (found.loss, found.depth, found.rounding, found.custom))
    return PlainGradient(
        {name: summed(total).div_(divisor) for name, total in found.by_name.items()},
        sum(loss for loss, *_ in others) / divisor,
        max(depth for _, depth, *_ in others),
        max(rounding for *_, rounding, _ in others),
        set().union(*(custom for *_, custom in others)),
    )


def in_double_precision(passes: Passes, weights: Mapping[str, Tensor]) -> tuple[Copy, PlainGradient] | None:
    """A copy of the model in double precision and its gradient; None if it does not run so in some process."""
    try:
        copy = jointly(lambda: passes.copy(torch.float64))
        return copy, plain_gradient(passes, weights, torch.float64, copy)
    except Exception:
        return None


def _look_at(root: Node | None, found: PlainGradient) -> None:
    """Note depth, rounding and custom functions of an autograd graph in ``found``."""
    depths: dict[Node, int] = {}
    waiting = [] if root is None else [root]
    while waiting:
        node = waiting[-1]
        before = [parent for parent, _ in node.next_functions if parent is not None]
        if fresh := [parent for parent in before if parent not in depths]:
            waiting += fresh
            continue
        waiting.pop()
        depths[node] = 1 + max((depths[parent] for parent in before), default=0)
        if is_custom(node) and not issubclass(type(node)._forward_cls, BackwardHookFunction):  # type: ignore[attr-defined]
            found.custom.add(type(node)._forward_cls.__qualname__)  # type: ignore[attr-defined]
        kinds = {output.dtype for output in node._input_metadata if output.dtype.is_floating_point}
        found.rounding = max([found.rounding, *(torch.finfo(kind).eps for kind in kinds)])
    found.depth = max([found.depth, *depths.values()])


@dataclass(frozen=True)
class Slope:
    """A derivative along a direction, and an estimate of its error."""

    value: float
    error: float


def slope(
    passes: Passes, copy: Copy, direction: Mapping[nn.Parameter, Tensor], rounding: float, wanted: float
) -> Slope:
    """The derivative of the loss along a direction of length 1, by central differences at h and 2 h.

    Args:
        passes: the passes of P.
        copy: a copy of the model, at the weights w where to form the derivative; moved, and put back.
        direction: the direction, by parameter.
        rounding: the relative rounding error of a pass.
        wanted: the error at which to stop. The step h = ∛rounding ‖w‖ is tried first, then a shorter and a longer one.

    Returns:
        The derivative of the smallest estimated error.

    Cost: 4 forward passes for each step tried.
    """
    start = {p: copy.of(p).detach().clone() for p in direction}
    size = sqrt(sum(float(torch.linalg.vector_norm(w, dtype=torch.float64)) ** 2 for w in start.values())) or 1.0
    best = Slope(0.0, inf)

    def at(distance: float) -> float:
        for p, u in direction.items():
            copy.of(p).data.copy_(start[p] + distance * u.to(start[p].dtype))
        return _mean_loss(passes, copy)

    for factor in (1.0, 0.05, 20.0):
        h = factor * size * rounding ** (1 / 3)
        far_below, below, above, far_above = (at(k * h) for k in (-2, -1, 1, 2))
        near, far = (above - below) / (2 * h), (far_above - far_below) / (4 * h)
        error = abs(near - far) + rounding * max(abs(above), abs(below)) / h
        if error < best.error:
            best = Slope(near + (near - far) / 3, error)
        if best.error <= wanted:
            break
    at(0.0)
    return best


def _mean_loss(passes: Passes, copy: Copy) -> float:
    losses: list[float] = []
    divisor = passes.by_autograd(lambda loss, share: losses.append(float(loss.detach()) * share), copy)
    return sum(gathered_results(lambda: sum(losses))) / divisor
