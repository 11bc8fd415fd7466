"""``NeuralCoupling``, the operator P of a neural network and a loss on data. Its entries are not stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from linegraph.arguments import check_limit, check_type
from linegraph.coupling import kinds, products
from linegraph.coupling.base import MAX_EDGES, Coupling, Layer, Walks, times_unit
from linegraph.coupling.entries import explicit
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.model.losses import check_loss
from linegraph.coupling.model.parameters import Include, Synapse, choose, coverage, covered, lay_out, unwrapped
from linegraph.coupling.model.shards import Shards
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.coupling.products import SynapseVector
from linegraph.coupling.split_vectors import SplitVector
from linegraph.coupling.structure.connectivity import ConnectivityMode
from linegraph.coupling.structure.edge_layout import EdgeLayout
from linegraph.coupling.structure.neurons import Structure
from linegraph.coupling.tracing.passes import Passes
from linegraph.coupling.tracing.tape import Tape
from linegraph.coupling.verification import verify as verification
from linegraph.coupling.walk_sums import WalkSums, add_in_strength, add_terms
from linegraph.errors import DataError, NonFiniteError, TooLargeError
from linegraph.lazy import cached_property
from linegraph.numerics import (
    CANCELLATION_ROUNDINGS,
    absolute_sum,
    accumulation_dtype,
    double_dot,
    double_sum,
    power_of_two,
)
from linegraph.processes import is_distributed, jointly
from linegraph.turns import turn

__all__ = ["NeuralCoupling"]


class NeuralCoupling(Coupling):
    r"""The coupling operator P of a network under gradient descent on a loss.

    Gradient descent moves the weights by ẇ = −∇C(w) = b + P w, where for synapse layers ℓ before m

        P[(ℓ; j→i), (m; i'→k)] = − Σ_samples  x_ℓ[j] · J_{m←ℓ}[i', i] · g_m[k]

    with x_ℓ the input of ℓ, g_m = ∂C/∂y_m the gradient at the output of m, and J_{m←ℓ} the Jacobian of everything
    between the output of ℓ and the input of m that crosses no other synapse layer. P[i, j] is the influence of weight
    j on the velocity of weight i. The drive b is non-zero only on synapses from which the loss is reached with no
    synapse between.

    P is the operator at the model's present weights. Every call leaves the model as it was: mode, gradients, buffers,
    other attributes, and random states. After a training step, make a new coupling: products raise an error if a
    parameter or buffer has changed, through ``.data`` too. Do not change other attributes either, such as the
    probability of a dropout: over batches, products would use the new value; ``verify`` finds this. C is the loss of
    the forward pass: hooks that change gradients in the backward pass are not called. Several threads may use one
    coupling or one model: in a process, one of them runs a pass or a product at a time, and the others wait.

    Args:
        model: any module whose weights enter linear maps, matrix products or convolutions, by modules or by functional
            calls. Of a data-parallel or compiled wrapper the module inside is taken, and names are those within it.
            Compiled parts run uncompiled, checkpointed ones keep their activations, attention runs unfused. What the
            model computes from weights under ``torch.no_grad()`` counts as constant.

            Parameters that ``torch.distributed.fsdp.fully_shard`` has sharded are gathered unit by unit, for as long
            as operations read them, in the precision of the unit's ``MixedPrecisionPolicy``. Any method may then be a
            collective call. Vectors (n,) are whole in every process; β_eff of "signed" and "magnitude" forms none.
        loss_fn: ``loss_fn(outputs, targets)`` returning a scalar; the scale of P is that of this loss.
        data: one ``(inputs, targets)`` pair, or an iterable of pairs such as a ``DataLoader``. The pass over one pair
            is kept in memory for all products. An iterable is read once for each product, and only sums are kept.

            Over batches P is the mean weighted by ``batch_weight``, or the sum if the loss sums over samples. It says
            so by an attribute ``loss_fn.reduction == "sum"``, which you may set on a function of your own, or by the
            keyword ``reduction="sum"`` of a ``functools.partial``.

            ``inputs`` is a tensor, or a tuple, list or mapping of tensors, which become the arguments of the model; an
            object of another class is its only argument. Batches that are mappings, as those of Hugging Face, become
            pairs by ``[(batch, batch.pop("labels")) for batch in loader]``.

            Every reading must give the same batches. So for each reading the random generators of torch, NumPy and
            Python, and those of loaders, samplers, datasets and their transforms, are set to the states that they had
            when P was made; afterwards their own states are restored. Batches that differ nevertheless raise an error.

            Under an initialised ``torch.distributed`` group each process passes its own shard of the data. Methods that
            compute products are then collective calls, with the same result, or the same error, on every rank.
        kind: what an entry is.

            - "signed": P_ij as above.
            - "magnitude": every factor by its absolute value, for each sample and position,
              Σ |x_ℓ[j]| · |J|[i', i] · |g_m[k]|, where |J| is the product of the absolute local Jacobians. Layer norm,
              group norm, instance norm and batch norm of a batch count as two operations, centring and scaling. An
              operation without a formula is probed; its Jacobian may have 4 million entries.
            - "flow": w_i P_ij w_j, which does not change when a neuron is rescaled (incoming weights multiplied and
              outgoing ones divided by a positive factor, with activations such as ReLU).
            - "energy": P_ij². Products are estimated by random signs ε, the mean of (P ε)_i², for any operation between
              synapses. ``to_graph`` has the exact squares.
        include: which weights are synapses: names of parameters or modules, module classes, or a predicate
            ``(name, parameter) -> bool``; by default all trainable parameters of two or more dimensions.
            Everything else, frozen weights too, is part of the paths. So are, by default, weights that are used in a
            way for which there is no rule in the first batch: a warning names them, and :meth:`coverage` says why.
            Chosen by ``include``, they are an error.
        batch_weight: a function of ``(inputs, targets)`` that returns the weight of a batch in the mean over batches,
            which is the number that a mean loss divides its sum by. Batches of weight 0 are left out. By default it is
            known for torch's own losses, as modules, functions or a ``functools.partial`` of them: the number of
            targets that are not ignored, the sum of the weights of their classes, or the number of elements. Any other
            loss is taken for a mean over samples. Then a warning tells if it proves not to be one, and an error is
            raised if the number of samples is not certain: the first dimensions of all tensors, and the lengths of
            lists with an item for each sample, must agree.
        training: whether the network runs in training mode (batch statistics; dropout masks drawn once for each pass).
        progress: whether to show a progress bar over the batches.
        probes: the number of products with random signs that "energy" averages over, 32 by default. The ``rmatvec`` of
            "energy" is the transpose of its ``matvec`` only in the mean over probes; see ``standard_errors()``.
        generator: draws the seed of the random signs, which are the same in every product. By default the seed is
            fixed.

    Attributes:
        kind: the kind.
        chosen: the parameters that are synapses if the loss depends on them, by name.
        synapses: the parameters whose entries are nodes, with name, shape, first node (``offset``) and operation.

    Cost, in forward passes: 2 to make P, for a pass and the gradients g at all synapses; then 1 for ``in_strength`` or
    ``total``, 2 for ``matvec`` or ``rmatvec``. β_eff takes at most 4 in all, which is 4/3 of a training step. It takes
    less where each weight meets few samples and positions, and besides the elementwise work of three passes through the
    network; ``benchmarks/operator_cost.py`` measures it. The pass over one pair stays in memory with its activations
    and g; over batches, every product makes and drops a pass for each batch. The checksums of weights and data take
    about 1 % of a product.

    In half precision and under autocast, activations and their gradients have the precision of training, and sums are
    accumulated in single precision. "magnitude" keeps three digits there. Signed sums lose more, since their terms
    cancel: bfloat16 activations, with all else in double precision, change signed β_eff of an untrained ResNet-18 by
    4 to 55 % (four seeds, 16 images), and :func:`~linegraph.capacitance` warns of it. For more digits, couple
    ``model.float()`` outside of autocast. On CUDA torch computes single-precision convolutions in TF32 unless
    ``torch.backends.cudnn.allow_tf32`` is False; this changes β_eff of a ResNet-18 by 1 % (signed) or 0.005 %
    (magnitude).

    Raises:
        NoSynapseError: if there is no trainable weight to couple, or if all are left out.
        DataError: if data is empty, malformed, or of another dtype or on another device than the model; if the weight
            of a batch is not certain; from products, if a batch differs from that of earlier readings.
        LossError: if the loss is no scalar, or does not depend on the synapses, or sums and has a ``batch_weight``.
        NonFiniteError: if the loss of a batch, or a result, is NaN or infinite; names the first synapse call concerned,
            the batch and the process. A vector that itself holds NaN gives a product with NaN instead.
        StaleCouplingError: from products, if a parameter or buffer has changed since P was made; names it.
        UnsupportedOperationError: if the model writes into its parameters; if a weight that ``include`` chooses is
            complex or enters an operation that no rule covers; if the model or its loss differentiates through a
            synapse weight themselves (``create_graph=True``); if parameters are sharded in another way than by
            ``fully_shard``; from products, if a later batch uses a synapse weight in
            a way for which there is no rule; from ``rmatvec`` and ``out_strength``, if an operation or a custom
            function on a path cannot be differentiated twice.

    Warns:
        CoverageWarning: if weights are left out by default; names them, and their share of the trainable weights.

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
        self._again = partial(
            type(self),
            model,
            loss_fn,
            data,
            include=include,
            batch_weight=batch_weight,
            training=training,
            progress=progress,
        )
        model = unwrapped(model)
        check_loss(loss_fn)
        self.kind = kind
        self._model = model
        with turn():  # a pass in another thread changes for a time which parameters require gradients
            shards = Shards(model)
            parameters = shards.in_place_of(dict(model.named_parameters()))
            trainable = {name: p for name, p in parameters.items() if p.requires_grad}
            self._choice = choose(model, include)
            self._choice.weights = {name: parameters[name] for name in self._choice.weights}
            self.passes = Passes(
                model,
                loss_fn,
                data,
                parameters,
                self._choice,
                self._kind.tape,
                shards=shards,
                batch_weight=batch_weight,
                training=training,
                progress=progress,
            )
        self._incoming_size: float | None = None
        self._is_one_pass = self.passes.of_a_pair and self._kind.is_of_the_tape and not is_distributed()
        self._choice.warn(trainable)
        self.chosen = self._choice.weights
        self.synapses: tuple[Synapse, ...] = lay_out(self.chosen, self.passes.ops)
        self._trainable = set(trainable)
        self._covered = covered(trainable, [s.name for s in self.synapses])
        first_weight = self.chosen[self.synapses[0].name]
        self._num_nodes = sum(s.numel for s in self.synapses)
        self._device = first_weight.device
        self._dtype = accumulation_dtype(first_weight.dtype)

    def of_kind(self, kind: str) -> NeuralCoupling:
        """The coupling of another kind at the same weights and data, on the recorded pass of this one if it serves.

        "signed", "flow" and "energy" share their passes; "magnitude" records its own, with absolute Jacobians.

        Args:
            kind: the kind of the new coupling, as for the class.

        Returns:
            A coupling with the synapses of this one; itself if it is of this kind.

        Raises:
            DataError: if there is no such kind.
            UnsupportedOperationError: as for the class.
            StaleCouplingError: if the weights have changed since this coupling was made.

        Cost: nothing for a kind that shares the pass, else that of a new coupling.

        Example:
            >>> import torch, linegraph as lg
            >>> model, data = torch.nn.Linear(3, 2), (torch.ones(4, 3), torch.ones(4, 2))
            >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)
            >>> P.of_kind("flow").kind
            'flow'
        """
        if kind == self.kind:
            return self
        sharing = self.shares_pass(kind)
        self.passes.check_unchanged()
        if not sharing:
            return self._again(kind=kind)
        made = kinds.make(kind)
        other = object.__new__(type(self))
        vars(other).update(vars(self), _kind=made, kind=kind, _incoming_size=None)
        other._is_one_pass = self.passes.of_a_pair and made.is_of_the_tape and not is_distributed()
        return other

    def shares_pass(self, kind: str) -> bool:
        """Whether :meth:`of_kind` needs no pass of its own for a kind.

        Args:
            kind: the name of the other kind.

        Returns:
            True if both kinds compute from the same recorded pass.
        """
        return kinds.make(kind).tape is self._kind.tape

    # what the operator is --------------------------------------------------------------------------

    def __repr__(self) -> str:
        nodes = f"kind={self.kind!r}, shape={self.shape}, layers={len(self.synapses)}, covered={self.covered:.4g}"
        return f"{type(self).__name__}({nodes}, dtype={self.dtype}, device='{self.device}')"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a NeuralCoupling holds a pass of its model and cannot be pickled or copied; keep the model and the data "
            "and make a new coupling, or keep P.to_graph()"
        )

    @property
    def num_nodes(self) -> int:
        """Number of synapses n: entries of all synapse weights."""
        return self._num_nodes

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the synapse weights; single precision if they are in half precision."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Device of the synapse weights."""
        return self._device

    @property
    def covered(self) -> float:
        """The share of the trainable weights that are nodes: of all entries of trainable parameters that are no biases.

        :meth:`coverage` has the reason for each of the others.
        """
        return self._covered

    @property
    def rounding(self) -> float:
        """Machine epsilon of the gradients at synapses: that of half precision in such models and under autocast."""
        return self.passes.rounding

    def coverage(self) -> pd.DataFrame:
        """A table of all parameters of the model, with the role of each in P and the reason for it.

        Returns:
            One row for each parameter, shared ones once, with the columns ``name``, ``shape``, ``numel``, ``role``
            ("synapse", "path", "frozen", "bias" or "unreached") and ``reason``. The reason of weights that are left out
            by default, since there is no rule for their use, begins with "left out".

        Example:
            >>> import torch, linegraph as lg
            >>> model, data = torch.nn.Linear(3, 2), (torch.ones(4, 3), torch.ones(4, 2))
            >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)
            >>> P.coverage()["role"].tolist()
            ['synapse', 'bias']
        """
        return coverage(self._model, self._choice, self.passes.ops, self._trainable)

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """Split a vector of all synapses into one tensor for each parameter.

        Args:
            v: a vector (n,), or a block (n, k).

        Returns:
            Views of ``v`` by parameter name, each in the shape of the parameter; of a block, with k as last dimension.

        Raises:
            ArgumentTypeError: if ``v`` is no tensor.
            DataError: if the length is not n.

        Example:
            >>> import torch, linegraph as lg
            >>> model, data = torch.nn.Linear(3, 2), (torch.ones(4, 3), torch.ones(4, 2))
            >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data)
            >>> {name: tuple(part.shape) for name, part in P.split(P.weights()).items()}
            {'weight': (2, 3)}
        """
        check_type("v", v, Tensor, f"a tensor ({self.num_nodes},) or ({self.num_nodes}, k)")
        if v.ndim not in (1, 2) or v.shape[0] != self.num_nodes:
            raise DataError(f"expected a vector of shape ({self.num_nodes},) or a block, got {tuple(v.shape)}")
        return {s.name: v[s.offset : s.offset + s.numel].reshape(*s.shape, *v.shape[1:]) for s in self.synapses}

    def weights(self) -> Tensor:
        """The synapse weights w.

        Returns:
            A copy (n,), parameter by parameter as in ``synapses``, each in row-major order.
        """
        found = self._vector()

        def copy() -> None:
            for s in self.synapses:
                found.add(s.name, self.chosen[s.name].detach())

        self.passes.read_weights(copy)
        return found.flat()

    def gradient(self) -> Tensor:
        """The gradient ∇C of the loss with respect to the synapse weights.

        Returns:
            ∇C (n,), in units of the loss per weight.

        Cost: at most one training step.
        """
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.outer(tape, tape.gradients, total)).neg_()

    def drive(self) -> Tensor:
        """The drive b: the part of −∇C that reaches a synapse from the loss with no synapse between.

        Returns:
            b (n,), in units of the loss per weight; exactly 0 on synapses with others between them and the loss.

        Cost: one forward pass.
        """
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.outer(tape, tape.direct_gradients(), total))

    def gradient_and_drive(self) -> tuple[Tensor, Tensor]:
        """The :meth:`gradient` ∇C and the :meth:`drive` b, both from one reading of the data.

        Returns:
            ∇C and b, two vectors (n,), in units of the loss per weight.

        Cost: at most one training step, and a backward pass without weight gradients.
        """
        descent, drive = self._vector(), self._vector()

        def add(tape: Tape) -> None:
            products.outer(tape, tape.gradients, descent)
            products.outer(tape, tape.direct_gradients(), drive)

        divisor = self.passes.over(add)
        return self.passes.mean(descent.flat(), divisor, add).neg_(), self.passes.mean(drive.flat(), divisor, add)

    def verify(self, tol: float | None = None) -> pd.DataFrame:
        """Check P on this network and its data against autograd, and Pᵀ against P.

        Two identities are checked: P w + b = −∇C, where ∇C comes from autograd in a plain forward and backward pass
        that uses nothing of linegraph's products; and vᵀ Pᵀ(P v) = ‖P v‖² for a random v. For the kinds "flow" and
        "energy" these are the identities of the signed P that they are computed from.

        If P and autograd differ, finite differences of the loss along the difference decide which of the two is wrong,
        in double precision if the network runs in it. Hooks on gradients are not called. The derivative of a custom
        autograd function is what its backward returns, as in training.

        Args:
            tol: bound of the differences, relative to ‖∇C‖ and ‖P v‖². The default is ρ √D for a gradient that passes
                through D operations one after the other, each with the relative rounding error ρ (1e-3 in float16,
                8e-3 in bfloat16, 1e-3 in TF32), and at least max(√ε, 1e-6) for P's machine epsilon ε (3.5e-4 in
                single precision).

        Returns:
            A table with a row for each weight that may be a synapse and the columns ``name``, ``gradient`` (‖∇C‖ of
            this weight by autograd) and ``difference`` (‖P w + b + ∇C‖ of this weight, relative to ‖∇C‖ of all).

        Cost: a training step, three products and the drive. If P and autograd differ, also another training step and 4
        to 12 forward passes in double precision.

        Warns:
            GradientWarning: if autograd is wrong and P is right, as for some batch norms of a single sample.
            PrecisionWarning: if the rounding errors of both exceed ``tol``.

        Raises:
            IdentityError: if P is wrong, or if it cannot be decided which side is; names the weights that differ.
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
        """Check the result of a kind that transforms products of the tape, which are finite themselves.

        Raises:
            NonFiniteError: if the result is not finite though the vector ``given`` was.
        """
        if self._kind.is_of_the_tape or double_sum(result.flatten()).isfinite():
            return result
        if given is None or given.isfinite().all():
            raise NonFiniteError(
                f"a product of kind={self.kind!r} exceeds the range of {self.dtype}, though products of the signed "
                "coupling do not; divide the vector or the loss by a number, and the result likewise"
            )
        return result

    def pull(self, block: Tensor) -> Tensor:
        """P V for a block V (n, k), with the P of the recorded pass.

        This P is signed, or that of magnitude; other kinds compute their products from it.

        Args:
            block: V (n, k).

        Returns:
            P V (n, k).
        """
        return self._columns(products.pull, Tape.prepare_pull, block)

    def push(self, block: Tensor) -> Tensor:
        """Pᵀ V for a block V (n, k), with the P of the recorded pass.

        Args:
            block: V (n, k).

        Returns:
            Pᵀ V (n, k).
        """
        self.passes.differentiate_twice()
        return self._columns(products.push, Tape.prepare_push, block)

    def _columns(self, product: products.SweepProduct, prepare: Callable[[Tape], None], block: Tensor) -> Tensor:
        if block.shape[1] == 1:
            total, v = self._vector(), self.split(block.squeeze(1))
            return self._mean_over_data(total, lambda tape: product(tape, v, total), block).unsqueeze(1)
        columns = block.mT  # as rows, since writing a contiguous column is faster than writing it into a block (n, k)
        found: list[Tensor] = []

        def add(tape: Tape) -> None:
            def column(v: Tensor, memory: Tensor) -> Tensor:
                total = SynapseVector(self.synapses, memory)
                product(tape, self.split(v), total)
                return total.flat()

            prepare(tape)  # computed once for all columns
            part = products.in_columns(column, columns)
            found[:] = [found[0].add_(part) if found else part]

        divisor = self.passes.over(add)
        return self.passes.mean(found[0] if found else columns.new_zeros(columns.shape), divisor, add, block).mT

    def total(self, v: Tensor) -> float:
        """The sum 1ᵀ P v of all entries of P v, in double precision.

        Args:
            v: a vector (n,).

        Returns:
            The sum.

        Raises:
            ArgumentTypeError: if ``v`` is no tensor.
            DataError: if its length is not n, or its dtype or device is not P's.

        Cost: one forward pass: half a product, since weight gradients are not formed where only their sum is wanted.
        """
        return self._kind.total(self, self._checked(v))

    def walks(self) -> Walks:
        """The sums 1ᵀP1 and 1ᵀPP1, whose ratio is β_eff.

        Cost: two forward passes. If the pass is kept, no vector (n,) is formed. Half of that where all that arrives in
        the first sweep is rounding error, since both sums are 0 then.
        """
        if self.passes.is_sharded and self._kind.is_of_the_tape:
            return self._split_walks()
        if not self._is_one_pass:
            return super().walks()
        steps: list[float] = []

        def walk(tape: Tape) -> None:
            sums = WalkSums(tape, self.dtype)
            one, size, reach = torch.stack(sums.one_step()).tolist()
            two = float(sums.two_steps()) if self._unless_rounding(size, reach) else 0.0
            steps.extend([one, size, reach, two])

        self.passes.over(walk)
        one, size, reach, two = steps
        self.passes.check_finite(torch.tensor([one, size, two], device="cpu"))
        self._incoming_size = self._unless_rounding(size, reach)
        if not self._can_square(size / self.num_nodes, two):
            return super().walks()
        if size and not self._incoming_size:
            return Walks(0.0, 0.0, reach)
        return Walks(one, two, self.absolute_total())

    def _split_walks(self) -> Walks:
        """The walks of a sharded model, with in-strengths that are split over the processes as its weights are."""
        terms, two = self._scalar().expand(3).clone(), self._scalar()
        with SplitVector(self.synapses, self.dtype, self.device, self.passes.exchanges).shared() as strengths:

            def add(tape: Tape) -> None:
                add_in_strength(tape, strengths, terms)

            divisor = self.passes.over(add)
            one, size, reach = self.passes.mean(terms, divisor, add).tolist()
            self._incoming_size = self._unless_rounding(size, reach)
            if not (size := self.absolute_total()):
                return Walks(one, 0.0, size)
            unit = power_of_two(strengths.largest() / divisor, self.dtype)
            strengths.divide(divisor * unit)
            self.passes.mean_over([two], lambda tape: products.pull_total(tape, strengths, two))
        return Walks(one, times_unit(float(two), unit), size)

    def _can_square(self, strength: float, two: float) -> bool:
        """Whether 1ᵀPP1 is within the range of P's dtype: in single precision, for mean strengths of 3e-16 and more."""
        limits = torch.finfo(self.dtype)
        return math.isfinite(two) and (strength == 0 or strength >= math.sqrt(limits.tiny / limits.eps))

    def in_strength(self) -> Tensor:
        """The in-strengths δ_in = P 1, shape (n,): the total influence that each weight receives.

        Cost: one forward pass. Over batches both strengths come from one reading of the data, and are kept.
        """
        self._check_kept()
        found = self._in_range(self._kind.in_strength(self))
        if not self._kind.is_of_the_tape:
            self._incoming_size = float(absolute_sum(found))
        return found

    def out_strength(self) -> Tensor:
        """The out-strengths δ_out = Pᵀ 1, shape (n,): the total influence that each weight exerts.

        Cost: one product. Over batches both strengths come from one reading of the data, and are kept.
        """
        self._check_kept()
        return self._in_range(self._kind.out_strength(self))

    def _check_kept(self) -> None:
        """Refuse to return strengths that were kept, if the weights have changed since.

        Raises:
            StaleCouplingError: names the tensor that has changed.
        """
        if self._kind.is_estimated or not self.passes.of_a_pair:
            self.passes.check_unchanged()

    def standard_errors(self) -> tuple[Tensor, Tensor]:
        """Standard errors of the in- and out-strengths that kind="energy" estimates.

        Returns:
            Two vectors (n,): the standard deviation over the probes, divided by √probes.

        Raises:
            DataError: for any other kind, whose strengths are exact.
        """
        return self._kind.standard_errors(self)

    @property
    def has_entries_of_the_tape(self) -> bool:
        """Whether entries of this kind are those of the recorded pass's own P, as for "signed" and "magnitude"."""
        return self._kind.is_of_the_tape

    def entries_of_kind(self, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        """Turn entries of the recorded pass's own P into entries of this kind.

        Args:
            entries: entries of that P.
            targets: the row of each.
            sources: the column of each.

        Returns:
            The entries of this kind, in the same order.
        """
        return self._kind.entries(self, entries, targets, sources)

    @property
    def is_non_negative(self) -> bool:
        """Whether this kind has no negative entry, as "magnitude" and "energy"."""
        return self._kind.is_non_negative

    def absolute_total(self) -> float:
        """Sum of the absolute values of the terms whose signed sum is 1ᵀP1.

        For "signed" and "magnitude" these are the terms Σ |1 · x_ℓ| |s_ℓ| over calls, samples and positions, with s_ℓ
        the signal that arrives at the output of ℓ; for the other kinds Σ_i |δ_in,i|. If that is 0 up to rounding, since
        the signals cancel on their way, random signs ε keep them from cancelling: Σ |1 · x_ℓ| |Jᵀ (ε ∘ 1ᵀ |g_m|)|.
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
        """``size``, the sum of absolute terms; 0 if it is only rounding error of ``reach``.

        Args:
            size: the sum of the absolute values of the terms of 1ᵀP1.
            reach: the same sum with every signal as large as before the signals cancelled.
        """
        return 0.0 if size <= CANCELLATION_ROUNDINGS * self.precision * reach else size

    # sums over the P of the recorded pass, signed or magnitude, from which each kind computes its own

    def tape_in_strength(self) -> Tensor:
        """The in-strengths P 1 with the P of the recorded pass.

        Returns:
            P 1 (n,).
        """
        if not self.passes.of_a_pair:
            return self._streamed_strengths[0].clone()
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.pull_ones(tape, total))

    def tape_out_strength(self) -> Tensor:
        """The out-strengths Pᵀ 1 with the P of the recorded pass.

        Returns:
            Pᵀ 1 (n,).
        """
        if not self.passes.of_a_pair and (found := self._streamed_strengths[1]) is not None:
            return found.clone()
        self.passes.differentiate_twice()
        total = self._vector()
        return self._mean_over_data(total, lambda tape: products.push_ones(tape, total))

    def tape_total(self, v: Tensor) -> float:
        """The sum 1ᵀ P v with the P of the recorded pass.

        Args:
            v: a vector (n,).

        Returns:
            The sum, in double precision.
        """
        if not self.passes.of_a_pair and (outgoing := self._streamed_strengths[1]) is not None:
            self._check_kept()
            return float(double_dot(outgoing, v))
        total, parts = self._scalar(), self.split(v)
        return float(*self.passes.mean_over([total], lambda tape: products.pull_total(tape, parts, total), v))

    @property
    def _terms(self) -> Tensor:
        """The sums of :class:`~linegraph.coupling.walk_sums.Terms`, (3,).

        They are 1ᵀP1, the sum of the absolute values of its terms, and that sum with every signal as large as the
        largest one that was sent back.
        """
        if not self.passes.of_a_pair:
            return self._streamed_strengths[2]
        terms = self._scalar().expand(3).clone()
        return self.passes.mean_over([terms], lambda tape: add_terms(tape, terms))[0]

    @cached_property
    def _streamed_strengths(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """In-strengths, out-strengths and the three sums of ``_terms``, from one reading of the data.

        Out-strengths are None if they are not finite: their second derivatives may overflow where P 1 does not.
        """
        incoming, outgoing, terms = self._vector(), self._vector(), self._scalar().expand(3).clone()

        def add(tape: Tape) -> None:
            add_in_strength(tape, incoming, terms)

        def add_both(tape: Tape) -> None:
            add(tape)
            products.push_ones(tape, outgoing)

        self.passes.differentiate_twice()
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
        """Which neurons the paths join, found in one forward pass over the first batch and kept."""
        mode = ConnectivityMode({s.name: self.chosen[s.name] for s in self.synapses})
        self.passes.watch(mode)
        return mode.structure()

    def row_components(self) -> Tensor:
        """Component number of each row, (n,), int32: rows with different numbers have no entry in a common column.

        All are 0 if the data are distributed over processes, since each knows only the structure of its own shard.

        Cost: one forward pass, once.
        """
        return self._numbered(1)

    def column_components(self) -> Tensor:
        """Component number of each column, (n,), int32: columns with different numbers have no entry in a common row.

        If paths act element by element, weights that leave different channels mostly have different numbers.

        Cost: one forward pass, once.
        """
        return self._numbered(0)

    def _numbered(self, end: int) -> Tensor:
        """The component number of the neuron that each synapse leaves (``end`` 0) or enters (``end`` 1)."""
        numbers = torch.zeros(self.num_nodes, dtype=torch.int32, device="cpu")
        offsets = {s.name: s.offset for s in self.synapses}
        if not is_distributed():
            for view, components in zip(self.structure.views, self.structure.components, strict=True):
                index, *neurons = view.neurons()
                nodes = torch.from_numpy(index + offsets[view.weight.name])
                numbers[nodes] = torch.from_numpy(components[end][neurons[end]])
        return numbers.to(self.device)

    @cached_property
    def edge_layout(self) -> EdgeLayout:
        """Where each edge of the line graph stands among all of them; made from one forward pass and kept."""
        return EdgeLayout(self.structure, {s.name: s.offset for s in self.synapses}, self.num_nodes)

    def neurons(self) -> tuple[Tensor, Tensor]:
        """The input neuron that each synapse leaves, and the output neuron that it enters.

        A neuron is a feature or a channel. Of a weight that operations use in several ways, the first use counts.

        Returns:
            Two int64 vectors (n,): numbers of neurons, counted from 0 within each parameter.

        Cost: one forward pass, once.
        """
        into, out = (torch.full((self.num_nodes,), -1, dtype=torch.int64, device="cpu") for _ in range(2))
        for layer in reversed(self.edge_layout.synapse_layers):
            nodes = torch.from_numpy(layer.nodes)
            into[nodes] = torch.from_numpy(layer.inputs)
            out[nodes] = torch.from_numpy(layer.outputs - layer.first)
        return into.to(self.device), out.to(self.device)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The parameters that are synapses, in the order of their nodes: name, operation and slice of nodes of each."""
        return tuple(Layer(s.name, s.op, slice(s.offset, s.offset + s.numel)) for s in self.synapses)

    @property
    def counts_edges(self) -> bool:
        """Whether edges can be counted: not if the data are distributed over processes."""
        return not is_distributed()

    @cached_property
    def num_edges(self) -> int:
        """Exact number of edges of the line graph, counted from neuron degrees without enumerating edges.

        An edge is a pair of synapses (j→i), (i'→k) where a path joins neuron i to i', whatever the value of P there.
        Their number is Σ over joined (i, i') of in-degree(i) × out-degree(i'). An operation that mixes elements (layer
        norm, attention, a Fourier transform) or is hidden from Python (scripted code) counts as joining everything that
        enters it with everything that leaves it. Custom autograd functions are followed by the operations of their
        forward.

        Raises:
            TooLargeError: if a weight is used in two ways (tied and transposed, say), and the edges that both may give
                are too many to tell apart.

        Cost: one forward pass, once.
        """
        return explicit.count_edges(self)

    def to_graph(self, max_edges: int = MAX_EDGES) -> GraphCoupling:
        """P as an explicit graph: all its entries, as ``num_edges`` edges sorted by target, then by source.

        Args:
            max_edges: the number of edges above which none is built; an edge takes about 24 bytes.

        Returns:
            A :class:`~linegraph.GraphCoupling` with node i of the graph for synapse i.

        Raises:
            TooLargeError: if P has more than ``max_edges`` edges.
            NonFiniteError: if an entry is NaN or infinite.

        Cost: indices are written by broadcasting. If the path between two layers acts element by element (activations,
        batch norm in evaluation mode, sums), their entries are one product of matrices, with one multiplication for
        each entry, sample and position. Across any other path, one product of P for each column colour, as in the
        colouring of sparse Jacobians (Curtis, Powell, Reid 1974). A layer needs (out-neurons × kernel taps) colours if
        its in-neurons are joined one to one, and in-neurons times as many if all features mix.

        Example:
            >>> import torch, linegraph as lg
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
            >>> data = torch.ones(4, 3), torch.ones(4, 1)
            >>> lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data).to_graph()
            GraphCoupling(shape=(8, 8), num_edges=6, dtype=torch.float32, device='cpu')
        """
        check_limit("max_edges", max_edges)
        if (num_edges := jointly(lambda: self.num_edges)) > max_edges:
            raise TooLargeError(
                f"this line graph has {num_edges:,} edges, more than max_edges={max_edges:,}; raise the limit if "
                "memory allows (about 24 bytes an edge), choose fewer synapses with include=, or use the operator P: "
                "its products need no edges"
            )
        return explicit.graph(self)
