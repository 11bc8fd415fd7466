"""P of a network and a loss on data, never built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from linegraph.coupling import explicit, kinds
from linegraph.coupling.base import Coupling
from linegraph.coupling.bicliques import Bicliques
from linegraph.coupling.connectivity import ConnectivityMode, Structure
from linegraph.coupling.data import (
    accumulation_dtype,
    batch_size,
    batches,
    call_model,
    check_devices,
    is_pair,
    reduces_by_sum,
)
from linegraph.coupling.distributed import agreed, gathered, is_distributed, summed, summed_number
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.kinds import Energy, Strengths
from linegraph.coupling.nodes import Include, Synapse, choose, coverage, lay_out, uninitialised, unwrapped
from linegraph.coupling.preserve import preserved, preserved_randomness, random_state, set_random_state
from linegraph.coupling.tape import Tape
from linegraph.errors import DataError, NoSynapseError, TooLargeError, UnsupportedOperationError

__all__ = ["MAX_EDGES", "NeuralCoupling"]

MAX_EDGES = 20_000_000
"""Default limit of explicit line graphs: 0.5 GiB of indices and weights."""

Parts = dict[str, Tensor]


class NeuralCoupling(Coupling):
    r"""The coupling operator P of a network under gradient descent on a loss.

    Gradient descent moves the weights by ẇ = −∇C(w) = b + P w, where for synapse layers ℓ before m

        P[(ℓ; j→i), (m; i'→k)] = − Σ_samples  x_ℓ[j] · J_{m←ℓ}[i', i] · g_m[k]

    with x_ℓ the input of ℓ, g_m = ∂C/∂y_m the gradient at the output of m, and J_{m←ℓ} the Jacobian of all
    that lies between them without crossing another synapse. P[i, j] is the influence of weight j on the
    velocity of weight i. The drive b is non-zero only on synapses directly followed by the loss.

    P is the operator at the weights the model has now; the model itself comes back from every call as it
    was (mode, gradients, buffers, random state). After a training step make a new one.

    Args:
        model: any module whose weights enter linear maps, matrix products or convolutions, as modules or functional
            calls. Data-parallel and compiled wrappers are seen through; names are those of the module inside.
        loss_fn: ``loss_fn(outputs, targets)`` returning a scalar; the scale of P is that of this loss.
        data: one ``(inputs, targets)`` pair, whose pass is kept and serves every product, or an iterable of
            pairs such as a ``DataLoader``, which every product reads once, keeping only sums. Over batches P is
            the mean weighted by batch size (the sum where ``loss_fn.reduction == "sum"``). ``inputs`` is a
            tensor, or a tuple or dict of tensors passed on to the model. Under an initialised
            ``torch.distributed`` group each process brings its shard, and every method that forms products is
            a collective call with the same result on every rank.
        kind: "signed" (above), or "magnitude", every factor by its absolute value, per sample and position:
            Σ |x_ℓ[j]| · |J|[i', i] · |g_m[k]|, |J| the product of absolute local Jacobians; or "flow",
            w_i P_ij w_j, which rescaling a neuron leaves as it is; or "energy", P_ij², estimated by random signs ε,
            (P ε)_i² in the mean, on any path (``to_graph`` has the exact squares).
        include: which weights are synapses: names of parameters or modules, module classes, or a predicate
            ``(name, parameter) -> bool``; by default all trainable parameters of two or more dimensions.
            Everything else, frozen weights too, is part of the paths.
        training: whether the network acts in training mode (batch statistics, dropout drawn once per pass).
        progress: show a bar over the batches.
        probes: products with random signs that "energy" averages over, 32 by default. Its ``rmatvec`` is the
            transpose of its ``matvec`` in the mean over probes only; ``standard_errors()`` tells how far to trust it.
        generator: draws the seed of those signs; they are the same in every product. By default a fixed seed.

    Cost: the pass kept costs one forward pass. ``matvec`` and ``rmatvec`` cost about one backward pass each,
    after one further pass for g; ``in_strength`` and ``out_strength`` are computed together. In operations the two
    strengths are 4/3 of a training step; ``benchmarks/operator_cost.py`` measures what they take (on two cores
    about 3 steps for a ResNet-18, 8 for a perceptron).

    Raises:
        NoSynapseError: if there is no trainable weight to couple.
        DataError: if data is empty, malformed, or on another device than the model.
        LossError: if the loss is no scalar, or does not depend on the synapses.
        NonFiniteError: if the loss is NaN or infinite; names the first synapse call concerned.
        UnsupportedOperationError: if a synapse weight enters an operation that no rule covers.

    Source: C. Jiang et al., arXiv 2201.04194; Nature Communications 15 (2024).

    Example:
        >>> import torch, linegraph as lg
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
        >>> data = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)
        >>> P.shape, P.num_edges
        ((18, 18), 24)
        >>> torch.allclose(P @ P.weights() + P.drive(), -P.gradient())
        True
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        data: Any,
        *,
        kind: str = "signed",
        include: Include = None,
        training: bool = False,
        progress: bool = False,
        probes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self._kind = agreed(kinds.make(kind, probes=probes, generator=generator))
        model = unwrapped(model)
        if lazy := uninitialised(model):
            raise NoSynapseError(f"parameter {lazy[0]!r} has no shape yet; run the model once on data first")
        self.kind = kind
        self._model = model
        self._loss_fn = loss_fn
        self._data = data
        self._training = training
        self._progress = progress
        self._chosen = choose(model, include)
        self._trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        self._versions = {name: p._version for name, p in self._chosen.items()}
        with preserved_randomness():
            self._random_state = random_state()
            first = next(iter(batches(data)), None)
            tape = None if first is None else self._record(*first)
            self._kept = tape if is_pair(data) else None
            ops = {} if tape is None else self._reached_ops(tape)
        # A process whose shard is empty learns from the others which weights the loss depends on.
        self._ops = {name: op for reached in reversed(gathered(ops)) for name, op in reached.items()}
        if not self._ops:
            raise DataError("data is empty: there is no sample to form P from")
        self.synapses: tuple[Synapse, ...] = lay_out(self._chosen, self._ops)
        parameters = [self._chosen[s.name] for s in self.synapses]
        self._num_nodes = sum(s.numel for s in self.synapses)
        self._device = parameters[0].device
        self._dtype = accumulation_dtype(parameters[0].dtype)

    # what the operator is --------------------------------------------------------------------------

    @property
    def num_nodes(self) -> int:
        """Number of synapses n: entries of all synapse weights."""
        return self._num_nodes

    @property
    def dtype(self) -> torch.dtype:
        """That of the synapse weights; single precision where they are half."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """That of the synapse weights."""
        return self._device

    def coverage(self) -> pd.DataFrame:
        """Every parameter of the model with its role: synapse, path, frozen, bias or unreached, and the reason.

        Columns ``name``, ``shape``, ``numel``, ``role``, ``reason``; one row per parameter, shared ones once.
        """
        return coverage(self._model, self._chosen, self._ops, self._trainable)

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """A vector (n,) as {parameter name: tensor of its shape}, views of v; blocks (n, k) keep k as last dimension.

        Raises:
            ValueError: if the length is not n.
        """
        if v.ndim not in (1, 2) or v.shape[0] != self.num_nodes:
            raise ValueError(f"expected a vector of shape ({self.num_nodes},) or a block, got {tuple(v.shape)}")
        return {s.name: v[s.offset : s.offset + s.numel].reshape(*s.shape, *v.shape[1:]) for s in self.synapses}

    def weights(self) -> Tensor:
        """w, shape (n,): the synapse weights, in the order of ``synapses``, row-major."""
        return self._join({s.name: self._chosen[s.name].detach().to(self.dtype) for s in self.synapses})

    def gradient(self) -> Tensor:
        """∇C, shape (n,): the gradient of the loss by the synapse weights. One training step."""

        def products(tape: Tape) -> Parts:
            return self._weight_parts(tape, [call.x for call in tape.calls], tape.gradients, sign=1)

        return self._sum_vector(products)

    def drive(self) -> Tensor:
        """b, shape (n,): the part of −∇C that reaches a synapse from the loss with no synapse between.

        Exactly 0 on every other synapse. One forward pass.
        """

        def products(tape: Tape) -> Parts:
            return self._weight_parts(tape, [call.x for call in tape.calls], tape.direct_gradients(), sign=-1)

        return self._sum_vector(products)

    # products --------------------------------------------------------------------------------------

    def _matmat(self, block: Tensor) -> Tensor:
        return self._kind.multiply(self, self.pull, block)

    def _rmatmat(self, block: Tensor) -> Tensor:
        return self._kind.multiply(self, self.push, block)

    def pull(self, block: Tensor) -> Tensor:
        """The product of the tape's own P, signed or magnitude, with a block (n, k)."""
        return self._columns(block, self._pulled)

    def push(self, block: Tensor) -> Tensor:
        """The product of the transpose of the tape's own P with a block (n, k)."""
        return self._columns(block, self._pushed)

    def _columns(self, block: Tensor, product: Callable[[Tape, Parts], Parts]) -> Tensor:
        columns = [self.split(v) for v in block.unbind(1)]

        def products(tape: Tape) -> Parts:
            found = [self._join(product(tape, v)) for v in columns]
            return {"": torch.stack(found, 1) if found else torch.zeros_like(block)}

        return self._sum(products, lambda: {"": torch.zeros_like(block)})[""]

    def _pulled(self, tape: Tape, v: Parts) -> Parts:
        """P v on one pass: seeds Vᵀ g at the inputs, pulled back to the outputs of earlier calls."""
        seeds = [
            c.rule.to_input(c.weight.seen(v[c.weight.name]).to(g.dtype), tape.factor(g), c.x.shape)
            if c.x_edge and g is not None
            else None
            for c, g in zip(tape.calls, tape.gradients, strict=True)
        ]
        inputs = [tape.factor(c.input()) for c in tape.calls]
        return self._weight_parts(tape, inputs, tape.pull_back(seeds), sign=tape.sign)

    def _pushed(self, tape: Tape, v: Parts) -> Parts:
        """Pᵀ v on one pass: seeds V x at the outputs, pushed forward to the inputs of later calls."""
        seeds = [
            c.rule.apply(tape.factor(c.input()), c.weight.seen(v[c.weight.name]).to(c.x.dtype))
            if c.weight.name in v
            else None
            for c in tape.calls
        ]
        gradients = [None if g is None else tape.factor(g) for g in tape.gradients]
        return self._weight_parts(tape, tape.push_forward(seeds), gradients, sign=tape.sign)

    def in_strength(self) -> Tensor:
        """δ_in = P 1, shape (n,). Computed once, together with ``out_strength``."""
        return self._strengths.incoming.clone()

    def out_strength(self) -> Tensor:
        """δ_out = Pᵀ 1, shape (n,). Computed once, together with ``in_strength``."""
        return self._strengths.outgoing.clone()

    def standard_errors(self) -> tuple[Tensor, Tensor]:
        """Of the in- and out-strengths that kind="energy" estimates, each (n,): σ over probes / √probes.

        Raises:
            ValueError: for any other kind, whose strengths are exact.
        """
        if not isinstance(self._kind, Energy):
            raise ValueError(f"the strengths of kind={self.kind!r} are exact; only kind='energy' has standard errors")
        _ = self._strengths
        return tuple(error.clone() for error in self._kind.errors())  # type: ignore[return-value]

    def absolute_total(self) -> float:
        """Σ over calls m of |g_m| · (1 · |t_m|), t = J (1 · x): the terms of 1ᵀP1 before they can cancel.

        For flow the terms are those of wᵀPw, one per synapse; energy has no terms that cancel.
        """
        return self._strengths.absolute_total

    @cached_property
    def _strengths(self) -> Strengths:
        return self._kind.strengths(self)

    def tape_strengths(self) -> Strengths:
        """The strengths of the tape's own P, signed or magnitude."""

        def products(tape: Tape) -> Parts:
            incoming, outgoing, total = self._strengths_on(tape)
            return {"in": self._join(incoming), "out": self._join(outgoing), "total": total}

        def empty() -> Parts:
            zero = torch.zeros((), dtype=torch.float64, device=self.device)
            return {"in": self._join({}), "out": self._join({}), "total": zero}

        found = self._sum(products, empty)
        return Strengths(found["in"], found["out"], float(found["total"]))

    def _strengths_on(self, tape: Tape) -> tuple[Parts, Parts, Tensor]:
        """P 1 and Pᵀ 1 on one pass; with V = 1 the seeds are sums over channels."""
        calls, inputs = tape.calls, [tape.factor(c.input()) for c in tape.calls]
        gradients = [None if g is None else tape.factor(g) for g in tape.gradients]
        sums = [
            c.rule.to_input_ones(g, c.x.shape, c.weight_shape) if c.x_edge and g is not None else None
            for c, g in zip(calls, gradients, strict=True)
        ]
        incoming = self._weight_parts(tape, inputs, tape.pull_back(sums), sign=tape.sign)
        arrived = tape.push_forward([c.rule.apply_ones(x, c.weight_shape) for c, x in zip(calls, inputs, strict=True)])
        outgoing = self._weight_parts(tape, arrived, gradients, sign=tape.sign)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for c, t, g in zip(calls, arrived, gradients, strict=True):
            if t is not None and g is not None:
                terms = c.rule.apply_ones(t.abs(), c.weight_shape) * g.abs()
                total += terms.sum(dtype=torch.float64)
        return incoming, outgoing, total

    def _weight_parts(self, tape: Tape, xs: list[Any], gs: list[Any], *, sign: int) -> Parts:
        """± Σ over the calls of each weight of x ⊗ g."""
        parts: Parts = {}
        for call, x, g in zip(tape.calls, xs, gs, strict=True):
            if x is None or g is None:
                continue
            r = call.weight.back(call.rule.to_weight(x, g, call.weight_shape)).to(self.dtype)
            name = call.weight.name
            # to_weight made r for us alone, so its sign can be turned in place.
            parts[name] = parts[name].add_(r, alpha=sign) if name in parts else (r.neg_() if sign < 0 else r)
        return parts

    # passes over the data --------------------------------------------------------------------------

    def _record(self, inputs: Any, targets: Any) -> Tape:
        """One forward pass under the loss; the random state is that of P's making."""
        check_devices(inputs, self._chosen)
        tape = self._kind.tape(self._chosen)
        with self._stage(), sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
            set_random_state(self._random_state)
            with tape:
                tape.close(self._loss_fn(call_model(self._model, inputs), targets))
        return tape

    @contextmanager
    def _stage(self) -> Iterator[None]:
        ids = {id(p) for p in self._chosen.values()}
        with preserved(self._model, training=self._training, differentiable=ids):
            yield

    def _reached_ops(self, tape: Tape) -> dict[str, str]:
        """The operation of every weight on which the loss depends; the gradients show which."""
        ops: dict[str, str] = {}
        with self._stage():
            for call, g in zip(tape.calls, tape.gradients, strict=True):
                if g is not None:
                    ops.setdefault(call.weight.name, call.rule.op)
        return ops

    def _tapes(self) -> Iterator[tuple[Tape, int]]:
        """The passes over the data, each with its number of samples."""
        self._check_weights_unchanged()
        if self._kept is not None:
            yield self._kept, batch_size(*self._data)
            return
        total = len(self._data) if hasattr(self._data, "__len__") else None
        with preserved_randomness():
            for inputs, targets in tqdm(batches(self._data), total=total, disable=not self._progress, unit="batch"):
                tape = self._record(inputs, targets)
                with self._stage():
                    self._check_no_new_synapse(tape)
                yield tape, batch_size(inputs, targets)

    def _sum(self, products: Callable[[Tape], Parts], empty: Callable[[], Parts]) -> Parts:
        """Sum over the data of all processes, weighted by batch size; nothing is kept per batch.

        ``empty`` makes what a process without data adds: zeros of the same names and shapes.
        """
        sums: Parts = {}
        samples = 0
        adds = reduces_by_sum(self._loss_fn)
        alone = self._kept is not None and not is_distributed()
        for tape, size in self._tapes():
            with self._stage():
                parts = products(tape)
            share = 1 if adds or alone else size
            for name, part in parts.items():
                if name in sums:
                    sums[name].add_(part, alpha=share)
                else:
                    sums[name] = part if share == 1 else part.mul_(share)
            samples += size
        sums = summed(sums or empty())
        if adds or alone:
            return sums
        samples = summed_number(samples, self.device)
        return {name: part.div_(samples) for name, part in sums.items()}

    def _sum_vector(self, products: Callable[[Tape], Parts]) -> Tensor:
        """The sum of products that are one number per synapse, (n,)."""
        found = self._sum(lambda tape: {"": self._join(products(tape))}, lambda: {"": self._join({})})
        return found[""]

    def _check_no_new_synapse(self, tape: Tape) -> None:
        for call, g in zip(tape.calls, tape.gradients, strict=True):
            if g is not None and call.weight.name not in self._ops:
                raise UnsupportedOperationError(
                    f"'{call.weight.name}' is reached in a later batch but not in the first, from which the synapses "
                    "are taken; put a batch that uses every weight first, or leave this one out with include="
                )

    def _check_weights_unchanged(self) -> None:
        for name, p in self._chosen.items():
            if p._version != self._versions[name]:
                raise RuntimeError(
                    f"'{name}' has changed since this coupling was made: P belongs to the weights it was made at; "
                    "make a new NeuralCoupling"
                )

    def _join(self, parts: Parts) -> Tensor:
        """Parts by name as one vector (n,); what is missing is zero."""
        nothing = torch.zeros((), dtype=self.dtype, device=self.device)
        return torch.cat([parts.get(s.name, nothing.expand(s.shape)).flatten() for s in self.synapses])

    # the explicit graph ----------------------------------------------------------------------------

    @cached_property
    def _structure(self) -> Structure:
        """Which neurons the paths join, from one pass over the first batch."""
        mode = ConnectivityMode({s.name: self._chosen[s.name] for s in self.synapses})
        with self._stage(), torch.no_grad():
            batch = next(iter(batches(self._data)), None)
            if batch is None:
                raise DataError("this process has no data to read the structure of P from; ask another process")
            inputs, _ = batch
            set_random_state(self._random_state)
            with mode:
                call_model(self._model, inputs)
        return mode.structure()

    @cached_property
    def bicliques(self) -> Bicliques:
        """The edges of the line graph, by index arithmetic; made from one forward pass."""
        return Bicliques(self._structure, {s.name: s.offset for s in self.synapses}, self.num_nodes)

    def neurons(self) -> tuple[Tensor, Tensor]:
        """The neuron that each synapse leaves and the one it enters, each (n,), numbered within its operation.

        A neuron is a feature or a channel. Where operations see a weight in several ways, the first counts.
        """
        into, out = (torch.full((self.num_nodes,), -1, dtype=torch.int64) for _ in range(2))
        for layer in reversed(self.bicliques.layers):
            nodes = torch.from_numpy(layer.nodes)
            into[nodes] = torch.from_numpy(layer.inputs)
            out[nodes] = torch.from_numpy(layer.outputs - layer.first)
        return into.to(self.device), out.to(self.device)

    @cached_property
    def num_edges(self) -> int:
        """Exact number of line-graph edges, counted from neuron degrees, never enumerated. One forward pass.

        The pairs of synapses (j→i), (i'→k) whose neurons a path joins: Σ over joined (i, i') of in-degree(i) ×
        out-degree(i'), whatever the values of the coupling.
        """
        return explicit.count_edges(self)

    def to_graph(self, max_edges: int = MAX_EDGES) -> GraphCoupling:
        """P with all its entries, as a sparse graph of ``num_edges`` edges sorted by target, then by source.

        Cost: the indices are written by broadcasting, the weights by one product of matrices per pair of layers
        whose path acts element by element (activations, batch norm in evaluation mode, sums), of as many operations as
        weights are entries times samples and positions. Across any other path, one product per column colour, as in
        the colouring of sparse Jacobians (Curtis, Powell, Reid 1974): a layer takes (out-neurons × kernel taps) of
        them if its in-neurons are joined one to one, in-neurons as many times more where features all meet.

        Raises:
            TooLargeError: if P has more than ``max_edges`` edges.
            NonFiniteError: if an entry is NaN or infinite.
        """
        if self.num_edges > max_edges:
            raise TooLargeError(
                f"this line graph has {self.num_edges:,} edges, more than max_edges={max_edges:,}; raise the limit if "
                "memory allows (about 24 bytes an edge), choose fewer synapses with include=, or use the operator "
                "itself, which needs no edges"
            )
        return explicit.graph(self)
