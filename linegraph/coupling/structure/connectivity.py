"""Which neurons the paths between synapses join: the structure of P, without its values.

One forward pass carries, beside every activation, the *provenance* of its elements: a label for each element and,
for each label, the set of synapse output neurons from which a path leads there. An operation that moves data (reshape,
slice, transpose) moves the labels in the same way. Sums merge the sets of what is added. Operations that mix features
(layer norm, softmax, attention) join every feature with every other. Along dimensions on which labels do not depend
(samples, positions) they are stored once.

Torch does not show every operation to Python. Autograd records the pass as well: where the autograd node of a tensor is
not the one that its provenance was noted with, a hidden operation has made the tensor or written to it. Then every
synapse before that node in the autograd graph is taken to lead to every element of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array, eye_array
from scipy.sparse import vstack as stack_rows
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from linegraph.coupling.operations import Bound, Rule
from linegraph.coupling.operations import names as ops
from linegraph.coupling.operations.decompositions import decomposition
from linegraph.coupling.operations.rules import applied, bind
from linegraph.coupling.operations.signatures import argument
from linegraph.coupling.structure.neurons import Structure, View
from linegraph.coupling.structure.provenance import (
    Provenance,
    at_inputs,
    broadcasts_to,
    compressed,
    merged,
    no_provenance,
    no_sources,
    reduced_dimensions,
    united_over,
    united_over_all_but,
    widened,
)
from linegraph.coupling.tracing.interceptor import Interceptor
from linegraph.coupling.tracing.node_notes import is_custom, notes
from linegraph.coupling.tracing.weights import Weight
from linegraph.errors import UnsupportedOperationError

__all__ = ["ConnectivityMode"]


@dataclass(frozen=True)
class Known:
    """A provenance that was noted for a tensor; it holds as long as the tensor's autograd node is ``node``."""

    provenance: Provenance
    node: Node | None


