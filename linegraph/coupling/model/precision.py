"""The precision that a pass runs in: autocast as it was where P was made, and none afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["Autocast", "autocast_dtype", "without_autocast"]


class Autocast:
    """The autocast settings of the place where this is made, for passes made later elsewhere."""

    def __init__(self) -> None:
        self._settings = [
            (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)) for device in ("cpu", "cuda")
        ]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """With those settings; casts of weights are not kept, since weights may change between passes."""
        with ExitStack() as stack:
            for device, dtype, enabled in self._settings:
                stack.enter_context(torch.autocast(device, dtype, enabled=enabled, cache_enabled=False))
            yield


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
