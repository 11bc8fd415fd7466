"""Recorded runs with their histories, and the groups of them that are ranked together."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

__all__ = ["KEY", "LAST", "Evidence", "read"]

KEY = ["zoo", "task", "family", "name", "seed"]
LAST = 5
"""Epochs at the end whose mean accuracy is the final one."""


@dataclass(frozen=True)
class Evidence:
    """Runs with a final accuracy, and their histories.

    Attributes:
        runs: one row per run, with the columns ``zoo``, ``task``, ``family``, ``name``, ``seed`` and ``final``.
        histories: a DataFrame per run, one row per epoch from 0, in the same order.
    """

    runs: pd.DataFrame
    histories: list[pd.DataFrame]

    @cached_property
    def groups(self):
        """The positions of the runs that are ranked together, by (zoo, task, seed)."""
        return {key: part.index.to_numpy() for key, part in self.runs.groupby(["zoo", "task", "seed"])}

    def first(self, epochs):
        """The histories as one sees them after some epochs."""
        return [history[history["epoch"] <= epochs] for history in self.histories]

    def ceiling(self):
        """Spearman correlation between the final accuracies of the two seeds, by (zoo, task)."""
        finals = self.runs.pivot(index=["zoo", "task", "name"], columns="seed", values="final").dropna()
        return finals.groupby(level=["zoo", "task"]).apply(lambda part: part.corr("spearman").iloc[0, 1])


def read(folder, zoos):
    """The evidence in the tables of a folder; runs that failed are left out.

    A group of fewer than half of its zoo's networks, as in a recording that still goes on, is left out too.
    """
    tables = [
        pd.read_parquet(path).assign(zoo=name) for name in zoos if (path := Path(folder) / f"{name}.parquet").exists()
    ]
    table = pd.concat(tables, ignore_index=True)
    for column in ("task", "family", "name"):
        table[column] = table[column].astype(str)
    failed = table["error"].notna() if "error" in table else pd.Series(False, table.index)
    rows, histories = [], []
    for key, part in table[~failed].groupby(KEY, sort=True):
        part = part.drop(columns=[*KEY, *({"error"} & set(part))]).sort_values("epoch", ignore_index=True)
        rows.append([*key, part["accuracy"].iloc[-LAST:].astype(float).mean()])
        histories.append(part)
    runs = pd.DataFrame(rows, columns=[*KEY, "final"])
    sizes = runs.groupby(["zoo", "task", "seed"])["name"].transform("size")
    networks = runs.groupby("zoo")["name"].transform("nunique")
    keep = np.flatnonzero((sizes >= networks / 2) & (runs["final"].notna()))
    return Evidence(runs.iloc[keep].reset_index(drop=True), [histories[i] for i in keep])


def equal_cost_epochs(evidence, epochs):
    """For each run, the epochs of plain training that take as long as ``epochs`` epochs with the records of P."""
    found = []
    for history in evidence.histories:
        seen = history[history["epoch"] <= epochs]
        an_epoch = history["train_seconds"][history["epoch"] > 0].median()
        extra = seen["record_seconds"].sum() / an_epoch
        found.append(min(math.floor(epochs + extra), int(history["epoch"].max())))
    return np.array(found)
