"""Does successive halving lose the winner? Recorded runs, of which some are dropped after 1 and 3 epochs."""

import numpy as np
import pandas as pd

from benchmarks.selection import learning
from linegraph.selection.halving import rungs

__all__ = ["judge", "order"]

FIGURES = {"linear_probe": "linear_probe", "last_seen": "accuracy"}
"""Single scores by whose order candidates are dropped, and the features that hold them."""


def judge(evidence, epochs=5, factors=(2, 3)):
    """For each factor and order, how often the winner is dropped, and the regret with and without halving."""
    orders = {number: orders_after(evidence, number) for number in rungs(epochs, epochs, 2.0)}
    rows = [
        {
            "factor": factor,
            "in the order of": method,
            "zoo": zoo,
            **_halved(evidence, members, of_method, epochs, factor),
        }
        for factor in factors
        for method in orders[epochs]
        if (of_method := {number: found[method] for number, found in orders.items()})
        for (zoo, _, _), members in evidence.groups.items()
    ]
    table = pd.DataFrame(rows).groupby(["factor", "in the order of", "zoo"], sort=False).mean().reset_index()
    return table.to_dict("records")


def orders_after(evidence, epochs):
    """What candidates are dropped by, higher is better: ``combined``, and single scores."""
    features = learning.all_features(evidence, epochs)
    scores = {method: features[name].fillna(-np.inf).to_numpy() for method, name in FIGURES.items()}
    return {"combined": order(evidence, epochs), **scores}


def order(evidence, epochs):
    """The order that ``combined`` predicts for tasks and families left out."""
    ranked = learning.ranked_features(learning.all_features(evidence, epochs), evidence)
    x = ranked[list(learning.names_of(learning.ORDER))].to_numpy()
    return learning.left_out(evidence, x, learning.standing_of_finals(evidence))


def _halved(evidence, members, order, epochs, factor):
    """What halving does to one ranking: ``order`` has the values of all runs after each number of epochs."""
    finals = evidence.runs["final"].to_numpy()
    kept, spent, before = members, 0, 0
    for rung in rungs(epochs, epochs, float(factor)):
        spent, before = spent + len(kept) * (rung - before), rung
        if rung < epochs:
            best = np.argsort(-order[rung][kept], kind="stable")
            kept = kept[best[: -(-len(kept) // factor)]]
    best = finals[members].max()
    return {
        "winner dropped": float(members[finals[members].argmax()] not in kept),
        "best of the kept, missing": best - finals[kept].max(),
        "regret": best - finals[kept[order[epochs][kept].argmax()]],
        "regret without halving": best - finals[members[order[epochs][members].argmax()]],
        "share of the epochs": spent / (len(members) * epochs),
    }
