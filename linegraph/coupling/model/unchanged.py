"""Whether the numbers that a pass reads are those that P was made with: parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from linegraph.coupling.model.checksums import column_sums, pieces_of, sketch
from linegraph.errors import StaleCouplingError

__all__ = ["Unchanged"]

ROUNDINGS = 8
"""Of each number, that what is moved and moved back may differ by."""


class Unchanged:
    """Parameters and buffers of modules as they are when this is made.

    They are read once, and once in every comparison: all numbers, since what writes through ``.data`` leaves no other
    trace. Buffers that are written with the numbers that they hold have not changed, nor have weights that were moved
    and moved back, as finite differences do, which leaves roundings.

    Args:
        modules: by the name that comes before those of their tensors.
        training: the mode of the passes. In training mode norms do not read their running statistics.
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
        self._expected = self._sketches()

    def compare(self) -> Comparison:
        """Look at all of them now.

        Raises:
            StaleCouplingError: if one has been written to, converted, moved or replaced, as far as torch notes it down.
        """
        for held in self._held:
            held.check_place()
        return Comparison(self._held, self._expected, self._sketches())

    def _sketches(self) -> list[Tensor]:
        found = []
        for _, group in groupby(self._held, key=lambda held: held.tensor.device):
            if pieces := [piece for held in group for piece in held.pieces]:
                found.append(sketch(pieces))
        return found


class Comparison:
    """What was found at one time; the device may not have done yet."""

    def __init__(self, held: list[_Held], expected: list[Tensor], found: list[Tensor]) -> None:
        self._held = held
        self._pairs = list(zip(expected, found, strict=True))

    def conclude(self) -> None:
        """Wait for the result.

        Raises:
            StaleCouplingError: names the first tensor with other numbers.
        """
        if all(torch.equal(expected, found) for expected, found in self._pairs):
            return
        for held in self._held:
            if not held.is_the_same_up_to_rounding():
                raise _changed(held.name)


class _Held:
    """One tensor where a module holds it, with views of its bits."""

    def __init__(self, name: str, holder: dict[str, Any], key: str) -> None:
        self.name = name
        self._holder, self._key = holder, key
        self.tensor: Tensor = holder[key]
        self._place = _place(self.tensor)
        pieces = pieces_of(self.tensor)
        self._views = pieces if all(_memory(piece) == _memory(self.tensor) for piece in pieces) else None
        self._sums = column_sums(self.tensor)

    @property
    def pieces(self) -> list[Tensor]:
        """The bits of the tensor: views of them, where its layout has any, or a copy made now."""
        return pieces_of(self.tensor) if self._views is None else self._views

    def is_the_same_up_to_rounding(self) -> bool:
        """Whether the sums of its columns are what they were, up to some roundings of each number."""
        return all(
            before.is_near(now, ROUNDINGS) for now, before in zip(column_sums(self.tensor), self._sums, strict=True)
        )

    def check_place(self) -> None:
        """Refuse other tensors, other memory, other layouts, and parameters that were written to."""
        held = self._holder[self._key] if self._key in self._holder else None  # noqa: SIM401 (scripted ones have no get)
        if held is not self.tensor or _place(self.tensor) != self._place:
            raise _changed(self.name)


def _memory(t: Tensor) -> int:
    return t.untyped_storage()._cdata if torch._C._has_storage(t) else 0


def _place(t: Tensor) -> tuple[Any, ...]:
    """What differs once a tensor is converted or moved, and once a parameter is written to."""
    written = t._version if isinstance(t, nn.Parameter) and not t.is_inference() else 0
    strides = t.stride() if t.layout == torch.strided and not t.is_nested else ()
    address = t.data_ptr() if torch._C._has_storage(t) else 0
    return written, address, t.dtype, t.shape, strides


def _places(root: nn.Module, prefix: str, training: bool) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The parameters and buffers of a module that a pass may read, where they are held."""
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
