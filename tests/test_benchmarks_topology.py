from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from benchmarks.selection import neuron_graphs, topology, zoo
from benchmarks.selection.evidence import KEY, Evidence
from benchmarks.selection.recording import SEEDS

MEASURES = ["parameters", "edges", "clustering"]


def evidence(name, families, tasks="xy"):
    """Runs of networks, by name with their families, on some tasks with two seeds."""
    rng, rows, histories = np.random.default_rng(0), [], []
    for task, (network, family), seed in product(tasks, families.items(), (0, 1)):
        rows.append((name, task, family, network, seed, rng.uniform(0.3, 0.9)))
        start = {"beta_eff": rng.uniform(1, 2, 2), "linear_probe": rng.uniform(0, 1, 2), "num_layers": len(network) % 3}
        histories.append(pd.DataFrame({"epoch": [0, 1], "accuracy": rng.uniform(0.1, 0.9, 2), **start}))
    return Evidence(pd.DataFrame(rows, columns=[*KEY, "final"]), histories)


def measured(name, families):
    """A table of measures, as ``neuron_graphs`` makes it."""
    rows = [(name, family, network, seed) for (network, family), seed in product(families.items(), (0, 1))]
    values = np.random.default_rng(1).uniform(1, 2, (len(rows), len(MEASURES)))
    keys = pd.DataFrame(rows, columns=["zoo", "family", "name", "seed"])
    return keys.join(pd.DataFrame(values, columns=MEASURES))


SCRATCH = {f"{family}{(k % 2) * '-'}-{k}": family for family in "abc" for k in range(5)}
WIRED = {f"wired-{name}": name.rsplit("-", 1)[0] for name in zoo.graphs()}


@pytest.fixture(scope="module")
def networks():
    return topology.networks_of(evidence("scratch", SCRATCH), measured("scratch", SCRATCH))


def test_partial_correlations_of_ranks():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(30, 3)), rng.normal(size=(30, 2)), rng.integers(0, 9, 30)
    expected = spearmanr(np.column_stack([x, y])).statistic[:3, 3:]
    np.testing.assert_allclose(topology.partial_spearman(x, np.exp(y)), expected, atol=1e-12)
    ranks = pd.Series(z).rank().to_numpy()[:, None]
    with_z = spearmanr(np.column_stack([x, y, z])).statistic[:, -1]
    left = np.sqrt(1 - with_z**2)
    partial = (expected - np.outer(with_z[:3], with_z[3:5])) / np.outer(left[:3], left[3:5])
    np.testing.assert_allclose(topology.partial_spearman(x, y, ranks), partial, atol=1e-12)
    found = topology.partial_spearman(np.column_stack([x, z, np.ones(30)]), y, ranks)
    np.testing.assert_allclose(found[:3], partial, atol=1e-12)
    assert np.isnan(found[3:]).all()


def test_a_measure_of_the_family_alone_tells_nothing_within_families(networks):
    of_family = networks.families.map({"a": 1.0, "b": 2.0, "c": 4.0})
    given = topology.held(networks, "family", np.arange(15))
    finals = networks.finals.to_numpy()
    assert np.isnan(topology.partial_spearman(of_family.to_numpy()[:, None], finals, given)).all()
    assert np.isfinite(topology.partial_spearman(networks.measures[["edges"]], finals, given)).all()


def test_networks_are_means_over_seeds(networks):
    table = measured("scratch", SCRATCH).groupby("name")["edges"].mean()
    pd.testing.assert_series_equal(networks.measures["edges"], table, check_names=False)
    runs = evidence("scratch", SCRATCH).runs
    assert networks.finals.loc["b--3", "y"] == pytest.approx(
        runs.query("name == 'b--3' and task == 'y'")["final"].mean()
    )
    assert list(networks.measures) == [topology.SIZE, "edges", "clustering", topology.LAYERS]


def test_correlations_are_of_all_networks_with_intervals_around_them(networks):
    found = (
        topology.correlations(networks, list(topology.GIVEN), 50).set_index(["given", "measure", "task"]).sort_index()
    )
    plain = found.loc["plain", "edges"]["spearman"]
    expected = {
        task: spearmanr(networks.measures["edges"], finals).statistic for task, finals in networks.finals.items()
    }
    assert plain[["x", "y"]].to_dict() == pytest.approx(expected)
    assert plain[topology.ALL] == pytest.approx(plain[["x", "y"]].mean())
    early = found.loc[("plain", topology.AFTER_ONE, "y"), "spearman"]
    assert early == pytest.approx(spearmanr(networks.early["y"][topology.AFTER_ONE], networks.finals["y"]).statistic)
    assert found.loc[("size", topology.SIZE), "spearman"].isna().all()
    assert found.loc[("family", topology.LAYERS), "spearman"].notna().all()
    assert found.loc[("layers", topology.LAYERS), "spearman"].isna().all()
    known = found.dropna()
    assert (known["low"] < known["spearman"]).all()
    assert (known["spearman"] < known["high"]).all()


