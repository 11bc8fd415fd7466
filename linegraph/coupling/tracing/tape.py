"""The tape: one recorded pass of a model, with its synapse calls and the paths between them.

A synapse call is a weighted operation y = W · x whose weight is a synapse. It is recorded as an autograd function that
computes the same output, and whose backward is chosen for every sweep. So one recorded graph serves all products. In a
sweep, J is the path Jacobian from the output of a call to the input of a later one, with no other synapse call between:

====================  ==========================  =======================================================
sweep over the graph  starts from                 what happens at a synapse call
====================  ==========================  =======================================================
``gradients``         the loss                    keeps the output gradient g, sends back Wᵀ g
``direct_gradients``  the loss                    keeps the output gradient, sends back nothing
``pull_back``         the last calls              s = Σ Jᵀ seed arrives at y; sends back the call's seed
``push_forward``      the transpose of            t = Σ J seed arrives at x
                      ``pull_back``, by autograd
====================  ==========================  =======================================================

Each is one sweep of the autograd engine in topological order, however the paths branch and merge.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import get_gradient_edge

from linegraph.coupling.model.precision import autocast_dtype, without_autocast
from linegraph.coupling.operations import Bound
from linegraph.coupling.operations.decompositions import opened
from linegraph.coupling.operations.diagonal import Diagonal, fixed_batch_norm, never, once_differentiable
from linegraph.coupling.operations.rules import applied
from linegraph.coupling.tracing.attention import drops_out
from linegraph.coupling.tracing.calls import Call
from linegraph.coupling.tracing.interceptor import Interceptor
from linegraph.coupling.tracing.node_notes import is_dual
from linegraph.coupling.tracing.refusals import unseen
from linegraph.coupling.tracing.weights import Weight
from linegraph.errors import DataError, LossError, NonFiniteError, UnsupportedOperationError
from linegraph.lazy import cached_property

__all__ = ["Tape"]

Visitor = Callable[["Call", Tensor | None], Tensor | None]
"""Given a call and the gradient that arrives at its output, returns the gradient to send back from its input."""
Seed = Callable[["Call"], Tensor]
"""Gives the seed of a call, of the shape of its input."""
Take = Callable[["Call", Tensor], None]
"""Given a call and what arrives at its output."""

_WRONG_FOR_ONE_SAMPLE = (F.batch_norm, F.instance_norm, torch.instance_norm)
"""Functions whose backward on a CPU is wrong in torch 2.13 for one sample with an output gradient not contiguous."""


class _Synapse(torch.autograd.Function):
    """The operation y = W · x + bias of a synapse call; its backward calls the visitor of the tape's current sweep."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tape: Any, call: Call, model_weight: Tensor | None
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.tape, ctx.synapse_call, ctx.has_model_weight = tape, call.index, model_weight is not None
        y = applied(call.rule, x, weight.to(x.dtype), bias)
        # torch lets no model write into an output that is a view, as that of a linear map of many dimensions is.
        return torch.ops.aten._unsafe_view(y, y.shape) if y._is_view() else y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        tape: Tape = ctx.tape()
        call, g = tape.calls[ctx.synapse_call], grads[0]
        if tape.visit is None:
            of_x, of_weight = _differentiated(call, g)
            at_end = ctx.has_model_weight
            return of_x, *((None, None, None, None, of_weight) if at_end else (of_weight, None, None, None, None))
        return tape.visit(call, g), None, None, None, None, None


