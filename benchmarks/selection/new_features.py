"""Do figures that histories do not hold tell more of the final accuracy? Each alone, and added to ``combined``.

The runs are those whose figures were taken (``new_figures.py``). What is learnt is fitted to runs of other tasks and
other families than those that it orders. Features are added in two ways:

- to ``combined`` as it is fitted to all recorded runs: a ridge regression, fitted to the runs with figures, on the
  order that ``combined`` predicts and on the standings of the new features;
- to the features of ``combined``, where both are fitted to the runs with figures alone.
"""

import numpy as np
import pandas as pd

from benchmarks.selection import learning, verdict
from benchmarks.selection.bootstrap import MEASURES
from benchmarks.selection.evidence import KEY, Evidence
from benchmarks.selection.new_figures import SUMS

__all__ = ["ALONE", "GROUPS", "LOSSES", "alone", "judge", "with_figures"]

SPEARMAN = {"spearman": MEASURES["spearman"]}
WHOLE, AGAIN = "combined", "combined, fitted to these runs"
"""The method fitted to all recorded runs, and to those with figures alone."""

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

    Groups of fewer than nine tenths of the networks of the largest of their zoo, as in a recording that was stopped,
    are left out.
    """
    found = evidence.runs[KEY].reset_index().merge(figures[figures["epoch"] == epochs], on=KEY, validate="one_to_one")
    sizes = found.groupby(["zoo", "task", "seed"])["index"].transform("size")
    found = found[sizes >= 0.9 * sizes.groupby(found["zoo"]).transform("max")].reset_index(drop=True)
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


def own_features(evidence, epochs):
    """The standings that ``combined`` reads, an array (runs, features)."""
    names = list(learning.names_of(learning.ORDER))
    return learning.ranked_features(learning.all_features(evidence, epochs)[names], evidence).to_numpy()


def order(evidence, x):
    """The order that is predicted for each run by a ridge regression fitted to other tasks and families."""
    return learning.left_out(evidence, x, learning.standing_of_finals(evidence))


def added(evidence, base, figures):
    """The orders that are predicted from some columns and, in turn, each group of figures, by the name of the group."""
    new = learning.ranked_features(figures, evidence)
    free = [name for group, members in GROUPS.items() if group not in TRAINED_FURTHER for name in members]
    chosen = {group: list(members) for group, members in GROUPS.items()}
    chosen |= {"all without more training": free, "all but longer": [*free, *GROUPS["annealed"]]}
    return {group: order(evidence, np.column_stack([base, new[members]])) for group, members in chosen.items()}


def judge(evidence, figures, epochs, resamples=500):
    """The tables, pairs of a title and a DataFrame, and the rows that they are made of."""
    parts, checks = [], []
    for number in epochs:
        rows, of_runs = with_figures(evidence, figures, number)
        some = taken(evidence, rows)
        later, whole = (order(evidence, own_features(evidence, e))[rows] for e in (number + 1, number))
        own = own_features(some, number)
        scores = {WHOLE: whole, f"{WHOLE}, one epoch later": later}
        scores |= {f"{WHOLE} and {group}": found for group, found in added(some, whole, of_runs).items()}
        again = {AGAIN: order(some, own)}
        again |= {f"{AGAIN}, and {group}": found for group, found in added(some, own, of_runs).items()}
        both = pd.DataFrame(scores).join(alone(some, of_runs, number)), pd.DataFrame(again)
        for table, of in zip(both, (WHOLE, AGAIN), strict=True):
            found = verdict.intervals(table, some, resamples, of, SPEARMAN)
            parts.append(found.assign(epochs=number, of=of))
        checks.append(checked(some, of_runs, number))
    found = pd.concat(parts, ignore_index=True)
    return [("Runs with new figures", pd.concat(checks)), *tables(found)], found.to_dict("records")


def checked(evidence, figures, epochs):
    """What was recorded, and how far the accuracies after some epochs are from those of the recorded histories."""
    apart = np.abs(figures["accuracy"].to_numpy() - learning.seen_accuracy(evidence, epochs))
    zoos = evidence.runs.assign(apart=apart).groupby("zoo")
    counts = zoos[["task", "family", "name"]].nunique().set_axis(["tasks", "families", "networks"], axis=1)
    found = counts.assign(runs=zoos.size(), **{"largest difference of accuracy": zoos["apart"].max()})
    return found.reset_index().assign(epochs=epochs)


def tables(found):
    """For each number of epochs what every method reaches, by zoo, and what it has more, with the interval."""
    for (number, of), part in found.groupby(["epochs", "of"], sort=False):
        means = part.pivot(index="method", columns="zoo", values="mean")
        of_all = part[part["zoo"] == "all"].set_index("method").loc[means.index]
        means[f"more than {of}"] = [
            "-" if name == of else f"{-row.more:+.3f} [{-row.more_high:+.3f}, {-row.more_low:+.3f}]"
            for name, row in of_all.iterrows()
        ]
        yield f"After {number} epochs: Spearman correlation beside {of}", means.sort_values("all", ascending=False)