def test_measures_that_order_networks_alike_are_one():
    x = np.random.default_rng(0).normal(size=12)
    table = pd.DataFrame({"a": x, "constant": 1 + 1e-12 * x, "grown": np.exp(x), "other": x[::-1], "reversed": -x})
    assert list(topology.distinct(table)) == ["a", "other"]


def surface(c, length, scale):
    return scale * (1 - (c - 0.4) ** 2 - (length - 2) ** 2)


@pytest.mark.parametrize(("scale", "kind"), [(1.0, "maximum"), (-1.0, "minimum")])
def test_a_sweet_spot_is_found(scale, kind):
    rng = np.random.default_rng(0)
    c, length = rng.uniform(0.1, 0.7, 40), rng.uniform(1.5, 2.5, 40)
    y = surface(c, length, scale)
    finals = pd.DataFrame({"spot": y + rng.normal(0, 0.01, 40), "noise": rng.normal(size=40)})
    given = topology.Networks(
        pd.DataFrame({"blocks: clustering": c, "blocks: path_length": length}),
        {},
        finals,
        None,
        {topology.ALL: pd.DataFrame({0: y, 1: y})},
    )
    found = {row["task"]: row for row in topology.sweet_spot(given, shuffles=200)}
    x = PolynomialFeatures(2).fit_transform(np.column_stack([c, length]))
    for task, values in finals.items():
        assert found[task]["R²"] == pytest.approx(LinearRegression().fit(x, values).score(x, values))
    assert found["spot"]["surface"] == found[topology.ALL]["surface"] == kind
    assert found["spot"]["p"] == pytest.approx(1 / 201)
    assert found["noise"]["p"] > 0.05
    assert found["noise"]["R² expected by chance"] == pytest.approx(5 / 39, abs=0.03)


def test_a_surface_that_rises_one_way_and_falls_another_is_a_saddle():
    assert topology.stationary(np.array([0, 0, 0, 1.0, 0, -1.0])) == "saddle"
    assert topology.stationary(np.array([0, 1, 0, -1.0, 0, -1.0])) == "maximum"
    assert topology.stationary(np.array([0, 1, 0, -1.0, 3.0, -1.0])) == "saddle"


def test_the_tables_of_both_zoos():
    both = pd.concat([measured("scratch", SCRATCH), measured("wired", WIRED)], ignore_index=True)
    made, rows = topology.judge(evidence("scratch", SCRATCH), evidence("wired", WIRED), both, resamples=5)
    tables = [table for _, table in made]
    assert len(tables[0]) == 2 * (2 + 1)
    assert list(tables[1]) == list(topology.GIVEN.values())
    assert set(tables[2].index) == {*(topology.SIZE, topology.LAYERS, "edges", "clustering"), *early_names()}
    assert {"blocks: path_length", "blocks: degree_heterogeneity", "neurons: edges"} < set(tables[5].index)
    assert list(tables[5]) == [topology.ALL, "x", "y"]
    assert {row["zoo"] for row in rows} == {"scratch", "wired"}


def early_names():
    return ["P: beta_eff before training", "linear probe before training", topology.AFTER_ONE]


def test_all_networks_are_measured_and_can_be_measured_again():
    table = pd.read_parquet(neuron_graphs.MEASURED).set_index(["zoo", "name", "seed"])
    makers = {"scratch": zoo.from_scratch(), "wired": zoo.wirings()}
    expected = {(of, name, seed) for of in makers for _, name in makers[of] for seed in SEEDS}
    assert set(table.index) == expected
    assert len(table) == len(expected)
    for family, name in (("mlp", "mlp-8"), ("resnet", "resnet-4x1")):
        found = neuron_graphs.measures(makers["scratch"][family, name], seed=1)
        columns = ["parameters", "nodes", "edges", "path_length", "square_clustering", "beta_eff"]
        recorded = table.loc[("scratch", name, 1), columns].astype(float)
        assert [found[column] for column in columns] == pytest.approx(recorded.tolist(), rel=1e-4)
