"""One pass of a model, kept: its synapse calls, what entered and left them, and the paths between.

The forward pass runs under a :class:`torch.overrides.TorchFunctionMode`, which sees *operations*, so
functional calls and shared weights count as much as modules do. Wherever a synapse weight meets an
activation, the operation is replaced by an autograd function of ours that computes the same output
but leaves open what its backward does. One recorded graph then serves every product:

====================  =======================================  =================================
pass over the graph   starts from                              at a synapse call
====================  =======================================  =================================
``input gradients``   the loss                                 keeps g, hands on Wᵀ g
``direct``            the loss                                 keeps the gradient, hands on nothing
``pull_back``              seeds at the inputs of all calls         keeps s = Σ Jᵀ seed, hands on nothing
``push_forward``              the transpose of ``pull_back``, by autograd   keeps t = Σ J seed
====================  =======================================  =================================

Each is one sweep of the autograd engine in topological order, however the paths branch and merge.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from linegraph.coupling.decompositions import decomposition
from linegraph.coupling.operations import ACTIVATIONS_OF_WEIGHTS, VIEWS_OF_WEIGHTS, describe, name_of
from linegraph.coupling.synapses import Bound, Rule, bind, constant_input
from linegraph.errors import LossError, NonFiniteError, UnsupportedOperationError

__all__ = ["Call", "Interceptor", "Tape", "Weight"]

Visitor = Callable[["Call", Tensor], Tensor | None]


@dataclass(frozen=True)
class Weight:
    """A synapse parameter as an operation meets it: possibly a transposed or sliced view of it."""

    name: str
    parameter: Tensor
    value: Tensor
    lift: Callable[[Tensor], Tensor] | None = None
    view: str = ""

    def seen(self, v: Tensor) -> Tensor:
        """A vector of the parameter's shape, rearranged as the operation sees the parameter."""
        return v if self.lift is None else self.lift(v)

    def back(self, r: Tensor) -> Tensor:
        """The adjoint of :meth:`seen`: from the operation's shape to the parameter's."""
        if self.lift is None:
            return r
        with torch.enable_grad():
            z = r.new_zeros(self.parameter.shape, requires_grad=True)
            return torch.autograd.grad(self.lift(z), z, r)[0]


