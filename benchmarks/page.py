"""What the benchmarks measured, as JSON files, and the page that shows them.

python -m benchmarks.page    # writes docs/benchmarks.md anew from benchmarks/results/*.json

Every benchmark writes such a file with ``--json FILE``: its command, the date, versions and machine, and its tables.
"""

import ast
import datetime
import json
import math
import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
BENCHMARKS = "operator_cost", "line_graph", "metrics", "equilibrium"
PACKAGES = "torch", "numpy", "scipy", "igraph", "networkx", "torch-geometric"

INTRODUCTION = """# What it costs

Made by `python -m benchmarks.page` of the files in `benchmarks/results`, which the commands below write with `--json
FILE`. Times depend on the machine, and on what else runs there; ratios do so less. Record results on a machine that
does nothing else. The README has those of other machines and of GPUs.
"""

ABSENT = """No result is recorded. This command records one:

```console
$ python -m benchmarks.{0} --json benchmarks/results/{0}.json
```
"""


def save(path, benchmark, tables, device="cpu"):
    """Write the tables of a benchmark, a dict of lists of rows by title, with what they depend on."""
    found = {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *_without("--json", sys.argv[1:])]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": {
            "machine": platform.machine() if device == "cpu" else torch.cuda.get_device_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "tables": {title: [{k: _plain(v) for k, v in row.items()} for row in rows] for title, rows in tables.items()},
    }
    Path(path).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def written():
    """The text of the page: every benchmark, with its results or what records them."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))]
    parts = [INTRODUCTION]
    for benchmark in BENCHMARKS:
        source = (ROOT / "benchmarks" / f"{benchmark}.py").read_text(encoding="utf-8")
        title = ast.get_docstring(ast.parse(source)).splitlines()[0].rstrip(".")
        shown = [_shown_run(run) for run in runs if run["benchmark"] == benchmark]
        parts += [f"## {title}\n", *(shown or [ABSENT.format(benchmark)])]
    return "\n".join(parts).rstrip() + "\n"


def _shown_run(found):
    """How a benchmark was run, and its tables."""
    versions = dict(found["environment"])
    machine, cores, threads = (versions.pop(name) for name in ("machine", "cores", "threads"))
    of_what = ", ".join(f"{name} {value}" for name, value in versions.items())
    where = f"On {found['date']}, {machine} with {cores} cores, {threads} thread{'s' * (threads > 1)}; {of_what}."
    lines = ["```console", f"$ {found['command']}", "```", "", where, ""]
    for name, rows in found["tables"].items():
        lines += [f"**{name}**", "", *_table(rows), ""]
    return "\n".join(lines)


def _table(rows):
    """Rows side by side, or below each other where there are more columns than rows; their first entry names them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_shown(row.get(name)) for name in columns] for row in rows)]
    if len(columns) > max(len(rows), 6):
        cells = [list(row) for row in zip(*cells, strict=True)]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return [head, "|---" * len(cells[0]) + "|", *body]


def _shown(value):
    if value is None:
        return "–"
    if isinstance(value, str | bool):
        return str(value)
    return f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:.3g}"


def _plain(value):
    """A number of Python, None where there is none."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without(option, arguments):
    """The arguments of a command without an option and its value."""
    left = list(arguments)
    if option in left:
        del left[left.index(option) : left.index(option) + 2]
    return left


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
