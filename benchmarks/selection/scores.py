"""What every method says of every recorded run after some epochs; higher is better in all columns."""

import warnings

import numpy as np
import pandas as pd

from benchmarks.selection import learning
from benchmarks.selection.evidence import KEY, equal_cost_epochs
from linegraph.selection import static_ranking
from linegraph.selection.methods import METHODS, evaluated

__all__ = ["ABLATION", "all_scores"]

ABLATION = {
    "combined": learning.ORDER,
    "combined and gradients": (*learning.ORDER, "gradient"),
    "combined and P": (*learning.ORDER, "gradient", "coupling", "signed coupling"),
    "combined, no layer probe": ("accuracy", "size", "linear probe"),
    "combined, no probes": ("accuracy", "size"),
    "combined and P, no probes": ("accuracy", "size", "gradient", "coupling", "signed coupling"),
    "P alone": ("coupling", "signed coupling"),
}
"""Learnt orders, by the groups of features that they read."""


def all_scores(evidence, epochs, initial):
    """A DataFrame, one row per run and one column per method.

    Args:
        evidence: the runs.
        epochs: number of epochs seen.
        initial: the scores of networks as constructed, a DataFrame with the columns KEY and one per method.
    """
    found = of_histories(evidence, epochs)
    found = found.join(of_initial(evidence, initial))
    found["static_ranking"] = of_other_tasks(evidence)
    found["final of the other seed"] = of_other_seed(evidence)
    found["last_seen at equal cost"] = at_equal_cost(evidence, epochs)
    features = learning.all_features(evidence, epochs)
    if not learning.recorded(features, ["layer_probe"]):  # in few runs, or in earlier epochs only
        found["layer_probe"] = np.nan
    ranked = learning.ranked_features(features, evidence)
    y = learning.standing_of_finals(evidence)
    for name, groups in ABLATION.items():
        found[name] = learning.left_out(evidence, ranked[list(learning.names_of(groups))].to_numpy(), y)
    found["expected gain"] = learning.gains_left_out(evidence, features, epochs)
    return found


def of_histories(evidence, epochs):
    """The registered methods that read one history."""
    columns = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in METHODS.values():
            if method.arguments == "history":
                sign = 1 if method.higher_is_better else -1
                values = [evaluated(method, lambda h=h: (h,)).value for h in evidence.first(epochs)]
                columns[method.name] = sign * np.array(values)
    return pd.DataFrame(columns)


def of_initial(evidence, initial):
    """The registered scores of networks as constructed; frozen bodies have those of the fine-tuned ones."""
    runs = evidence.runs[KEY].copy()
    runs["zoo"] = runs["zoo"].replace("frozen", "transfer")
    merged = runs.merge(initial, on=KEY, how="left")
    names = [name for name in METHODS if name in merged]
    signs = [1 if METHODS[name].higher_is_better else -1 for name in names]
    return merged[names] * signs


def of_other_tasks(evidence):
    """The static ranking: the mean rank of a network on the other tasks of its zoo."""
    found = np.full(len(evidence.runs), np.nan)
    for _, part in evidence.runs.groupby(["zoo", "seed"]):
        results = part.pivot(index="name", columns="task", values="final")
        for task, members in part.groupby("task"):
            if results.shape[1] > 1:
                found[members.index] = static_ranking(results, task=task).reindex(members["name"]).to_numpy()
    return found


def of_other_seed(evidence):
    """The final accuracy of the same network and task with the other seed: the ceiling of what can be known."""
    finals = evidence.runs.set_index(KEY)["final"]
    return np.array(
        [finals.get((*key[:-1], 1 - key[-1]), np.nan) for key in evidence.runs[KEY].itertuples(index=False, name=None)]
    )


def at_equal_cost(evidence, epochs):
    """The accuracy after the epochs of plain training that take as long as ``epochs`` epochs with all records of P."""
    later = equal_cost_epochs(evidence, epochs)
    return np.array(
        [float(h.loc[h["epoch"] == e, "accuracy"].iloc[0]) for h, e in zip(evidence.histories, later, strict=True)]
    )