class ConnectivityMode(Interceptor):
    """A mode that follows the provenance of all tensors in a forward pass; :meth:`structure` returns the result.

    Args:
        weights: the synapse parameters by name; they, and no other parameter, require gradients.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__(weights)
        self._by_view: dict[tuple[str, str, str], View] = {}
        self._known: Any = WeakIdKeyDictionary()
        self._num_outputs = 0

    def structure(self) -> Structure:
        """The structure that the pass has found."""
        return Structure(list(self._by_view.values()))

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        y = applied(bound.rule, bound.x, bound.weight, bound.bias)
        view = self._view_of(bound.rule, weight)
        if (entering := self._provenance(bound.x)) is not None:
            view.arrivals.append(at_inputs(entering, bound.rule.input_dim, len(view.leaving())))
        else:
            view.arrivals.append(no_provenance(len(view.leaving())))
        self._note(y, _fresh(view, y))
        if y.grad_fn is not None:
            notes(y.grad_fn)[_SENT_OUT_BY] = view
        return y

    def on_gradient(self, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if any(t in self._known for t in tree_leaves(outputs)):
            raise UnsupportedOperationError(
                "the model differentiates itself (torch.autograd.grad), and which neurons its gradients join is not "
                "known: edges are not counted; P v, strengths and β_eff need no edges"
            )
        return super().on_gradient(outputs, inputs, *args, **kwargs)

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = ops.name_of(function)
        read = args[:1] if name in ops.CASTS else (args, kwargs)
        entering = [(a, p) for a in _tensors(read) if (p := self._provenance(a)) is not None]
        if not entering:
            return function(*args, **kwargs)
        if (simpler := self._simpler(function, name, args, kwargs)) is not None:
            with self:
                return simpler(*args, **kwargs)
        target = args[0] if args and (ops.is_in_place(function) or kwargs.get("inplace")) else None
        around = None if target is None or target._base is None else self._provenance(target._base)
        result = function(*args, **kwargs)
        results = [r for r in _tensors(target if result is None else result) if _is_continuous(r)]
        if results:
            found = self._follow(function, name, args, kwargs, entering, results)
            for part, provenance in zip(results, found, strict=True):
                self._note(part, provenance)
                if part is target and part._base is not None:
                    self._note(part._base, self._with_part(part, provenance, around))
        return result

    def _note(self, t: Tensor, provenance: Provenance) -> None:
        self._known[t] = Known(provenance, t.grad_fn)

    def _provenance(self, t: Tensor) -> Provenance | None:
        """The provenance of a tensor; None if no synapse leads to it."""
        known, node = self._known.get(t), t.grad_fn
        if known is not None and (known.node is node or (known.node is None and is_custom(node))):
            cut_off = torch.is_grad_enabled() and not t.requires_grad
            return None if cut_off else known.provenance
        return None if node is None else self._anywhere(t, node)

    def _anywhere(self, t: Tensor, node: Node) -> Provenance | None:
        """The provenance after a hidden operation: all synapses before this autograd node lead to every element."""
        sent, waiting, met = np.zeros(self._num_outputs, bool), [node], {node}
        while waiting:
            node = waiting.pop()
            if (view := notes(node).get(_SENT_OUT_BY)) is not None:
                sent[view.first_output :][: len(view.entering())] = True
                continue
            before = {parent for parent, _ in node.next_functions if parent is not None} - met
            waiting.extend(before)
            met |= before
        if not sent.any():
            return None
        sources = csr_array(np.stack([np.zeros_like(sent), sent]))
        return Provenance(torch.ones((), dtype=torch.float64, device="cpu").expand(t.shape), sources)

    def _with_part(self, part: Tensor, provenance: Provenance, around: Provenance | None) -> Provenance:
        """The provenance of the base of ``part``, a view that has been written to.

        ``around`` is that of the base before.
        """
        whole = part._base
        assert whole is not None
        if around is None:
            around = Provenance(torch.zeros((), dtype=torch.float64, device="cpu").expand(whole.shape), no_sources(0))
        if part.dtype != whole.dtype:  # the real view of complex numbers: its strides differ
            return self._mixed([around, provenance], whole.shape)
        (outside, inside), sources = self._side_by_side([around, provenance])
        labels = torch.empty_strided(whole.shape, whole.stride(), dtype=torch.float64, device="cpu").copy_(outside)
        labels.as_strided(part.shape, part.stride(), part.storage_offset() - whole.storage_offset()).copy_(inside)
        return compressed(Provenance(labels, sources))

    def _simpler(self, function: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """Simpler operations that compute the same as an operation which is not followed here.

        None if none are known.
        """
        if name in _FOLLOWED or (simpler := decomposition(function)) is None:
            return None
        return None if bind(function, args, kwargs, self._is_constant) else simpler

    def _is_constant(self, t: Tensor) -> bool:
        return self._provenance(t) is None

    def _view_of(self, rule: Rule, weight: Weight) -> View:
        key = (weight.name, weight.view, rule.op)
        if key not in self._by_view:
            self._by_view[key] = View(weight, rule, self._num_outputs, [])
            self._num_outputs += len(self._by_view[key].entering())
        return self._by_view[key]

    def _follow(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        entering: list[tuple[Tensor, Provenance]],
        results: list[Tensor],
    ) -> Iterable[Provenance]:
        """The provenance of each result of an operation."""
        first, shape = entering[0][1], results[0].shape
        if name in ops.MOVEMENT and not _accumulates(name, args, kwargs):
            return self._moved(function, name, args, kwargs, entering)
        if function is F.batch_norm and _of_a_batch(*args, **kwargs):  # its statistics join samples and positions
            channels = united_over(first, [d for d in range(len(shape)) if d != 1])
            return [Provenance(channels.labels.expand(shape), channels.sources)]
        pairs = name in ops.EXTREMES and len(_tensors((args, kwargs))) > 1
        if name in _ELEMENT_BY_ELEMENT or pairs:
            same = [Provenance(p.labels.expand(shape), p.sources) for _, p in entering]
            return [merged(same, self._num_outputs)]
        if name in ops.POOLING:
            dims = int(name[-2]) if name[-2:] in ("1d", "2d", "3d") else len(shape) - 2
            pooled = united_over(first, range(len(shape) - dims, len(shape)))
            return [Provenance(pooled.labels.expand(r.shape), pooled.sources) for r in results]
        if name in ops.REDUCTIONS | ops.EXTREMES:
            given = argument(function, args, kwargs, "dim", None)
            pooled = united_over(first, reduced_dimensions(given, first.labels.ndim))
            return [compressed(Provenance(pooled.labels.reshape(shape), pooled.sources))]
        if name in ops.SCATTERS:
            dim = int(argument(function, args, kwargs, "dim", 0)) % len(shape)
            united = [united_over(p, [dim]) for _, p in entering]
            if all(broadcasts_to(p.labels.shape, shape) for p in united):
                return [merged([Provenance(p.labels.expand(shape), p.sources) for p in united], self._num_outputs)]
        with self:
            bound = bind(function, args, kwargs, self._is_constant)
        if (
            bound
            and not bound.finish
            and (bound.bias is None or self._is_constant(bound.bias))
            and bound.rule.input_dim is not None
            and (provenance := self._provenance(bound.x)) is not None
        ):
            return [_through_weights(provenance, bound, results[0])]
        return [self._mixed([p for _, p in entering], r.shape) for r in results]

    def _mixed(self, parts: Sequence[Provenance], shape: Sequence[int]) -> Provenance:
        """The provenance of a result (shape) each of whose elements depends on all elements of several tensors."""
        everything = merged([united_over(p, range(p.labels.ndim)).scalar() for p in parts], self._num_outputs)
        return Provenance(everything.labels.expand(shape), everything.sources)

    def _moved(
        self,
        function: Callable[..., Any],
        name: str,
        args: Any,
        kwargs: dict[str, Any],
        entering: list[tuple[Tensor, Provenance]],
    ) -> Iterable[Provenance]:
        """Move the labels as the operation moves the elements; constants carry label 0."""
        shifted, sources = self._side_by_side([p for _, p in entering])
        replaced = {id(t): labels.expand(t.shape) for (t, _), labels in zip(entering, shifted, strict=True)}
        zero = torch.zeros((), dtype=torch.float64, device="cpu")

        def labels_of(leaf: Any) -> Any:
            if isinstance(leaf, Tensor) and _is_continuous(leaf):
                return replaced.get(id(leaf), zero.expand(leaf.shape))
            return leaf.cpu() if isinstance(leaf, Tensor) else leaf

        if name == "pad":
            args, kwargs = args[:3], {k: v for k, v in kwargs.items() if k != "value"}
        if name in _WRITTEN and id(args[_WRITTEN[name]]) not in replaced:
            args = (*args[: _WRITTEN[name]], zero, *args[_WRITTEN[name] + 1 :])
        args, kwargs = tree_map(labels_of, (args, kwargs))
        if ops.is_in_place(function):
            args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
        moved = function(*args, **kwargs)
        parts = [part for part in _tensors(args[0] if moved is None else moved) if part.is_floating_point()]
        return [compressed(Provenance(part, sources)) for part in parts]

    def _side_by_side(self, parts: Sequence[Provenance]) -> tuple[list[Tensor], csr_array]:
        """The labels of several provenances, renumbered so that all differ, and one table of their sources."""
        tables, shifted, first = [no_sources(self._num_outputs)], [], 1
        for p in parts:
            shifted.append(torch.where(p.labels > 0, p.labels + (first - 1), 0.0))
            tables.append(widened(p.sources, self._num_outputs)[1:])
            first += p.sources.shape[0] - 1
        return shifted, csr_array(stack_rows(tables))


_SENT_OUT_BY = "sent out by the synapse"
"""Key under which an autograd node of a synapse call notes its view."""

_WRITTEN = {"__setitem__": 2, "copy": 1}
"""Operations that write, with the place among the arguments of the value written, which may be a number."""

_ELEMENT_BY_ELEMENT = (
    ops.ELEMENTWISE
    | ops.CASTS
    | ops.SUMS
    | ops.DIFFERENCES
    | ops.PRODUCTS
    | ops.SELECTIONS
    | frozenset(("__rdiv__", "__rtruediv__", "batch_norm", "real", "imag", "conj", "resolve_conj", "angle", "complex"))
)

_FOLLOWED = _ELEMENT_BY_ELEMENT | ops.MOVEMENT | ops.POOLING | ops.REDUCTIONS | ops.EXTREMES | ops.SCATTERS


def _accumulates(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the operation adds the values written to those that are there."""
    return name == "index_put" and bool(kwargs.get("accumulate", args[3:4] == (True,)))


