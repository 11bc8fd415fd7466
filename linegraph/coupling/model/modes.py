"""The base class of the torch function modes that intercept the operations of a pass."""

from __future__ import annotations

from typing import Self

from torch.overrides import TorchFunctionMode

from linegraph.turns import pass_depth

__all__ = ["Mode"]


class Mode(TorchFunctionMode):
    """A mode that intercepts the operations of one pass, and can tell those of a pass within it.

    A pass runs within another one if, for instance, the loss itself makes a coupling.
    """

    _depth = 0

    def __enter__(self) -> Self:
        self._depth = pass_depth()
        super().__enter__()
        return self

    def is_of_another_pass(self) -> bool:
        """Whether the operation intercepted now belongs to a pass within the one that entered this mode."""
        return pass_depth() != self._depth