@dataclass(eq=False)
class Call:
    """One meeting of a synapse weight with an activation: y = W · x."""

    index: int
    rule: Rule
    weight: Weight
    x: Tensor
    x_edge: GradientEdge | None
    version: int
    finite: Callable[[], bool] = lambda: True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as the operation sees it."""
        return tuple(self.weight.value.shape)

    def input(self) -> Tensor:
        """x, detached; an error if it was overwritten after the call read it."""
        if self.x._version != self.version:
            raise UnsupportedOperationError(
                f"the input of {self.rule.op} with '{self.weight.name}' is modified in place after the call; "
                "use the out-of-place form of that operation"
            )
        return self.x


class Interceptor(TorchFunctionMode):
    """Sorts the operations of a forward pass: synapse calls, views of weights, and everything else.

    Args:
        weights: the synapse parameters by name.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._weights = {id(p): Weight(name, p, p.detach()) for name, p in weights.items()}
        self._views: list[Tensor] = []  # keeps derived tensors alive, so that their ids stay theirs

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        """A synapse weight meets an activation."""
        raise NotImplementedError

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Any other operation."""
        return function(*args, **kwargs)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        weights = [w for a in tree_leaves((args, kwargs)) if (w := self._weights.get(id(a)))]
        if not weights:
            return self.on_path(function, args, kwargs)
        if len(weights) == 1:
            (weight,) = weights
            with self:  # what a binder does to the input on the way is part of the path
                bound = bind(function, args, kwargs, lambda t: self._weights.get(id(t)) is weight)
            if bound is not None:
                return self._meet(bound, weight)
            if name_of(function) in VIEWS_OF_WEIGHTS:
                return self._view(function, args, kwargs, weight)
        if name_of(function) in ACTIVATIONS_OF_WEIGHTS:
            args, kwargs = tree_map(self._as_activation, (args, kwargs))
            return self.on_path(function, args, kwargs)
        if (simpler := decomposition(function)) is not None:
            with self:
                return simpler(*args, **kwargs)
        result = function(*args, **kwargs)
        if any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(result)):
            raise _no_rule(function, [w.name for w in weights])
        return result

    def _meet(self, bound: Bound, weight: Weight) -> Tensor:
        y = self.on_synapse(bound, weight)
        with self:
            return bound.finish(y) if bound.finish else y

    def _as_activation(self, leaf: Any) -> Any:
        """A weight that is added, or set among activations, is one: W · 1."""
        weight = self._weights.get(id(leaf))
        return leaf if weight is None else self._meet(constant_input(leaf), weight)

    def _view(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], weight: Weight) -> Any:
        """Apply a rearrangement to a weight and remember how to apply it to any vector on it."""
        position = next(i for i, a in enumerate(args) if self._weights.get(id(a)) is weight)
        result = function(*args, **kwargs)

        def note(part: Tensor, pick: Callable[[Any], Tensor], label: str) -> None:
            def lift(v: Tensor) -> Tensor:
                return pick(function(*args[:position], weight.seen(v), *args[position + 1 :], **kwargs))

            if part.is_floating_point():
                view = f"{weight.view}.{name_of(function)}{args[1:]}{kwargs or ''}{label}"
                self._weights[id(part)] = Weight(weight.name, weight.parameter, part.detach(), lift, view)
                self._views.append(part)

        if isinstance(result, Tensor):
            note(result, lambda whole: whole, "")
        else:
            for i, part in enumerate(result):
                note(part, itemgetter(i), f"[{i}]")
        return result


def _no_rule(function: Callable[..., Any], names: Sequence[str]) -> UnsupportedOperationError:
    listed = " and ".join(f"'{name}'" for name in dict.fromkeys(names))
    return UnsupportedOperationError(
        f"no rule covers {describe(function)}, which the synapse weight {listed} enters; "
        f"leave the weight out, with include=lambda name, parameter: name != {names[0]!r} and parameter.ndim > 1 "
        "(it is then part of the path), or add a rule to linegraph/coupling/synapses.py"
    )


class _Synapse(torch.autograd.Function):
    """y = W · x + bias, with a backward that asks the tape what this pass is about."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tape: Any, call: Call) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.tape, ctx.index = tape, call.index
        y = call.rule.apply(x, weight)
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        nothing = (None,) * 5
        if grad is None:
            return nothing
        tape: Tape = ctx.tape()
        return (tape.visit(tape.calls[ctx.index], grad), *nothing[1:])


