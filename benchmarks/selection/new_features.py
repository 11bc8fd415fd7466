"""Do figures that histories do not hold tell more of the final accuracy? Each alone, and added to ``combined``.

The runs are those whose figures were taken (``new_figures.py``). What is learnt is fitted to runs of other tasks and
other families than those that it orders. Features are added in two ways:

- to ``combined`` as it is fitted to all recorded runs: a ridge regression, fitted to the runs with figures, on the
  order that ``combined`` predicts and on the standings of the new features;
- to the features of ``combined``, where both are fitted to the runs with figures alone.
"""

from functools import partial

import numpy as np
import pandas as pd

from benchmarks.selection import learning, verdict
from benchmarks.selection.bootstrap import MEASURES
from benchmarks.selection.evidence import KEY, Evidence
from benchmarks.selection.new_figures import SUMS

__all__ = ["ALONE", "GROUPS", "LOSSES", "alone", "judge", "with_figures"]

GROUP = ["zoo", "task", "seed"]
SPEARMAN = {"spearman": MEASURES["spearman"]}
FITS = ("fitted to all runs", "fitted to these runs")
"""The runs to which the features of ``combined`` are fitted: all that are recorded, or those with figures alone."""
FEW = 10.0
"""The penalty of fits to the runs with figures, a twelfth of all."""
MISSED = "missed"
NOTHING = "nothing"
"""What is added to ``combined`` where it is compared as it is."""

GROUPS = {
    "averaged": ("averaged_accuracy", "averaged_valid_loss", "averaged_probe"),
    "annealed": ("annealed_accuracy", "annealed_valid_loss", "annealed_probe"),
    "longer": ("longer_accuracy", "longer_valid_loss", "longer_probe"),
    "middle of the epoch": ("half_accuracy", "half_valid_loss", "half_probe", "half_gain", "half_probe_gain"),
    "quarters of the epoch": ("quarter_4", "quarter_fall", "quarter_bend"),
    "larger probes": ("probes_1024", "probes_all", "probes_nearest", "probes_gain"),
    "shape of features": ("probes_rank", "probes_collapse"),
    "probes of layers": ("layers_probe", "layers_middle", "layers_best", "layers_gain"),
    "weights and zeros": (
        "weights_steepness",
        "weights_steepness_deviation",
        "weights_steepness_last",
        "weights_dead",
        "weights_dead_units",
        "weights_stable_rank",
        "weights_spectral",
    ),
    "margin and entropy": ("predicted_margin", "predicted_entropy"),
    "layers of P": tuple(f"coupling_{of}_{what}" for of in SUMS for what in ("last", "slope", "deviation")),
    "spectrum of P": ("coupling_norm", "coupling_rank"),
    "marks of a slow start": ("layers_unused", "layers_gain", "quarter_fall", "quarter_bend", "weights_dead_units"),
}
"""Features that are added to those of ``combined``, by what they have in common."""

SINGLE = tuple(dict.fromkeys(name for members in GROUPS.values() for name in members))
"""The features of all groups."""

TRAINED_FURTHER = ("annealed", "longer")
"""Groups that cost half an epoch; the others cost passes over samples at most."""

ALONE = (
    *("averaged_accuracy", "averaged_probe", "annealed_accuracy", "annealed_probe", "longer_accuracy", "longer_probe"),
    *("half_accuracy", "half_probe", "probes_256", "probes_1024", "probes_all", "probes_nearest"),
    *("layers_probe", "layers_middle", "layers_best", "predicted_margin"),
)
"""Figures that order candidates by themselves, higher is better."""
LOSSES = ("averaged_valid_loss", "annealed_valid_loss", "longer_valid_loss", "half_valid_loss", "quarter_4")


def with_figures(evidence, figures, epochs):
    """The runs whose figures were taken after some epochs: their rows in the evidence, and the figures, a DataFrame.

    Groups of fewer than two fifths of their networks, as in a recording that was stopped, are left out.
    """
    found = evidence.runs[KEY].reset_index().merge(figures[figures["epoch"] == epochs], on=KEY, validate="one_to_one")
    sizes = evidence.runs.groupby(GROUP).size().rename("size")
    enough = found.groupby(GROUP)["index"].transform("size") >= 0.4 * found.join(sizes, on=GROUP)["size"]
    found = found[enough].reset_index(drop=True)
    return found["index"].to_numpy(), features_of(found.drop(columns=[*KEY, "index", "epoch"]).astype(float))


