"""What a command prints and writes: tables, one object in JSON, and files."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import typer

from linegraph import __version__
from linegraph.files import remove_stale, write_whole

__all__ = ["Output", "in_bytes", "plain", "printed"]


NUMBER = r"[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?"


class Output:
    """The results of a command.

    Args:
        command: its name.
        as_json: print one object in JSON at the end, instead of tables.
        out: the folder for files; None for none.
    """

    def __init__(self, command: str, *, as_json: bool, out: Path | None) -> None:
        self._as_json, self._out = as_json, out
        self._found: dict[str, Any] = {"command": command, "linegraph": __version__}
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written fails before anything is computed
            remove_stale(out)

    def say(self, text: str) -> None:
        """Print a line, unless JSON is printed."""
        if not self._as_json:
            typer.echo(text)

    def value(self, name: str, value: Any) -> None:
        """Add an entry to the JSON."""
        self._found[name] = plain(value)

    def table(self, name: str, frame: Any, title: str, *, shown: Any = None) -> None:
        """Print a table, add it to the JSON, and write it as ``<name>.csv``.

        Args:
            name: of the table.
            frame: a DataFrame, or a Series, whose index then names the values.
            title: printed above it.
            shown: the DataFrame that is printed, if not the whole one.
        """
        self.value(name, frame)
        is_series = frame.ndim == 1
        columns = frame.rename_axis("name").rename("value").reset_index() if is_series else frame
        self.say(f"\n{title}")
        self.say(printed(columns if shown is None else shown))
        self._write(name, columns)

    def data(self, name: str, frame: Any) -> None:
        """Add a table that is too long to print to the JSON, and write it as ``<name>.csv``."""
        self.value(name, frame)
        self._write(name, frame)

    def _write(self, name: str, frame: Any) -> None:
        if self._out is not None:
            write_whole(self._out / f"{name}.csv", lambda path: frame.to_csv(path, index=False))

    def figure(self, name: str, axes: Any) -> None:
        """Write the figure of some Axes as ``<name>.png``, if there is a folder; close it."""
        import matplotlib.pyplot as plt

        if self._out is not None:
            write_whole(self._out / f"{name}.png", lambda path: axes.figure.savefig(path, dpi=150))
        plt.close(axes.figure)

    def report(self, page: Any) -> None:
        """Write a page as ``report.html``."""
        if self._out is not None:
            page.write(self._out / "report.html")

    def page(self, page: Any) -> None:
        """Print the tables of a page, and write it as ``report.html``, with its data and figures beside it."""
        import pandas as pd

        self.report(page)
        for part in page.parts:
            if part.csv is not None:
                frame = pd.read_csv(io.StringIO(part.csv)).map(_number)
                self.data(part.file, frame)
                if part.kind == "table":
                    self.say(f"\n{part.title}")
                    self.say(printed(frame))
            if part.image is not None and self._out is not None:
                content = base64.b64decode(part.image.address.partition(",")[2])
                write_whole(self._out / f"{part.file}.{part.image.suffix}", partial(_write_bytes, content))

    def finish(self) -> None:
        """Print the JSON, or where the files are."""
        if self._as_json:
            typer.echo(json.dumps(self._found, ensure_ascii=False, allow_nan=False))
        elif self._out is not None:
            typer.echo(f"\nTables and figures are in {self._out}")


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _number(value: Any) -> Any:
    """The number that a text in a column of several types stands for; other values as they are."""
    if isinstance(value, str) and re.fullmatch(NUMBER, value):
        return float(value) if {*value} & {*".eE"} else int(value.replace(",", ""))
    return value


def plain(value: Any) -> Any:
    """A value as JSON has it: tables as lists of objects, Series as objects, and null for nan and infinite numbers."""
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.to_dict("records")]
    if isinstance(value, pd.Series):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


# tables ---------------------------------------------------------------------------------------------------------------

LONG = 40
"""Characters from which on a column is text, which may be wrapped."""

UNLIMITED = 100_000
"""Width of what is no terminal, where a row is a line."""


def printed(frame: Any) -> str:
    """A table as text, with all rows and columns.

    In a terminal that is too narrow, long texts are wrapped, and columns that do not fit follow in a second block that
    begins with the first column again. Where output is no terminal, a row is a line.
    """
    from rich.console import Console

    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else UNLIMITED
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False, markup=False)
    texts = frame.map(_cell).astype(str)  # an empty column has another type
    with console.capture() as captured:
        for number, block in enumerate(_blocks(texts, console)):
            if number:
                console.print()
            console.print(_table(texts[block]))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _blocks(texts: Any, console: Any) -> list[list[Any]]:
    """The columns in blocks that fit into the console."""
    from rich.measure import Measurement

    first, *others = texts.columns
    blocks: list[list[Any]] = [[first]]
    for column in others:
        needed = Measurement.get(console, console.options.update(width=UNLIMITED), _table(texts[[*blocks[-1], column]]))
        if len(blocks[-1]) > 1 and needed.minimum > console.width:
            blocks.append([first])
        blocks[-1].append(column)
    return blocks


def _table(texts: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in texts:
        longest = int(texts[column].str.len().max()) if len(texts) else 0
        is_text = longest > LONG
        are_numbers = texts[column].str.fullmatch(rf"-|nan|{NUMBER}").all()
        table.add_column(
            Text(str(column)),
            no_wrap=not is_text,
            overflow="fold",
            justify="right" if are_numbers else "left",
            min_width=LONG if is_text else None,
        )
    for row in texts.itertuples(index=False, name=None):
        table.add_row(*map(Text, row))
    return table


def in_bytes(number: float) -> str:
    """A number of bytes in the unit that leaves up to three digits before the point."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if number < 1000 or unit == "TiB":
            break
        number /= 1024
    return f"{number:,.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"


def _cell(value: Any) -> str:
    """A value as it is printed: numbers with four digits, shapes as 3x4, and a dash for nothing."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value + 0.0:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
