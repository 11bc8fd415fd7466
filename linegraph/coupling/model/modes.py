"""Modes in which the operations of a pass are seen."""

from __future__ import annotations

from typing import Self

from torch.overrides import TorchFunctionMode

from linegraph.turns import pass_depth

__all__ = ["Mode"]


class Mode(TorchFunctionMode):
    """What sees the operations of a pass, and should let be those of a pass within it, as of a loss that couples."""

    _depth = 0

    def __enter__(self) -> Self:
        self._depth = pass_depth()
        super().__enter__()
        return self

    def is_of_another_pass(self) -> bool:
        """Whether an operation that this sees now belongs to a pass within that in which this was entered."""
        return pass_depth() != self._depth