def _of_a_batch(
    input: Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False, *_: Any, **__: Any
) -> bool:
    """Whether a batch norm of these arguments takes its statistics from the batch."""
    return training


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_continuous(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


# provenance algebra ------------------------------------------------------------------------------------


def _fresh(view: View, y: Tensor) -> Provenance:
    """The provenance of the output of a synapse call: every output neuron is its own only source."""
    size = len(view.entering())
    shape = [1] * y.ndim
    shape[view.rule.output_dim] = size
    labels = torch.arange(1, size + 1, dtype=torch.float64, device="cpu").view(shape).expand(y.shape)
    own = eye_array(size, view.first_output + size, k=view.first_output, dtype=bool, format="csr")
    return Provenance(labels, csr_array(stack_rows([no_sources(view.first_output + size), own])))


def _through_weights(p: Provenance, bound: Bound, y: Tensor) -> Provenance:
    """The provenance after a weighted operation that is no synapse: it joins all channels of a group."""
    groups, dim = bound.rule.num_groups, bound.rule.input_dim
    assert dim is not None
    arriving = united_over_all_but(p, dim)
    per_group = united_over(Provenance(arriving.labels.view(groups, -1), arriving.sources), [1])
    shape = [1] * y.ndim
    shape[bound.rule.output_dim] = y.shape[bound.rule.output_dim]
    labels = per_group.labels.reshape(-1).repeat_interleave(y.shape[bound.rule.output_dim] // groups)
    return Provenance(labels.view(shape).expand(y.shape), per_group.sources)
