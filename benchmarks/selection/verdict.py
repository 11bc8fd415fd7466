"""How well each method orders the recorded runs: means over tasks and seeds, with intervals over networks and tasks."""

import numpy as np
import pandas as pd

from benchmarks.selection.bootstrap import MEASURES, Group, copies_of, percentiles
from benchmarks.selection.scores import all_scores
from linegraph.selection.methods import METHODS

__all__ = ["ceiling", "intervals", "judge", "overview", "with_ends"]

POOLS = {"frozen": "transfer"}
"""Zoos with the networks and tasks of another; these are drawn together with them."""

OVERVIEW = {
    "final of the other seed": "ceiling: the final accuracy with another seed",
    "combined": "`combined`, the default",
    "combined and P": "`combined` with gradients and all features of P besides",
    "P alone": "features of P alone, learnt",
    "linear_probe": "`linear_probe`",
    "layer_probe": "`layer_probe`",
    "best_seen": "`best_seen`",
    "last_seen": "`last_seen`",
    "power_law": "`power_law`",
    "signed_capacitance": "`signed_capacitance` (the papers')",
    "capacitance": "`capacitance` (magnitude)",
    "static_ranking": "`static_ranking` (same networks, other tasks)",
    "logme": "`logme`",
    "num_parameters": "`num_parameters`",
    "synflow": "`synflow`",
}
"""The methods of the one table that sums up, and what it calls them."""


def intervals(scores, evidence, resamples=500, of="combined", measures=MEASURES, seed=0):
    """The mean of every measure over groups, with the percentile interval of a bootstrap over tasks and networks.

    Tasks and networks of each zoo are drawn anew in every resample, the same for all methods, so that the resamples of
    two methods may be subtracted.

    Args:
        scores: a DataFrame, one row per run of the evidence and one column per method; higher is better. A run without
            a value is ranked last, since a user who gets none does not choose it.
        evidence: the runs.
        resamples: number of resamples.
        of: the method from which all others are subtracted.
        measures: some of MEASURES.
        seed: seed of the resampling.

    Returns:
        A DataFrame with the columns zoo, of which one is "all"; measure, method, mean, low, high; and, of the
        differences ``of`` minus method, more, more_low and more_high.
    """
    points, draws, tasks_drawn = _measured(scores, evidence, resamples, measures, seed)
    zoos = np.array([zoo for zoo, _, _ in evidence.groups])
    own, tables = list(scores).index(of), []
    for zoo in [*dict.fromkeys(zoos), "all"]:
        chosen = (zoos == zoo) | (zoo == "all")
        mean = _mean(points[chosen], np.ones((chosen.sum(), 1)))[..., 0]
        drawn = _mean(draws[chosen], tasks_drawn[chosen])
        more = drawn[:, [own]] - drawn
        (low, high), (more_low, more_high) = percentiles(drawn), percentiles(more)
        rows = pd.MultiIndex.from_product([[zoo], measures, scores], names=["zoo", "measure", "method"])
        columns = {"mean": mean, "low": low, "high": high, "more": mean[:, [own]] - mean}
        columns |= {"more_low": more_low, "more_high": more_high}
        tables.append(pd.DataFrame({name: column.ravel() for name, column in columns.items()}, index=rows))
    return pd.concat(tables).reset_index()


def ceiling(evidence):
    """The Spearman correlation of the final accuracies of two seeds, mean over tasks, by zoo."""
    return {zoo: float(value) for zoo, value in evidence.ceiling().groupby("zoo").mean().items()}


def judge(evidence, epochs, initial, resamples):
    """The tables of the verdict, pairs of a title and a DataFrame, and the rows that they are made of.

    Each row holds, for one method after some epochs, in one zoo or in "all", the mean of one measure over tasks and
    seeds, its 95 % interval, and what "combined" has more, with the interval of that.
    """
    found = pd.concat(
        [
            intervals(all_scores(evidence, number, initial), evidence, resamples).assign(epochs=number)
            for number in epochs
        ],
        ignore_index=True,
    )
    return list(all_tables(found, evidence)), found.to_dict("records")


def all_tables(found, evidence):
    """All tables of the verdict, pairs of a title and a DataFrame, from the rows of :func:`judge` as a DataFrame."""
    yield "Runs, and the ceiling: Spearman correlation of the final accuracies of two seeds", recorded(evidence)
    yield "Spearman correlation of combined, and of the best of the single scores", summary(found)
    for number, part in found.groupby("epochs"):
        for title, table in tables(part):
            yield f"After {number} epochs: {title}", table


