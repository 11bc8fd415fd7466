"""Absolute path Jacobians, for the magnitude kind.

On a :class:`MagnitudeTape` the operations between synapses are replaced by twins that compute the same
outputs. In the pass for g a twin hands back the true gradient; in ``pull_back`` and ``push_forward`` it uses
its absolute local Jacobian instead:

=================================  =====================================
operation                          absolute local Jacobian
=================================  =====================================
elementwise, y = σ(x)              |σ'(x)|
batch norm in evaluation mode      |scale|, an elementwise function too
data movement, pooling, sums       itself: no entry is negative
difference                         1 for both terms
product, quotient                  |other factor|
weighted, but not a synapse        |W|
=================================  =====================================

Anything else is let through, and raises only if an absolute path would lead across it: what lies before
the first synapse or after the last has no part in P.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from linegraph.coupling import operations as ops
from linegraph.coupling.diagonal import Diagonal, fixed_batch_norm
from linegraph.coupling.synapses import Bound, bind
from linegraph.coupling.tape import Call, Tape
from linegraph.errors import UnsupportedOperationError

__all__ = ["MagnitudeTape"]


class MagnitudeTape(Tape):
    """A tape with absolute inputs and gradients, whose paths run along absolute Jacobians."""

    signed = False
    absolute = False

    def x(self, call: Call) -> Tensor:
        return super().x(call).abs()

    def g(self, call: Call) -> Tensor:
        return super().g(call).abs()

    def _from_inputs(self, *args: Any, **kwargs: Any) -> None:
        _ = self.gradients  # along the true paths
        self.absolute = True
        try:
            super()._from_inputs(*args, **kwargs)
        finally:
            self.absolute = False

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        entering = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor) and a.requires_grad]
        if not entering:
            return function(*args, **kwargs)
        name = ops.name_of(function)
        if name in ops.NOT_NEGATIVE or (name in ops.SCATTERS and "prod" not in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        twin = self._twin(function, name, args, kwargs, entering)
        if twin is None:
            return self._opaque(function, args, kwargs)
        return _in_place(function, args, kwargs, twin)

    def _twin(
        self, function: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any], entering: list[Tensor]
    ) -> Tensor | None:
        """The output of an operation, differentiable through its twin; None where there is no twin."""
        if len(entering) == 1 and name in ops.ELEMENTWISE:
            return self._elementwise(function, args, kwargs, entering[0])
        if name == "batch_norm" and (found := fixed_batch_norm(*args, **kwargs)) is not None:
            return self._diagonal(entering[0], *found)
        with self:  # what a binder does to the input on the way has a Jacobian too
            bound = bind(function, args, kwargs, lambda weight: not weight.requires_grad)
        if bound:
            return self._weighted(bound)
        if name in ops.PRODUCTS and not kwargs:
            return self._product(name, args)
        if name in ("dot", "vdot"):
            with self:
                return (args[0] * args[1]).sum()
        if name in ops.DIFFERENCES:
            return self._difference(name, args, kwargs)
        return None

    def _elementwise(self, function: Any, args: Any, kwargs: dict[str, Any], x: Tensor) -> Tensor:
        """Y = σ(x), with σ'(x) kept in place of x."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            copy = leaf.clone()  # the function may work in place
            y = function(*tree_map(_swap(x, copy), args), **tree_map(_swap(x, copy), kwargs))
            (slope,) = torch.autograd.grad(y.sum(), leaf)
        return self._diagonal(x, y.detach(), slope)

    def _diagonal(self, x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
        tape = weakref.ref(self)
        return Diagonal.apply(x, [y], slope, lambda: tape().absolute)  # type: ignore[union-attr]

    def _weighted(self, bound: Bound) -> Tensor:
        y = _Weighted.apply(bound.x, bound, weakref.ref(self))
        with self:
            y = y if bound.bias is None else y + bound.bias
            return bound.finish(y) if bound.finish else y

    def _product(self, name: str, args: tuple[Any, ...]) -> Tensor:
        a, b = args
        if "div" in name:
            with self:
                b = b.reciprocal() if isinstance(b, Tensor) else 1 / b
        like = next(t for t in args if isinstance(t, Tensor))
        a, b = (t if isinstance(t, Tensor) else like.new_full((), t) for t in (a, b))
        return _Product.apply(a, b, weakref.ref(self))

    def _difference(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        a, b = args[::-1] if name in ("__rsub__", "rsub") else args
        return torch.add(a, self._negative(b), **kwargs) if isinstance(a, Tensor) else self._negative(b) + a

    def _negative(self, x: Any) -> Any:
        if not (isinstance(x, Tensor) and x.requires_grad):
            return -x
        return self._diagonal(x, -x.detach(), torch.full((), -1.0, dtype=x.dtype, device=x.device))

    def _opaque(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)

        def refuse(grads: Any) -> None:
            tape = reference()
            if tape is not None and tape.absolute and any(g is not None for g in grads):
                raise UnsupportedOperationError(
                    f"magnitude has no absolute Jacobian for {ops.describe(function)}, which lies between two "
                    "synapses; use kind='energy', which squares the entries along any path, or choose other synapses "
                    "with include="
                )

        reference = weakref.ref(self)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                leaf.grad_fn.register_prehook(refuse)
        return result


def _in_place(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], twin: Tensor) -> Tensor:
    """Write the twin's output into the input where the operation itself would have."""
    name = getattr(function, "__name__", "")
    augmented = name.startswith("__i") and name.endswith("__")
    if augmented or (name.endswith("_") and not name.endswith("__")) or kwargs.get("inplace"):
        return (args[0] if args else kwargs["input"]).copy_(twin)
    return twin


def _swap(old: Tensor, new: Tensor) -> Callable[[Any], Any]:
    return lambda leaf: new if leaf is old else leaf


class _Weighted(torch.autograd.Function):
    """y = W · x for a weight that is no synapse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Bound, tape: Any) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.rule, ctx.weight, ctx.shape, ctx.tape = bound.rule, bound.weight.detach(), x.shape, tape
        return bound.rule.apply(x, bound.weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        if g is None:
            return None, None, None
        weight = ctx.weight.abs() if ctx.tape().absolute else ctx.weight
        return ctx.rule.to_input(weight, g, ctx.shape), None, None


class _Product(torch.autograd.Function):
    """y = a · b, elementwise with broadcasting."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, tape: Any) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a.detach(), b.detach())
        ctx.tape = tape
        return a * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        (g,) = grads
        if g is None:
            return None, None, None
        if ctx.tape().absolute:
            a, b = a.abs(), b.abs()
        wanted_a, wanted_b, _ = ctx.needs_input_grad
        return (
            (g * b).sum_to_size(a.shape) if wanted_a else None,
            (g * a).sum_to_size(b.shape) if wanted_b else None,
            None,
        )
