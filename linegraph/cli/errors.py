"""Errors and warnings of a command: one line each on stderr, without a traceback."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer

from linegraph.errors import LinegraphError

__all__ = ["FAILED", "INTERRUPTED", "chosen", "closest", "note", "reported", "unknown"]

FAILED = 1
"""Exit code after an error of the input or of the computation; that of a wrong option is 2, as in other programs."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells count."""

OPTIONS = {
    r"loss_fn=torch\.nn\.functional\.(\w+)": r"--loss \1",
    r"\bmetric=": "--metric ",
    r"\bepochs=": "--epochs ",
    r"\btrain_fully=": "--train-fully",
}
"""Arguments in Python that messages advise, and the options that stand for them."""


def note(text: str) -> None:
    """Tell something on stderr, so that stdout has results alone."""
    typer.echo(text, err=True)


def closest(name: str, known: Any) -> str:
    """What to add to a message about an unknown name: the nearest one and the others."""
    names = [str(one) for one in known]
    near = [one for one in names if name and one.startswith(name)] or get_close_matches(name, names, n=1)
    return (f"; did you mean {near[0]!r}?" if near else ";") + f" there are {', '.join(names)}"


def unknown(what: str, name: str, known: Any, option: str) -> typer.BadParameter:
    """The error of usage for a word that an option does not know."""
    return typer.BadParameter(f"unknown {what} {name!r}{closest(name, known)}", param_hint=option)


def chosen(what: str, name: str, known: Any, option: str) -> str:
    """The name, if it is known.

    Raises:
        BadParameter: names those that are known, and the nearest one.
    """
    if name not in known:
        raise unknown(what, name, known, option)
    return name


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """A context that prints an error as one line, and ends the program with the exit code of its kind.

    Args:
        debug: raise errors as they are, so that Python prints their traceback.
    """
    shown, warnings.showwarning = warnings.showwarning, _show_warning  # type: ignore[assignment]
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        note("\ninterrupted; of rank and resilience, the same command goes on from --out")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of a pipe has ended, as head does
        raise
    except Exception as error:
        if debug:
            raise
        note(f"linegraph: {_line(error)}")
        raise typer.Exit(FAILED) from None
    finally:
        warnings.showwarning = shown


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    for argument, option in OPTIONS.items():
        text = re.sub(argument, option, text)
    if isinstance(error, LinegraphError | OSError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    note(f"{category.__name__}: {' '.join(str(message).split())}")
