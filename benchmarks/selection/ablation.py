"""What was tried instead of ``combined``: other features, learners, encodings and targets, and other readings of β_eff.

Every variant differs from ``combined`` in one thing. All were looked at on the runs on which they are measured, so the
best of many is flattered: a variant replaces ``combined`` only if the interval of the difference excludes 0 by far.
"""

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import BayesianRidge, LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from benchmarks.selection import learning, verdict
from benchmarks.selection.bootstrap import MEASURES
from benchmarks.selection.scores import of_initial
from linegraph.selection.history_features import GROUPS

__all__ = ["ENCODINGS", "LEARNERS", "TARGETS", "judge", "pooled_at_zero"]

SCHEMES = {"tasks": ("task",), "families": ("family",), "both": ("task", "family")}
"""What is left out, by name."""

GROUP = ["zoo", "task", "seed"]
NEIGHBOURS = 10
"""Other candidates of its ranking with which each is paired."""


# learners: functions (x, y, runs, other x) that return predictions -------------------------------------------------


def trees(x, y, runs, others):
    model = ExtraTreesRegressor(100, min_samples_leaf=8, max_features=0.3, random_state=0)
    return model.fit(x, y, learning.weights(runs)).predict(others)


def boosting(x, y, runs, others):
    model = HistGradientBoostingRegressor(
        learning_rate=0.08, max_iter=60, max_leaf_nodes=8, min_samples_leaf=20, l2_regularization=5.0, random_state=0
    )
    return model.fit(x, y, learning.weights(runs)).predict(others)


def averaged(x, y, runs, others):
    return learning.ridge(x, y, runs, others) + trees(x, y, runs, others)


def landmarks(x, y, runs, others):
    """A Gaussian process with the RBF kernel in Nyström's approximation on up to 200 runs, and a linear term."""
    kernel = make_pipeline(Nystroem(gamma=0.3 / x.shape[1], n_components=min(200, len(x)), random_state=0), Ridge(1.0))
    linear = Ridge(learning.PENALTY).fit(x, y, learning.weights(runs))
    return linear.predict(others) + kernel.fit(x, y - linear.predict(x)).predict(others)


def chosen_penalty(x, y, runs, others):
    """Ridge regression with the penalty of the least error for families left out of the runs that are fitted."""
    folds = list(GroupKFold(min(5, runs["family"].nunique())).split(x, groups=runs["family"]))
    model = RidgeCV((1.0, 10.0, 100.0, 1000.0), cv=folds)
    return model.fit(x, y, sample_weight=learning.weights(runs)).predict(others)


def pairs(x, y, runs, others):
    """Logistic regression of which of two candidates of a ranking ends higher, each paired with some others."""
    rng, rows = np.random.default_rng(0), np.arange(len(y))
    first, second = [], []
    for part in pd.Series(rows, index=runs.index).groupby([runs[column] for column in GROUP]):
        members = part[1].to_numpy()
        first.append(np.repeat(members, NEIGHBOURS))
        second.append(rng.choice(members, len(members) * NEIGHBOURS))
    i, j = np.concatenate(first), np.concatenate(second)
    i, j = i[y[i] != y[j]], j[y[i] != y[j]]
    model = LogisticRegression(C=0.1, fit_intercept=False, max_iter=300)
    return others @ model.fit(x[i] - x[j], y[i] > y[j]).coef_[0]


LEARNERS = {
    "ridge, penalty 10": lambda *given: learning.ridge(*given, penalty=10.0),
    "ridge, penalty 1000": lambda *given: learning.ridge(*given, penalty=1000.0),
    "ridge, penalty chosen by families left out": chosen_penalty,
    "extremely randomised trees": trees,
    "gradient boosting": boosting,
    "ridge and trees averaged": averaged,
    "ridge and Gaussian process": landmarks,
    "logistic regression of pairs": pairs,
}

# encodings and targets ---------------------------------------------------------------------------------------------


def _ranks(table):
    return (((table.rank() - 0.5) / table.notna().sum()).fillna(0.5) - 0.5) * np.sqrt(12)


def _z_scores(table):
    return ((table - table.mean()) / table.std().clip(lower=1e-9)).clip(-4, 4).fillna(0.0)


def _normal_scores(table):
    return pd.DataFrame(ndtri(((table.rank() - 0.5) / table.notna().sum()).fillna(0.5)), table.index, table.columns)


