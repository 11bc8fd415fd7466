"""What a page says of the software and the machine that made it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import torch

from linegraph.packages import installed

__all__ = ["environment", "private"]

PACKAGES = (
    *("torch", "torch-geometric", "numpy", "scipy", "pandas", "scikit-learn", "igraph", "networkx", "powerlaw"),
    *("matplotlib", "transformers", "lightning"),
)
"""Packages whose versions are named if they are installed."""


def environment() -> dict[str, str]:
    """Versions of packages, Python, system and processors; no names of hosts or users, and no paths."""
    found = {"linegraph": (installed("linegraph") or "linegraph ?").split()[-1]}
    found["Python"] = f"{platform.python_version()} ({platform.python_implementation()})"
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["system"] = f"{platform.system()} {platform.machine()}".strip()
    found["processors"] = f"{os.cpu_count()}, {torch.get_num_threads()} threads of torch"
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    return found


def private(value: Any) -> Any:
    """A value without what a path tells of its user: the name of a file for a path, ``~`` for the home folder."""
    if isinstance(value, PurePath):
        return value.name
    if not isinstance(value, str):
        return value
    if "\n" not in value and len(value) < 4096 and PurePath(value).is_absolute():
        return PurePath(value).name
    home = str(Path.home())
    return value.replace(home, "~") if len(home) > 1 else value
