"""The lines of an edge list as rows of fields."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass

from linegraph.errors import DataError
from linegraph.io.content import lines_of
from linegraph.io.look_alikes import refuse_by_lines
from linegraph.io.values import is_number

__all__ = ["Table", "read_table"]

QUOTED = re.compile('"[^"]*"')
OTHER = re.compile(r"[\s,;]+")
WORD = re.compile(r'"([^"]*)"(?!\S)|([^\s"]\S*)')


@dataclass
class Table:
    """The lines of an edge list, split into fields.

    Attributes:
        rows: the fields of each line, stripped.
        lines: the number of each of these lines in the file.
        comments: the number and text of lines that begin with ``#`` or ``%``.
    """

    rows: list[list[str]]
    lines: list[int]
    comments: list[tuple[int, str]]

    def column(self, number: int) -> list[str]:
        """The field of this index in every row."""
        return [row[number] for row in self.rows]

    def without_first(self) -> Table:
        """The rows after a header."""
        return Table(self.rows[1:], self.lines[1:], self.comments)

    def check_width(self) -> None:
        """Refuse rows with more or fewer fields than the first one.

        Raises:
            DataError: names the line.
        """
        width = len(self.rows[0])
        for number, row in zip(self.lines, self.rows, strict=True):
            if len(row) != width:
                raise _width_error(number, row, width)

    def check_filled(self, columns: Iterable[int]) -> None:
        """Refuse rows in which one of these fields is empty.

        Raises:
            DataError: names the line.
        """
        for column in columns:
            for number, row in zip(self.lines, self.rows, strict=True):
                if not row[column]:
                    raise _width_error(number, row, len(row))


def _width_error(number: int, row: list[str], width: int) -> DataError:
    what = "more" if len(row) > width else "fewer"
    shown = " ".join(row)[:80]
    return DataError(f"line {number} has {what} than {width} columns, as the first one has: {shown!r}")


def read_table(text: str) -> Table:
    """Split lines into rows by the separator of the first line: tabs, semicolons, commas or blanks.

    If lines mix tabs and blanks, and only a split at any white space gives rows of equal length, that is taken.

    Raises:
        DataError: if lines mix separators so that several tables are possible, or a quote is not closed.
    """
    lines, comments = {}, []
    for number, line in enumerate(lines_of(text), 1):
        stripped = line.strip()
        if stripped and stripped[0] in "#%":
            comments.append((number, stripped))
        elif stripped:
            lines[number] = line.strip(" ")
    if not lines:
        raise DataError("an edge list has lines 'source target [weight]', found no edges")
    refuse_by_lines("\n".join(list(lines.values())[:20]))
    if any(comment == "#" and min(lines) < number < max(lines) for number, comment in comments):
        raise DataError("a line '#' separates nodes from edges, as in TGF, which is not read: save edges alone")
    mark = _separator(lines)
    rows = _rows(lines, mark)
    return Table(_without_margins(rows) if mark == "\t" else rows, list(lines), comments)


def _separator(lines: dict[int, str]) -> str | None:
    """The separator of the fields; None for any white space."""
    bare = {number: QUOTED.sub("q", line) if '"' in line else line for number, line in lines.items()}
    first = next(iter(bare.values()))
    mark = next((mark for mark in "\t;," if mark in first), None)
    if mark is None or not any(OTHER.search(line.replace(mark, "")) for line in bare.values()):
        return mark
    rows = {number: [field.strip() for field in line.split(mark)] for number, line in bare.items()}
    if mark == "\t" and _are_parted_by_blanks(list(rows.values())):
        return None
    parts = {n: [*map(OTHER.split, row[:2]), *map(str.split, row[2:])] for n, row in rows.items()}
    mixed = next((n for n, row in parts.items() for words in row if _are_numbers(words)), None)
    hidden = _hide_a_weight(list(parts.values())) or _have_commas(list(parts.values()), mark)
    if hidden and all(len(row) == 2 for row in parts.values()):
        mixed = next(iter(lines))
    if mixed is not None:
        raise DataError(
            f"line {mixed} mixes {mark!r} and other separators, {lines[mixed][:80]!r}: columns may be meant, or names "
            "with blanks, or decimal commas; part all columns in one way, put names with separators in double quotes, "
            "and write numbers with decimal points"
        )
    return mark


def _are_parted_by_blanks(rows: list[list[str]]) -> bool:
    """Whether a split at white space gives rows of equal length, and one at tabs does not, or leaves "1 2" whole."""
    words = [[field.split() for field in row] for row in rows]
    if len({sum(map(len, row)) for row in words}) > 1:
        return False
    return len({len(row) for row in rows}) > 1 or any(_are_numbers(field) for row in words for field in row)


def _are_numbers(words: list[str]) -> bool:
    return len(words) > 1 and all(map(is_number, words))


def _hide_a_weight(rows: list[list[list[str]]]) -> bool:
    """Whether fields hold three words in all, the last a number: they may be source, target and weight."""
    data = rows[1:] or rows
    return all(sum(map(len, row)) == 3 for row in rows) and all(is_number(row[-1][-1]) for row in data if row[-1])


def _have_commas(rows: list[list[list[str]]], mark: str) -> bool:
    """Whether lines may be ``source target 0,5``, with a decimal comma."""
    return mark == "," and all(
        len(row[0]) == 3 and len(row[-1]) == 1 and row[0][-1].lstrip("+-").isdigit() and row[-1][0].isdigit()
        for row in rows
    )


def _rows(lines: dict[int, str], mark: str | None) -> list[list[str]]:
    if not any('"' in line for line in lines.values()):
        return [[field.strip() for field in line.split(mark)] for line in lines.values()]
    return [_quoted(line, number, mark) for number, line in lines.items()]


def _without_margins(rows: list[list[str]]) -> list[list[str]]:
    """Rows without an empty first or last column, which a tab at the beginning or end of each line makes."""
    for end, rest in ((0, slice(1, None)), (-1, slice(-1))):
        while len(rows[0]) > 2 and not any(row[end] for row in rows):
            rows = [row[rest] for row in rows]
    return rows


def _quoted(line: str, number: int, mark: str | None) -> list[str]:
    """The fields of a line with double quotes; separators within quotes do not count."""
    if '"' not in line:
        return [field.strip() for field in line.split(mark)]
    try:
        if mark is None:
            if WORD.sub("", line).strip():
                raise csv.Error
            return [quoted or word for quoted, word in WORD.findall(line)]
        ended = re.sub(rf'"\s+(?={mark})', '"', line)
        (row,) = csv.reader([ended], delimiter=mark, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise DataError(
            f"line {number}: a double quote at the beginning of a name is not closed in its line: {line[:80]!r}"
        ) from None
    return [field.strip() for field in row]