ENCODINGS = {"ranks": _ranks, "normal scores": _normal_scores, "z-scores": _z_scores, "absolute": _z_scores}
"""Functions of the features of one ranking; "absolute" takes those of all rankings together."""


def encoded(features, evidence, encoding):
    """Features in an encoding, an array (runs, features)."""
    table = features.replace([np.inf, -np.inf], np.nan)
    if encoding == "absolute":
        return ENCODINGS[encoding](table).to_numpy()
    found = np.empty(table.shape)
    for members in evidence.groups.values():
        found[members] = ENCODINGS[encoding](table.iloc[members]).to_numpy()
    return found


def _between(accuracy):
    return np.clip(accuracy, 0.005, 0.995)


TARGETS = {
    "standing": (lambda final, seen, standing: standing, lambda predicted, seen: predicted),
    "gain": (lambda final, seen, standing: final - seen, lambda predicted, seen: seen + predicted),
    "gain of the logit": (
        lambda final, seen, standing: logit(_between(final)) - logit(_between(seen)),
        lambda predicted, seen: expit(logit(_between(seen)) + predicted),
    ),
}
"""What is predicted of the final accuracy, that seen and the standing; and the score that follows from a prediction."""

# readings of β_eff -------------------------------------------------------------------------------------------------


def _seen(history, epochs, column, accuracy):
    rows = history[(history["epoch"] > 0) & (history["epoch"] <= epochs) & np.isfinite(history[column])]
    return rows[column].to_numpy(float), accuracy(rows["accuracy"].to_numpy(float))


def _log_error(accuracy):
    return -np.log(np.maximum(1 - accuracy, 0.005))


def alone_at_zero(evidence, epochs, column, accuracy):
    """For each run the accuracy regressed on β_eff by Bayesian ridge, at zero, as the papers do."""
    found = np.full(len(evidence.runs), np.nan)
    for k, history in enumerate(evidence.histories):
        beta, values = _seen(history, epochs, column, accuracy)
        if len(beta) >= 2 and beta.std():
            fitted = BayesianRidge().fit((beta / beta.std())[:, None], values)
            found[k] = fitted.intercept_
    return found


def pooled_at_zero(evidence, epochs, column, accuracy, slopes=True):
    """Accuracies at β_eff = 0, where the candidates of a ranking have their own level and partly pooled slopes.

    One Bayesian ridge regression for each ranking, on β_eff within candidates and on its product with each candidate;
    the evidence sets how much slopes of candidates may differ from the common one. Without ``slopes`` all are the same.
    """
    found = np.full(len(evidence.runs), np.nan)
    for members in evidence.groups.values():
        parts = [_seen(evidence.histories[k], epochs, column, accuracy) for k in members]
        kept = [(k, beta, values) for k, (beta, values) in zip(members, parts, strict=True) if len(beta) >= 2]
        if not kept:
            continue
        unit = np.sqrt(np.mean([beta.var() for _, beta, _ in kept])) or 1.0
        x = np.concatenate([beta - beta.mean() for _, beta, _ in kept]) / unit
        y = np.concatenate([values - values.mean() for _, _, values in kept])
        of = np.repeat(np.eye(len(kept)), [len(beta) for _, beta, _ in kept], axis=0)
        design = np.hstack([x[:, None], *([x[:, None] * of] if slopes else [])])
        fitted = BayesianRidge(fit_intercept=False).fit(design, y).coef_
        for j, (k, beta, values) in enumerate(kept):
            slope = (fitted[0] + (fitted[1 + j] if slopes else 0.0)) / unit
            found[k] = values.mean() - slope * beta.mean()
    return found


def readings(evidence, epochs):
    """What is read of β_eff alone, without learning from other rankings."""
    found = {}
    for column in ("beta_eff", "signed_beta_eff"):
        for of, accuracy in (("accuracy", np.asarray), ("log error", _log_error)):
            name = f"{of} on {column}"
            found[f"{name}, each run alone"] = alone_at_zero(evidence, epochs, column, accuracy)
            found[f"{name}, slopes partly pooled"] = pooled_at_zero(evidence, epochs, column, accuracy)
            found[f"{name}, one slope"] = pooled_at_zero(evidence, epochs, column, accuracy, slopes=False)
    return pd.DataFrame(found)


# the table ---------------------------------------------------------------------------------------------------------


