"""Why the capacitance, read at zero, orders networks worse than the last accuracy seen."""

import warnings

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmarks.selection import learning
from benchmarks.selection.halving import order
from linegraph.errors import DataError
from linegraph.selection import spearman
from linegraph.selection.regression import at_zero_capacitance, at_zero_signed_capacitance

__all__ = ["errors_of_combined", "intervals_of_combined", "judge"]

UNDEFINED = 1e-6
"""Share of the sum of the magnitude coupling below which that of the signed coupling counts as zero."""


def judge(evidence, epochs=5):
    """The tables that say why, pairs of a title and a DataFrame; and the figures of every run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        runs = pd.DataFrame([of_run(history, epochs) for history in evidence.histories])
        runs = evidence.runs.join(runs)
        tables = [
            (f"The regression on β_eff of {epochs} epochs, read at zero: medians over runs", regression(runs)),
            (
                "Which score of one seed is that of the other? Spearman correlation of seeds, mean over tasks",
                repeats(runs),
            ),
            ("β_eff and accuracy along a run", along_a_run(runs)),
            (
                "β_eff and final accuracy between networks: Spearman correlation, mean over seeds",
                between(runs, evidence),
            ),
            ("What the variance of log β_eff belongs to", scale(runs)),
            (f"The signed β_eff of epochs 1 to {epochs}", signed(runs)),
            (f"Capacitance minus last accuracy seen, Spearman correlation after {epochs} epochs", wins(runs, evidence)),
            ("The same within one family; families of four networks or more", wins_within(runs)),
        ]
        tables += [*errors_of_combined(evidence), intervals_of_combined(evidence)]
        return tables, runs.to_dict("records")


def of_run(history, epochs):
    """What one run contributes."""
    trained = history[history["epoch"] > 0]
    all_read = trained[trained["beta_eff"].notna()]
    seen = trained[trained["epoch"] <= epochs]
    read = seen[seen["beta_eff"].notna()]
    beta, accuracy = read["beta_eff"].to_numpy(), read["accuracy"].to_numpy()
    steps = np.sign(np.diff(beta)) * np.sign(np.diff(accuracy))
    sums = seen["signed_denominator"].abs() / seen["denominator"]
    return {
        "distance": beta.mean() / beta.std(),
        "standard error": error_at_zero(beta, accuracy),
        "slope": np.polyfit(beta, accuracy, 1)[0] if beta.std() else np.nan,
        "capacitance": _value(at_zero_capacitance, seen),
        "signed_capacitance": _value(at_zero_signed_capacitance, seen),
        "last_seen": accuracy[-1],
        "beta": beta[-1],
        "log beta": np.log(beta[-1]) if beta[-1] > 0 else np.nan,
        "order": spearman(all_read["beta_eff"], all_read["accuracy"]),
        "opposite steps": np.mean(steps[steps != 0] < 0) if np.any(steps) else np.nan,
        "monotone": bool((np.diff(beta) < 0).all()),
        "peak": int(read["epoch"].iloc[beta.argmax()]),
        "undefined": float(((sums < UNDEFINED) | seen["signed_beta_eff"].isna()).mean()),
        "missing": float(seen["signed_beta_eff"].isna().mean()),
        "negative": float((seen["signed_beta_eff"] < 0).mean()),
        "sum": float(sums.median()),
    }


def error_at_zero(beta, accuracy):
    """The standard error of the intercept of a least-squares line: s √(1/T + mean(β)² / Σ(β − mean β)²)."""
    if len(beta) < 3 or not beta.std():
        return np.nan
    residuals = accuracy - np.polyval(np.polyfit(beta, accuracy, 1), beta)
    variance = (residuals**2).sum() / (len(beta) - 2)
    return float(np.sqrt(variance * (1 + (beta.mean() / beta.std()) ** 2) / len(beta)))


def regression(runs):
    """How far outside of what was seen zero is, how uncertain the reading, and how far apart networks are."""
    zoos = runs.groupby("zoo")
    spread = runs.groupby(["zoo", "task", "seed"])["final"].std().groupby("zoo").mean()
    return pd.DataFrame(
        {
            "mean β / deviation of β": zoos["distance"].median(),
            "standard error at zero": zoos["standard error"].median(),
            "deviation of finals between networks": spread,
            "rising with β (share of runs)": zoos["slope"].agg(lambda slope: (slope > 0).mean()),
        }
    )


def repeats(runs):
    """The correlation between seeds of scores and of final accuracies, and of scores with finals."""
    columns = ["capacitance", "signed_capacitance", "beta", "last_seen", "final"]
    found = {}
    for column in columns:
        wide = runs.pivot(index=["zoo", "task", "name"], columns="seed", values=column).dropna()
        of_tasks = wide.groupby(level=["zoo", "task"]).apply(lambda part: part.corr("spearman").iloc[0, 1])
        found[column] = of_tasks.groupby(level="zoo").mean()
    return pd.DataFrame(found).rename(columns={"beta": "β_eff itself"})


def along_a_run(runs):
    """Whether β_eff falls where the accuracy rises."""
    zoos = runs.groupby("zoo")
    return pd.DataFrame(
        {
            "rank correlation, median": zoos["order"].median(),
            "above 0 (share of runs)": zoos["order"].agg(lambda order: (order > 0).mean()),
            "steps of opposite sign": zoos["opposite steps"].mean(),
            "β falls in every epoch": zoos["monotone"].mean(),
            "β is highest in epoch 1": zoos["peak"].agg(lambda peak: (peak == 1).mean()),
        }
    )


def between(runs, evidence):
    """The correlation of β_eff with final accuracies among all networks, and among those of a family."""
    rows = []
    for (zoo, task, _), members in evidence.groups.items():
        part = runs.iloc[members]
        of_families = [
            spearman(of_one["beta"], of_one["final"]) for _, of_one in part.groupby("family") if len(of_one) >= 4
        ]
        rows.append(
            {
                "zoo": zoo,
                "task": task,
                "all networks": spearman(*part[["beta", "final"]].dropna().to_numpy().T),
                "within a family, mean": float(np.nanmean(of_families)) if of_families else np.nan,
                "capacitance": _ordered(part["capacitance"], part["final"]),
                "last_seen": _ordered(part["last_seen"], part["final"]),
            }
        )
    return pd.DataFrame(rows).groupby(["zoo", "task"]).mean()


def scale(runs):
    """The shares of the variance of log β_eff between families, between networks of one, and within a network."""
    found = {}
    for zoo, part in runs.dropna(subset="log beta").groupby("zoo"):
        values = part["log beta"]
        family = part.groupby("family")["log beta"].transform("mean")
        name = part.groupby("name")["log beta"].transform("mean")
        total = ((values - values.mean()) ** 2).sum()
        found[zoo] = {
            "families": ((family - values.mean()) ** 2).sum() / total,
            "networks of a family": ((name - family) ** 2).sum() / total,
            "tasks and seeds of a network": ((values - name) ** 2).sum() / total,
            "largest / smallest β of a family, medians": np.exp(np.ptp(part.groupby("family")["log beta"].median())),
        }
    return pd.DataFrame(found).T.rename_axis("zoo")


def signed(runs):
    """Where the signed β_eff is 0/0, nearly so, or negative, by zoo and family."""
    families = runs.groupby(["zoo", "family"])
    return pd.DataFrame(
        {
            "nan": families["missing"].mean(),
            "0/0 but for rounding": families["undefined"].mean(),
            "negative": families["negative"].mean(),
            "|sum| in thousandths of the sum of magnitudes, median": 1000 * families["sum"].median(),
        }
    )


def wins(runs, evidence):
    """By zoo and task, what the capacitances have more than the last accuracy seen, mean over seeds."""
    rows = []
    for (zoo, task, _), members in evidence.groups.items():
        part = runs.iloc[members]
        seen = _ordered(part["last_seen"], part["final"])
        more = {m: _ordered(part[m], part["final"]) - seen for m in ("capacitance", "signed_capacitance")}
        rows.append({"zoo": zoo, "task": task, **more})
    return pd.DataFrame(rows).groupby(["zoo", "task"]).mean()


def wins_within(runs):
    """In how many rankings of one family a capacitance orders better than the last accuracy seen, and by how much."""
    rows = []
    for (zoo, _, _, family), part in runs.groupby(["zoo", "task", "seed", "family"]):
        if len(part) >= 4:
            seen = _ordered(part["last_seen"], part["final"])
            more = {m: _ordered(part[m], part["final"]) - seen for m in ("capacitance", "signed_capacitance")}
            rows.append({"zoo": zoo, "family": family, "last_seen": seen, **more})
    families = pd.DataFrame(rows).groupby(["zoo", "family"])
    return pd.DataFrame(
        {
            "rankings": families.size(),
            "last_seen": families["last_seen"].mean(),
            "capacitance wins": families["capacitance"].agg(lambda more: int((more > 0).sum())),
            "has more": families["capacitance"].mean(),
            "signed_capacitance wins": families["signed_capacitance"].agg(lambda more: int((more > 0).sum())),
            "signed has more": families["signed_capacitance"].mean(),
        }
    )


def errors_of_combined(evidence, epochs=(1, 3, 5, 10)):
    """Where ``combined`` errs: its correlation by task, and how far it misplaces families (second of epochs)."""
    runs, orders = evidence.runs, {number: order(evidence, number) for number in epochs}
    rows, misplaced = [], np.empty(len(runs))
    for (zoo, task, _), members in evidence.groups.items():
        finals = runs["final"].to_numpy()[members]
        of_epochs = {f"after {n}": spearman(orders[n][members], finals) for n in epochs}
        rows.append({"zoo": zoo, "task": task, **of_epochs})
        misplaced[members] = (rankdata(orders[epochs[1]][members]) - rankdata(finals)) / len(members)
    by_task = pd.DataFrame(rows).groupby(["zoo", "task"]).mean().assign(ceiling=evidence.ceiling())
    families = runs.assign(far=misplaced).groupby(["zoo", "family"])["far"]
    by_family = pd.DataFrame(
        {"too high, mean": families.mean(), "misplaced, mean": families.agg(lambda far: far.abs().mean())}
    )
    return [
        ("Where combined errs: Spearman correlation by task, mean over seeds", by_task),
        (f"The same by family after {epochs[1]} epochs, in parts of the length of a ranking", by_family),
    ]


def intervals_of_combined(evidence, epochs=(1, 3, 5, 10)):
    """How far ``combined`` is from the final accuracies, and how many of them lie within its 95 % intervals."""
    parts = {}
    for number in epochs:
        features = learning.all_features(evidence, number)
        predicted = learning.predicted_left_out(evidence, features, number)
        errors = learning.relative_errors(evidence, predicted, number)
        runs = evidence.runs.assign(
            missed=np.abs(predicted - evidence.runs["final"]), inside=errors <= np.quantile(errors, learning.COVERED)
        )
        rankings = runs.groupby(["zoo", "task", "seed"])["inside"].mean()
        parts[number] = runs.groupby("zoo").agg(**{"mean error": ("missed", "mean"), "within": ("inside", "mean")})
        parts[number]["within, in the worst ranking"] = rankings.groupby("zoo").min()
    table = pd.concat(parts, names=["epochs"])
    return "Mean error of combined, and the part of the final accuracies within its 95 % interval", table


def _value(method, seen):
    try:
        return method(seen)[0]
    except DataError:
        return np.nan


def _ordered(scores, finals):
    """Spearman's ρ, candidates without a score last."""
    return spearman(rankdata(np.nan_to_num(scores.to_numpy(float), nan=-np.inf)), finals)