def taken(evidence, rows):
    """The evidence of some runs."""
    return Evidence(evidence.runs.iloc[rows].reset_index(drop=True), [evidence.histories[i] for i in rows])


def features_of(figures):
    """The figures, and what follows from them: gains over what histories hold, and the shape of the loss curve."""
    quarters = [np.log(figures[f"quarter_{k}"]) for k in (1, 2, 3, 4)]
    return figures.assign(
        half_gain=figures["accuracy"] - figures["half_accuracy"],
        half_probe_gain=figures["probes_256"] - figures["half_probe"],
        quarter_fall=quarters[0] - quarters[3],
        quarter_bend=quarters[0] - quarters[1] - quarters[2] + quarters[3],
        probes_gain=figures["probes_all"] - figures["probes_256"],
        layers_gain=figures["layers_probe"] - figures["probes_1024"],
        layers_unused=figures["layers_best"] - figures["accuracy"],
    )


def alone(evidence, figures, epochs):
    """Figures as scores, higher is better, beside those that histories hold."""
    last = pd.DataFrame([history.iloc[-1] for history in evidence.first(epochs)]).reset_index(drop=True)
    later = learning.seen_accuracy(evidence, epochs + 1)
    probe, loss = last["linear_probe"].to_numpy(float), last["valid_loss"].to_numpy(float)
    found = {"last_seen": last["accuracy"].to_numpy(float), "linear_probe": probe, "last_valid_loss": -loss}
    found["last_seen, one epoch later"] = later
    found |= {name: figures[name].to_numpy() for name in ALONE} | {name: -figures[name].to_numpy() for name in LOSSES}
    return pd.DataFrame(found)


def order(evidence, x, penalty=FEW):
    """The order that is predicted for each run by a ridge regression fitted to other tasks and families."""
    ridge = partial(learning.ridge, penalty=penalty)
    return learning.left_out(evidence, x, learning.standing_of_finals(evidence), ridge)


def are_recorded(features):
    """Whether most runs have all features that ``combined`` reads, as they have not after every number of epochs."""
    names = learning.names_of(learning.ORDER)
    return len(learning.recorded(features, names)) == len(names)


def added(evidence, base, figures):
    """The orders that are predicted from some columns and, in turn, each group of figures, by the name of the group."""
    new = learning.ranked_features(figures, evidence)
    free = [name for group, members in GROUPS.items() if group not in TRAINED_FURTHER for name in members]
    chosen = {group: list(members) for group, members in GROUPS.items()}
    chosen |= {"all without more training": free, "all but longer": [*free, *GROUPS["annealed"]]}
    return {group: order(evidence, np.column_stack([base, new[members]])) for group, members in chosen.items()}


def missed(evidence, own):
    """The evidence with what ``combined``, whose order is given, misses of the true standing in place of the final."""
    residuals = learning.standing_of_finals(evidence) - own
    return Evidence(evidence.runs.assign(final=residuals), evidence.histories)


def compared(evidence, some, rows, figures, epochs):
    """(what is asked, evidence, scores) of some runs of the evidence, with their figures, after some epochs.

    The first of the scores is the one that the others are compared with.
    """
    whole = learning.order_left_out(evidence, learning.all_features(evidence, epochs))[rows]
    own = learning.standings_of(some, learning.all_features(some, epochs))[0].to_numpy()
    first = {NOTHING: whole} | added(some, whole, figures)
    later = learning.all_features(evidence, epochs + 1)
    if are_recorded(later):
        first["combined, one epoch later"] = learning.order_left_out(evidence, later)[rows]
    yield FITS[0], some, pd.DataFrame(first).join(alone(some, figures, epochs))
    yield FITS[1], some, pd.DataFrame({NOTHING: order(some, own)} | added(some, own, figures))
    yield MISSED, missed(some, whole), learning.ranked_features(figures[list(SINGLE)], some)


def judge(evidence, figures, epochs, resamples=500):
    """The tables, pairs of a title and a DataFrame, and the rows that they are made of.

    Each row holds the mean correlation of one method in one zoo, with its interval, and what ``combined``, fitted to
    the same runs, has more; or the correlation of one figure with what ``combined`` misses.
    """
    parts, checks = [], []
    for number in epochs:
        rows, of_runs = with_figures(evidence, figures, number)
        some = taken(evidence, rows)
        checks.append(checked(some, of_runs, number))
        for asked, of, scores in compared(evidence, some, rows, of_runs, number):
            found = verdict.intervals(scores, of, resamples, next(iter(scores)), SPEARMAN)
            parts.append(found.assign(epochs=number, asked=asked))
    found = pd.concat(parts, ignore_index=True)
    made = [("Runs with new figures", pd.concat(checks)), *tables(found)]
    others = without_figures(evidence, figures)
    if len(others):
        title = "What the probe of all layers adds to combined on tasks that had no part in finding it"
        made.append((title, confirmed(evidence, others, epochs, resamples)))
    return made, found.to_dict("records")


