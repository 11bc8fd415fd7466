"""Does topology tell the final accuracy? Across networks, and of networks that differ in their wiring alone.

Across: the neuron graphs of the networks from scratch, as constructed, by ``lg.topology`` (``neuron_graphs.py``). Their
measures depend on the size, the family and the depth of a network, so correlations are also taken with the number of
weights held constant, with it and the family, and with the number of layers too.

Within one number of weights: perceptrons whose layers of 16 blocks are joined as the nodes of a graph with 40 edges,
after J. You et al., Graph structure of neural networks (ICML 2020), who find the best networks where clustering and
path length are intermediate. Measures are those of the graph of blocks, and of the neurons with their initial weights.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

import linegraph as lg
from benchmarks.selection import learning, zoo
from benchmarks.selection.bootstrap import MEASURES, percentiles
from benchmarks.selection.evidence import KEY
from benchmarks.selection.neuron_graphs import ALL_NODES
from benchmarks.selection.verdict import intervals, with_ends

__all__ = ["judge", "partial_spearman", "sweet_spot"]

SIZE = "number of weights"
ALL = "all tasks"
AFTER_ONE = "accuracy after one epoch"
REFERENCE = f"{AFTER_ONE}, {SIZE}"
LAYERS = "number of layers"
GIVEN = {
    "plain": "-",
    "size": f"given the {SIZE}",
    "family": "given weights and family",
    "layers": "given weights, family and layers",
}
"""What correlations hold constant."""
CONSTANT = 1e-6
"""Relative size below which a deviation, or what is left of one, is 0 but for rounding."""
DECIMALS = 9
"""To which measures are rounded before they are compared."""


@dataclass(frozen=True)
class Networks:
    """The networks of a zoo.

    Attributes:
        measures: (networks, measures), the same for all tasks.
        early: what is known early on, (networks, figures) by task.
        finals: final accuracies (networks, tasks).
        families: (networks,).
        by_seed: final accuracies (networks, seeds) by task; for ALL, the means of standardised ones.
    """

    measures: pd.DataFrame
    early: dict
    finals: pd.DataFrame
    families: pd.Series
    by_seed: dict


def judge(scratch, wired, measured, resamples=500):
    """The tables, pairs of a title and a DataFrame, and the rows that they are made of.

    Args:
        scratch: the evidence of networks from scratch.
        wired: that of networks which differ in wiring alone.
        measured: what ``neuron_graphs.measure`` writes.
        resamples: number of resamples of networks.
    """
    of_scratch, of_wired = (measured[measured["zoo"] == name] for name in ("scratch", "wired"))
    zoos = {"scratch": networks_of(scratch, of_scratch), "wired": networks_of(wired, of_wired, blocks())}
    found = {
        name: correlations(zoos[name], kinds, resamples).assign(zoo=name)
        for name, kinds in (("scratch", list(GIVEN)), ("wired", ["plain"]))
    }
    spots, learnt = pd.DataFrame(sweet_spot(zoos["wired"])), together(scratch, of_scratch, resamples)
    tables = [
        (
            "Final accuracies, mean over two seeds, and the Spearman correlation between seeds",
            pd.concat([spread(name, each) for name, each in zoos.items()]),
        ),
        (
            "Across networks: Spearman correlation of the final accuracy with measures of the neuron graph before "
            "training, mean over tasks",
            by_given(found["scratch"]),
        ),
        ("The same, by task", by_task(found["scratch"], "plain")),
        (f"The same, {GIVEN['size']}, by task", by_task(found["scratch"], "size")),
        ("Ridge regressions on ranks, fitted to other tasks and other families: Spearman correlation", learnt),
        ("At one number of weights: Spearman correlation with the final accuracy", by_task(found["wired"], "plain")),
        ("At one number of weights: quadratic fits in clustering and path length of the graph of blocks", spots),
    ]
    return tables, pd.concat(found.values()).to_dict("records")


# what is compared -------------------------------------------------------------------------------------------------


def networks_of(evidence, measured, further=None):
    """The networks that were trained on all tasks with all seeds; measures and finals are means over seeds."""
    runs = evidence.runs
    by_seed = runs.pivot(index="name", columns=["task", "seed"], values="final").dropna()
    names, tasks = by_seed.index, list(dict.fromkeys(by_seed.columns.get_level_values("task")))
    measures = measured.drop(columns=["zoo", "family", "seed"]).groupby("name").mean().loc[names]
    layers = runs[["name"]].assign(layers=[float(history["num_layers"].iloc[0]) for history in evidence.histories])
    measures = measures.rename(columns={"parameters": SIZE}).assign(
        **{LAYERS: layers.groupby("name")["layers"].first()}
    )
    if further is not None:
        measures = further.add_prefix("blocks: ").loc[names].join(measures.add_prefix("neurons: "))
    standard = (by_seed - by_seed.mean()) / by_seed.std()
    of_seeds = {task: by_seed[task] for task in tasks} | {ALL: standard.T.groupby(level="seed").mean().T}
    return Networks(
        distinct(measures),
        early(evidence, names, tasks),
        by_seed.T.groupby(level="task").mean().T[tasks],
        runs.drop_duplicates("name").set_index("name")["family"].loc[names],
        of_seeds,
    )


def distinct(measures):
    """Measures that are not constant, and do not order the networks as one before them, or the other way round."""
    ranks = measures.loc[:, measures.std() > CONSTANT * measures.abs().mean()].round(DECIMALS).rank()
    repeats = np.triu(ranks.corr().abs().to_numpy() > 1 - CONSTANT, 1).any(axis=0)
    return measures[ranks.columns[~repeats]]


def early(evidence, names, tasks):
    """For each task, what is known of its networks before training and after one epoch, mean over seeds."""
    rows = []
    for history in evidence.histories:
        start, first = (history[history["epoch"] == epoch].iloc[0] for epoch in (0, 1))
        rows.append((start["beta_eff"], start["linear_probe"], first["accuracy"]))
    columns = ["P: beta_eff before training", "linear probe before training", AFTER_ONE]
    found = evidence.runs[["task", "name"]].join(pd.DataFrame(rows, columns=columns, dtype=float))
    found = found.groupby(["task", "name"]).mean()
    return {task: found.loc[task].loc[names] for task in tasks}


def blocks():
    """The measures of the graphs of blocks."""
    tables = {f"wired-{name}": lg.topology(graph, null=(), sources=ALL_NODES) for name, graph in zoo.graphs().items()}
    return pd.DataFrame({name: table["value"] for name, table in tables.items()}).T.dropna(axis=1, how="all")


# correlations -----------------------------------------------------------------------------------------------------


def partial_spearman(x, y, given=None):
    """The Pearson correlation of what is left of the ranks of x and y after a linear regression on ``given``.

    Args:
        x: (networks, measures).
        y: (networks, tasks).
        given: (networks, k), as they enter the regression, beside a constant; None for Spearman's ρ.

    Returns:
        (measures, tasks); nan where one is constant given the others.
    """
    ranks = rankdata(np.column_stack([x, y]), axis=0)
    held = np.ones((len(ranks), 1)) if given is None else np.column_stack([np.ones(len(ranks)), given])
    left = ranks - held @ np.linalg.lstsq(held, ranks, rcond=None)[0]
    norms = np.linalg.norm(left, axis=0)
    left = left / np.where(norms > CONSTANT * len(ranks) ** 1.5, norms, np.nan)
    count = np.shape(x)[1]
    return left[:, :count].T @ left[:, count:]


def correlations(networks, kinds, resamples, seed=0):
    """One row per measure, task or ALL of them, and what is held constant, with the interval of a bootstrap.

    Networks are drawn, the same for all tasks; for the mean over tasks, tasks too.
    """
    rng, (n, tasks) = np.random.default_rng(seed), networks.finals.shape
    point = of_draw(networks, kinds, np.arange(n))
    draws = np.stack([of_draw(networks, kinds, rng.integers(n, size=n)) for _ in range(resamples)], -1)
    copies = rng.multinomial(tasks, np.full(tasks, 1 / tasks), resamples).T
    point = np.concatenate([point, point.mean(-1, keepdims=True)], -1)
    draws = np.concatenate([draws, np.einsum("gmtr,tr->gmr", draws, copies)[:, :, None] / tasks], 2)
    low, high = percentiles(draws)
    names = [*networks.measures, *next(iter(networks.early.values()))]
    index = pd.MultiIndex.from_product([kinds, names, [*networks.finals, ALL]], names=["given", "measure", "task"])
    columns = {"spearman": point, "low": low, "high": high}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index).reset_index()


def of_draw(networks, kinds, drawn):
    """The correlations of the drawn networks: (kinds, measures, tasks)."""
    tasks = range(len(networks.early))
    x = [networks.measures.to_numpy()[drawn], *(each.to_numpy()[drawn] for each in networks.early.values())]
    found, shared, own = [], x[0].shape[1], x[1].shape[1]
    for kind in kinds:
        all_pairs = partial_spearman(np.column_stack(x), networks.finals.to_numpy()[drawn], held(networks, kind, drawn))
        of_own_task = [all_pairs[shared + own * task : shared + own * (task + 1), task] for task in tasks]
        found.append(np.concatenate([all_pairs[:shared], np.stack(of_own_task, 1)]))
    return np.array(found)


def held(networks, kind, drawn):
    """What is held constant: nothing, or the rank of the number of weights, the family, and the rank of layers."""
    if kind == "plain":
        return None
    of_drawn = networks.measures.iloc[drawn]
    families = pd.get_dummies(networks.families.to_numpy()[drawn], dtype=float)
    known = [of_drawn[[SIZE]].rank(), families, of_drawn[[LAYERS]].rank()]
    return np.column_stack(known[: list(GIVEN).index(kind)])


def sweet_spot(networks, shuffles=2000, seed=0):
    """For each task, the R² of a quadratic fit of the finals in clustering and path length of the blocks.

    Beside it the share of random permutations of the finals whose fit is as good, the p-value; and whether the fitted
    surface has a maximum, which a sweet spot is.
    """
    rng = np.random.default_rng(seed)
    x = networks.measures[["blocks: clustering", "blocks: path_length"]]
    c, length = ((x - x.mean()) / x.std()).to_numpy().T
    surface = np.column_stack([np.ones(len(c)), c, length, c * c, c * length, length * length])
    basis = np.linalg.qr(surface)[0]
    seeds = networks.by_seed[ALL]
    fitted = networks.finals.assign(**{ALL: seeds.mean(axis=1)}, **seeds.add_prefix(f"{ALL}, seed "))
    for task, y in (fitted - fitted.mean()).items():
        shuffled = np.column_stack([y, *(rng.permutation(y) for _ in range(shuffles))])
        explained = ((basis.T @ shuffled) ** 2).sum(0) / (y @ y)
        yield {
            "task": task,
            "R²": float(explained[0]),
            "R² expected by chance": float(explained[1:].mean()),
            "p": float((explained >= explained[0]).mean()),
            "surface": stationary(np.linalg.lstsq(surface, y, rcond=None)[0]),
        }


def stationary(coefficients):
    """What the stationary point of the quadratic with these coefficients of 1, c, l, c², c l and l² is."""
    square_c, mixed, square_l = coefficients[3:]
    bends = np.linalg.eigvalsh([[2 * square_c, mixed], [mixed, 2 * square_l]])
    return "maximum" if bends[1] < 0 else "minimum" if bends[0] > 0 else "saddle"


def together(evidence, measured, resamples):
    """How well ridge regressions on ranks order networks on tasks, and of families, to which they were not fitted."""
    given = evidence.runs[KEY].merge(measured.drop(columns="zoo"), on=["family", "name", "seed"], how="left")
    measures = [name for name in measured if name not in (*KEY, "parameters")]
    given[AFTER_ONE] = [float(h.loc[h["epoch"] == 1, "accuracy"].iloc[0]) for h in evidence.histories]
    sets = {
        SIZE: ["parameters"],
        "neuron graph": measures,
        f"{SIZE}, neuron graph": ["parameters", *measures],
        AFTER_ONE: [AFTER_ONE],
        REFERENCE: [AFTER_ONE, "parameters"],
        f"{REFERENCE}, neuron graph": [AFTER_ONE, "parameters", *measures],
    }
    ranked = learning.ranked_features(given[["parameters", *measures, AFTER_ONE]], evidence)
    standing = learning.standing_of_finals(evidence)
    scores = {name: learning.left_out(evidence, ranked[columns].to_numpy(), standing) for name, columns in sets.items()}
    only = {"spearman": MEASURES["spearman"]}
    found = intervals(pd.DataFrame(scores), evidence, resamples, REFERENCE, only).set_index("method")
    found = found[found["zoo"] == "all"]
    return pd.DataFrame(
        {
            "spearman": [with_ends(*row) for row in found[["mean", "low", "high"]].to_numpy()],
            f"{REFERENCE}: has more": [with_ends(*row) for row in found[["more", "more_low", "more_high"]].to_numpy()],
        },
        index=found.index.rename("fitted to"),
    )


# tables -----------------------------------------------------------------------------------------------------------


def spread(name, networks):
    """The spread of the finals of each task, and how far two seeds agree."""
    found = networks.finals.agg(["mean", "std"]).T.set_axis(["mean", "standard deviation"], axis=1)
    found = found.reindex([*found.index, ALL]).rename_axis("task").reset_index()
    found.insert(0, "zoo", name)
    between = {task: of_seeds.corr("spearman").iloc[0, 1] for task, of_seeds in networks.by_seed.items()}
    return found.assign(networks=len(networks.finals), **{"between seeds": found["task"].map(between)})


def by_given(rows):
    """Measures by what is held constant, pooled over tasks; the largest correlations given the size first."""
    rows = rows[rows["task"] == ALL]
    table = cells(rows).droplevel("task").unstack("given")
    return table.loc[strongest(rows[rows["given"] == "size"]), list(GIVEN)].rename(columns=GIVEN)


def by_task(rows, given):
    """Measures by tasks; the largest correlations over all tasks first."""
    rows = rows[rows["given"] == given]
    table = cells(rows).droplevel("given").unstack("task")
    return table.loc[strongest(rows[rows["task"] == ALL]), [ALL, *sorted(set(table) - {ALL})]]


def strongest(rows):
    return rows.set_index("measure")["spearman"].abs().sort_values(ascending=False, na_position="last").index


def cells(rows):
    return rows.set_index(["given", "task", "measure"]).apply(
        lambda row: with_ends(row["spearman"], row["low"], row["high"]), axis=1
    )
