"""Measures the topology of the neurons of networks as constructed: those from scratch, and those that differ in wiring.

One row per network and seed, with the measures of ``lg.topology`` of its neuron graph. The weights are those that a
recorded run of the network and seed starts with, up to the classifier, which has ten outputs here.
"""

import pandas as pd
import torch
from tqdm import tqdm

import linegraph as lg
from benchmarks.selection import zoo
from benchmarks.selection.recording import RECORDED, SEEDS, SIZE
from linegraph.files import write_whole

__all__ = ["MEASURED", "measure"]

MEASURED = RECORDED / "topology.parquet"
CLASSES, BATCH = 10, 8
ALL_NODES = 10_000
"""More than any of these graphs has: shortest paths are searched from all nodes."""


def measure():
    """Write the measures of all networks."""
    networks = {"scratch": zoo.from_scratch(), "wired": zoo.wirings()}
    jobs = [(of, *key, make, seed) for of, makers in networks.items() for key, make in makers.items() for seed in SEEDS]
    rows = [
        {"zoo": of, "family": family, "name": name, "seed": seed, **measures(make, seed)}
        for of, family, name, make, seed in tqdm(jobs, desc="neuron graphs")
    ]
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    numbers = table.select_dtypes("float64").columns
    table = table.astype(dict.fromkeys(numbers, "float32"))
    write_whole(MEASURED, lambda path: table.to_parquet(path, index=False))
    print(f"{MEASURED}: {len(table)} networks, {len(numbers)} measures")


def measures(make, seed):
    torch.manual_seed(1000 * seed + 1)
    model = zoo.classifier(make, SIZE, CLASSES)
    inputs = torch.randn(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    weights = sum(p.numel() for p in model.parameters())
    return {"parameters": float(weights), **lg.topology(model, inputs, null=(), sources=ALL_NODES)["value"]}
