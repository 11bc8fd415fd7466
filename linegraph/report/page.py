"""One HTML page with text, tables and figures, which needs nothing from the network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from linegraph.arguments import as_path, check_number_of, check_type
from linegraph.files import write_whole
from linegraph.report.cells import LONG, Cell, Column, as_cell, as_columns, as_csv, as_frame
from linegraph.report.environment import environment, private
from linegraph.report.images import Image, as_image, figure_of

__all__ = ["Page"]

SIZES = {"many": 7, "more": 10, "wide": 13, "widest": 18}
"""Numbers of columns from which on a table is set in smaller type on paper, and from "wide" on in landscape."""


@dataclass(frozen=True)
class Part:
    """A part of a page.

    Attributes:
        kind: "heading", "text", "facts", "table" or "figure".
        title: its heading; empty for text and facts.
        anchor: its ``id`` on the page.
        level: of the heading, 2 or 3.
        paragraphs: of a text, or the note or caption of a table or figure.
        facts: names with values.
        columns: of a table.
        left_out: number of rows of a table that are not shown.
        csv: the data as CSV; None without data.
        file: name of the downloaded file, without its suffix.
        image: of a figure.
        alt: the description of an image.
    """

    kind: str
    title: str = ""
    anchor: str = ""
    level: int = 2
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    columns: tuple[Column, ...] = ()
    left_out: int = 0
    csv: str | None = field(default=None, repr=False)
    file: str = ""
    image: Image | None = field(default=None, repr=False)
    alt: str = ""

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells of a table row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    @property
    def names(self) -> int:
        """The number of the column that names the rows, the first one of text; -1 if there is none."""
        return next((place for place, column in enumerate(self.columns) if not column.is_number), -1)

    @property
    def size(self) -> str:
        """Classes of a table by its number of columns."""
        return " ".join(name for name, least in SIZES.items() if len(self.columns) >= least)

    @property
    def csv_address(self) -> str:
        """The CSV as a ``data:`` address."""
        return f"data:text/csv;charset=utf-8;base64,{base64.b64encode((self.csv or '').encode()).decode()}"


class Page:
    """An HTML page in one file, which loads nothing: styles, script, figures and data are within it.

    Parts are shown in the order in which they are added, below a table of contents. Tables sort by a click on a column;
    the data of each table and figure can be downloaded as CSV. The page ends with the settings, the versions of
    packages, the system and the date; it names no host, no user and no folder. It can be read on a phone and printed.

    All text is shown as it is given: what looks like HTML is text. A Content-Security-Policy forbids the browser to
    load or run anything but what this class has written. In CSV files, text that begins as a formula of a spreadsheet
    does (``=``, ``+``, ``-``, ``@``, a tab or a line break), and is no number, gets an apostrophe in front.

    Args:
        title: the title of the page.
        lead: what the page is about, in a sentence or two below the title.
        settings: names with values of the settings, seeds among them, for the section at the end. Of a path only the
            name of the file is shown.
        date: the time shown; by default now.

    Raises:
        ArgumentTypeError: if an argument is of the wrong type; names it.

    Cost: the page is held in memory; a figure takes some tenths of a second and 20 to 300 kB.

    Source: W3C, Content Security Policy Level 3, for the policy; OWASP, CSV Injection, for the apostrophe.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> layers = pd.DataFrame({"layer": ["first", "last"], "share": [0.75, 0.25]})
        >>> lg.report.Page("Two layers").text("The first one has the larger share.").table("Layers", layers)
        Page('Two layers', tables=1, figures=0)
    """

    def __init__(
        self,
        title: str,
        *,
        lead: str = "",
        settings: Mapping[str, Any] | None = None,
        date: datetime | None = None,
    ) -> None:
        check_type("title", title, str, "a string")
        check_type("lead", lead, str, "a string")
        check_type("settings", settings, (Mapping, type(None)), "a dict of values by name, or None")
        check_type("date", date, (datetime, type(None)), "a datetime, or None")
        self.title, self.lead = _shown(title), _shown(lead)
        self.settings = tuple((str(name), _shown(value)) for name, value in (settings or {}).items())
        self.date = date or datetime.now(UTC)
        self.parts: list[Part] = []

    def __repr__(self) -> str:
        counted = {kind: sum(part.kind == kind for part in self.parts) for kind in ("table", "figure")}
        return f"Page({self.title!r}, tables={counted['table']}, figures={counted['figure']})"

    def __str__(self) -> str:
        return self.html()

    def heading(self, title: str) -> Page:
        """Begin a section, to which the tables and figures that follow belong.

        Args:
            title: its heading.

        Returns:
            The page itself.
        """
        return self._add("heading", title)

    def text(self, text: str) -> Page:
        """Add text; an empty line begins a new paragraph.

        Args:
            text: the text. It is shown as it is; it has no markup.

        Returns:
            The page itself.
        """
        check_type("text", text, str, "a string")
        self.parts.append(Part("text", paragraphs=_paragraphs(text)))
        return self

    def facts(self, facts: Mapping[str, Any]) -> Page:
        """Add a few values, each below its name, side by side.

        Args:
            facts: the values by name.

        Returns:
            The page itself.
        """
        check_type("facts", facts, Mapping, "a dict of values by name")
        self.parts.append(Part("facts", facts=tuple((str(name), _shown(value)) for name, value in facts.items())))
        return self

    def table(
        self,
        title: str,
        frame: pd.DataFrame | pd.Series,
        *,
        data: pd.DataFrame | pd.Series | None = None,
        note: str = "",
        rows: int = 500,
    ) -> Page:
        """Add a table that sorts by a click on a column, with its data to download.

        Numbers are shown with four digits and sorted as numbers, missing values are empty and sorted last. The data to
        download have all rows and all digits.

        Args:
            title: its heading.
            frame: the table. Its index is shown as columns, unless it only numbers the rows.
            data: the data to download, if there are more than the table shows; by default the table.
            note: text below the heading.
            rows: number of rows shown at most, the first ones.

        Returns:
            The page itself.
        """
        check_type("frame", frame, (pd.DataFrame, pd.Series), "a pandas DataFrame or Series")
        check_type("data", data, (pd.DataFrame, pd.Series, type(None)), "a pandas DataFrame or Series, or None")
        check_type("note", note, str, "a string")
        check_number_of("rows", rows)
        whole = _of_no_user(as_frame(frame))
        shown = whole.iloc[:rows]
        return self._add(
            "table",
            title,
            paragraphs=_paragraphs(note),
            columns=tuple(as_columns(shown)),
            left_out=len(whole) - len(shown),
            csv=as_csv(whole if data is None else _of_no_user(as_frame(data))),
        )

    def figure(
        self, title: str, axes: Any, *, data: pd.DataFrame | pd.Series | None = None, caption: str = "", alt: str = ""
    ) -> Page:
        """Add a figure, drawn as it is now, with its data to download.

        It is an SVG image, or a PNG image where the SVG would have more than 300 kB. The whole figure is
        shown, whichever of its Axes is given; it is not closed.

        Args:
            title: its heading.
            axes: Axes or a Figure of matplotlib, such as functions of ``linegraph.plot`` return.
            data: the table that is drawn; without one, only the image can be downloaded.
            caption: text below the figure.
            alt: what the figure shows, for those who do not see it; by default its title and caption.

        Returns:
            The page itself.
        """
        check_type("data", data, (pd.DataFrame, pd.Series, type(None)), "a pandas DataFrame or Series, or None")
        check_type("caption", caption, str, "a string")
        check_type("alt", alt, str, "a string")
        image = as_image(figure_of(axes))
        csv = None if data is None else as_csv(_of_no_user(as_frame(data)))
        alt = _shown(alt or " ".join(filter(None, (f"{title}.", caption))))
        return self._add("figure", title, paragraphs=_paragraphs(caption), image=image, csv=csv, alt=alt)

    def html(self) -> str:
        """The page as HTML.

        Returns:
            The whole document.
        """
        style, script = _asset("page.css"), _asset("page.js")
        return _template().render(
            title=self.title,
            lead=_paragraphs(self.lead),
            parts=self.parts,
            settings=self.settings,
            environment=tuple(environment().items()),
            date=self.date,
            style=style,
            script=script,
            policy="; ".join(
                (
                    "default-src 'none'",
                    "img-src data:",
                    f"style-src '{_digest(style)}'",
                    f"script-src '{_digest(script)}'",
                    "base-uri 'none'",
                    "form-action 'none'",
                )
            ),
        )

    def write(self, path: str | Path) -> Path:
        """Write the page; the file is whole or as it was before.

        Args:
            path: the file; its folder is made.

        Returns:
            The path.
        """
        file = as_path("path", path)
        page = self.html()
        write_whole(file, lambda temporary: temporary.write_text(page, encoding="utf-8"))
        return file

    def _add(self, kind: str, title: str, **fields: Any) -> Page:
        check_type("title", title, str, "a string")
        number, title = len(self.parts) + 1, _shown(title)
        level = 3 if kind != "heading" and any(part.kind == "heading" for part in self.parts) else 2
        self.parts.append(Part(kind, title, f"part-{number}", level, file=_file_name(title, number), **fields))
        return self


def _shown(value: Any) -> str:
    return as_cell(private(value)).text


def _of_no_user(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without paths of a user in its text."""
    texts = [not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    return frame.map(private) if any(texts) else frame


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(r"\n\s*\n", _shown(text)) if part.strip())


def _file_name(title: str, number: int) -> str:
    """A name of a file for any title: its first letters and digits of ASCII."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or f"part-{number}"


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("linegraph.report")
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    found = Environment(loader=loader, autoescape=True, **options)
    found.filters["breakable"] = _breakable
    return found.get_template("page.html")


def _breakable(text: str, longest: int = LONG) -> Any:
    """The text, escaped; above a length, lines may break after the signs that join the parts of a name."""
    from markupsafe import Markup, escape

    if len(text) <= longest:
        return text
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[._/\\-])(?=\w)", text))


@cache
def _asset(name: str) -> Any:
    """The style or the script, which is not escaped; this package wrote it."""
    from markupsafe import Markup

    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    """The hash by which a policy allows a style or script."""
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"
