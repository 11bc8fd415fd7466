"""Progress bars, made only if the user wants one.

Even a hidden bar of tqdm starts a thread, and takes a lock; in a process that is forked meanwhile it stays locked. The
bars made here start no thread, so that only the thread that counts ever has the lock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from linegraph.quiet import ignoring

__all__ = ["Bar", "counting", "is_watched", "shown"]

T = TypeVar("T")


def is_watched() -> bool:
    """Whether a user sees what is printed now: in a notebook, or if stderr is a terminal, unless ``CI`` is set."""
    return not os.environ.get("CI") and (_in_notebook() or (sys.stderr is not None and sys.stderr.isatty()))


class Bar:
    """A bar that shows nothing, with the methods of tqdm that linegraph uses."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> object:
        """Count ``n`` more steps."""

    def set_description(self, text: str) -> None:
        """Set the text before the bar."""


def counting(progress: bool | None, **options: Any) -> Bar:
    """A bar whose steps are counted by ``update``; it shows nothing unless ``progress``. None: if a user sees it."""
    return _bar(**options) if (is_watched() if progress is None else progress) else Bar()


def shown(items: Iterable[T], progress: bool, **options: Any) -> Iterable[T]:
    """The items, with a bar that counts them if ``progress``."""
    return _bar(items, **options) if progress else items


def _bar(*items: Any, **options: Any) -> Any:
    """A bar of tqdm without its thread, drawn by the widgets of a notebook where there are some."""
    if _in_notebook():
        with ignoring("IProgress not found"):  # without ipywidgets it is a line of text
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    return type("tqdm", (tqdm,), {"monitor_interval": 0})(*items, **options)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
