"""Recorded passes of a model and its loss, batch by batch, and means of products over the data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from linegraph.coupling.model.copies import Copy
from linegraph.coupling.model.data import call_model, check_devices, is_one_batch, num_batches
from linegraph.coupling.model.losses import is_torchs
from linegraph.coupling.model.parameters import Choice, Reason
from linegraph.coupling.model.plain_forward import in_the_open, remembering_nothing
from linegraph.coupling.model.precision import Autocast, without_autocast
from linegraph.coupling.model.preserve import differentiable, preserved
from linegraph.coupling.model.readings import Batch, Readings
from linegraph.coupling.model.shards import Shards
from linegraph.coupling.model.sources import Sources, generators_of
from linegraph.coupling.model.unchanged import Unchanged
from linegraph.coupling.model.weighing import BatchWeight, Weighing
from linegraph.coupling.model.writes import Unwritten
from linegraph.coupling.tracing.attention import Unfused
from linegraph.coupling.tracing.refusals import DifferentiatesOthersError, RefusedWeightError
from linegraph.coupling.tracing.tape import Tape
from linegraph.errors import DataError, LossError, NonFiniteError, UnsupportedOperationError
from linegraph.numerics import double_sum
from linegraph.processes import Exchanges, gathered_results, is_distributed, jointly, summed, summed_result
from linegraph.progress import shown
from linegraph.randomness import preserved_randomness, random_state, set_random_state
from linegraph.turns import turn

__all__ = ["Passes"]


class Passes:
    """The recorded passes of a model and its loss on data.

    Data of one pair (inputs, targets) give one pass, which is kept. Data of several batches give one pass for each,
    recorded anew in every product and dropped after use. Every pass and every reading of the data starts from
    the random state and the autocast settings at construction.

    Args:
        model: the model; its weights must not change.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: a pair, or an iterable of pairs.
        parameters: all parameters of the model by name.
        choice: the synapse parameters; those that are used in a way for which there is no rule are left out, if none
            was named.
        make_tape: returns an empty tape of synapse parameters.
        shards: the parameters of the model that are sharded over processes; those given here are their stand-ins.
        batch_weight: the weight of a batch in the mean, where the user gives it.
        training: whether the model runs in training mode.
        progress: show a bar over the batches.

    Attributes:
        of_a_pair: whether the data are one pair (inputs, targets), whose pass is kept.
        readings: the readings of the data.
        averages: whether P is the mean of the batches' P; else it is their sum.
        ops: the name of the operation of every weight on which the loss of the first batch depends, in any process.
        rounding: the largest machine epsilon of the gradients at synapse calls.

    Raises:
        DataError, LossError, NonFiniteError, UnsupportedOperationError: from the first pass.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        data: Any,
        parameters: Mapping[str, nn.Parameter],
        choice: Choice,
        make_tape: Callable[..., Tape],
        *,
        shards: Shards,
        batch_weight: BatchWeight | None,
        training: bool,
        progress: bool,
    ) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._choice = choice
        self._chosen = choice.weights
        self._make_tape = make_tape
        self._shards = shards
        self._training = training
        self._progress = progress
        self._autocast = Autocast()
        self._parameters = list(parameters.values())
        self._by_gradient = {id(p) for p in self._chosen.values()}
        self._trainable = {id(p) for p in parameters.values() if p.requires_grad}
        self._device = next(iter(self._chosen.values())).device
        self._unit = 1.0
        self._kept: Tape | None = None
        self._fuses = True
        with preserved_randomness():
            self._random_state = random_state()
            self._sources = Sources([*generators_of(model, code=False), *generators_of(loss_fn)])
            weights = gathered_results(shards.shared(lambda: self._read_first(data, batch_weight)))
            if self.averages:  # weights near 1, so that gradients do not underflow in half precision
                self._unit = max(weights) or 1.0
            found = gathered_results(shards.shared(self._reached))
            while refused := {name: why for *_, reasons in reversed(found) for name, why in reasons.items()}:
                choice.leave_out(refused)
                self._by_gradient = {id(p) for p in self._chosen.values()}
                found = gathered_results(shards.shared(self._reached_again))
            choice.is_open = False
        # A process whose shard is empty learns from the others which weights the loss depends on.
        self.ops = {name: op for reached, *_ in reversed(found) for name, op in reached.items()}
        self.rounding = max(rounding for _, rounding, _ in found)
        if not self.ops:
            raise DataError("data is empty: there is no sample to form P from, or all batches have weight 0")
        of_classes = {"loss_fn": loss_fn} if isinstance(loss_fn, nn.Module) and is_torchs(loss_fn) else {}
        self._unchanged = Unchanged({"": model} | of_classes, training=training)
        if self._observes:
            self._end_observation()

    def _read_first(self, data: Any, batch_weight: BatchWeight | None) -> float:
        """Record the first batch of non-zero weight; returns its weight, 0 if there is none."""
        averages = is_distributed() or not is_one_batch(data)
        self._weighing = Weighing(self._loss_fn, batch_weight, averages=averages)
        self.averages = self._weighing.averages
        self.readings = Readings(data, self._weighing)
        self.of_a_pair = self.readings.is_pair
        self._observes = self._weighing.observes and self.of_a_pair
        self._first_weight = 0.0
        self._record_first()
        return self._first_weight

    def _record_first(self) -> None:
        with closing(self.readings.read(at_most=1)) as batches:
            for batch in batches:
                self._kept = None
                self._kept, self._first_weight = self.record(batch.inputs, batch.targets), batch.weight

    def _reached(self) -> tuple[dict[str, str], float, dict[str, Reason]]:
        """``ops`` and ``rounding`` of the first pass, which is then dropped unless the data are one pair.

        If synapse weights have to be left out, only these are returned, with the reason for each.
        """
        tape = self._kept
        if tape is None or tape.left_out:
            return {}, 0.0, (tape and tape.left_out) or {}
        tape.share = self._share(self._first_weight)
        try:
            with self.sweep():
                ops, rounding = tape.reached_ops(), tape.rounding()
        except RefusedWeightError as refusal:
            if not self._choice.is_open:
                raise
            return {}, 0.0, refusal.reasons
        if not tape.loss.isfinite():
            tape.check_finite()
        if not self.of_a_pair:
            self._kept = None
        return ops, rounding, {}

    def _reached_again(self) -> tuple[dict[str, str], float, dict[str, Reason]]:
        try:
            self._record_first()
        except LossError:  # it did depend on the weights that are left out
            raise self._choice.nothing_left() from None
        return self._reached()

    # one pass --------------------------------------------------------------------------------------

    def record(self, inputs: Any, targets: Any, share: float = 1.0) -> Tape:
        """Record one forward pass and its loss, in the random state at construction."""
        check_devices(inputs, self._chosen)
        try:
            return self._record(inputs, targets, share)
        except DifferentiatesOthersError:
            if self._by_gradient == self._trainable:
                raise
            # All trainable parameters get gradients. Those that are no synapses act as activations; P is the same.
            self._by_gradient = self._trainable
            return self._record(inputs, targets, share)

    def _record(self, inputs: Any, targets: Any, share: float) -> Tape:
        tape = self._make_tape(self._chosen, share=share, fuses=self._fuses)
        tape.left_out = {} if self._choice.is_open else None
        with self.stage() as unwritten, self._autocast.restored():
            with tape, unwritten:
                outputs = call_model(self._model, inputs)
                tape.close(self._loss_fn(outputs, targets))
            self._check_no_new_parameter()
            if self._observes:
                self._weighing.observe(inputs, targets, outputs, tape.loss)
        return tape

    def differentiate_twice(self) -> None:
        """Record passes so that they can be differentiated twice, for Pᵀ; a kept pass is recorded anew if needed.

        Attention then runs as separate operations, which hold its matrix of scores.
        """
        with turn():
            self._fuses = False
            if self._kept is not None and self._kept.is_fused:
                self._kept = None

    def watch(self, mode: TorchFunctionMode) -> None:
        """Run one forward pass of the first batch, with its loss, under a mode; no activations are kept."""

        def look() -> None:
            seen = False
            with turn(), closing(self.readings.read(at_most=1)) as batches:
                for batch in batches:
                    seen = True
                    # The loss may contain layers of the model, as an adaptive softmax does.
                    with self.stage() as unwritten, remembering_nothing(), mode, unwritten:
                        self._loss_fn(call_model(self._model, batch.inputs), batch.targets)
            if not seen:
                raise DataError("this process has no data to read the structure of P from; ask another process")

        if self._shards:
            jointly(self._shards.shared(look))
        else:
            look()

    def read_weights(self, work: Callable[[], None]) -> None:
        """Call ``work``, which may read the numbers of weights."""

        def read() -> None:
            with self._shards.reading():
                work()

        self._shards.shared(read)()

    @contextmanager
    def stage(self) -> Iterator[Unwritten]:
        """A context for a forward pass: the model in its mode, gradients for the synapse parameters only.

        The pass draws the random numbers that it would have drawn at construction.
        """
        randomness = self._sources.rewound()
        in_the_mode, in_operations = preserved(self._model, training=self._training), in_the_open(self._model)
        with self._shards.in_place(), in_the_mode as unwritten, randomness, in_operations, self.sweep():
            set_random_state(self._random_state)
            yield unwritten

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """A context for sweeps over a recorded pass."""
        with differentiable(self._parameters, self._by_gradient), without_autocast(), self._shards.reading():
            yield

    # all of them -----------------------------------------------------------------------------------

    def tapes(self) -> Generator[tuple[Tape, float]]:
        """The recorded passes over the data, each with its share of the sum.

        Raises:
            DataError: if the data differ from those of earlier readings.
            NonFiniteError: if a loss is not finite; names the batch.
            StaleCouplingError: if parameters or buffers have changed.
        """
        comparison = self._unchanged.compare()
        if self._device.type == "cpu":
            comparison.conclude()
        losses = []
        with closing(self._recorded()) as recorded:
            for _, tape, share in recorded:
                if tape is not self._kept:
                    losses.append(tape.loss.detach())
                yield tape, share
        comparison.conclude()
        if losses and not torch.stack(losses).isfinite().all():
            self._look(Tape.check_finite)
        if self._observes:
            self._end_observation(len(losses))

    def _recorded(self) -> Generator[tuple[int, Tape, float]]:
        """The recorded passes, each with the place of its batch in the data and its share of the sum."""
        self._observes = self._weighing.observes and not self.of_a_pair
        if self._kept is not None:
            yield 0, self._kept, self._share(self.readings.weight_of_pair())
            return
        with closing(self.readings.read()) as batches:
            for batch in self._with_bar(batches):
                share = self._share(batch.weight)
                try:
                    tape = self.record(batch.inputs, batch.targets, share)
                    if self.of_a_pair:
                        self._kept = tape
                    with self.sweep():
                        self._check_no_new_synapse(tape)
                except RefusedWeightError as refusal:
                    raise UnsupportedOperationError(
                        f"in batch {batch.place} of the data, though not in the first, from which the synapses are "
                        f"taken, {refusal}"
                    ) from None
                yield batch.place, tape, share

    def _with_bar(self, batches: Iterator[Batch]) -> Iterable[Batch]:
        if self.of_a_pair:
            return batches
        return shown(batches, self._progress, total=num_batches(self.readings.data), unit="batch")

    def over(self, work: Callable[[Tape], None]) -> float:
        """Call ``work`` with every pass; returns the number by which sums over the passes are divided.

        Raises:
            Exception: from work, model, loss or data, raised in all processes; and those of :meth:`tapes`.
        """

        def read() -> float:
            shares = 0.0
            with turn(), closing(self.tapes()) as tapes:
                for tape, share in tapes:
                    with self.sweep():
                        work(tape)
                    shares += share
            return shares

        return self._divisor(read)

    def mean(
        self, sums: Tensor, divisor: float, work: Callable[[Tape], None] | None = None, given: Tensor | None = None
    ) -> Tensor:
        """The mean over all processes' passes, in place, of the sums that ``work`` formed in this process.

        Args:
            sums: the sums over this process's passes.
            divisor: the number that :meth:`over` returned.
            work: as for :meth:`check_finite`.
            given: as for :meth:`check_finite`.
        """
        summed(sums)
        if divisor != 1:
            sums.div_(divisor)
        self.check_finite(double_sum(sums.flatten()), work, given)
        return sums

    def mean_over(
        self, totals: Sequence[Tensor], add: Callable[[Tape], None], given: Tensor | None = None
    ) -> list[Tensor]:
        """The means over the data, in place, of what ``add`` adds to ``totals`` for every pass; they are 0 at first."""
        divisor = self.over(add)
        return [self.mean(total, divisor, add, given) for total in totals]

    def check_finite(
        self, size: Tensor, work: Callable[[Tape], None] | None = None, given: Tensor | None = None
    ) -> None:
        """Find the synapse call at which NaN or infinite numbers of a result arise, together in all processes.

        Args:
            size: a number that is finite only if all numbers of the result are.
            work: the function that formed the result, where finite passes should give a finite result.
            given: the vector in the product; if it is not finite, the result need not be.

        Raises:
            NonFiniteError: names the call, and the batch where there are several.
        """
        if size.isfinite().all():
            return
        jointly(self._shards.shared(lambda: self._look(Tape.check_finite)))
        if work is None or (given is not None and not given.isfinite().all()):
            return

        def suspect(tape: Tape) -> None:
            with tape.checking_sweeps():
                work(tape)

        jointly(self._shards.shared(lambda: self._look(suspect)))
        raise NonFiniteError(
            "a product is out of the range of its number type, though the passes and the vector are finite; divide the "
            "vector, or the loss, by its size"
        )

    def _look(self, check: Callable[[Tape], None]) -> None:
        """Call ``check`` with every pass; its :class:`NonFiniteError` is raised with the place of the batch."""
        with turn(), closing(self._recorded()) as recorded:
            for index, tape, _ in recorded:
                try:
                    with self.sweep():
                        check(tape)
                except NonFiniteError as error:
                    if self.of_a_pair:
                        raise
                    raise NonFiniteError(f"in batch {index} of the data, {error}") from None

    def by_autograd(self, work: Callable[[Tensor, float], None], copy: Copy | None = None) -> float:
        """Call ``work`` with the loss of every batch of this process, computed by torch alone, without a tape.

        Args:
            work: takes the loss, which autograd can differentiate, and the batch's share of the sum.
            copy: a copy of the parameters to run with, in its own values and precision; None for the model's own.

        Returns:
            The number by which sums over the passes of all processes are divided.

        Raises:
            NonFiniteError: if a loss is NaN or infinite; names the batch, in all processes.
        """

        def read() -> float:
            shares = 0.0
            with turn(), closing(self.readings.read()) as batches:
                for batch in batches:
                    self._by_autograd(batch, work, copy)
                    shares += self._share(batch.weight)
            return shares

        return self._divisor(read)

    def _by_autograd(self, batch: Batch, work: Callable[[Tensor, float], None], copy: Copy | None) -> None:
        with self.stage() as unwritten, Unfused(), ExitStack() as stack:
            stack.enter_context(self._autocast.restored() if copy is None else copy.in_place())
            inputs, targets = (part if copy is None else copy.cast(part) for part in (batch.inputs, batch.targets))
            with unwritten:
                loss = self._loss_fn(call_model(self._model, inputs), targets)
            if not loss.isfinite():
                raise NonFiniteError(f"in batch {batch.place} of the data, the loss is {loss.item()}")
            work(loss, self._share(batch.weight))

    @property
    def is_sharded(self) -> bool:
        """Whether parameters are sharded over processes, so that no copy can be made of them."""
        return bool(self._shards)

    @property
    def exchanges(self) -> Exchanges:
        """The collective operations of work on sharded models."""
        return self._shards.exchanges

    def copy(self, dtype: torch.dtype | None) -> Copy:
        """A copy of the parameters of the model, and of the loss if it is a module; None keeps their types."""
        return Copy([m for m in (self._model, self._loss_fn) if isinstance(m, nn.Module)], dtype)

    def check_unchanged(self) -> None:
        """Raise if parameters or buffers have other values than at construction; for results that need no pass.

        Raises:
            RuntimeError: names the first of them, in all processes.
        """

        def compare() -> None:
            with turn():  # a pass of another thread may have replaced buffers for its duration
                self._unchanged.compare().conclude()

        jointly(self._shards.shared(compare))

    def _share(self, weight: float) -> float:
        """The factor of a batch in the sums: its weight, divided by the largest weight of a first batch."""
        return weight / self._unit

    def _divisor(self, read: Callable[[], float]) -> float:
        """The sum over all processes of the shares that ``read`` returns; 1 if batches are summed, not averaged."""
        shares = summed_result(self._shards.shared(read), self._device)
        return shares if self.averages else 1.0

    def _end_observation(self, num_batches: int = 1) -> None:
        self._observes = False
        if num_batches > 1 or is_distributed():
            self._weighing.conclude()

    def _check_no_new_parameter(self) -> None:
        """Raise if the pass created a parameter: it is removed afterwards, and every pass would create another."""
        known = {id(p) for p in self._parameters}
        if made := [name for name, p in self._model.named_parameters() if id(p) not in known]:
            raise UnsupportedOperationError(
                f"the model makes the parameter {made[0]!r} in its forward pass; run it once on data, so that the "
                "parameter is there, and couple it then"
            )

    def _check_no_new_synapse(self, tape: Tape) -> None:
        if new := [name for name in tape.reached_ops() if name not in self.ops]:
            raise UnsupportedOperationError(
                f"{new[0]!r} is reached in a later batch but not in the first, from which the synapses are taken; put "
                "a batch that uses every weight first, or leave this one out with include="
            )
