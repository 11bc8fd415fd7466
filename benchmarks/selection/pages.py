"""Tables as they are printed, and as sections of a Markdown page."""

from linegraph.files import write_whole

__all__ = ["show", "write_section"]


def show(tables):
    """Print pairs of a title and a DataFrame."""
    for title, table in tables:
        print(f"\n{title}\n{_plain(table).to_string(index=False, na_rep='-')}")


def write_section(path, name, tables):
    """Replace what stands between the marks of a section in a Markdown page, which has them, by tables.

    Args:
        path: the page, with the lines ``<!-- tables of NAME -->`` and ``<!-- end of NAME -->``.
        name: the name of the section.
        tables: pairs of a title and a DataFrame.
    """
    start, end = f"<!-- tables of {name} -->\n", f"<!-- end of {name} -->"
    page = path.read_text()
    if start not in page or end not in page:
        raise SystemExit(f"{path} has no lines {start.strip()} and {end}, between which the tables would be written")
    before, rest = page.split(start)
    made = "\n".join(f"**{title}**\n\n{_markdown(table)}" for title, table in tables)
    write_whole(path, lambda whole: whole.write_text(f"{before}{start}\n{made}\n{end}{rest.split(end)[1]}"))


def _plain(table):
    """The table with its index as columns, and rounded."""
    return table.reset_index(drop=table.index.names == [None]).round(3)


def _markdown(table):
    flat = _plain(table)
    rows = [
        [str(name) for name in flat],
        ["---"] * flat.shape[1],
        *([_cell(v) for v in row] for row in flat.to_numpy()),
    ]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def _cell(value):
    return ("-" if value != value else f"{value:g}") if isinstance(value, float) else str(value)
