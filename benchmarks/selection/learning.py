"""Predictors learnt from recorded runs: how they are fitted, and what they predict for tasks and families left out."""

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from linegraph.selection.combined import HIGHEST, bounded
from linegraph.selection.history_features import GROUPS, features_of, standings

__all__ = [
    "COVERED",
    "all_features",
    "fit",
    "gains_left_out",
    "left_out",
    "names_of",
    "order_left_out",
    "predicted_left_out",
    "ranked_features",
    "rearranged",
    "relative_errors",
    "ridge",
    "standing_of_finals",
    "standings_of",
]

PENALTY = 100.0
"""The penalty of the ridge regressions; ``ablation`` compares others, and one that each fit chooses for itself."""


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


def weights(runs):
    """Weights of runs with which all groups count the same."""
    sizes = runs.groupby(["zoo", "task", "seed"])["name"].transform("size")
    return (sizes.mean() / sizes).to_numpy()


def ridge(x, y, runs, others, penalty=PENALTY):
    return Ridge(penalty).fit(x, y, weights(runs)).predict(others)


def left_out(evidence, x, y, fit=ridge, by=("task", "family")):
    """For every run, the prediction of a fit to the runs of other tasks and other families.

    Args:
        evidence: the runs.
        x: features, one row per run.
        y: what is predicted.
        fit: a function (x, y, runs, other x) that returns predictions, where ``runs`` are the rows of the evidence
            that are fitted.
        by: the columns in which fitted runs must differ from those that are predicted.
    """
    found, columns = np.full(len(y), np.nan), evidence.runs[list(by)].to_numpy()
    for key, part in evidence.runs.groupby(list(by)):
        others, rows = (columns != np.array(key, dtype=object)).all(axis=1), part.index.to_numpy()
        found[rows] = fit(x[others], y[others], evidence.runs[others], x[rows])
    return found


# what is shipped -------------------------------------------------------------------------------------------------

EPOCHS = (1, 2, 3, 5, 10)
COVERED = 0.95
"""The part of the final accuracies that lie within the intervals of predictions for other tasks and families."""
ORDER = ("accuracy", "size", "linear probe", "layer probe")
"""Groups of features from which the order is predicted; which ones is what ``verdict`` compares."""

GAIN = (
    "accuracy",
    "accuracy_since_start",
    "accuracy_gap",
    "last_step",
    "best_accuracy",
    "mean_accuracy",
    "loss_gap",
    "valid_loss_since_start",
    "seen_loss_since_start",
    "linear_probe",
    "probe_gain",
    "layer_probe",
    "layer_probe_gain",
)
"""Features, without the unit of a task, from which the gain of accuracy is predicted."""


def recorded(features, names):
    """Those of some features that most runs have after a number of epochs: the probe of layers in the first five."""
    return [name for name in names if features[name].notna().mean() > 0.5]


def gain_scales(features):
    """The features GAIN that were recorded, and the means and deviations by which they are scaled."""
    chosen = features[recorded(features, GAIN)]
    return {
        "features": list(chosen),
        "means": chosen.mean().tolist(),
        "scales": chosen.std().clip(lower=1e-6).tolist(),
    }


def scaled(features, scales):
    x = (features[scales["features"]].to_numpy() - scales["means"]) / scales["scales"]
    return np.nan_to_num(np.clip(x, -4, 4))


def seen_accuracy(evidence, epochs):
    return np.array([float(history["accuracy"].iloc[-1]) for history in evidence.first(epochs)])


def gains_left_out(evidence, features, epochs):
    """The final accuracy predicted for every run by fits to other tasks and families."""
    seen = seen_accuracy(evidence, epochs)
    x = scaled(features, gain_scales(features))
    gains = left_out(evidence, x, evidence.runs["final"].to_numpy() - seen)
    return np.array([bounded(a, gain) for a, gain in zip(seen, gains, strict=True)])


def relative_errors(evidence, predicted, epochs):
    """Errors of predicted accuracies in units of √(1.05 − a), with the last accuracy a seen."""
    errors = np.abs(predicted - evidence.runs["final"].to_numpy())
    return errors / np.sqrt(HIGHEST - seen_accuracy(evidence, epochs))


def rearranged(evidence, accuracies, standings_):
    """Predicted accuracies handed out within each group in the order of predicted standings, as ``combined`` does."""
    found = np.empty(len(accuracies))
    for members in evidence.groups.values():
        found[members[np.argsort(standings_[members], kind="stable")]] = np.sort(accuracies[members])
    return found


def standings_of(evidence, features):
    """The standings of the features ORDER that were recorded, and those of the finals."""
    return ranked_features(features[recorded(features, names_of(ORDER))], evidence), standing_of_finals(evidence)


def order_left_out(evidence, features):
    """The order that ``combined`` predicts, fitted to other tasks and families."""
    ranked, y = standings_of(evidence, features)
    return left_out(evidence, ranked.to_numpy(), y)


def fitted_order(evidence, features):
    """The ridge regression of standings of the finals, on those of the features ORDER; and the latter."""
    ranked, y = standings_of(evidence, features)
    return Ridge(PENALTY, fit_intercept=False).fit(ranked.to_numpy(), y, weights(evidence.runs)), ranked


def predicted_left_out(evidence, features, epochs):
    """The accuracies that ``combined`` predicts, fitted to other tasks and families."""
    return rearranged(evidence, gains_left_out(evidence, features, epochs), order_left_out(evidence, features))


def fit(evidence):
    """The coefficients of ``combined`` for every number of epochs, fitted to all runs."""
    w, found = weights(evidence.runs), {}
    for epochs in EPOCHS:
        features = all_features(evidence, epochs)
        order, ranked = fitted_order(evidence, features)
        scales, seen = gain_scales(features), seen_accuracy(evidence, epochs)
        gain = Ridge(PENALTY).fit(scaled(features, scales), evidence.runs["final"].to_numpy() - seen, w)
        predicted = predicted_left_out(evidence, features, epochs)
        found[str(epochs)] = {
            "order": {"features": list(ranked), "coefficients": rounded(order.coef_)},
            "gain": {
                **{name: rounded(v) if name != "features" else v for name, v in scales.items()},
                "coefficients": rounded(gain.coef_),
                "intercept": float(f"{gain.intercept_:.6g}"),
            },
            "error": float(f"{np.quantile(relative_errors(evidence, predicted, epochs), COVERED):.4g}"),
        }
    return found


def rounded(values):
    return [float(f"{v:.6g}") for v in values]
