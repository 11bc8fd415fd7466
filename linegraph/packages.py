"""Tells code of installed packages from the user's own."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from pathlib import Path

__all__ = ["installed"]


@functools.lru_cache(maxsize=4096)
def installed(module: str | None) -> str | None:
    """Name and version of the installed package that a module belongs to; None for a module of the user's own.

    Args:
        module: the name of the module.
    """
    top = (module or "").partition(".")[0]
    if top in sys.builtin_module_names:
        return PYTHON
    package = sys.modules.get(top)
    where = getattr(package, "__file__", None) or next(iter(getattr(package, "__path__", ())), None)
    if where is None:
        return None
    if top != "linegraph" and not any(Path(where).is_relative_to(place) for place in _places()):
        return None
    return f"{top} {getattr(package, '__version__', PYTHON)}"


PYTHON = f"python {sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def _places() -> tuple[str, ...]:
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(place for place in places if place)
