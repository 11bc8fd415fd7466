"""Does successive halving lose the winner? Recorded runs, dropped after 1 and 3 epochs in the order of ``combined``."""

import numpy as np
import pandas as pd

from benchmarks.selection import learning
from linegraph.selection.halving import rungs

__all__ = ["judge"]


def judge(evidence, epochs=5, factors=(2, 3)):
    """For each factor, how often the winner is dropped, and the regret with and without halving."""
    orders = {number: order(evidence, number) for number in {*rungs(epochs, epochs, 2.0)}}
    finals, rows = evidence.runs["final"].to_numpy(), []
    for factor in factors:
        for (zoo, _, _), members in evidence.groups.items():
            kept, spent, before = members, 0, 0
            for rung in rungs(epochs, epochs, float(factor)):
                spent, before = spent + len(kept) * (rung - before), rung
                if rung < epochs:
                    best = np.argsort(-orders[rung][kept], kind="stable")
                    kept = kept[best[: -(-len(kept) // factor)]]
            best = finals[members].max()
            rows.append(
                {
                    "factor": factor,
                    "zoo": zoo,
                    "winner dropped": float(members[finals[members].argmax()] not in kept),
                    "best of the kept, missing": best - finals[kept].max(),
                    "regret": best - finals[kept[orders[epochs][kept].argmax()]],
                    "regret without halving": best - finals[members[orders[epochs][members].argmax()]],
                    "share of the epochs": spent / (len(members) * epochs),
                }
            )
    table = pd.DataFrame(rows).groupby(["factor", "zoo"]).mean().reset_index()
    return table.to_dict("records")


def order(evidence, epochs):
    """The order that ``combined`` predicts for tasks and families left out."""
    ranked = learning.ranked_features(learning.all_features(evidence, epochs), evidence)
    x = ranked[list(learning.names_of(learning.ORDER))].to_numpy()
    return learning.left_out(evidence, x, learning.standing_of_finals(evidence))
