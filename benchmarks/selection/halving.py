"""Does successive halving lose the winner? Recorded runs, of which some are dropped after three epochs, or one."""

import numpy as np
import pandas as pd

from benchmarks.selection import learning
from linegraph.selection.halving import FIRST, rungs

__all__ = ["judge", "order"]

FIGURES = {"linear_probe": "linear_probe", "layer_probe": "layer_probe", "last_seen": "accuracy"}
"""Single scores by whose order candidates are dropped, and the features that hold them."""

EARLY = (1, 3)
"""Epochs after which candidates are dropped, to compare with those of ``rank``."""


def judge(evidence, epochs=5, factors=(2, 3)):
    """For each factor and order, how often the winner is dropped, and the regret with and without halving."""
    orders = {number: orders_after(evidence, number) for number in sorted({*EARLY, FIRST, epochs})}
    rows = [
        {
            "after epochs": ", ".join(map(str, drops)),
            "factor": factor,
            "in the order of": method,
            "zoo": zoo,
            **_halved(evidence, members, of_method, drops, epochs, factor),
        }
        for factor in factors
        for drops in (tuple(rungs(epochs, epochs, factor)[:-1]), EARLY)
        for method in orders[epochs]
        if (of_method := {number: found[method] for number, found in orders.items()})
        for (zoo, _, _), members in evidence.groups.items()
    ]
    keys = ["after epochs", "factor", "in the order of", "zoo"]
    by = pd.DataFrame(rows).groupby(keys, sort=False)
    table = by.mean().assign(**{"winners dropped": by["winner dropped"].sum(), "rankings": by.size()})
    return table.drop(columns="winner dropped").reset_index().to_dict("records")


def orders_after(evidence, epochs):
    """What candidates are dropped by, higher is better: ``combined``, and single scores."""
    features = learning.all_features(evidence, epochs)
    scores = {method: features[name].fillna(-np.inf).to_numpy() for method, name in FIGURES.items()}
    return {"combined": order(evidence, epochs), **scores}


def order(evidence, epochs):
    """The order that ``combined`` predicts for tasks and families left out."""
    return learning.order_left_out(evidence, learning.all_features(evidence, epochs))


def _halved(evidence, members, order, drops, epochs, factor):
    """What halving does to one ranking: ``order`` has the values of all runs after each number of epochs."""
    finals, whole = evidence.runs["final"].to_numpy(), evidence.histories[members[0]]["epoch"].max()
    kept, spent, before = members, 0, 0
    for drop in drops:
        spent, before = spent + len(kept) * (drop - before), drop
        best = np.argsort(-order[drop][kept], kind="stable")
        kept = kept[best[: -(-len(kept) // factor)]]
    best = finals[members].max()
    return {
        "winner dropped": float(members[finals[members].argmax()] not in kept),
        "best of the kept, missing": best - finals[kept].max(),
        "regret": best - finals[kept[order[epochs][kept].argmax()]],
        "regret without halving": best - finals[members[order[epochs][members].argmax()]],
        f"share of {epochs} epochs": (spent + len(kept) * (epochs - before)) / (len(members) * epochs),
        "share of all epochs": (spent + len(kept) * (whole - before)) / (len(members) * whole),
    }