def overview(found, after=5, gap=0.02):
    """The one table that sums up: Spearman correlation by epochs, and regret and pairs after some of them.

    Args:
        found: the rows of :func:`judge` as a DataFrame.
        after: epochs of the last two columns.
        gap: pairs count whose final accuracies differ by more.
    """
    of_all = found[found["zoo"] == "all"].set_index(["measure", "epochs", "method"])["mean"].sort_index()
    columns = {
        f"after {number} {'epoch' if number == 1 else 'epochs'}": of_all["spearman", number].map("{:.2f}".format)
        for number in found["epochs"].unique()
    }
    columns[f"regret after {after}, points"] = of_all["regret", after].map(lambda regret: f"{100 * regret:.1f}")
    columns[f"pairs in right order after {after}"] = of_all[f"pairs > {gap}", after].map("{:.2f}".format)
    table = pd.DataFrame(columns).reindex(list(OVERVIEW)).replace("nan", "-").fillna("-")
    return table.rename(OVERVIEW).rename_axis("method")


def recorded(evidence):
    """What was recorded, by zoo."""
    zoos = evidence.runs.groupby("zoo")
    counts = zoos[["task", "family", "name"]].nunique()
    return counts.set_axis(["tasks", "families", "networks"], axis=1).assign(
        runs=zoos.size(), ceiling=pd.Series(ceiling(evidence))
    )


def summary(found):
    """For all zoos and each of them, combined against the ceiling, the best single score, and what P adds."""
    rows = []
    for (epochs, zoo), part in found[found["measure"] == "spearman"].groupby(["epochs", "zoo"]):
        methods = part.set_index("method")
        single = methods.loc[[name for name in METHODS if name in methods.index and name != "combined"]]
        best = single["mean"].idxmax()
        rows.append(
            {
                "epochs": epochs,
                "zoo": zoo,
                "combined": _cell(methods.loc["combined"]),
                "other seed": _cell(methods.loc["final of the other seed"]),
                "best single score": best,
                "its correlation": _cell(methods.loc[best]),
                "combined has more": _more(methods.loc[best]),
                "more than with P": _more(methods.loc["combined and P"]),
            }
        )
    return pd.DataFrame(rows)


def tables(table):
    """The tables that are printed of what :func:`intervals` returns, with their titles; best methods first."""
    cells = table.set_index(["zoo", "measure", "method"]).apply(_cell, axis=1)
    of_all = table[(table["zoo"] == "all") & (table["measure"] == "spearman")].set_index("method")
    best = of_all.sort_values("mean", ascending=False, na_position="last").index
    by_zoo = cells.xs("spearman", level="measure").unstack("zoo").loc[best]
    yield "Spearman correlation with the final accuracy, mean over tasks and seeds, by zoo", by_zoo
    measures = cells["all"].unstack("measure").loc[best]
    more = of_all.apply(_more, axis=1)
    others = [name for name in measures if not name.startswith("pairs")]
    ordered = [name for name in MEASURES if name in others]
    yield "all zoos together", measures[ordered].assign(**{"combined has more Spearman": more.loc[best]})
    pairs = [name for name in MEASURES if name in measures and name not in others]
    if pairs:
        yield "fraction of pairs ordered rightly, of those whose final accuracies differ by more", measures[pairs]


def _cell(row):
    return with_ends(row["mean"], row["low"], row["high"])


def _more(row):
    return with_ends(row["more"], row["more_low"], row["more_high"])


def with_ends(mean, low, high):
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(mean) else "-"


def _measured(scores, evidence, resamples, measures, seed):
    """The measures of every group (groups, measures, methods, 1), on resamples, and copies (groups, resamples)."""
    rng, runs = np.random.default_rng(seed), evidence.runs
    pools = runs["zoo"].replace(POOLS)
    drawn = {
        pool: {
            of: pd.DataFrame(copies_of(names, resamples, rng), index=names)
            for of, names in (("name", part["name"].unique()), ("task", part["task"].unique()))
        }
        for pool, part in runs.groupby(pools)
    }
    finals, values = runs["final"].to_numpy(), scores.to_numpy(float)
    values = np.where(np.isfinite(values), values, -1e300)
    points, draws, tasks = [], [], []
    for (zoo, task, _), members in evidence.groups.items():
        of_pool = drawn[POOLS.get(zoo, zoo)]
        group = Group(values[members].T, finals[members])
        copies = of_pool["name"].loc[runs["name"].iloc[members]].to_numpy()
        once = np.ones((len(members), 1), np.float32)
        points.append([measure(group, once) for measure in measures.values()])
        draws.append([measure(group, copies) for measure in measures.values()])
        tasks.append(of_pool["task"].loc[task].to_numpy())
    return np.array(points), np.array(draws), np.array(tasks)


def _mean(found, copies):
    """The mean over groups (groups, measures, methods, resamples) with copies (groups, resamples); nan is left out."""
    counts = copies[:, None, None, :] * np.isfinite(found)
    with np.errstate(invalid="ignore"):
        return (counts * np.nan_to_num(found)).sum(0) / counts.sum(0)
