"""Predictors learnt from recorded runs: how they are fitted, and what they predict for tasks and families left out."""

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge

from linegraph.selection.history_features import GROUPS, features_of, standings

__all__ = ["all_features", "left_out", "names_of", "ranked_features", "ridge", "standing_of_finals", "trees"]

PENALTY = 100.0


def names_of(groups):
    """The names of the features of some groups."""
    return tuple(name for group in groups for name in GROUPS[group])


def all_features(evidence, epochs):
    """The features of every run after some epochs, by name."""
    return pd.DataFrame([features_of(history) for history in evidence.first(epochs)])


def ranked_features(features, evidence):
    """Features as standings among the runs of a group."""
    found = np.zeros(features.shape)
    for members in evidence.groups.values():
        part = {i: features.iloc[i].to_dict() for i in members}
        found[members] = standings(part, features.columns)
    return pd.DataFrame(found, columns=features.columns)


def standing_of_finals(evidence):
    """The final accuracy as a standing among the runs of a group."""
    finals = pd.DataFrame({"final": evidence.runs["final"]})
    return ranked_features(finals, evidence)["final"].to_numpy()


def weights(evidence):
    """Weights of runs with which all groups count the same."""
    sizes = evidence.runs.groupby(["zoo", "task", "seed"])["name"].transform("size")
    return (sizes.mean() / sizes).to_numpy()


def ridge(x, y, w, others, penalty=PENALTY):
    return Ridge(penalty).fit(x, y, w).predict(others)


def trees(x, y, w, others):
    model = ExtraTreesRegressor(60, min_samples_leaf=4, max_features=0.33, random_state=0)
    return model.fit(x, y, w).predict(others)


def left_out(evidence, x, y, fit=ridge):
    """For every run, the prediction of a fit to the runs of other tasks and other families.

    Args:
        evidence: the runs.
        x: features, one row per run.
        y: what is predicted.
        fit: a function (x, y, weights, other x) that returns predictions.
    """
    found, w = np.full(len(y), np.nan), weights(evidence)
    for (task, family), part in evidence.runs.groupby(["task", "family"]):
        others = ((evidence.runs["task"] != task) & (evidence.runs["family"] != family)).to_numpy()
        rows = part.index.to_numpy()
        found[rows] = fit(x[others], y[others], w[others], x[rows])
    return found