def without_figures(evidence, figures):
    """The rows of the runs of tasks, of a zoo, on which no figures were taken."""
    seen = set(zip(figures["zoo"], figures["task"], strict=True))
    tasks = zip(evidence.runs["zoo"], evidence.runs["task"], strict=True)
    return np.flatnonzero([task not in seen for task in tasks])


def confirmed(evidence, rows, epochs, resamples):
    """What ``combined`` has more than without its probe of all layers, on some runs, by zoo and number of epochs."""
    without = [name for name in learning.names_of(learning.ORDER) if name not in learning.names_of(("layer probe",))]
    some, found = taken(evidence, rows), {}
    for number in epochs:
        features = learning.all_features(evidence, number)
        less = order(evidence, learning.ranked_features(features[without], evidence).to_numpy(), learning.PENALTY)
        whole = learning.order_left_out(evidence, features)
        scores = pd.DataFrame({"with": whole, "without": less}).iloc[rows]
        part = verdict.intervals(scores, some, resamples, "with", SPEARMAN)
        part = part[part["method"] == "without"].set_index("zoo")
        found[f"after {number}"] = part.apply(
            lambda row: f"{row['more']:+.3f} [{row['more_low']:+.3f}, {row['more_high']:+.3f}]", axis=1
        )
    tasks = some.runs.groupby("zoo")["task"].nunique()
    tasks["all"] = tasks.sum()
    return pd.DataFrame(found).assign(tasks=tasks).rename_axis("zoo")


def checked(evidence, figures, epochs):
    """What was recorded, and how far the accuracies after some epochs are from those of the recorded histories."""
    apart = np.abs(figures["accuracy"].to_numpy() - learning.seen_accuracy(evidence, epochs))
    zoos = evidence.runs.assign(apart=apart).groupby("zoo")
    counts = zoos[["task", "family", "name"]].nunique().set_axis(["tasks", "families", "networks"], axis=1)
    found = counts.assign(runs=zoos.size(), **{"largest difference of accuracy": zoos["apart"].max()})
    return found.reset_index().assign(epochs=epochs)


def tables(found):
    """For each number of epochs, what is reached with each group of figures, and by each figure alone."""
    for number, part in found.groupby("epochs"):
        whole, again = (summed(part[part["asked"] == fit]) for fit in FITS)
        again = again[["all", "more"]].add_prefix(f"{FITS[1]}: ")
        yield (
            f"After {number} epochs: Spearman correlation of combined with groups of new figures",
            whole.loc[again.index].join(again).rename_axis("added"),
        )
        others = whole.drop(index=[name for name in again.index if name != NOTHING]).rename(index={NOTHING: "combined"})
        yield (
            f"After {number} epochs: Spearman correlation of figures alone",
            others.rename(columns={"more": "more than combined"}).sort_values("all", ascending=False),
        )
    yield "Spearman correlation of figures with what combined misses of the true standing", marks(found)


def marks(found):
    """By figure, its correlation with what ``combined`` misses after each number of epochs, with the interval."""
    part = found[(found["asked"] == MISSED) & (found["zoo"] == "all")]
    means = zip(part["mean"], part["low"], part["high"], strict=True)
    cells = [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, low, high in means]
    wide = part.assign(cell=cells).pivot(index="method", columns="epochs", values="cell")
    strongest = part.groupby("method")["mean"].mean().abs().sort_values(ascending=False).index
    return wide.loc[strongest].add_prefix("after ").rename_axis("figure").rename_axis(columns=None)


def summed(part):
    """By method, the mean correlation in each zoo, and what it has more than ``combined``, with the interval."""
    means = part.pivot(index="method", columns="zoo", values="mean").loc[list(dict.fromkeys(part["method"]))]
    of_all = part[part["zoo"] == "all"].set_index("method").loc[means.index]
    more = [f"{-row.more:+.3f} [{-row.more_high:+.3f}, {-row.more_low:+.3f}]" for row in of_all.itertuples()]
    return means.rename_axis(columns=None).assign(more=more).replace({"more": {more[0]: "-"}})