class Tape(Interceptor):
    """One recorded pass of a model and its loss.

    Args:
        weights: the synapse parameters by name; they, and no other parameter, require gradients.
        share: the weight of this pass in a sum over passes; it multiplies all gradients.
        fuses: whether attention may run in fused kernels, which hold no matrix of scores, but cannot be differentiated
            twice, so that ``push_forward`` fails.

    Attributes:
        is_fused: whether attention has run in a fused kernel.
    """

    def __init__(self, weights: Mapping[str, Tensor], share: float = 1.0, *, fuses: bool = False) -> None:
        super().__init__(weights)
        self._fuses = fuses and self.signed  # absolute Jacobians are those of the separate operations
        self.is_fused = False
        self.parameters = list(weights.values())
        self.share = share
        self.calls: list[Call] = []
        self.loss: Tensor = torch.empty(())
        self.visit: Visitor | None = None
        self._checks_sweeps = False

    # recording ---------------------------------------------------------------------------------------

    def unfused(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        separate = super().unfused(function, args, kwargs)
        if separate is function or not self._fuses or drops_out(*args, **kwargs):
            return separate
        self.is_fused = True
        return function

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        x = bound.x
        if bound.rule.is_autocast:
            dtype = autocast_dtype(x.device)
            if dtype is None and x.dtype != bound.weight.dtype:
                raise DataError(
                    f"{bound.rule.op} with '{weight.name}' reads {x.dtype}, and its weight is {bound.weight.dtype}; "
                    "convert the data or the model"
                )
            x = x if dtype is None else x.to(dtype)
        edge = get_gradient_edge(x) if x.requires_grad else None
        call = Call(len(self.calls), bound.rule, weight, x.detach(), edge, x._version, bound.bias)
        self.calls.append(call)
        with without_autocast():
            return _Synapse.apply(x, bound.weight, bound.bias, weakref.ref(self), call, bound.model_weight)

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is F.batch_norm and args[0].requires_grad and not is_dual(args[0]):
            found = fixed_batch_norm(*args, **kwargs)
            if found is not None:
                return Diagonal.apply(args[0], [found[0]], found[1], never)
        if function in _WRONG_FOR_ONE_SAMPLE and len(args[0]) == 1:
            y = function(*args, **kwargs)
            if y.requires_grad:
                y.register_hook(_contiguous)
            return y
        if function is torch.cdist:
            y = function(*args, **kwargs)
            if y.requires_grad:
                y.register_hook(_one_at_a_time)
            return y
        if function is F.hardsigmoid and not is_dual(args[0]):
            return once_differentiable(function, *args, **kwargs)
        if function is F.multi_head_attention_forward:
            with self:
                return opened(function)(*args, **kwargs)  # type: ignore[misc]
        return function(*args, **kwargs)

    def close(self, loss: Any) -> None:
        """End the pass with its loss.

        Raises:
            LossError: if the loss is not a scalar tensor, or depends on no synapse weight.
        """
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise LossError(f"loss_fn must return a scalar tensor, got {got}; take its mean or its sum")
        if not loss.requires_grad:
            raise LossError("the loss does not depend on any synapse weight; was it detached, or the model's output?")
        self.loss = loss

    def check_finite(self) -> None:
        """Raise if the pass holds NaN or infinite numbers, and name the first synapse call with them.

        Called only after a result was not finite, because each check waits for the device.

        Raises:
            NonFiniteError: names the call, or the loss.
        """
        for call in self.calls:
            if not call.x.isfinite().all():
                raise NonFiniteError(f"NaN or infinite numbers first enter {call}; the loss is {self.loss.item()}")
            if not call.output().isfinite().all():
                raise NonFiniteError(f"NaN or infinite numbers first leave {call}; the loss is {self.loss.item()}")
        if not self.loss.isfinite():
            raise NonFiniteError(
                f"the loss is {self.loss.item()}: all synapse calls are finite, so it arises in the loss function or "
                "just before it; check the targets"
            )
        for call, g in zip(reversed(self.calls), reversed(self.gradients), strict=True):
            if g is not None and not g.isfinite().all():
                raise NonFiniteError(f"the loss is finite, but not its gradient at {call}")

    @contextmanager
    def checking_sweeps(self) -> Iterator[None]:
        """A context in which sweeps raise at the first call at which NaN or infinite numbers arrive."""
        self._checks_sweeps = True
        try:
            yield
        finally:
            self._checks_sweeps = False

    def _check_sent_back(self, call: Call, s: Tensor | None) -> None:
        if self._checks_sweeps and s is not None and not s.isfinite().all():
            raise NonFiniteError(
                f"the pass and its gradients are finite, but not what a product sends back to {call}; divide the "
                "vector, or the loss, by its size"
            )

    def _check_sent_forward(self, seeds: Sequence[Tensor], arrived: Sequence[Tensor | None]) -> None:
        if not self._checks_sweeps or not all(seed.isfinite().all() for seed in seeds):
            return
        for call, t in zip(self.calls, arrived, strict=True):
            if t is not None and not t.isfinite().all():
                raise NonFiniteError(
                    "the transposed product Pᵀ v is not finite where the pass and its gradients are: NaN or infinite "
                    f"numbers first arrive at {call}, from the second derivative of an operation between it and the "
                    "calls before, as torch computes it (that of a norm, a root or a standard deviation at 0). Add a "
                    f"small number within that operation, or choose other synapses with include=. {_WITHOUT_TRANSPOSE}"
                )

    def reached_ops(self) -> dict[str, str]:
        """The name of the operation of every weight on which the loss depends, by the weight's name."""
        ops: dict[str, str] = {}
        for call, g in zip(self.calls, self.gradients, strict=True):
            # A norm first sums its weight or multiplies it by a direction; the weight's own operation comes later.
            if g is not None and ops.get(call.weight.name, "").split(" ")[0] in ("", "sum", "mean", "mul", "offset"):
                ops[call.weight.name] = call.rule.op
        return ops

    def rounding(self) -> float:
        """The largest machine epsilon of the gradients at synapse calls; 0 where there are none."""
        return max((torch.finfo(t).eps for t in {g.dtype for g in self.gradients if g is not None}), default=0.0)

    # passes ------------------------------------------------------------------------------------------

    signed = True
    """Whether terms of P can have different signs, and cancel in sums."""

    def x(self, call: Call) -> Tensor:
        """The input x of a call as products use it; its absolute value for magnitude."""
        return call.input()

    def g(self, call: Call) -> Tensor:
        """The output gradient g of a call on which the loss depends, as products use it; |g| for magnitude."""
        g = self.gradients[call.index]
        assert g is not None
        return g

    def prepare_pull(self) -> None:
        """Compute what all calls of ``pull_back`` share."""
        _ = self.gradients, self._between

    def prepare_push(self) -> None:
        """Compute what all calls of ``push_forward`` share."""
        _ = self._push_graph

    @cached_property
    def gradients(self) -> list[Tensor | None]:
        """The output gradient g = −share · ∂C/∂y of every call, None where the loss does not depend on y.

        One backward sweep without weight gradients. The sign is that of the weights' velocities ẇ = −∇C.
        """
        gradients: list[Tensor | None] = [None] * len(self.calls)

        def keep(call: Call, g: Tensor | None) -> Tensor | None:
            gradients[call.index] = g
            return call.through_weight(g) if call.x_edge and g is not None else None

        leftovers = self._from_the_loss(keep)
        self._check_nothing_was_missed(leftovers)
        return gradients

    def direct_gradients(self) -> list[Tensor | None]:
        """The part of g of every call that comes from the loss along paths without another synapse call."""
        gradients: list[Tensor | None] = [None] * len(self.calls)
        self._from_the_loss(lambda call, g: gradients.__setitem__(call.index, g))
        return gradients

    def _from_the_loss(self, visitor: Visitor) -> Sequence[Tensor | None]:
        root = torch.full_like(self.loss, -self.share)
        with self._visiting(visitor):
            return torch.autograd.grad(self.loss, self.parameters, root, retain_graph=True, allow_unused=True)

    def pull_back(self, seed: Seed, take: Take, *, create_graph: bool = False) -> None:
        """Compute s_ℓ = Σ_m J_{m←ℓ}ᵀ seed_m at every call ℓ that another call follows.

        Args:
            seed: gives the seed of call m, of the shape of its x, when the sweep reaches the call.
            take: is given s_ℓ when the sweep reaches call ℓ, so that neither s nor seeds of all calls are held at once.
            create_graph: record the sweep itself, to be differentiated.
        """

        def pass_on(call: Call, s: Tensor | None) -> Tensor | None:
            if s is not None and not call.is_empty:
                take(call, s)
            return seed(call) if self._seeds(call) else None

        followed, _ = self._between
        last = [c for c in self.calls if self._seeds(c) and c.index not in followed]
        self._from_inputs(last, [seed(c) for c in last], pass_on, create_graph=create_graph)

    def send_back(self, seeds: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """s_ℓ = Σ_m J_{m←ℓ}ᵀ seed_m by index ℓ, from seeds by index m, each with the shape of x."""
        arrived: dict[int, Tensor] = {}

        def keep(call: Call, s: Tensor | None) -> None:
            if s is not None:
                arrived[call.index] = s

        self._from_inputs([self.calls[i] for i in seeds], list(seeds.values()), keep)
        return arrived

    def _from_inputs(
        self, calls: Sequence[Call], seeds: Sequence[Tensor], visitor: Visitor, *, create_graph: bool = False
    ) -> None:
        edges = [c.x_edge for c in calls if c.x_edge]

        def visit(call: Call, s: Tensor | None) -> Tensor | None:
            self._check_sent_back(call, s)
            return visitor(call, s)

        if edges:
            with self._visiting(visit):
                torch.autograd.grad(
                    edges, self.parameters, seeds, retain_graph=True, create_graph=create_graph, allow_unused=True
                )

    def push_forward(self, seed: Callable[[Call], Tensor | None]) -> list[Tensor | None]:
        """t_m = Σ_ℓ J_{m←ℓ} seed_ℓ for every call m, from seeds of y's shape at the calls ℓ that others follow.

        ``pull_back`` is linear in its seeds, so its gradient is its transpose. The graph of that gradient is recorded
        once and serves every later call.

        Args:
            seed: gives the seed of call ℓ, of the shape of its y; None for 0.

        Returns:
            t_m for every call; None where nothing arrives.
        """
        entries, exits = self._push_graph
        pairs = [(s, t) for i, s in exits.items() if (t := seed(self.calls[i])) is not None]
        arrived: list[Tensor | None] = [None] * len(self.calls)
        if not pairs:
            return arrived
        outputs, gradients = zip(*pairs, strict=True)
        with _second_derivatives():
            found = torch.autograd.grad(outputs, [*entries.values()], gradients, retain_graph=True, allow_unused=True)
        for index, t in zip(entries, found, strict=True):
            arrived[index] = t
        self._check_sent_forward(gradients, arrived)
        return arrived

    @cached_property
    def _push_graph(self) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Seeds of zeros at calls m, and the s_ℓ of a recorded ``pull_back`` from them, both by call index."""
        entries = {
            c.index: torch.zeros((), dtype=c.x.dtype, device=c.x.device).expand(c.x.shape).requires_grad_()
            for c in self.calls
            if self._seeds(c)
        }
        exits: dict[int, Tensor] = {}

        def take(call: Call, s: Tensor) -> None:
            if s.requires_grad:
                exits[call.index] = s

        handles = [node.register_hook(_dependence(node)) for node in self._between[1]]
        try:
            with _second_derivatives():
                self.pull_back(lambda call: entries[call.index], take, create_graph=True)
        finally:
            for handle in handles:
                handle.remove()
        return entries, exits

    def _seeds(self, call: Call) -> bool:
        """Whether a call sends back a seed: its input depends on an earlier call, and the loss on its output."""
        return call.x_edge is not None and self.gradients[call.index] is not None and not call.is_empty

    @cached_property
    def _between(self) -> tuple[set[int], list[Any]]:
        """The indices of calls that another call follows, and the custom autograd functions on the paths between.

        Only calls on which the loss depends count as following.
        """
        followed: set[int] = set()
        custom: list[Any] = []
        seen: set[Any] = set()
        waiting = [c.x_edge.node for c in self.calls if c.x_edge is not None and self._seeds(c)]
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if (call := getattr(node, "synapse_call", None)) is not None:
                followed.add(call)
                continue
            if isinstance(node, BackwardCFunction) and not _is_ours(node):
                custom.append(node)
            waiting.extend(parent for parent, _ in node.next_functions if parent is not None)
        return followed, custom

    @contextmanager
    def _visiting(self, visitor: Visitor) -> Any:
        self.visit = visitor
        try:
            yield
        finally:
            self.visit = None

    def _check_nothing_was_missed(self, leftovers: Sequence[Tensor | None]) -> None:
        """Raise if a gradient arrived at a parameter: synapse calls send none, so an unseen operation did."""
        missed = [w.name for w in self._weights.values() if not w.view and _arrived(w, self.parameters, leftovers)]
        if missed:
            raise unseen(missed)


def _arrived(weight: Weight, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> bool:
    return any(p is weight.parameter and g is not None for p, g in zip(parameters, gradients, strict=True))


def _differentiated(call: Call, g: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and the weight, as constants, for a model that calls ``torch.autograd.grad`` itself."""
    if torch.is_grad_enabled():
        raise UnsupportedOperationError(
            f"the model or its loss differentiates itself at {call}, by torch.autograd.grad with create_graph=True, "
            "and the loss then depends on second derivatives, which P does not include; take the terms with them out "
            "of the loss (a gradient penalty, forces, the residual of a differential equation), or leave out, with "
            "include=, the weights that are differentiated through"
        )
    if g is None:
        return None, None
    return call.through_weight(g), call.rule.to_weight(call.x, g, call.weight.value)


def _one_at_a_time(g: Tensor | None) -> None:
    """Let ``torch.vmap`` fail for an operation whose derivative is wrong under it in torch 2.13, without an error."""
    if g is not None and torch._C._functorch.is_batchedtensor(g):
        raise RuntimeError("one gradient at a time")


def _contiguous(g: Tensor | None) -> Tensor | None:
    return None if g is None else g.contiguous()


_WITHOUT_TRANSPOSE = "Products P v need no second derivatives, nor do in-strengths and β_eff of one batch"


@contextmanager
def _second_derivatives() -> Iterator[None]:
    """A context that explains torch's error where an operation on a path has no second derivative."""
    try:
        yield
    except RuntimeError as error:
        if not re.search("derivative|differentiate twice", str(error)):
            raise
        raise UnsupportedOperationError(
            "Pᵀ takes second derivatives, and torch has none of an operation between two synapses: "
            f"{str(error).rstrip('.')}; write that operation with others that have them, or choose other synapses with "
            f"include=. {_WITHOUT_TRANSPOSE}"
        ) from error


def _is_ours(node: Any) -> bool:
    return type(node)._forward_cls.__module__.startswith("linegraph.")


def _dependence(node: Any) -> Callable[[Any, Any], None]:
    """A hook for the node of a custom autograd function, which raises if its backward cannot be differentiated.

    It cannot if what the backward returns does not depend, in the graph, on the gradients that it was given.
    """
    name, parents = type(node)._forward_cls.__qualname__, [parent for parent, _ in node.next_functions]

    def check(sent: Sequence[Tensor | None], came: Sequence[Tensor | None]) -> None:
        sources = [g for g in came if g is not None and g.requires_grad]
        for parent, s in zip(parents, sent, strict=True):
            if sources and parent is not None and s is not None and not _depends(s, sources):
                raise UnsupportedOperationError(
                    f"Pᵀ takes second derivatives, and the backward of the custom function {name}, which lies between "
                    "two synapses, cannot be differentiated (it is marked with once_differentiable, or works under "
                    "no_grad); write it with differentiable operations, or choose other synapses with include=. "
                    f"{_WITHOUT_TRANSPOSE}"
                )

    return check


def _depends(t: Tensor, sources: Sequence[Tensor]) -> bool:
    if not t.requires_grad:
        return False
    found = torch.autograd.grad(t, sources, torch.zeros_like(t), retain_graph=True, allow_unused=True)
    return any(g is not None for g in found)
