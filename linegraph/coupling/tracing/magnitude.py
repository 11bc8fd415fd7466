"""Absolute path Jacobians |J|, for ``kind="magnitude"``.

On a :class:`MagnitudeTape` every operation between synapse calls is replaced by a twin that computes the same output.
In the sweep for the output gradients g, a twin sends back the true gradient; in ``pull_back`` and ``push_forward`` it
uses its absolute local Jacobian instead:

=================================  =====================================================
operation                          absolute local Jacobian
=================================  =====================================================
elementwise, y = σ(x₁, x₂, ...)    |∂σ/∂x₁|, |∂σ/∂x₂|, ...
batch norm in evaluation mode      |scale|, an elementwise function too
data movement, pooling, sums       itself: no entry is negative
difference                         1 for both terms
product, quotient                  |other factor|
product of matrices, convolution   |other factor|
softmax, log-softmax               closed forms, see ``operations/normalisation.py``
norms of the data                  that of centring, then of scaling, then |weight|
weighted, but not a synapse        |W|
composed of such operations        the product of theirs
any other                          that of its autograd nodes, found by probing
=================================  =====================================================

Other operations run as they are; in sweeps with absolute Jacobians, hooks on their autograd nodes replace what these
send back. So do hooks on the nodes of operations that torch does not show to Python (scripted code, custom autograd
functions), which are found by their autograd nodes, since no operation of the tape has made these. Where probing
cannot find a Jacobian, such a hook raises. It raises only if an absolute path crosses the operation, since operations
before the first or after the last synapse call do not enter P. From its second run on torch joins the operations of
scripted code to one node, whose |J| is smaller than the product of theirs; such a node raises too, so that P does not
depend on what has run before.
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
from torch.utils._pytree import tree_map

from linegraph.coupling.operations import Bound
from linegraph.coupling.operations import names as ops
from linegraph.coupling.operations.decompositions import decomposition
from linegraph.coupling.operations.diagonal import Diagonal, fixed_batch_norm
from linegraph.coupling.operations.normalisation import LOG_SOFTMAX, SOFTMAX, Normalisation, normalisation, written_out
from linegraph.coupling.operations.rules import bind
from linegraph.coupling.operations.signatures import argument
from linegraph.coupling.tracing.attention import scaled_dot_product_attention
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.interceptor import leaves_of
from linegraph.coupling.tracing.node_notes import is_custom, is_dual, notes, written_parts
from linegraph.coupling.tracing.probing import ProbedJacobian, UnprobedError
from linegraph.coupling.tracing.tape import Tape
from linegraph.coupling.tracing.twins import ElementwiseProduct, Normalised, Softmax, Weighted
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

    def __init__(self, weights: Mapping[str, Tensor], share: float = 1.0, **options: Any) -> None:
        super().__init__(weights, share, **options)
        self._probed: list[ProbedJacobian] = []
        reference = weakref.ref(self)  # the graph that the tape holds must not hold the tape
        self._is_absolute: Callable[[], bool] = lambda: reference().absolute  # type: ignore[union-attr]

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
        simpler = function if function is scaled_dot_product_attention else decomposition(function)
        if simpler is not None and name not in ops.ELEMENTWISE:  # without a twin, numbers are complex
            with self:
                return simpler(*args, **kwargs)
        result = function(*args, **kwargs)
        for part in _tensors(result):
            if part.grad_fn is not None:
                self._probe(part.grad_fn, ops.describe(function))
        return result

    def _twin(
        self, function: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any], entering: list[Tensor]
    ) -> Tensor | None:
        """The output of an operation, differentiable through its twin; None where there is no twin."""
        if any(_is_complex(leaf) for leaf in leaves_of((args, kwargs))) or any(map(is_dual, entering)):
            return None
        if name in ops.ELEMENTWISE:
            return self._elementwise(function, args, kwargs, entering)
        if function is F.batch_norm and (found := fixed_batch_norm(*args, **kwargs)) is not None:
            return self._diagonal(entering[0], *found)
        if name in SOFTMAX | LOG_SOFTMAX:
            return self._softmax(function, name, args, kwargs)
        if (norm := normalisation(name, args, kwargs)) is not None:
            return self._normalised(function, norm, args, kwargs)
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
        return Diagonal.apply(x, [y], slope, self._is_absolute)

    def _softmax(self, function: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        dim = argument(function, args, kwargs, "dim", None)
        if dim is None:  # torch.nn.functional then chooses one
            return None
        with torch.no_grad():
            y = function(*args, **kwargs)
        return Softmax.apply(args[0], [y], dim, name in LOG_SOFTMAX, self._is_absolute)

    def _normalised(self, function: Any, norm: Normalisation, args: Any, kwargs: dict[str, Any]) -> Tensor:
        with torch.no_grad():
            y = function(*args, **kwargs)  # may write running statistics
        if any(t is not None and t.requires_grad for t in (norm.weight, norm.bias)):
            with self:
                return written_out(norm)
        return Normalised.apply(norm.x, [y], norm, self._is_absolute)

    def _weighted(self, bound: Bound) -> Tensor:
        y = Weighted.apply(bound.x, bound.weight, bound.rule, self._is_absolute)
        self._note_seen([y])
        with self:
            y = y if bound.bias is None else y + bound.bias
            return bound.finish(y) if bound.finish else y

    def _product(self, name: str, a: Any, b: Any) -> Tensor:
        if "div" in name:
            if isinstance(b, Tensor) and not b.is_floating_point():  # whose reciprocals are in single precision
                b = b.to(a.dtype)
            with self:
                b = b.reciprocal() if isinstance(b, Tensor) else 1 / b
        like = a if isinstance(a, Tensor) else b
        a, b = (t if isinstance(t, Tensor) else like.new_full((), t) for t in (a, b))
        return ElementwiseProduct.apply(a, b, self._is_absolute)

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
        """Let sweeps probe the operations unseen by the tape that have computed these tensors."""
        for t in (part for given in tensors for part in written_parts(given)):
            node = t.grad_fn
            if node is None or _SEEN in notes(node):
                continue
            if _is_view_made_again(t):
                notes(node)[_SEEN] = True
            else:
                self._probe(node)

    def _note_seen(self, tensors: Iterable[Tensor]) -> None:
        for t in (part for given in tensors for part in written_parts(given)):
            if t.grad_fn is not None:
                notes(t.grad_fn)[_SEEN] = True

    def _probe(self, node: Node, what: str | None = None) -> None:
        """Let sweeps probe this autograd node, and those before it that no operation of the tape has made."""
        waiting: list[Node | None] = [node]
        while waiting:
            node = waiting.pop()  # type: ignore[assignment]
            if node is None or _SEEN in notes(node):
                continue
            notes(node)[_SEEN] = True
            before = [parent for parent, _ in node.next_functions]
            if before:  # else it belongs to a leaf
                self._let_probe(node, what or f"{node.name()} (of scripted code or a custom autograd function)")
                waiting.extend(before)

    def _let_probe(self, node: Node, what: str) -> None:
        jacobian = ProbedJacobian(node)
        self._probed.append(jacobian)
        tape_of, jacobian_of = weakref.ref(self), weakref.ref(jacobian)  # a hook must hold neither tape nor node
        node_name = node.name()

        def replace(sent: Any, came: Any) -> Any:
            tape, jacobian = tape_of(), jacobian_of()
            if tape is None or jacobian is None or not tape.absolute:
                return None
            try:
                if _JOINED in node_name:
                    raise UnprobedError(_HOW_TO_SEPARATE)
                return jacobian(sent, came)
            except UnprobedError as error:
                raise UnsupportedOperationError(
                    f"magnitude has no formula for the absolute Jacobian of {what}, which lies between two synapses, "
                    f"and {error}; use kind='energy', which squares the entries along any path, or choose other "
                    "synapses with include="
                ) from error

        node.register_hook(replace)


_JOINED = "DifferentiableGraph"
"""In the name of an autograd node to which torch has joined the operations of scripted code."""
_HOW_TO_SEPARATE = (
    "torch has joined its operations to one, since it ran before; run scripted code under "
    "torch.jit.optimized_execution(False) from its first run on, or pass the model unscripted"
)

_SEEN = "made by an operation that the tape has seen"
"""Key among the notes of an autograd node."""


def _is_view_made_again(t: Tensor) -> bool:
    """Whether torch itself made the node anew, for a view whose base was written to; such a node moves data only."""
    base = t._base
    made = base is not None and base.grad_fn is not None and _SEEN in notes(base.grad_fn)
    return made and not is_custom(t.grad_fn)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in leaves_of((tree,)) if isinstance(leaf, Tensor)]


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
