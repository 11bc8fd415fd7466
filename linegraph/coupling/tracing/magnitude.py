"""Absolute path Jacobians |J|, for ``kind="magnitude"``.

On a :class:`MagnitudeTape` every operation between synapse calls is replaced by a twin that computes the same output.
In the sweep for the output gradients g, a twin sends back the true gradient; in ``pull_back`` and ``push_forward`` it
uses its absolute local Jacobian instead:

=================================  =====================================
operation                          absolute local Jacobian
=================================  =====================================
elementwise, y = σ(x₁, x₂, ...)    |∂σ/∂x₁|, |∂σ/∂x₂|, ...
batch norm in evaluation mode      |scale|, an elementwise function too
data movement, pooling, sums       itself: no entry is negative
difference                         1 for both terms
product, quotient                  |other factor|
product of matrices, convolution   |other factor|
weighted, but not a synapse        |W|
composed of such operations        the product of theirs
=================================  =====================================

Any other operation runs as it is, and raises only if an absolute path crosses it, since operations before the first or
after the last synapse call do not enter P. The same holds for operations that torch does not show to Python (scripted
code, custom autograd functions); they are found by the autograd nodes that no operation of the tape has made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves, tree_map

from linegraph.coupling.operations import Bound, Rule
from linegraph.coupling.operations import names as ops
from linegraph.coupling.operations.decompositions import decomposition
from linegraph.coupling.operations.diagonal import Diagonal, fixed_batch_norm
from linegraph.coupling.operations.rules import bind
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.node_notes import is_custom, is_dual, notes, written_parts
from linegraph.coupling.tracing.tape import Tape
from linegraph.coupling.tracing.weights import Weight
from linegraph.errors import UnsupportedOperationError

__all__ = ["MagnitudeTape"]


class MagnitudeTape(Tape):
    """A tape that gives |x| and |g|, and whose sweeps between synapse calls use absolute local Jacobians.

    Attributes:
        absolute: whether the current sweep uses absolute Jacobians.
    """

    signed = False
    absolute = False

    def x(self, call: Call) -> Tensor:
        return super().x(call).abs()

    def g(self, call: Call) -> Tensor:
        return super().g(call).abs()

    def _from_inputs(self, *args: Any, **kwargs: Any) -> None:
        _ = self.gradients  # computed first, with the true Jacobians
        self.absolute = True
        try:
            super()._from_inputs(*args, **kwargs)
        finally:
            self.absolute = False

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        self._notice_hidden([bound.x])
        if weight.factor is not None:
            weight = replace(weight, factor=weight.factor.abs())
        y = super().on_synapse(bound, weight)
        self._note_seen([y])
        return y

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = _tensors((args, kwargs))
        entering = list({id(t): t for t in given if t.requires_grad}.values())
        if not entering or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        self._notice_hidden(entering)
        result = self._along_path(function, args, kwargs, entering)
        self._note_seen([*given, *_tensors(result)])  # an operation may write into its arguments
        return result

    def _along_path(
        self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any], entering: list[Tensor]
    ) -> Any:
        name = ops.name_of(function)
        if ops.is_not_negative(name, args, kwargs):
            return function(*args, **kwargs)
        if (twin := self._twin(function, name, args, kwargs, entering)) is not None:
            return _in_place(function, args, kwargs, twin)
        if (simpler := decomposition(function)) is not None:
            with self:
                return simpler(*args, **kwargs)
        result = function(*args, **kwargs)
        for part in _tensors(result):
            if part.grad_fn is not None:
                self._refuse(part.grad_fn, ops.describe(function))
        return result

    def _twin(
        self, function: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any], entering: list[Tensor]
    ) -> Tensor | None:
        """The output of an operation, differentiable through its twin; None where there is no twin."""
        if any(_is_complex(leaf) for leaf in tree_leaves((args, kwargs))) or any(map(is_dual, entering)):
            return None
        if name in ops.ELEMENTWISE:
            return self._elementwise(function, args, kwargs, entering)
        if function is F.batch_norm and (found := fixed_batch_norm(*args, **kwargs)) is not None:
            return self._diagonal(entering[0], *found)
        with self:  # operations of the binder on the input are part of the path
            bound = bind(function, args, kwargs, lambda weight: not weight.requires_grad)
        if bound:
            return self._weighted(bound)
        if name in ops.PRODUCTS and not kwargs:
            return self._product(name, *_kept(function, args))
        if name in ("__rdiv__", "__rtruediv__"):
            return self._product("div", *args[::-1])
        if name in ("dot", "vdot"):
            with self:
                return (args[0] * args[1]).sum()
        if name in ops.SUMS | ops.DIFFERENCES:
            return self._sum(name, args, kwargs)
        if name == "index_add":
            return self._index_add(*args, **kwargs)
        with self:
            bound = bind(function, args, kwargs, lambda weight: True)
        return self._weighted(bound) if bound else None

    def _elementwise(self, function: Any, args: Any, kwargs: dict[str, Any], entering: list[Tensor]) -> Tensor:
        """y = σ(x₁, x₂, ...), recorded by the slopes ∂σ/∂x₁, ∂σ/∂x₂, ..."""
        shape = torch.broadcast_shapes(*(t.shape for t in _tensors((args, kwargs))))
        inputs = [x if x.shape == shape else x.expand(shape) for x in entering]
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            # Copies, since the function may write into its arguments.
            copies = {id(x): leaf.clone() for x, leaf in zip(entering, leaves, strict=True)}
            y = function(*_replaced(args, copies), **_replaced(kwargs, copies))
            slopes = torch.autograd.grad(y.sum(), leaves, allow_unused=True)
        (first, slope), *others = [pair for pair in zip(inputs, slopes, strict=True) if pair[1] is not None]
        total = self._diagonal(first, y.detach(), slope)
        for x, slope in others:
            total = total + self._diagonal(x, total.new_zeros(()).expand(shape), slope)
        return total

    def _diagonal(self, x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
        tape = weakref.ref(self)
        return Diagonal.apply(x, [y], slope, lambda: tape().absolute)  # type: ignore[union-attr]

    def _weighted(self, bound: Bound) -> Tensor:
        y = _Weighted.apply(bound.x, bound.weight, bound.rule, weakref.ref(self))
        self._note_seen([y])
        with self:
            y = y if bound.bias is None else y + bound.bias
            return bound.finish(y) if bound.finish else y

    def _product(self, name: str, a: Any, b: Any) -> Tensor:
        if "div" in name:
            with self:
                b = b.reciprocal() if isinstance(b, Tensor) else 1 / b
        like = a if isinstance(a, Tensor) else b
        a, b = (t if isinstance(t, Tensor) else like.new_full((), t) for t in (a, b))
        return _ElementwiseProduct.apply(a, b, weakref.ref(self))

    def _sum(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """a + factor · b with a negative factor, which counts by its absolute value."""
        a, b, factor = ops.terms(name, args, kwargs)
        b = self._negative(b)
        return torch.add(a, b, alpha=-factor) if isinstance(a, Tensor) else a + b * -factor

    def _index_add(self, input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float) -> Tensor:
        """``index_add`` with a negative factor alpha, which counts by its absolute value."""
        return input.index_add(dim, index, self._negative(source), alpha=-alpha)

    def _negative(self, x: Any) -> Any:
        if not (isinstance(x, Tensor) and x.requires_grad):
            return -x
        return self._diagonal(x, -x.detach(), torch.full((), -1.0, dtype=x.dtype, device=x.device))

    # operations that torch does not show to Python ----------------------------------------------------

    def _notice_hidden(self, tensors: Iterable[Tensor]) -> None:
        """Let sweeps raise at tensors that an operation unseen by the tape has computed."""
        for t in (part for given in tensors for part in written_parts(given)):
            node = t.grad_fn
            if node is None or _SEEN in notes(node):
                continue
            if not _is_view_made_again(t):
                self._refuse(
                    node,
                    f"{node.name()}, which torch does not show to Python (scripted code, a custom autograd function)",
                )
            notes(node)[_SEEN] = True

    def _note_seen(self, tensors: Iterable[Tensor]) -> None:
        for t in (part for given in tensors for part in written_parts(given)):
            if t.grad_fn is not None:
                notes(t.grad_fn)[_SEEN] = True

    def _refuse(self, node: Node, what: str) -> None:
        """Let every sweep with absolute Jacobians raise when it reaches this node."""

        def refuse(grads: Any) -> None:
            tape = reference()
            if tape is not None and tape.absolute and any(g is not None for g in grads):
                raise UnsupportedOperationError(
                    f"magnitude has no absolute Jacobian for {what}, which lies between two synapses; use "
                    "kind='energy', which squares the entries along any path, or choose other synapses with include="
                )

        reference = weakref.ref(self)
        node.register_prehook(refuse)


_SEEN = "made by an operation that the tape has seen"
"""Key among the notes of an autograd node."""


def _is_view_made_again(t: Tensor) -> bool:
    """Whether torch itself made the node anew, for a view whose base was written to; such a node moves data only."""
    base = t._base
    made = base is not None and base.grad_fn is not None and _SEEN in notes(base.grad_fn)
    return made and not is_custom(t.grad_fn)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_complex(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        return leaf.is_complex()
    return leaf.is_complex if isinstance(leaf, torch.dtype) else isinstance(leaf, complex)


def _in_place(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], twin: Tensor) -> Tensor:
    """The twin's output, written into the input if the operation works in place."""
    if ops.is_in_place(function) or kwargs.get("inplace"):
        return (args[0] if args else kwargs["input"]).copy_(twin)
    return twin


