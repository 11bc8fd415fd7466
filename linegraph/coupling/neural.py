"""P of a network and a loss on data, never built."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.coupling import kinds, products
from linegraph.coupling.base import MAX_EDGES, Coupling, Layer, Walks
from linegraph.coupling.entries import explicit
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.model.losses import check_loss
from linegraph.coupling.model.parameters import Include, Synapse, choose, coverage, lay_out, unwrapped
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.coupling.products import SynapseVector
from linegraph.coupling.structure.connectivity import ConnectivityMode
from linegraph.coupling.structure.edge_layout import Bicliques
from linegraph.coupling.structure.neurons import Structure
from linegraph.coupling.tracing.passes import Passes
from linegraph.coupling.tracing.tape import Tape
from linegraph.coupling.verification import verify as verification
from linegraph.coupling.walk_sums import WalkSums, add_in_strength, add_terms
from linegraph.errors import NonFiniteError, TooLargeError
from linegraph.lazy import cached_property
from linegraph.numerics import absolute_sum, accumulation_dtype, double_dot, double_sum
from linegraph.processes import is_distributed, jointly, refuse_sharded
from linegraph.turns import turn

__all__ = ["NeuralCoupling"]

ROUNDED = 100
"""Roundings of what is sent back below which what arrives is taken for rounding."""


class NeuralCoupling(Coupling):
    r"""The coupling operator P of a network under gradient descent on a loss.

    Gradient descent moves the weights by ẇ = −∇C(w) = b + P w, where for synapse layers ℓ before m

        P[(ℓ; j→i), (m; i'→k)] = − Σ_samples  x_ℓ[j] · J_{m←ℓ}[i', i] · g_m[k]

    with x_ℓ the input of ℓ, g_m = ∂C/∂y_m the gradient at the output of m, and J_{m←ℓ} the Jacobian of all
    that lies between them without crossing another synapse. P[i, j] is the influence of weight j on the
    velocity of weight i. The drive b is non-zero only on synapses directly followed by the loss.

    P is the operator at the weights the model has now; the model itself comes back from every call as it
    was (mode, gradients, buffers and other attributes, random state). After a training step make a new one: parameters
    and buffers that have changed, through ``.data`` too, are refused. Other attributes, such as the probability of a
    dropout, are not to change either; over batches products would read the new ones, and ``verify`` sees it. C is the
    loss as the forward pass makes it: hooks that change gradients on the way back take no part, and are not called.

    Args:
        model: any module whose weights enter linear maps, matrix products or convolutions, as modules or functional
            calls. Data-parallel and compiled wrappers are seen through; names are those of the module inside. Compiled
            parts and activation checkpoints are run plainly, attention unfused. What is made of weights under
            ``torch.no_grad()`` is constant.
        loss_fn: ``loss_fn(outputs, targets)`` returning a scalar; the scale of P is that of this loss.
        data: one ``(inputs, targets)`` pair, whose pass is kept and serves every product, or an iterable of pairs such
            as a ``DataLoader``, which every product reads once, keeping only sums. Over batches P is the mean weighted
            by ``batch_weight``. It is the sum where the loss says that it sums: by an attribute ``loss_fn.reduction ==
            "sum"``, which a function of your own may be given too, or by that keyword of a ``functools.partial``.
            ``inputs`` is a tensor, or a tuple, list or mapping of tensors passed on to the model; an object of any
            other class is passed on as it is. Batches that are mappings, as those of Hugging Face, become pairs by
            ``[(batch, batch.pop("labels")) for batch in loader]``. Under an initialised ``torch.distributed`` group
            each process brings its shard, and every method that forms products is a collective call with the same
            result, or the same error, on every rank. Every reading gives the same batches: the random generators of
            torch, NumPy and Python, and those of loaders, samplers, datasets and their transforms, start each from the
            state of the place where P is made, and come back as they were. What differs all the same is refused.
        kind: "signed" (above), or "magnitude", every factor by its absolute value, per sample and position:
            Σ |x_ℓ[j]| · |J|[i', i] · |g_m[k]|, |J| the product of absolute local Jacobians; or "flow",
            w_i P_ij w_j, which rescaling a neuron leaves as it is; or "energy", P_ij², estimated by random signs ε,
            (P ε)_i² in the mean, on any path (``to_graph`` has the exact squares).
        include: which weights are synapses: names of parameters or modules, module classes, or a predicate
            ``(name, parameter) -> bool``; by default all trainable parameters of two or more dimensions.
            Everything else, frozen weights too, is part of the paths.
        batch_weight: what the loss of a batch counts for in the mean over batches, a function of ``(inputs, targets)``:
            what a mean loss divides by. Batches of weight 0 are left out. By default it is known for the losses of
            torch, as modules, functions or ``functools.partial`` of them: the number of targets that are not ignored,
            the sum of the weights of their classes, or the number of elements. Any other loss is taken for a mean over
            samples, a warning says where it is none, and an error where the number of samples is not certain: the
            first dimensions of all tensors, and the lengths of lists with an item for each sample, must agree.
        training: whether the network acts in training mode (batch statistics, dropout drawn once per pass).
        progress: show a bar over the batches.
        probes: products with random signs that "energy" averages over, 32 by default. Its ``rmatvec`` is the
            transpose of its ``matvec`` in the mean over probes only; ``standard_errors()`` tells how far to trust it.
        generator: draws the seed of those signs; they are the same in every product. By default a fixed seed.

    Cost, in forward passes: making P 2, which is a pass and the gradients g at all synapses; then ``in_strength`` 1,
    ``total`` 1, ``matvec`` and ``rmatvec`` 2 each. β_eff is at most 4 in all, 4/3 of a training step, less where layers
    meet few samples and positions, and the elementwise work of three sweeps; ``benchmarks/operator_cost.py`` measures
    it. A pass is kept in memory with its activations and g; over batches every product makes and drops a pass for each.
    Every product reads all weights and the data once more than it multiplies with, for their checksums: 1 % of it.

    In half precision and under autocast activations and their gradients are what they are in training, and sums are
    accumulated in single precision. Magnitude keeps three digits there. Signed sums cancel: bfloat16 activations alone,
    all else in double precision, change signed β_eff of an untrained ResNet-18 by 4 to 55 % (four seeds, 16 images),
    of which :func:`~linegraph.capacitance` warns. Couple ``model.float()``, outside of autocast, for more digits. On
    CUDA torch forms convolutions of single precision in TF32, which costs signed β_eff of a ResNet-18 1 %, magnitude
    0.005 %, unless ``torch.backends.cudnn.allow_tf32`` is False.

    Raises:
        NoSynapseError: if there is no trainable weight to couple.
        DataError: if data is empty, malformed, or of another dtype or on another device than the model; if the weight
            of a batch is not certain; from products, if a batch is not what it was.
        LossError: if the loss is no scalar, or does not depend on the synapses, or sums and has a ``batch_weight``.
        NonFiniteError: if the loss of a batch, or a result, is NaN or infinite; names the first synapse call concerned,
            the batch and the process. What is NaN in a vector that is given comes out of its product.
        StaleCouplingError: from products, if a parameter or buffer has changed since P was made; names it.
        UnsupportedOperationError: if the model writes into its parameters; if a synapse weight is complex, enters an
            operation that no rule covers, or is differentiated through inside the model or its loss
            (``create_graph=True``); from ``rmatvec`` and ``out_strength``, if an operation or a custom function on a
            path cannot be differentiated twice.

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
        batch_weight: BatchWeight | None = None,
        training: bool = False,
        progress: bool = False,
        probes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self._kind = kinds.make(kind, probes=probes, generator=generator)
        model = unwrapped(model)
        check_loss(loss_fn)
        parameters = dict(model.named_parameters())
        refuse_sharded(parameters)
        self.kind = kind
        self._model = model
        with turn():  # a pass of another thread changes for a time which parameters can be trained
            self._trainable = {name for name, p in parameters.items() if p.requires_grad}
            self.chosen = choose(model, include)
            self.passes = Passes(
                model,
                loss_fn,
                data,
                parameters,
                self.chosen,
                self._kind.tape,
                batch_weight=batch_weight,
                training=training,
                progress=progress,
            )
        self._incoming_size: float | None = None
        self._is_one_pass = self.passes.of_a_pair and self._kind.is_of_the_tape and not is_distributed()
        self.synapses: tuple[Synapse, ...] = lay_out(self.chosen, self.passes.ops)
        first_weight = self.chosen[self.synapses[0].name]
        self._num_nodes = sum(s.numel for s in self.synapses)
        self._device = first_weight.device
        self._dtype = accumulation_dtype(first_weight.dtype)

    # what the operator is --------------------------------------------------------------------------

    def __repr__(self) -> str:
        nodes = f"kind={self.kind!r}, shape={self.shape}, layers={len(self.synapses)}"
        return f"{type(self).__name__}({nodes}, dtype={self.dtype}, device='{self.device}')"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a NeuralCoupling belongs to a pass of its model and is neither pickled nor copied; keep the model and the "
            "data and make it anew, or keep P.to_graph()"
        )

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

    @property
    def rounding(self) -> float:
        """Relative rounding of the gradients at synapses, half precision in such models and under autocast."""
        return self.passes.rounding

    def coverage(self) -> pd.DataFrame:
        """Every parameter of the model with its role: synapse, path, frozen, bias or unreached, and the reason.

        Columns ``name``, ``shape``, ``numel``, ``role``, ``reason``; one row per parameter, shared ones once.
        """
        return coverage(self._model, self.chosen, self.passes.ops, self._trainable)

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
        found = self._vector()
        for s in self.synapses:
            found.add(s.name, self.chosen[s.name].detach())
        return found.flat()

    def gradient(self) -> Tensor:
        """∇C, shape (n,): the gradient of the loss by the synapse weights. One training step."""
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.outer(tape, tape.gradients, total)).neg_()

    def drive(self) -> Tensor:
        """b, shape (n,): the part of −∇C that reaches a synapse from the loss with no synapse between.

        Exactly 0 on every other synapse. One forward pass.
        """
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.outer(tape, tape.direct_gradients(), total))

    def verify(self, tol: float | None = None) -> pd.DataFrame:
        """Check on this network, with its data, that P is what it should be.

        Two things are compared: P w + b with −∇C, which comes from autograd and a forward pass without any of what P
        is made of, and Pᵀ with the transpose of P, by vᵀ Pᵀ(P v) = ‖P v‖² for a random v. Kinds ``flow`` and
        ``energy`` are checked by the signed P beneath them.

        Where P and autograd differ, the derivative of the loss along the difference is formed by finite differences,
        in double precision if the network runs in it, and tells which of the two is wrong. Hooks on gradients are not
        called. Custom autograd functions count as what their backward says, as in training.

        Args:
            tol: bound of the differences, relative to ‖∇C‖ and ‖P v‖²; by default ρ √D, for a gradient that passes
                through D operations one after the other with a relative rounding ρ each, 1e-3 in float16, 8e-3 in
                bfloat16, 1e-3 in TF32; no less than √ε of P's precision ε, 3.5e-4 in single, and than 1e-6 in double.

        Returns:
            A row for each weight that may be a synapse: ``name``, ``gradient``, which is ‖∇C‖ of it by autograd, and
            ``difference``, ‖P w + b + ∇C‖ of it relative to ‖∇C‖ of all.

        Cost: a training step, three products and the drive. Where P and autograd differ, another training step and 4
        to 12 forward passes in double precision.

        Warns:
            GradientWarning: if autograd is wrong and P is right, as of some batch norms of a single sample.
            PrecisionWarning: if both are rounded by more than ``tol``.

        Raises:
            IdentityError: if P is wrong, or if it cannot be told which side is; names the weights that differ.
            UnsupportedOperationError: for kind="magnitude", which has no such identity.

        Example:
            >>> import torch, linegraph as lg
            >>> _ = torch.manual_seed(0)
            >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
            >>> data = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
            >>> table = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data).verify()
            >>> list(table["name"]), bool((table["difference"] < 1e-14).all())
            (['0.weight', '2.weight'], True)
        """
        return verification.verify(self, tol)

    # products --------------------------------------------------------------------------------------

    def _matmat(self, block: Tensor) -> Tensor:
        return self._in_range(self._kind.multiply(self, self.pull, block), block)

    def _rmatmat(self, block: Tensor) -> Tensor:
        return self._in_range(self._kind.multiply(self, self.push, block), block)

    def _in_range(self, result: Tensor, given: Tensor | None = None) -> Tensor:
        """What a kind makes of products of the tape, which are finite themselves."""
        if self._kind.is_of_the_tape or double_sum(result.flatten()).isfinite():
            return result
        if given is None or given.isfinite().all():
            raise NonFiniteError(
                f"a product of kind={self.kind!r} is out of the range of {self.dtype}, though those of the signed "
                "coupling are not; divide the vector, or the loss, by its size"
            )
        return result

    def pull(self, block: Tensor) -> Tensor:
        """The product of the tape's own P, signed or magnitude, with a block (n, k)."""
        return self._columns(products.pull, Tape.prepare_pull, block)

    def push(self, block: Tensor) -> Tensor:
        """The product of the transpose of the tape's own P with a block (n, k)."""
        return self._columns(products.push, Tape.prepare_push, block)

    def _columns(self, product: products.SweepProduct, prepare: Callable[[Tape], None], block: Tensor) -> Tensor:
        if block.shape[1] == 1:
            total, v = self._vector(), self.split(block.squeeze(1))
            return self._mean_over_data(total, lambda tape: product(tape, v, total), block).unsqueeze(1)
        columns = block.mT  # every column is written in one piece: of a block (n, k) would be the slower layout
        found: list[Tensor] = []

        def add(tape: Tape) -> None:
            def column(v: Tensor, memory: Tensor) -> Tensor:
                total = SynapseVector(self.synapses, memory)
                product(tape, self.split(v), total)
                return total.flat()

            prepare(tape)  # what every column needs is made once
            part = products.in_columns(column, columns)
            found[:] = [found[0].add_(part) if found else part]

        divisor = self.passes.over(add)
        return self.passes.mean(found[0] if found else columns.new_zeros(columns.shape), divisor, add, block).mT

    def total(self, v: Tensor) -> float:
        """1ᵀ P v. One product, whose weight gradients are not formed since only their sum is wanted."""
        return self._kind.total(self, self._checked(v))

    def walks(self) -> Walks:
        """1ᵀP1 and 1ᵀPP1. One product and a ``total``; of a kept pass no vector (n,) is formed on the way."""
        if not self._is_one_pass:
            return super().walks()
        steps: list[Tensor] = []

        def walk(tape: Tape) -> None:
            sums = WalkSums(tape, self.dtype)
            steps.extend(sums.one_step())
            steps.append(sums.two_steps())

        self.passes.over(walk)
        one, size, reach, two = torch.stack(steps).tolist()
        self.passes.check_finite(torch.tensor([one, size, two], device="cpu"))
        self._incoming_size = self._unless_rounding(size, reach)
        if not self._can_square(size / self.num_nodes, two):
            return super().walks()
        return Walks(one, two if size else 0.0, self.absolute_total())

    def _can_square(self, strength: float, two: float) -> bool:
        """Whether 1ᵀPP1 was formed within the range of P's numbers: single precision ends at strengths of 3e-16."""
        limits = torch.finfo(self.dtype)
        return math.isfinite(two) and (strength == 0 or strength >= math.sqrt(limits.tiny / limits.eps))

    def in_strength(self) -> Tensor:
        """δ_in = P 1, shape (n,). One product; over several batches once, together with ``out_strength``."""
        self._check_kept()
        found = self._in_range(self._kind.in_strength(self))
        if not self._kind.is_of_the_tape:
            self._incoming_size = float(absolute_sum(found))
        return found

    def out_strength(self) -> Tensor:
        """δ_out = Pᵀ 1, shape (n,). One product; over several batches once, together with ``in_strength``."""
        self._check_kept()
        return self._in_range(self._kind.out_strength(self))

    def _check_kept(self) -> None:
        """Strengths that are kept from an earlier reading are those of the weights at that time."""
        if self._kind.is_estimated or not self.passes.of_a_pair:
            self.passes.check_unchanged()

    def standard_errors(self) -> tuple[Tensor, Tensor]:
        """Of the in- and out-strengths that kind="energy" estimates, each (n,): σ over probes / √probes.

        Raises:
            ValueError: for any other kind, whose strengths are exact.
        """
        return self._kind.standard_errors(self)

    @property
    def has_entries_of_the_tape(self) -> bool:
        """Whether the entries of this kind are those of the recorded pass: signed and magnitude."""
        return self._kind.is_of_the_tape

    def entries_of_kind(self, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        """The entries of this kind at (targets, sources), from those of the recorded pass."""
        return self._kind.entries(self, entries, targets, sources)

    @property
    def is_non_negative(self) -> bool:
        """Whether this kind of coupling has no negative entries: magnitude and energy."""
        return self._kind.is_non_negative

    def absolute_total(self) -> float:
        """Σ |1 · x_ℓ| |s_ℓ| over calls, samples and positions, of signed and magnitude; else Σ_i |δ_in,i|.

        Where that is 0 or rounding, since the terms of s cancel, they are taken with random signs ε that do not:
        Σ |1 · x_ℓ| |Jᵀ (ε ∘ 1ᵀ |g_m|)|.
        """
        if self._incoming_size is None:
            if self._is_one_pass:
                self.walks()
            elif self._kind.is_of_the_tape:
                _, size, reach = self._terms.tolist()
                self._incoming_size = self._unless_rounding(size, reach)
            else:
                self.in_strength()
        if self._incoming_size:
            return self._incoming_size
        terms = self._scalar()
        return float(*self.passes.mean_over([terms], lambda tape: products.absolute_terms(tape, terms)))

    def _unless_rounding(self, size: float, reach: float) -> float:
        """The size of terms, 0 where it is no more than rounding of what was sent back."""
        return 0.0 if size <= ROUNDED * self.precision * reach else size

    # what the kinds are made of: sums over the tape's own P, signed or magnitude

    def tape_in_strength(self) -> Tensor:
        """P 1 of the tape's own P."""
        if not self.passes.of_a_pair:
            return self._streamed_strengths[0].clone()
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.pull_ones(tape, total))

    def tape_out_strength(self) -> Tensor:
        """Pᵀ 1 of the tape's own P."""
        if not self.passes.of_a_pair and (found := self._streamed_strengths[1]) is not None:
            return found.clone()
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.push_ones(tape, total))

    def tape_total(self, v: Tensor) -> float:
        """1ᵀ P v of the tape's own P."""
        if not self.passes.of_a_pair and (outgoing := self._streamed_strengths[1]) is not None:
            self._check_kept()
            return float(double_dot(outgoing, v))
        total, parts = self._scalar(), self.split(v)
        return float(*self.passes.mean_over([total], lambda tape: products.pull_total(tape, parts, total), v))

    @property
    def _terms(self) -> Tensor:
        """1ᵀP1, the size of its terms and their reach, as :class:`~linegraph.coupling.walk_sums.Terms` has them."""
        if not self.passes.of_a_pair:
            return self._streamed_strengths[2]
        terms = self._scalar().expand(3).clone()
        return self.passes.mean_over([terms], lambda tape: add_terms(tape, terms))[0]

    @cached_property
    def _streamed_strengths(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Both strengths, and the terms of their sum, from one reading of the data.

        Out-strengths are None where they are not finite, as second derivatives may be where P 1 is.
        """
        incoming, outgoing, terms = self._vector(), self._vector(), self._scalar().expand(3).clone()

        def add(tape: Tape) -> None:
            add_in_strength(tape, incoming, terms)

        def add_both(tape: Tape) -> None:
            add(tape)
            products.push_ones(tape, outgoing)

        divisor = self.passes.over(add_both)
        found = [self.passes.mean(total, divisor, add) for total in (incoming.flat(), terms)]
        out = self.passes.mean(outgoing.flat(), divisor)
        return found[0], out if double_sum(out).isfinite() else None, found[1]

    # room for results ------------------------------------------------------------------------------

    def _mean_over_data(
        self, total: SynapseVector, work: Callable[[Tape], None], given: Tensor | None = None
    ) -> Tensor:
        divisor = self.passes.over(work)
        return self.passes.mean(total.flat(), divisor, work, given)

    def _vector(self) -> SynapseVector:
        return SynapseVector(self.synapses, self._memory())

    def _memory(self) -> Tensor:
        with torch.inference_mode(False):
            return torch.empty(self.num_nodes, dtype=self.dtype, device=self.device)

    def _scalar(self) -> Tensor:
        with torch.inference_mode(False):
            return torch.zeros((), dtype=torch.float64, device=self.device)

    # the explicit graph ----------------------------------------------------------------------------

    @cached_property
    def structure(self) -> Structure:
        """Which neurons the paths join, from one pass over the first batch."""
        mode = ConnectivityMode({s.name: self.chosen[s.name] for s in self.synapses})
        self.passes.watch(mode)
        return mode.structure()

    def row_components(self) -> Tensor:
        """A number for each row, (n,): rows of different numbers have no entry in a common column. One forward pass.

        0 for all of them where the data are spread over processes, since each sees the structure of its own only.
        """
        return self._numbered(1)

    def column_components(self) -> Tensor:
        """A number for each column, (n,): those of different numbers have no entry in a common row. One forward pass.

        Where paths act element by element, weights that leave different channels mostly have different numbers.
        """
        return self._numbered(0)

    def _numbered(self, end: int) -> Tensor:
        """The component of the neuron that each synapse leaves (0) or enters (1)."""
        numbers = torch.zeros(self.num_nodes, dtype=torch.int32, device="cpu")
        offsets = {s.name: s.offset for s in self.synapses}
        if not is_distributed():
            for view, components in zip(self.structure.views, self.structure.components, strict=True):
                index, *neurons = view.neurons()
                nodes = torch.from_numpy(index + offsets[view.weight.name])
                numbers[nodes] = torch.from_numpy(components[end][neurons[end]])
        return numbers.to(self.device)

    @cached_property
    def bicliques(self) -> Bicliques:
        """The edges of the line graph, by index arithmetic; made from one forward pass."""
        return Bicliques(self.structure, {s.name: s.offset for s in self.synapses}, self.num_nodes)

    def neurons(self) -> tuple[Tensor, Tensor]:
        """The neuron that each synapse leaves and the one it enters, each (n,), numbered within its operation.

        A neuron is a feature or a channel. Where operations see a weight in several ways, the first counts.
        """
        into, out = (torch.full((self.num_nodes,), -1, dtype=torch.int64, device="cpu") for _ in range(2))
        for layer in reversed(self.bicliques.layers):
            nodes = torch.from_numpy(layer.nodes)
            into[nodes] = torch.from_numpy(layer.inputs)
            out[nodes] = torch.from_numpy(layer.outputs - layer.first)
        return into.to(self.device), out.to(self.device)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The synapse tensors: name, operation and nodes of each."""
        return tuple(Layer(s.name, s.op, slice(s.offset, s.offset + s.numel)) for s in self.synapses)

    @property
    def counts_edges(self) -> bool:
        """Whether this process has all the data, by which edges are counted."""
        return not is_distributed()

    @cached_property
    def num_edges(self) -> int:
        """Exact number of line-graph edges, counted from neuron degrees, never enumerated. One forward pass.

        The pairs of synapses (j→i), (i'→k) whose neurons a path joins: Σ over joined (i, i') of in-degree(i) ×
        out-degree(i'), whatever the values of the coupling. An operation that is not known element by element (layer
        norm, attention, a Fourier transform; scripted code, which torch does not show to Python) counts as joining all
        that enters it with all that leaves it. Custom autograd functions are followed along their forward pass.
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
        if (num_edges := jointly(lambda: self.num_edges)) > max_edges:
            raise TooLargeError(
                f"this line graph has {num_edges:,} edges, more than max_edges={max_edges:,}; raise the limit if "
                "memory allows (about 24 bytes an edge), choose fewer synapses with include=, or use the operator "
                "itself, which needs no edges"
            )
        return explicit.graph(self)
