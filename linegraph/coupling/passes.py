"""The passes that P is made of: a model under its loss, recorded batch by batch, and means over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tqdm import tqdm

from linegraph.coupling.copies import Copy
from linegraph.coupling.data import batch_size, batches, call_model, check_devices, is_pair, num_batches, reduces_by_sum
from linegraph.coupling.distributed import gathered, is_distributed, summed, summed_number
from linegraph.coupling.preserve import (
    Autocast,
    Unwritten,
    differentiable,
    in_the_open,
    preserved,
    preserved_randomness,
    random_state,
    remembering_nothing,
    set_random_state,
    without_autocast,
)
from linegraph.coupling.reductions import double_sum
from linegraph.coupling.refusals import DifferentiatesOthersError
from linegraph.coupling.tape import Tape
from linegraph.errors import DataError, UnsupportedOperationError

__all__ = ["Passes"]


class Passes:
    """A model under a loss on data: one pass that is kept, or one for every batch that is dropped again.

    Every pass starts from the random state of the place where this is made, in its autocast settings.

    Args:
        model: the model, whose weights stay as they are.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: a pair, or an iterable of pairs.
        parameters: all parameters of the model by name.
        chosen: those that are synapses.
        make_tape: makes an empty tape of such weights.
        training: the mode of the model.
        progress: show a bar over the batches.

    Attributes:
        of_a_pair: whether the data are one pair, whose pass is kept.
        ops: the operation of every weight that the loss of the first batch depends on, in some process.
        rounding: relative rounding of the gradients at synapses.

    Raises:
        DataError, LossError, NonFiniteError, UnsupportedOperationError: from the first pass.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        data: Any,
        parameters: Mapping[str, nn.Parameter],
        chosen: Mapping[str, nn.Parameter],
        make_tape: Callable[..., Tape],
        *,
        training: bool,
        progress: bool,
    ) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._data = data
        self._chosen = chosen
        self._make_tape = make_tape
        self._training = training
        self._progress = progress
        self._autocast = Autocast()
        self.of_a_pair = is_pair(data)
        self._averages = not (reduces_by_sum(loss_fn) or (self.of_a_pair and not is_distributed()))
        self._parameters = list(parameters.values())
        self._by_gradient = {id(p) for p in chosen.values()}
        self._trainable = {id(p) for p in parameters.values() if p.requires_grad}
        self._device = next(iter(chosen.values())).device
        self._versions = {name: _version(p) for name, p in chosen.items()}
        self._kept: Tape | None = None
        ops: dict[str, str] = {}
        rounding = 0.0
        with preserved_randomness():
            self._random_state = random_state()
            first = next(iter(batches(data)), None)
            if first is not None:
                tape = self.record(*first)
                self._kept = tape if self.of_a_pair else None
                with self.sweep():
                    ops, rounding = tape.reached_ops(), tape.rounding()
                if not tape.loss.isfinite():
                    tape.check_finite()
        # A process whose shard is empty learns from the others which weights the loss depends on.
        found = gathered((ops, rounding))
        self.ops = {name: op for reached, _ in reversed(found) for name, op in reached.items()}
        self.rounding = max(rounding for _, rounding in found)
        if not self.ops:
            raise DataError("data is empty: there is no sample to form P from")

    # one pass --------------------------------------------------------------------------------------

    def record(self, inputs: Any, targets: Any) -> Tape:
        """One forward pass under the loss; the random state is that of P's making."""
        check_devices(inputs, self._chosen)
        try:
            return self._record(inputs, targets)
        except DifferentiatesOthersError:
            if self._by_gradient == self._trainable:
                raise
            # Parameters with a gradient are on the paths, as if they were activations; P stays the same.
            self._by_gradient = self._trainable
            return self.record(inputs, targets)

    def _record(self, inputs: Any, targets: Any) -> Tape:
        tape = self._make_tape(self._chosen, share=float(self._share(inputs, targets)))
        with self.stage() as unwritten, self._autocast.restored():
            set_random_state(self._random_state)
            with tape, unwritten:
                tape.close(self._loss_fn(call_model(self._model, inputs), targets))
            self._check_no_new_parameter()
        return tape

    def watch(self, mode: TorchFunctionMode) -> None:
        """One forward pass of the first batch under a mode, that keeps no activations."""
        with self.stage() as unwritten, remembering_nothing():
            batch = next(iter(batches(self._data)), None)
            if batch is None:
                raise DataError("this process has no data to read the structure of P from; ask another process")
            inputs, targets = batch
            set_random_state(self._random_state)
            with mode, unwritten:  # the loss too, which may hold layers of the model, as an adaptive softmax is
                self._loss_fn(call_model(self._model, inputs), targets)

    @contextmanager
    def stage(self) -> Iterator[Unwritten]:
        """For a forward pass: the model in its mode, with gradients for the synapses alone."""
        with preserved(self._model, training=self._training) as unwritten, in_the_open(), self.sweep():
            yield unwritten

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """For sweeps over a pass."""
        with differentiable(self._parameters, self._by_gradient), without_autocast():
            yield

    # all of them -----------------------------------------------------------------------------------

    def tapes(self) -> Iterator[tuple[Tape, int]]:
        """The passes over the data, each with what it counts for."""
        self._check_weights_unchanged()
        if self.of_a_pair:
            if self._kept is not None:
                yield self._kept, self._share(*self._data)
            return
        with preserved_randomness():
            bar = {"total": num_batches(self._data), "disable": not self._progress, "unit": "batch"}
            for inputs, targets in tqdm(batches(self._data), **bar):
                tape = self.record(inputs, targets)
                with self.sweep():
                    self._check_no_new_synapse(tape)
                yield tape, self._share(inputs, targets)

    def over(self, work: Callable[[Tape], None]) -> int:
        """Do something with every pass, keeping none; returns what sums over the passes are to be divided by."""
        samples = 0
        for tape, size in self.tapes():
            with self.sweep():
                work(tape)
            samples += size
        return self.divisor(samples)

    def mean(self, sums: Tensor, divisor: int) -> Tensor:
        """Sums over this process's passes as the mean over all processes, in place."""
        summed(sums)
        if divisor != 1:
            sums.div_(divisor)
        self.check_finite(double_sum(sums.flatten()))
        return sums

    def mean_over(self, totals: Sequence[Tensor], add: Callable[[Tape], None]) -> list[Tensor]:
        """The mean over the data of what ``add`` adds to ``totals``, zeros at first, for every pass; in place."""
        divisor = self.over(add)
        return [self.mean(total, divisor) for total in totals]

    def check_finite(self, size: Tensor) -> None:
        """Look for the call where NaN or infinite numbers arise; where there is none, a vector held them."""
        if size.isfinite().all():
            return
        for tape, _ in self.tapes():
            with self.sweep():
                tape.check_finite()

    def by_autograd(self, work: Callable[[Tensor, int], None], copy: Copy | None = None) -> int:
        """Do something with the loss of every batch of this process, formed without any of what P is made of.

        Args:
            work: is given the loss, which autograd can differentiate, and what it counts for.
            copy: other numbers in the place of the parameters, and the precision of all of them.

        Returns:
            What the batches count for, as :meth:`divisor` takes it.
        """
        samples = 0
        for inputs, targets in batches(self._data):
            share = self._share(inputs, targets)
            with preserved_randomness(), self.stage() as unwritten, ExitStack() as stack:
                stack.enter_context(self._autocast.restored() if copy is None else copy.in_place())
                if copy is not None:
                    inputs, targets = copy.cast(inputs), copy.cast(targets)
                set_random_state(self._random_state)
                with unwritten:
                    loss = self._loss_fn(call_model(self._model, inputs), targets)
                work(loss, share)
            samples += share
        return samples

    def copy(self, dtype: torch.dtype | None) -> Copy:
        """A copy of all parameters of the model, and of the loss where it is a module, in a precision or their own."""
        return Copy([m for m in (self._model, self._loss_fn) if isinstance(m, nn.Module)], dtype)

    def _share(self, inputs: Any, targets: Any) -> int:
        """What a batch counts for in the sums: 1 if nothing is averaged, else its number of samples."""
        return batch_size(inputs, targets) if self._averages else 1

    def divisor(self, samples: int) -> int:
        """What sums over the passes of all processes are to be divided by, from what those of this one count for."""
        return summed_number(samples, self._device) if self._averages else 1

    def _check_no_new_parameter(self) -> None:
        """What a pass makes is gone after it, so that every pass would make another."""
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

    def _check_weights_unchanged(self) -> None:
        for name, p in self._chosen.items():
            if _version(p) != self._versions[name]:
                raise RuntimeError(
                    f"'{name}' has changed since this coupling was made: P belongs to the weights it was made at; "
                    "make a new NeuralCoupling"
                )


def _version(p: Tensor) -> tuple[int, int]:
    """What differs once a parameter is written to, converted or moved."""
    return p._version, p.data_ptr()