class Tape(Interceptor):
    """A recorded pass of a model under a loss.

    Args:
        weights: the synapse parameters by name; they, and no other parameter, require gradients.
    """

    sign = -1
    """P is minus the sum of the products, for velocities run against the gradient."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__(weights)
        self.parameters = list(weights.values())
        self.calls: list[Call] = []
        self.loss: Tensor = torch.empty(())
        self.visit: Visitor = _idle
        self._push_graph: tuple[list[Tensor | None], list[Tensor | None]] | None = None

    # recording ---------------------------------------------------------------------------------------

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        x = bound.x
        edge = get_gradient_edge(x) if x.requires_grad else None
        call = Call(len(self.calls), bound.rule, weight, x.detach(), edge, x._version)
        self.calls.append(call)
        y = _Synapse.apply(x, bound.weight, bound.bias, weakref.ref(self), call)
        value = weakref.ref(y)
        call.finite = lambda: (t := value()) is None or bool(t.isfinite().all())
        return y

    def close(self, loss: Any) -> None:
        """Take the loss that ends the pass; checks that it is one."""
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise LossError(f"loss_fn must return a scalar tensor, got {got}; take its mean or its sum")
        if not loss.isfinite():
            raise NonFiniteError(f"the loss is {loss.item()}: {self._first_non_finite()}")
        if not loss.requires_grad:
            raise LossError("the loss does not depend on any synapse weight; was it detached, or the model's output?")
        self.loss = loss

    def _first_non_finite(self) -> str:
        for call in self.calls:
            where = f"call {call.index} ({call.rule.op} with '{call.weight.name}')"
            if not call.x.isfinite().all():
                return f"NaN or infinite numbers first enter {where}"
            if not call.finite():
                return f"NaN or infinite numbers first leave {where}"
        return "all synapse calls are finite, so it arises in the loss function or just before it; check the targets"

    # passes ------------------------------------------------------------------------------------------

    def factor(self, values: Tensor) -> Tensor:
        """How inputs and output gradients enter the products."""
        return values

    @cached_property
    def gradients(self) -> list[Tensor | None]:
        """G = ∂C/∂y of every call, formed once."""
        return self.input_gradients()

    def input_gradients(self) -> list[Tensor | None]:
        """G = ∂C/∂y of every call (None where the loss is not reached): one pass without weight gradients."""

        def hand_on(call: Call, g: Tensor) -> Tensor | None:
            gradients[call.index] = g
            return call.rule.to_input(call.weight.value, g, call.x.shape) if call.x_edge else None

        gradients: list[Tensor | None] = [None] * len(self.calls)
        with self._visiting(hand_on):
            leftovers = torch.autograd.grad(self.loss, self.parameters, retain_graph=True, allow_unused=True)
        self._check_nothing_was_missed(leftovers)
        return gradients

    def direct_gradients(self) -> list[Tensor | None]:
        """The part of g that reaches the call from the loss with no synapse between."""
        gradients: list[Tensor | None] = [None] * len(self.calls)
        with self._visiting(_keep(gradients)):
            torch.autograd.grad(self.loss, self.parameters, retain_graph=True, allow_unused=True)
        return gradients

    def pull_back(self, seeds: Sequence[Tensor | None], *, create_graph: bool = False) -> list[Tensor | None]:
        """s_ℓ = Σ_m J_{m←ℓ}ᵀ seed_m for every call ℓ, from one seed of x's shape per call m."""
        roots = [(c.x_edge, seed) for c, seed in zip(self.calls, seeds, strict=True) if c.x_edge and seed is not None]
        arrived: list[Tensor | None] = [None] * len(self.calls)
        if not roots:
            return arrived
        edges, gradients = zip(*roots, strict=True)
        with self._visiting(_keep(arrived)):
            torch.autograd.grad(
                edges, self.parameters, gradients, retain_graph=True, create_graph=create_graph, allow_unused=True
            )
        return arrived

    def push_forward(self, seeds: Sequence[Tensor | None]) -> list[Tensor | None]:
        """t_m = Σ_ℓ J_{m←ℓ} seed_ℓ for every call m, from one seed of y's shape per call ℓ.

        ``pull_back`` is linear in its seeds, so its gradient is its transpose. The graph of that gradient
        is made once and serves every later push.
        """
        if self._push_graph is None:
            entries = [
                torch.zeros((), dtype=c.x.dtype, device=c.x.device).expand(c.x.shape).requires_grad_()
                if c.x_edge
                else None
                for c in self.calls
            ]
            self._push_graph = entries, self.pull_back(entries, create_graph=True)
        entries, exits = self._push_graph
        pairs = [
            (s, seed)
            for s, seed in zip(exits, seeds, strict=True)
            if s is not None and seed is not None and s.requires_grad
        ]
        sources = [e for e in entries if e is not None]
        if not pairs or not sources:
            return [None] * len(self.calls)
        outputs, gradients = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outputs, sources, gradients, retain_graph=True, allow_unused=True))
        return [None if e is None else next(found) for e in entries]

    @contextmanager
    def _visiting(self, visitor: Visitor) -> Any:
        self.visit = visitor
        try:
            yield
        finally:
            self.visit = _idle

    def _check_nothing_was_missed(self, leftovers: Sequence[Tensor | None]) -> None:
        """Synapse calls hand no gradient to their weights; any that arrives came by an operation unseen."""
        missed = [w.name for w in self._weights.values() if not w.view and _arrived(w, self.parameters, leftovers)]
        if missed:
            raise UnsupportedOperationError(
                f"the loss depends on {missed[0]!r} through an operation that torch does not show to Python "
                "(scripted code, a custom autograd function, checkpointing); leave it out with include=, or "
                "write that operation with torch functions"
            )


def _arrived(weight: Weight, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> bool:
    return any(p is weight.parameter and g is not None for p, g in zip(parameters, gradients, strict=True))


def _idle(call: Call, grad: Tensor) -> None:
    """Between passes nothing is asked of a call."""


def _keep(into: list[Tensor | None]) -> Visitor:
    def visitor(call: Call, grad: Tensor) -> None:
        into[call.index] = grad

    return visitor
