"""Autocast settings: passes run with those in force when P was made, products of recorded tensors without autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident

import torch
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

__all__ = ["Autocast", "Modes", "autocast_dtype", "without_autocast"]


class Autocast:
    """The autocast settings at the time when this object is made, for later passes."""

    def __init__(self) -> None:
        self._settings = [
            (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)) for device in ("cpu", "cuda")
        ]

    def set(self) -> None:
        """Make them the settings here."""
        for device, dtype, enabled in self._settings:
            torch.set_autocast_dtype(device, dtype)
            torch.set_autocast_enabled(device, enabled)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A context with these settings. Casts of weights are not cached, since weights may change between passes."""
        with ExitStack() as stack:
            for device, dtype, enabled in self._settings:
                stack.enter_context(torch.autocast(device, dtype, enabled=enabled, cache_enabled=False))
            yield


class Modes:
    """Whether this thread differentiates, its autocast settings and its stack of modes, to be restored after a pass.

    The contexts that change these restore them too, but not if Ctrl-C comes just as one of them ends.
    """

    def __init__(self) -> None:
        self._thread = get_ident()
        self._differentiates = torch.is_grad_enabled()
        self._autocast = Autocast()
        self._caches, self._nesting = torch.is_autocast_cache_enabled(), _nesting()
        self._stack = _get_current_function_mode_stack()

    def restore(self) -> None:
        """Restore them, if this is the thread from which they were taken."""
        if get_ident() != self._thread:
            return
        torch.set_grad_enabled(self._differentiates)
        self._autocast.set()
        torch.set_autocast_cache_enabled(self._caches)
        while _nesting() > self._nesting:
            torch.autocast_decrement_nesting()
        if (stack := _get_current_function_mode_stack()) != self._stack:
            for _ in stack:
                _pop_mode()
            for mode in self._stack:
                _push_mode(mode)


def _nesting() -> int:
    """How many autocast contexts this thread is in; the casts of weights are kept until it leaves the last one."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The number type of matrix products under autocast on a device; None if autocast is off."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


@contextmanager
def without_autocast() -> Iterator[None]:
    """A context without autocast: products of recorded tensors are computed in the precision of these tensors."""
    if not any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
        yield  # entering and leaving autocast takes longer than a small product
        return
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
