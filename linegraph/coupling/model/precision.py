"""The precision that a pass runs in: autocast as it was where P was made, and none afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident

import torch

__all__ = ["Autocast", "Modes", "autocast_dtype", "without_autocast"]


class Autocast:
    """The autocast settings of the place where this is made, for passes made later elsewhere."""

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
        """With those settings; casts of weights are not kept, since weights may change between passes."""
        with ExitStack() as stack:
            for device, dtype, enabled in self._settings:
                stack.enter_context(torch.autocast(device, dtype, enabled=enabled, cache_enabled=False))
            yield


class Modes:
    """Whether this thread differentiates and casts, to be put back after a pass.

    The contexts that change it do so themselves, unless an interruption comes as one of them is left.
    """

    def __init__(self) -> None:
        self._thread = get_ident()
        self._differentiates = torch.is_grad_enabled()
        self._autocast = Autocast()
        self._caches, self._nesting = torch.is_autocast_cache_enabled(), _nesting()

    def restore(self) -> None:
        """Put it back, in the thread whose it is."""
        if get_ident() != self._thread:
            return
        torch.set_grad_enabled(self._differentiates)
        self._autocast.set()
        torch.set_autocast_cache_enabled(self._caches)
        while _nesting() > self._nesting:
            torch.autocast_decrement_nesting()


def _nesting() -> int:
    """In how many autocast contexts this thread is; the last one that is left forgets the casts of weights."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast runs matrix products in on a device, None where it is off."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


@contextmanager
def without_autocast() -> Iterator[None]:
    """What was recorded is computed with in the precision it was recorded in."""
    if not any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
        yield  # to leave what is not entered takes longer than a small product
        return
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
