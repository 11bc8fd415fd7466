"""Tells code of installed packages from the user's own."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
import warnings
from importlib import metadata
from pathlib import Path

from linegraph.errors import NameClashWarning

__all__ = ["installed", "warn_of_name_clash"]


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


def warn_of_name_clash() -> None:
    """Warn where an unrelated distribution that also provides a package ``linegraph`` is installed.

    Only distributions called ``linegraph``, in upper or lower case, are looked for, which takes a fraction of a
    millisecond; this package belongs to the distribution ``neural-linegraph``.
    """
    for other in metadata.distributions(name="linegraph"):
        if _provides_linegraph(other):
            warnings.warn(
                f"the unrelated distribution 'linegraph' in {other.locate_file('')} provides a package linegraph, as "
                "neural-linegraph does, so that 'import linegraph' finds either of them, or a mixture. Run "
                "'pip uninstall linegraph', then install neural-linegraph again (with pip's option --force-reinstall)",
                NameClashWarning,
                stacklevel=3,
            )


def _provides_linegraph(distribution: metadata.Distribution) -> bool:
    files = distribution.files
    # On file systems that ignore case, LineGraph is linegraph. Without a list of files, only the name can decide.
    return files is None or any(str(file).lower().startswith(("linegraph/", "linegraph.py")) for file in files)
