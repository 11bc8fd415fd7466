"""The tables of docs/selection.md that are made of the code: the sums in a history, and the selection methods.

python -m tests.selection_tables    # writes them anew
"""

import re
import sys
from pathlib import Path

from linegraph.selection.methods import METHODS
from linegraph.selection.records import COLUMNS

FILE = Path(__file__).parents[1] / "docs" / "selection.md"


def columns():
    return _table(["column", "what"], [[f"`{name}`", formula] for name, formula in COLUMNS.items()])


def methods():
    head = ["method", "formula", "reads", "gives", "better", "cost", "source"]
    rows = [
        [
            f"`{method.name}`",
            method.formula,
            ", ".join(sorted(method.needs)),
            method.gives,
            "higher" if method.higher_is_better else "lower",
            f"{method.cost:.2g}",
            method.source,
        ]
        for method in METHODS.values()
        if _is_of_the_package(method)
    ]
    return _table(head, rows)


TABLES = {"columns": columns, "methods": methods}


def written(text):
    """The text of the page with its tables made anew."""
    for name, table in TABLES.items():
        before, after = f"<!-- {name}: python -m tests.selection_tables -->\n", "<!-- end -->"
        made = before + "".join(f"{line}\n" for line in table()) + after
        text, found = re.subn(f"{re.escape(before)}.*?{after}", lambda _, made=made: made, text, flags=re.DOTALL)
        assert found == 1, name
    return text


def _table(head, rows):
    lines = [f"| {' | '.join(row)} |" for row in ([cell.replace("|", "\\|") for cell in row] for row in [head, *rows])]
    lines.insert(1, "|---" * len(head) + "|")
    return lines


def _is_of_the_package(method):
    """Whether the function is one of linegraph, and not one that a test or an example has registered."""
    module, name = method.function.__module__, method.function.__name__
    return module.startswith("linegraph.") and getattr(sys.modules[module], name, None) is method.function


if __name__ == "__main__":
    FILE.write_text(written(FILE.read_text(encoding="utf-8")), encoding="utf-8")
