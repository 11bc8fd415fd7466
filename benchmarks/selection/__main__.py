"""Which early figure tells the final accuracy? Records training histories of zoos of networks, and compares.

python -m benchmarks.selection record --data ../shared/data [--workers 2] [--zoos scratch transfer ...] [--minutes 60]
python -m benchmarks.selection collect
python -m benchmarks.selection neuron_graphs
python -m benchmarks.selection verdict [--epochs 1 3 5 10] [--resamples 500]
python -m benchmarks.selection why
python -m benchmarks.selection ablation [--epochs 1 3 5] [--resamples 500]
python -m benchmarks.selection halving
python -m benchmarks.selection topology
python -m benchmarks.selection fit

``record`` trains what is not yet recorded, see ``recording.py``; each run is one file under ``runs/selection``, written
whole, so that it may be stopped at any time and goes on where it stopped. ``collect`` makes the tables in
``datasets/selection`` of them, and ``neuron_graphs`` that of the topology of networks before training. ``verdict``
compares all methods on these tables, without training; what is learnt is tested on tasks and families of networks that
it has not seen. ``why`` says why the papers' method orders worse than the last accuracy seen, and ``ablation`` redoes,
in minutes, what was tried instead of "combined". ``halving`` asks whether successive halving loses the winner,
``topology`` whether the topology of a network tells its accuracy. These five take ``--json FILE``, for the rows, and
``--markdown docs/verdict.md``, which writes their tables into that page; ``verdict --overview README.md`` writes
the one that sums up. ``fit`` makes the coefficients of the method "combined".
"""

import argparse
import json
import math
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from benchmarks.selection import ablation, halving, learning, neuron_graphs, pages, recording, topology, verdict, why
from benchmarks.selection.evidence import read
from benchmarks.selection.recording import RECORDED, ZOOS
from linegraph.files import write_whole

COEFFICIENTS = Path("linegraph/selection/combined.json")
COMPARED = ("scratch", "transfer", "frozen")


def fit():
    """Write the coefficients of ``combined``, fitted to all recorded runs, with their provenance."""
    evidence = read(RECORDED, COMPARED)
    made = {
        "what": "coefficients of linegraph.selection.combined, made by python -m benchmarks.selection fit",
        "runs": {zoo: int((evidence.runs["zoo"] == zoo).sum()) for zoo in COMPARED},
        "tasks": sorted({f"{z}/{t}" for z, t in zip(evidence.runs["zoo"], evidence.runs["task"], strict=True)}),
        "penalty": learning.PENALTY,
        "made": date.today().isoformat(),
        "epochs": learning.fit(evidence),
    }
    write_whole(COEFFICIENTS, lambda path: path.write_text(json.dumps(made, indent=1) + "\n"))
    print(f"{COEFFICIENTS}: {len(evidence.runs)} runs, {len(made['tasks'])} tasks")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    record = commands.add_parser("record")
    record.add_argument("--data", type=Path, required=True, help="folder with cifar10, mnist and pretrained")
    record.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    record.add_argument("--workers", type=int, help="processes; one per processor, or per CUDA device, by default")
    record.add_argument("--zoos", nargs="+", choices=ZOOS, default=list(ZOOS))
    record.add_argument("--minutes", type=float, default=math.inf)
    commands.add_parser("collect")
    commands.add_parser("neuron_graphs")
    commands.add_parser("fit")
    for name, epochs in (("verdict", [1, 3, 5, 10]), ("ablation", [1, 3, 5])):
        compared = commands.add_parser(name)
        compared.add_argument("--epochs", type=int, nargs="+", default=epochs)
        compared.add_argument("--resamples", type=int, default=500)
    commands.choices["verdict"].add_argument("--overview", type=Path, help="page for the one table that sums up")
    for name in ("why", "halving", "topology"):
        commands.add_parser(name)
    for name in MADE:
        commands.choices[name].add_argument("--json", type=Path)
        commands.choices[name].add_argument("--markdown", type=Path)
    given = parser.parse_args()
    if given.command == "record":
        if given.device == "cuda" and not torch.cuda.is_available():
            parser.error("--device cuda: this machine has no CUDA device that torch can use")
        recording.record(given.zoos, given.data, given.device, given.workers, given.minutes)
    elif given.command == "collect":
        recording.collect()
    elif given.command == "neuron_graphs":
        neuron_graphs.measure()
    elif given.command == "fit":
        fit()
    else:
        tables, rows = MADE[given.command](given)
        pages.show(tables)
        if given.json:
            write_whole(given.json, lambda path: path.write_text(json.dumps(rows, indent=1) + "\n"))
        if given.markdown:
            pages.write_section(given.markdown, given.command, tables)
        if given.command == "verdict" and given.overview:
            summary = verdict.overview(pd.DataFrame(rows))
            pages.write_section(given.overview, "overview", [("Spearman correlation with the final accuracy", summary)])


def of_rows(title, rows):
    """Rows as one table, and the rows."""
    return [(title, pd.DataFrame(rows))], rows


MADE = {
    "verdict": lambda given: verdict.judge(read(RECORDED, COMPARED), given.epochs, initial_scores(), given.resamples),
    "why": lambda given: why.judge(read(RECORDED, COMPARED)),
    "ablation": lambda given: ablation.judge(read(RECORDED, COMPARED), given.epochs, initial_scores(), given.resamples),
    "halving": lambda given: of_rows(
        "Half or two thirds of the networks dropped after each rung", halving.judge(read(RECORDED, COMPARED))
    ),
    "topology": lambda given: topology.judge(
        read(RECORDED, ("scratch",)), read(RECORDED, ("wired",)), pd.read_parquet(neuron_graphs.MEASURED)
    ),
}
"""What the commands that compare make of their arguments: tables, pairs of a title and a DataFrame, and rows."""


def initial_scores():
    """The recorded scores of networks as constructed."""
    parts = []
    for zoo in ("scratch", "transfer"):
        path = RECORDED / f"scores-{zoo}.parquet"
        if path.exists():
            parts.append(pd.read_parquet(path).assign(zoo=zoo))
    return pd.concat(parts, ignore_index=True).astype({"task": str, "family": str, "name": str})


if __name__ == "__main__":
    main()
