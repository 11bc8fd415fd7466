"""The base class of the torch function modes that intercept the operations of a pass."""

from __future__ import annotations

from typing import Any, Self

from torch.overrides import TorchFunctionMode, _get_current_function_mode

from linegraph.turns import latest_change

__all__ = ["Mode"]


class Mode(TorchFunctionMode):
    """A mode that intercepts the operations of one pass, and can tell those of other passes.

    A pass runs within another one if, for instance, the loss itself makes a coupling. A mode sees operations of a later
    pass if Ctrl-C came while torch took modes off their stack, or put them back.
    """

    _pass: Any = None

    def __enter__(self) -> Self:
        self._pass = latest_change()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if _get_current_function_mode() is self:  # unless Ctrl-C came while the stack of modes was changed
            super().__exit__(*error)

    def is_of_another_pass(self) -> bool:
        """Whether the operation intercepted now belongs to another pass than the one that entered this mode."""
        return latest_change() is not self._pass
