"""The interceptor: classifies every operation of a forward pass as synapse call, view of a weight, or path.

A forward pass runs under a :class:`torch.overrides.TorchFunctionMode`, which sees *operations* instead of modules.
Functional calls and shared weights are therefore found like any others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from linegraph.coupling.model.modes import Mode
from linegraph.coupling.model.writes import renormalising
from linegraph.coupling.operations import Bound, Rule
from linegraph.coupling.operations.decompositions import decomposition
from linegraph.coupling.operations.elementwise import constant_input, scale
from linegraph.coupling.operations.names import (
    ACTIVATIONS_OF_WEIGHTS,
    CONSTANTS_OF_WEIGHTS,
    DIFFERENCES,
    MULTIPLICATIONS,
    QUOTIENTS,
    REPETITIONS,
    SUMS,
    VIEWS_OF_WEIGHTS,
    describe,
    is_in_place,
    name_of,
    terms,
)
from linegraph.coupling.operations.rules import bind, is_product, names_its_input
from linegraph.coupling.operations.signatures import in_one_form
from linegraph.coupling.operations.standardisation import NORMS_OF_WEIGHTS
from linegraph.coupling.tracing.attention import UNFUSED
from linegraph.coupling.tracing.refusals import (
    THROUGH_A_VIEW,
    DifferentiatesOthersError,
    RefusedWeightError,
    check_input,
    no_rule,
    renormalises,
    writes,
)
from linegraph.coupling.tracing.weights import Affine, Weight, part_of, scaled, shifted
from linegraph.numerics import once

__all__ = ["Interceptor", "leaves_of"]


class Interceptor(Mode):
    """A mode that classifies every operation of a forward pass by whether, and how, it reads a synapse weight.

    A subclass says what happens: :meth:`on_synapse` for synapse calls, :meth:`on_path` for operations on activations.
    Views of weights, and their sums and products with constants, are followed here until an operation uses them.

    Args:
        weights: the synapse parameters by name.

    Attributes:
        left_out: a dictionary for weights that are used in a way for which there is no rule, with the reason for each:
            the pass continues, with them as part of the path. None, the default: such a use raises an error.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.left_out: dict[str, tuple[str, str]] | None = None
        self._weights = {id(p): Weight(name, p, p.detach(), version=p._version) for name, p in weights.items()}
        self._affine: dict[int, Affine] = {}
        self._views: list[Tensor] = []  # keeps derived tensors alive, so that no other tensor gets their ids

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        """Run a synapse call and return y = W · x + bias."""
        raise NotImplementedError

    def unfused(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function that replaces a fused kernel by separate operations; any other function as it is."""
        return UNFUSED.get(function, function)

    def depends(self, t: Tensor) -> bool:
        """Whether a tensor depends on a synapse weight."""
        return t.requires_grad

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation on activations, which is part of the paths."""
        return function(*args, **kwargs)

    def on_gradient(self, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a call of ``torch.autograd.grad`` in the model or its loss."""
        if not all(t.requires_grad for t in tree_leaves(inputs) if isinstance(t, Tensor)):
            raise DifferentiatesOthersError
        return torch.autograd.grad(outputs, inputs, *args, **kwargs)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.is_of_another_pass():
            return function(*args, **(kwargs or {}))
        function, args, kwargs = in_one_form(function, args, kwargs or {})
        function = self.unfused(function, args, kwargs)
        if function is torch.autograd.grad:
            return self.on_gradient(*args, **kwargs)
        leaves = [*leaves_of(args), *leaves_of(kwargs.values())] if kwargs else leaves_of(args)
        holds_affine = bool(self._affine) and any(id(leaf) in self._affine for leaf in leaves)
        weights = [w for a in leaves if (w := self._weights.get(id(a)))]
        if not (holds_affine or weights):
            return self.on_path(function, args, kwargs)
        try:
            return self._on_weights(function, args, kwargs, leaves, weights, holds_affine)
        except RefusedWeightError as refusal:
            self._leave_out(refusal)
        return self.__torch_function__(function, types, args, kwargs)

    def _leave_out(self, refusal: RefusedWeightError) -> None:
        """Go on without the weights that cannot be followed; raises the error if none may be left out."""
        if self.left_out is None:
            raise refusal
        self.left_out |= refusal.reasons
        self._weights = {key: weight for key, weight in self._weights.items() if weight.name not in self.left_out}
        self._affine = {key: a for key, a in self._affine.items() if a.weight.name not in self.left_out}

    def _on_weights(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        leaves: Sequence[Any],
        weights: Sequence[Weight],
        holds_affine: bool,
    ) -> Any:
        """Run an operation that reads weights, or affine functions of them."""
        if (call := renormalising(function, args, kwargs)) and (weight := self._weight_of(call.arguments["weight"])):
            raise renormalises(function, weight.name)
        written = self._weight_of(args[0]) if is_in_place(function) else None
        if written and not self._turned_into_activation(args[0]):
            raise writes(describe(function), written.name)
        if name_of(function) in CONSTANTS_OF_WEIGHTS:
            with torch.no_grad():
                return self.on_path(function, args, kwargs)
        if not torch.is_grad_enabled():  # the results count as constants
            return self.on_path(function, args, kwargs)
        if (norm := NORMS_OF_WEIGHTS.get(function)) is not None and self._weight_of(args[0]):
            others, named = tree_map(self._as_activation, (args[1:], kwargs))
            with self:
                return norm(args[0], *others, **named)
        if (product := _OUT_OF_PLACE.get(function)) is not None:
            return self._written(product, args, kwargs)
        if holds_affine:
            return self._with_affine(function, args, kwargs)
        if len(weights) == 1 or (_is_one(weights) and name_of(function) in VIEWS_OF_WEIGHTS):
            weight = weights[0]
            tensor = next(leaf for leaf in leaves if self._weights.get(id(leaf)) is weight)
            as_it_is = Affine(weight, tensor, None, None, tensor)
            if (affine := self._combined(function, args, kwargs, as_it_is)) is not None:
                return affine
            if (bound := self._bound(function, args, kwargs)) is not None:
                return self._run_call(bound, self._weights[id(bound.weight)])
            if name_of(function) in VIEWS_OF_WEIGHTS:
                return self._view(function, args, kwargs, weight)
        elif names_its_input(function) and (bound := self._bound(function, args, kwargs)) is not None:
            x, bias = self._as_activation(bound.x), self._as_activation(bound.bias)
            return self._run_call(replace(bound, x=x, bias=bias), self._weights[id(bound.weight)])
        elif is_product(function) and len(args) == len(weights) == 2:
            # One acts as the input of the other: the smaller of two factors, as a gain, and the first of two matrices.
            place = int(name_of(function) in MULTIPLICATIONS and args[1].numel() < args[0].numel())
            args = tuple(self._as_activation(a) if i == place else a for i, a in enumerate(args))
            with self:
                return function(*args)
        if name_of(function) in ACTIVATIONS_OF_WEIGHTS:
            args, kwargs = tree_map(self._as_activation, (args, kwargs))
            return self.on_path(function, args, kwargs)
        if (simpler := decomposition(function)) is not None:
            if is_in_place(function):
                return self._written(simpler, args, kwargs)
            with self:
                return simpler(*args, **kwargs)
        result = function(*args, **kwargs)
        changed = args[:1] if is_in_place(function) else ()
        made = [leaf for leaf in tree_leaves((result, changed)) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if any(id(leaf) not in self._weights for leaf in made):
            self._leave_out(no_rule(function, [w.name for w in weights]))
        return result

    def _written(self, function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run a function that makes a new tensor, and write that into the first argument."""
        with self:
            target: Tensor = args[0].copy_(function(args[0].clone(), *args[1:], **kwargs))
            return target

    def _bound(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound | None:
        """The arguments of a weighted operation on a synapse weight by their roles; None if it is no such operation."""
        with self:  # operations of the binder on the input are part of the path
            return bind(function, args, kwargs, lambda t: id(t) in self._weights)

    def _weight_of(self, leaf: Any) -> Weight | None:
        """The weight that a tensor is, or is an affine function of; None for other tensors."""
        affine = self._affine.get(id(leaf))
        return affine.weight if affine else self._weights.get(id(leaf))

    def _run_call(self, bound: Bound, weight: Weight) -> Tensor:
        """Run a synapse call, and what follows it in the same call of torch."""
        check_input(bound, weight.name)
        if bound.x.layout is not torch.strided:  # the input may be sparse
            with self:
                bound = replace(bound, x=bound.x.to_dense())
        if bound.bias is not None and self.depends(bound.bias):  # then the addition is part of the path
            bound = replace(bound, bias=None, finish=_adding(bound.bias, bound.finish))
        if weight.value._version != weight.version:
            raise writes(THROUGH_A_VIEW, weight.name)
        y = self.on_synapse(bound, weight)
        with self:
            return bound.finish(y) if bound.finish else y

    def _as_activation(self, leaf: Any) -> Any:
        """The activation W ∘ 1 for a weight, and W ∘ factor + shift for an affine one; other arguments as they are."""
        weight = self._weights.get(id(leaf))
        if weight is None:
            return self._affine_as_activation(leaf)
        return self._run_call(constant_input(leaf), weight)

    # views and multiples of weights ------------------------------------------------------------------

    def _view(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], weight: Weight) -> Any:
        """Run a view of a weight, and register the result as the same weight, with the map that the view is."""
        whole = next(a for a in (*args, *kwargs.values()) if self._weights.get(id(a)) is weight)
        result = function(*args, **kwargs)

        def on(v: Tensor) -> Any:
            return function(
                *(v if a is whole else a for a in args), **{k: v if a is whole else a for k, a in kwargs.items()}
            )

        def note(part: Tensor, pick: Callable[[Any], Tensor], label: str) -> None:
            def lift(v: Tensor) -> Tensor:
                return pick(on(weight.rearranged(v)))

            if part is not whole and part.is_floating_point():
                others = [a for a in (*args, *kwargs.values()) if a is not whole]
                view = f"{weight.view}.{name_of(function)}{_printed(others)}{label}"
                seen = replace(weight, value=part.detach(), lift=lift, view=view, version=part._version)
                self._weights[id(part)] = seen
                self._views.append(part)

        if isinstance(result, Tensor):
            note(result, lambda whole: whole, "")
        else:
            for i, part in enumerate(result):
                note(part, itemgetter(i), f"[{i}]")
        return result

    def _combined(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], affine: Affine) -> Tensor | None:
        """A repetition of an affine weight, or a sum or product of its shape, as an affine weight; None for others."""
        name = name_of(function)
        if name in REPETITIONS:
            result = function(*args, **kwargs)
            return self._noted(replace(affine, result=result)) if affine.is_repeated_in(result) else None
        if is_in_place(function) or len(args) != 2 or kwargs.keys() - {"alpha"}:
            return None
        with self:
            if name in MULTIPLICATIONS | QUOTIENTS:
                made = scaled(affine, *args, divides=name in QUOTIENTS)
            elif name in SUMS | DIFFERENCES and not any(self._is_beside(a, affine) for a in args):
                made = shifted(affine, *terms(name, args, kwargs))
            else:
                return None
        return None if made is None else self._noted(replace(made, result=function(*args, **kwargs)))

    def _is_beside(self, leaf: Any, affine: Affine) -> bool:
        """Whether a term is an activation to which a weight is added, and not a mean of the weight."""
        is_other = isinstance(leaf, Tensor) and leaf is not affine.result
        return is_other and self.depends(leaf) and leaf.numel() >= affine.tensor.numel()

    def _noted(self, affine: Affine) -> Tensor:
        self._affine[id(affine.result)] = affine = replace(affine, memory=[])
        return affine.holds(affine.result)

    def _with_affine(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation on affine weights: they act as weights where it has a place for one, else as activations."""
        if getattr(function, "__name__", "") == "__get__" and name_of(function) not in VIEWS_OF_WEIGHTS:
            return function(*args, **kwargs)  # a property such as shape or dtype
        leaves = tree_leaves((args, kwargs))
        found = [s for a in leaves if (s := self._affine.get(id(a)))]
        if written := [s for s in found if s.is_written]:
            raise writes(THROUGH_A_VIEW, written[0].weight.name)
        if name_of(function) in MULTIPLICATIONS | QUOTIENTS:
            # A factor that is a smaller weight, such as a gain, acts as an activation.
            size = max(a.numel() for a in leaves if isinstance(a, Tensor) and self._weight_of(a))
            smaller = [isinstance(a, Tensor) and a.numel() < size and bool(self._weight_of(a)) for a in args]
            if any(smaller):
                args = tuple(self._as_activation(a) if small else a for a, small in zip(args, smaller, strict=True))
                with self:
                    return function(*args, **kwargs)
        if len(found) == 1 and not any(id(a) in self._weights for a in leaves):
            (affine,) = found
            if (result := self._combined(function, args, kwargs, affine)) is not None:
                return result
            with self:
                bound = bind(function, args, kwargs, lambda t: t is affine.result)
            if bound is not None and affine.is_repeated and not bound.rule.broadcasts:
                bound = None
            if bound is not None and (y := self._run_affine_call(bound, affine)) is not None:
                return y
            if name_of(function) in VIEWS_OF_WEIGHTS and not (is_in_place(function) or affine.is_repeated):
                return self._view_of_affine(function, args, kwargs, affine)
        if (simpler := decomposition(function)) is not None:
            with self:
                return simpler(*args, **kwargs)
        args, kwargs = tree_map(self._affine_as_activation, (args, kwargs))
        with self:
            return function(*args, **kwargs)

    def _run_affine_call(self, bound: Bound, affine: Affine) -> Tensor | None:
        """Run a call whose weight is W ∘ factor + shift, as a call of W; None where that is not possible.

        It is possible if the factor is constant, is one number, or belongs to the output or the input neurons.
        """
        rule, x, shift, factor = bound.rule, bound.x, affine.shift, affine.factor
        shape = affine.tensor.shape
        output, into = (d % len(shape) - len(shape) for d in rule.weight_dims)
        if shift is not None:
            last = bound.finish if bound.bias is None else _adding(bound.bias, bound.finish)
            part = self._shift_part(rule, x, shift, shape, output)
            bound = replace(bound, bias=None, finish=lambda y: _adding(part(), last)(y))
        read = None if affine.is_repeated else affine.result
        if factor is None:
            return self._run_call(replace(bound, weight=affine.tensor, model_weight=read), affine.weight)
        if not self.depends(factor):
            multiple = affine.tensor * factor if read is None or shift is not None else read
            bound = replace(bound, weight=multiple, model_weight=read)
            return self._run_call(bound, affine.weight.times(factor, multiple))
        along = _extent(factor)
        if along == [into] and rule.input_dim is not None and x.shape[rule.input_dim] == shape[into]:
            with self:
                bound = Bound(rule, x * _along(factor, rule.input_dim, x), affine.tensor, bound.bias, bound.finish)
            return self._run_call(bound, affine.weight)
        if along not in ([], [output]):
            return None
        dim = rule.output_dim if along else -1

        then = bound.finish if bound.bias is None else _adding(bound.bias, bound.finish)

        def finish(y: Tensor) -> Tensor:
            y = y * _along(factor, dim, y)
            return then(y) if then else y

        return self._run_call(Bound(rule, x, affine.tensor, None, finish), affine.weight)

    def _shift_part(
        self, rule: Rule, x: Tensor, shift: Tensor, shape: Sequence[int], output: int
    ) -> Callable[[], Tensor]:
        """A function that gives shift · x, for a shift that is broadcast to this shape of a weight."""
        if not self.depends(shift) or _extent(shift) not in ([], [output]):
            return lambda: rule.apply(x, shift.expand(shape))
        # One number for each output neuron, as a mean: times the sum over the input neurons.
        ones = torch.ones((), dtype=shift.dtype, device=shift.device).expand(shape)

        def part() -> Tensor:
            sums = rule.apply(x, ones)
            return sums * _along(shift, rule.output_dim if _extent(shift) else -1, sums)

        return part

    def _view_of_affine(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], affine: Affine) -> Any:
        """Run a view of an affine weight, which is the affine weight of the same view of its parts."""
        result = function(*args, **kwargs)

        def view(t: Tensor) -> Any:
            others, named = tree_map(lambda a: t if a is affine.result else a, (args, kwargs))
            return function(*others, **named)

        def view_of_other(t: Tensor | None) -> Any:
            if t is None or t.numel() == 1:
                return t
            t = t.expand(affine.tensor.shape)
            return t.reshape(result.shape) if name_of(function) in ("view", "view_as") else view(t)

        with self:
            tensor, factor, shift = view(affine.tensor), view_of_other(affine.factor), view_of_other(affine.shift)
        for i, part in enumerate([result] if isinstance(result, Tensor) else result):
            of_tensor, of_factor, of_shift = (part_of(t, i) for t in (tensor, factor, shift))
            if (weight := self._weights.get(id(of_tensor))) and part.is_floating_point():
                with self:
                    of_factor, of_shift = (None if t is None else once(t) for t in (of_factor, of_shift))
                self._noted(Affine(weight, of_tensor, of_factor, of_shift, part))
        return result

    def _affine_as_activation(self, leaf: Any) -> Any:
        """The activation W ∘ factor + shift for an affine weight; any other argument as it is."""
        affine = self._affine.get(id(leaf))
        if affine is None:
            return leaf
        with self:
            whole = None if affine.factor is None else affine.factor.to(affine.result.dtype).expand(affine.tensor.shape)
            bound = constant_input(affine.tensor) if whole is None else scale(whole, affine.tensor)
        assert bound is not None
        y = self._run_call(bound, affine.weight)
        if affine.shift is not None:
            with self:
                y = y + affine.shift
        if affine.is_repeated:
            with self:
                y = y.expand(affine.result.shape)
        return affine.holds(y)

    def _turned_into_activation(self, leaf: Tensor) -> bool:
        """Replace a shifted weight, in place, by an activation of the same values, so that the model may write into it.

        Returns whether it was possible.
        """
        affine = self._affine.get(id(leaf))
        if affine is None or affine.shift is None or affine.is_written or leaf._is_view():
            return False
        y = self._affine_as_activation(leaf)
        del self._affine[id(leaf)]
        self._views.append(leaf)
        with self:
            leaf.detach_().copy_(y)
        return True


_OUT_OF_PLACE: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((Tensor.mul_, Tensor.multiply_, Tensor.__imul__), torch.mul),
    **dict.fromkeys((Tensor.div_, Tensor.divide_, Tensor.true_divide_, Tensor.__itruediv__), torch.div),
}
"""Products and quotients that are written into their first argument, with the function that makes a new tensor."""


def _is_one(weights: Sequence[Weight]) -> bool:
    """Whether all are the same weight, as in ``w.view_as(w)``."""
    return all(weight is weights[0] for weight in weights)


def leaves_of(values: Iterable[Any]) -> list[Any]:
    """The leaves of nested lists, tuples and dictionaries; faster than pytree, for what every operation needs."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, tuple | list):
            found += leaves_of(value)
        elif isinstance(value, dict):
            found += leaves_of(value.values())
        else:
            found.append(value)
    return found


def _printed(arguments: Any) -> str:
    """Arguments as text, with every tensor as the hash of its entries."""

    def entries(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        data = leaf.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy()
        return f"{leaf.dtype}{tuple(leaf.shape)}{sha256(data.tobytes()).hexdigest()}"

    return str(tree_map(entries, arguments))


def _extent(t: Tensor) -> list[int]:
    """The dimensions of more than one entry, counted from the end."""
    return [d for d in range(-t.ndim, 0) if t.shape[d] > 1]


def _along(factor: Tensor, dim: int, y: Tensor) -> Tensor:
    """A factor with at most one dimension of several entries, reshaped to lie along dimension ``dim`` of y."""
    trailing = -dim - 1 if dim < 0 else y.ndim - dim - 1
    return factor.reshape(-1, *(1,) * trailing)


def _adding(bias: Tensor, finish: Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor]:
    """The function y ↦ finish(y + bias)."""

    def end(y: Tensor) -> Tensor:
        y = y + bias.to(y.dtype)
        return finish(y) if finish else y

    return end