def variants(evidence, epochs, initial):
    """(part, name, features encoded, target, learner) of everything that is learnt; the first is ``combined``."""
    features = learning.all_features(evidence, epochs)
    normal = pd.DataFrame(encoded(features, evidence, "normal scores"), columns=features.columns)
    own = list(learning.names_of(learning.ORDER))
    x, others = normal[own].to_numpy(), tuple(group for group in GROUPS if group not in learning.ORDER)
    yield "combined", "combined", x, "standing", learning.ridge
    sets = {f"without {group}": tuple(g for g in learning.ORDER if g != group) for group in learning.ORDER}
    sets |= {f"and {group}": (*learning.ORDER, group) for group in others}
    sets |= {f"{group} alone": (group,) for group in GROUPS}
    sets |= {"gradient and P alone": others, "all": tuple(GROUPS)}
    sets["accuracy, gradient and P"] = ("accuracy", *others)
    for name, groups in sets.items():
        yield "features", name, normal[list(learning.names_of(groups))].to_numpy(), "standing", learning.ridge
    start = of_initial(evidence, initial)
    of_start = pd.DataFrame(encoded(start, evidence, "normal scores"), columns=start.columns)
    for name, columns in (("and FLOPs", ["flops"]), ("and all scores of the start", list(of_start))):
        yield "features", name, np.hstack([x, of_start[columns]]), "standing", learning.ridge
    for name, learner in LEARNERS.items():
        yield "learner", name, x, "standing", learner
    for name in ENCODINGS:
        if name != "normal scores":
            yield "encoding", name, encoded(features[own], evidence, name), "standing", learning.ridge
    for target in TARGETS:
        if target != "standing":
            yield "target", target, x, target, learning.ridge
            yield (
                "target",
                f"{target}, of absolute features",
                encoded(features[own], evidence, "absolute"),
                target,
                learning.ridge,
            )
    setting = np.where(evidence.runs["zoo"] == "scratch", 1.0, -1.0)[:, None]
    yield "setting", "coefficients differ if pre-trained", np.hstack([x, x * setting / 2]), "standing", learning.ridge


def judge(evidence, epochs, initial, resamples):
    """The tables of what was tried, pairs of a title and a DataFrame, and their rows."""
    rows = []
    for number in epochs:
        final, seen = evidence.runs["final"].to_numpy(), learning.seen_accuracy(evidence, number)
        standing = learning.standing_of_finals(evidence)
        scores = {}
        for part, name, x, target, learner in variants(evidence, number, initial):
            make, read = TARGETS[target]
            for scheme, by in SCHEMES.items():
                predicted = learning.left_out(evidence, x, make(final, seen, standing), learner, by)
                scores[f"{part}: {name}", scheme] = read(predicted, seen)
        of_beta = readings(evidence, number)
        of_beta["last_seen"], of_beta["linear_probe"] = seen, _last(evidence, number, "linear_probe")
        for scheme in SCHEMES:
            columns = {name: values for (name, s), values in scores.items() if s == scheme}
            of_beta_too = of_beta.add_prefix("read: ") if scheme == "both" else of_beta[[]]
            table = pd.DataFrame(columns).join(of_beta_too)
            found = verdict.intervals(
                table, evidence, resamples, "combined: combined", {"spearman": MEASURES["spearman"]}
            )
            rows += found.assign(epochs=number, left_out=scheme).to_dict("records")
    return list(tables(pd.DataFrame(rows))), rows


def tables(rows):
    """One table after each number of epochs: the correlation by what is left out, and what combined has more."""
    for number, part in rows[rows["zoo"] == "all"].groupby("epochs", sort=True):
        wide = part.pivot(index="method", columns="left_out", values="mean")
        by_zoo = rows[(rows["epochs"] == number) & (rows["left_out"] == "both") & (rows["zoo"] != "all")]
        by_zoo = by_zoo.pivot(index="method", columns="zoo", values="mean")
        both = part[part["left_out"] == "both"].set_index("method")
        more = both.apply(_less, axis=1)
        table = wide[list(SCHEMES)].add_prefix("left out: ").join(by_zoo)
        table["both minus combined"] = more
        table.loc["combined: combined", "both minus combined"] = "-"
        order = list(dict.fromkeys(rows["method"]))
        yield f"Spearman correlation of what was tried, after {number} epochs", table.loc[order]


def _less(row):
    """What a method has more than ``combined``, with the interval."""
    values = -row["more"], -row["more_high"], -row["more_low"]
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*values) if np.isfinite(row["mean"]) else "-"


def _last(evidence, epochs, column):
    return np.array([float(history[column].iloc[-1]) for history in evidence.first(epochs)])
