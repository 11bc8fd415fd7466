"""How well each method orders the recorded runs: means over tasks and seeds, with intervals over networks and tasks."""

from functools import partial

import numpy as np
import pandas as pd

from benchmarks.selection.scores import all_scores
from linegraph.selection import kendall, pairwise_accuracy, regret, spearman, weighted_tau

__all__ = ["MEASURES", "agreement", "differences", "intervals", "judge"]

GAP = 0.02
"""Difference of final accuracies from which the order of a pair is asked for."""


MEASURES = {
    "spearman": spearman,
    "kendall": kendall,
    "weighted_tau": weighted_tau,
    "regret": regret,
    "pairwise": partial(pairwise_accuracy, gap=GAP),
}


def agreement(scores, evidence, measures=MEASURES):
    """The measures of every method in every group.

    Args:
        scores: a DataFrame, one row per run of the evidence and one column per method; higher is better. A run without
            a value is ranked last, since a user who gets none does not choose it.
        evidence: the runs.
        measures: some of MEASURES.

    Returns:
        A DataFrame with the columns zoo, task, seed, measure and one per method.
    """
    rows = []
    for (zoo, task, seed), members in evidence.groups.items():
        values, finals = _values(scores, members), evidence.runs["final"].to_numpy()[members]
        rows += [
            {
                "zoo": zoo,
                "task": task,
                "seed": seed,
                "measure": name,
                **{method: measure(of_one, finals) for method, of_one in zip(scores, values, strict=True)},
            }
            for name, measure in measures.items()
        ]
    return pd.DataFrame(rows)


def intervals(scores, evidence, measures=MEASURES, resamples=200, seed=0, level=0.95):
    """The mean of every measure over groups, with the percentile interval of a bootstrap over tasks and networks.

    Tasks and networks of each zoo are drawn anew in every resample, the same for all methods, so that the resamples of
    two methods may be subtracted.

    Returns:
        (table, resamples): a DataFrame with the columns measure, method, mean, low, high, and the resampled means by
        measure, arrays (resamples, methods).
    """
    found = agreement(scores, evidence, measures)
    means = found.groupby("measure")[list(scores)].mean()
    draws = {name: np.full((resamples, scores.shape[1]), np.nan) for name in measures}
    rng = np.random.default_rng(seed)
    zoos = {zoo: part for zoo, part in evidence.runs.groupby("zoo")}
    finals = evidence.runs["final"].to_numpy()
    position = {zoo: _positions(part) for zoo, part in zoos.items()}
    for k in range(resamples):
        collected = {name: [] for name in measures}
        for zoo, part in zoos.items():
            tasks, names = part["task"].unique(), part["name"].unique()
            chosen = rng.choice(names, len(names))
            for task in rng.choice(tasks, len(tasks)):
                for run_seed in part["seed"].unique():
                    table = position[zoo].get((task, run_seed))
                    if table is None:
                        continue
                    members = np.array([table[name] for name in chosen if name in table])
                    values = _values(scores, members)
                    for name, measure in measures.items():
                        collected[name].append([measure(of_one, finals[members]) for of_one in values])
        for name in measures:
            draws[name][k] = np.nanmean(collected[name], axis=0)
    low, high = (
        {n: np.nanquantile(d, q, axis=0) for n, d in draws.items()} for q in ((1 - level) / 2, (1 + level) / 2)
    )
    rows = [
        (measure, method, means.loc[measure, method], low[measure][i], high[measure][i])
        for measure in measures
        for i, method in enumerate(scores)
    ]
    return pd.DataFrame(rows, columns=["measure", "method", "mean", "low", "high"]), draws


def differences(draws, methods, of, level=0.95):
    """Intervals of the differences between one method and each of the others, from paired resamples (m, methods)."""
    own = draws[:, [list(methods).index(of)]]
    gaps = own - draws
    ends = np.nanquantile(gaps, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=0)
    return pd.DataFrame({"method": list(methods), "low": ends[0], "median": ends[1], "high": ends[2]})


def judge(evidence, epochs, initial, resamples):
    """Print the tables of the verdict; return their rows.

    Each row holds the means of all measures for one method after some epochs, in one zoo or in "all"; for all zoos
    together also 95 % intervals, and those of what "combined" has more in Spearman correlation.
    """
    ceiling = evidence.ceiling().groupby("zoo").mean()
    print("Spearman correlation of the final accuracies of two seeds:", {z: round(c, 3) for z, c in ceiling.items()})
    rows = []
    for number in epochs:
        scores = all_scores(evidence, number, initial)
        of_number = means(agreement(scores, evidence), scores)
        table, draws = intervals(scores, evidence, {"spearman": spearman, "regret": regret}, resamples)
        ends = table.pivot(index="method", columns="measure", values=["low", "high"])
        ends.columns = [f"{measure}_{end}" for end, measure in ends.columns]
        gaps = differences(draws["spearman"], list(scores), "combined").set_index("method")
        ends = ends.join(gaps.rename(columns=lambda end: f"combined_minus_{end}"))
        ends = ends.rename_axis("method").reset_index().assign(zoo="all")
        of_number = of_number.merge(ends, on=["zoo", "method"], how="left")
        show(of_number, number)
        rows += of_number.assign(epochs=number).to_dict("records")
    return rows


def means(found, scores):
    """The means of the measures over groups, by zoo and over all: one row per zoo and method."""
    parts = [*found.groupby("zoo"), ("all", found)]
    tables = []
    for zoo, part in parts:
        of_zoo = part.groupby("measure")[list(scores)].mean().T[list(MEASURES)]
        tables.append(of_zoo.rename_axis("method").reset_index().assign(zoo=zoo))
    return pd.concat(tables, ignore_index=True)


def show(table, epochs):
    """Print the correlations by zoo, and all measures with their intervals."""
    print(f"\nAfter {epochs} epochs: Spearman correlation with the final accuracy, mean over tasks and seeds")
    wide = table.pivot(index="method", columns="zoo", values="spearman")
    print(wide.sort_values("all", ascending=False).round(3).to_string(na_rep="-"))
    print("\nAll zoos together, with 95 % intervals over tasks and networks, and what combined has more")
    of_all = table[table["zoo"] == "all"].drop(columns="zoo").sort_values("spearman", ascending=False)
    print(of_all.round(3).to_string(index=False, na_rep="-"))


def _values(scores, members):
    values = scores.to_numpy(float)[members].T
    return np.where(np.isfinite(values), values, -1e300)


def _positions(part):
    return {key: dict(zip(group["name"], group.index, strict=True)) for key, group in part.groupby(["task", "seed"])}
