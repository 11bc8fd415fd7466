"""A check that parameters and buffers still have the numbers that P was made with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from linegraph.coupling.model.checksums import WIDTH, column_sums, dense_parts, pieces_of, sketch
from linegraph.errors import StaleCouplingError

__all__ = ["Unchanged"]

ROUNDINGS_PER_NUMBER = 8
"""Machine epsilons by which each number of a weight may differ after it was moved and moved back."""


class Unchanged:
    """Parameters and buffers of modules as they are when this object is made.

    All their numbers are read once here, and once in every comparison, since writing through ``.data`` leaves no other
    trace. A buffer that is overwritten with equal numbers has not changed, nor has a weight that was moved and moved
    back, as for finite differences, which leaves rounding errors; a large frozen weight has.

    Args:
        modules: the modules, by the prefix of the names of their tensors.
        training: the mode of the passes. In training mode batch norms do not read their running statistics.
    """

    def __init__(self, modules: dict[str, nn.Module], *, training: bool) -> None:
        seen: set[int] = set()
        self._held: list[_Held] = []
        for prefix, root in modules.items():
            for name, holder, key in _places(root, prefix, training):
                if id(holder[key]) not in seen:
                    seen.add(id(holder[key]))
                    self._held.append(_Held(name, holder, key))
        self._held.sort(key=lambda held: str(held.tensor.device))
        self._expected = _sketches(self._held)

    def compare(self) -> Comparison:
        """Start a comparison of all tensors with what they were.

        Raises:
            StaleCouplingError: if torch shows that one has been written to, converted, moved or replaced.
        """
        for held in self._held:
            held.check_place()
        return Comparison(self._held, self._expected, _sketches(self._held))


class Comparison:
    """Checksums at one time, to be compared with the expected ones; the device may still be computing them."""

    def __init__(self, held: list[_Held], expected: list[Tensor], found: list[Tensor]) -> None:
        self._held = held
        self._pairs = list(zip(expected, found, strict=True))

    def conclude(self) -> None:
        """Wait for the device, and compare.

        Raises:
            StaleCouplingError: names the first tensor with other numbers.
        """
        if all(torch.equal(expected, found) for expected, found in self._pairs):
            return
        for held in self._held:
            if held.sketch_length() != held.length_before:  # a sparse tensor with other entries
                raise _changed(held.name)
        lengths = [held.length_before for held in self._held]
        expected, found = (torch.cat([t.cpu() for t in sketches]) for sketches in zip(*self._pairs, strict=True))
        for held, before, now in zip(self._held, expected.split(lengths), found.split(lengths), strict=True):
            if not torch.equal(before, now) and not held.is_the_same_up_to_rounding():
                raise _changed(held.name)


def _sketches(all_held: list[_Held]) -> list[Tensor]:
    """The sketches of tensors in their order, joined to one for each device."""
    by_device = groupby(all_held, key=lambda held: held.tensor.device)
    joined = ([piece for held in group for piece in held.pieces] for _, group in by_device)
    return [sketch(pieces) for pieces in joined if pieces]


class _Held:
    """One tensor and the place where a module holds it, with views of its bits."""

    def __init__(self, name: str, holder: dict[str, Any], key: str) -> None:
        self.name = name
        self._holder, self._key = holder, key
        self.tensor: Tensor = holder[key]
        self._place = _place(self.tensor)
        pieces = pieces_of(self.tensor)
        self._views = pieces if all(_memory(piece) == _memory(self.tensor) for piece in pieces) else None
        # Finite differences move weights and move them back. Large frozen ones are not worth another reading for that.
        may_be_moved = self.tensor.requires_grad or self.tensor.numel() <= WIDTH
        self._sums = column_sums(self.tensor) if may_be_moved else None
        self.length_before = self.sketch_length()

    @property
    def pieces(self) -> list[Tensor]:
        """The bits of the tensor: views if its layout allows them, or a copy made now."""
        return pieces_of(self.tensor) if self._views is None else self._views

    def sketch_length(self) -> int:
        """The number of integers of this tensor in a sketch, as it is now."""
        return sum(piece.shape[-1] for piece in self.pieces)

    def is_the_same_up_to_rounding(self) -> bool:
        """Whether the column sums are what they were, up to a few machine epsilons of each number."""
        return self._sums is not None and all(
            sums.are_near(part, ROUNDINGS_PER_NUMBER)
            for sums, part in zip(self._sums, dense_parts(self.tensor), strict=True)
        )

    def check_place(self) -> None:
        """Check that the module holds the same tensor, memory and layout, and that no parameter was written to.

        Raises:
            StaleCouplingError: names the tensor.
        """
        held = self._holder[self._key] if self._key in self._holder else None  # noqa: SIM401 (scripted ones have no get)
        if held is not self.tensor or _place(self.tensor) != self._place:
            raise _changed(self.name)


def _memory(t: Tensor) -> int:
    return t.untyped_storage()._cdata if torch._C._has_storage(t) else 0


def _place(t: Tensor) -> tuple[Any, ...]:
    """Attributes that change if a tensor is converted or moved, or if a parameter is written to."""
    written = t._version if isinstance(t, nn.Parameter) and not t.is_inference() else 0
    strides = t.stride() if t.layout == torch.strided and not t.is_nested else ()
    address = t.data_ptr() if torch._C._has_storage(t) else 0
    return written, address, t.dtype, t.shape, strides


def _places(root: nn.Module, prefix: str, training: bool) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Name, holding dictionary and key of all parameters and buffers that a pass may read."""
    for path, module in root.named_modules(prefix=prefix):
        before = path + "." if path else ""
        unread = _unread(module, training)
        for holder in (module._parameters, module._buffers):
            for key, tensor in holder.items():
                if tensor is not None and key not in unread:
                    yield before + key, holder, key


def _unread(module: nn.Module, training: bool) -> tuple[str, ...]:
    if not isinstance(module, _NormBase):
        return ()
    return ("running_mean", "running_var", "num_batches_tracked") if training else ("num_batches_tracked",)


def _changed(name: str) -> StaleCouplingError:
    return StaleCouplingError(
        f"'{name}' has changed since this coupling was made: P belongs to the weights it was made at; make a new "
        "NeuralCoupling"
    )