def _kept(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a function, with a copy of the first if the function writes into it."""
    return (args[0].clone(), *args[1:]) if ops.is_in_place(function) else args


def _replaced(tree: Any, others: Mapping[int, Tensor]) -> Any:
    """A tree of values in which some tensors, by id, are replaced by others."""
    return tree_map(lambda leaf: others.get(id(leaf), leaf), tree)


class _Weighted(torch.autograd.Function):
    """The twin of y = W · x for a weight that is not a synapse: a frozen parameter or an activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rule: Rule, tape: Any) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.rule, ctx.tape, ctx.shape = rule, tape, x.shape
        x_wanted, weight_wanted, *_ = ctx.needs_input_grad
        ctx.x = x.detach() if weight_wanted else None
        ctx.weight = weight.detach()
        ctx.x_wanted = x_wanted
        return rule.apply(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        if g is None:
            return None, None, None, None
        x, weight = ctx.x, ctx.weight
        of_x = ctx.rule.to_input(_size(weight, ctx), g, ctx.shape) if ctx.x_wanted else None
        of_weight = None if x is None else ctx.rule.to_weight(_size(x, ctx), g, weight)
        return of_x, of_weight, None, None


def _size(t: Tensor, ctx: Any) -> Tensor:
    """A factor of a twin's Jacobian; its absolute value in sweeps with absolute Jacobians."""
    return t.abs() if ctx.tape().absolute else t


class _ElementwiseProduct(torch.autograd.Function):
    """The twin of y = a · b, elementwise with broadcasting."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, tape: Any) -> Tensor:
        ctx.set_materialize_grads(False)
        a_wanted, b_wanted, _ = ctx.needs_input_grad
        ctx.save_for_backward(a.detach() if b_wanted else None, b.detach() if a_wanted else None)
        ctx.shapes, ctx.tape = (a.shape, b.shape), tape
        return a * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        (g,) = grads
        if g is None:
            return None, None, None
        of_a, of_b = ctx.shapes
        return (
            None if b is None else (g * _size(b, ctx)).sum_to_size(of_a),
            None if a is None else (g * _size(a, ctx)).sum_to_size(of_b),
            None,
        )
