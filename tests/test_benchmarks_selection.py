from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from benchmarks.selection import ablation, bootstrap, halving, learning, pages, scores, verdict, why
from benchmarks.selection.evidence import KEY, Evidence
from linegraph.selection import kendall, pairwise_accuracy, regret, spearman, weighted_tau
from linegraph.selection.history_features import standings
from linegraph.selection.regression import at_zero_capacitance

OF_PACKAGE = {
    "spearman": spearman,
    "kendall": kendall,
    "weighted tau": weighted_tau,
    "regret": regret,
    **{f"pairs > {gap:g}": partial(pairwise_accuracy, gap=gap) for gap in bootstrap.GAPS},
}
COLUMNS = """seen_accuracy loss valid_loss seen_loss linear_probe layer_probe mean_strength heterogeneity symmetry
numerator denominator signed_beta_eff signed_mean_strength signed_symmetry signed_denominator
gradient_coupling num_synapses num_layers weight_norm gradient_norm drive_norm coupled_norm saliency flow
weight_gradient weight_coupled gradient_layers flow_layers gradient_in_first flow_in_first train_seconds
record_seconds"""


def history(rng, final, epochs=5):
    """A history of numbers as large as recorded ones, whose accuracy goes to the final one."""
    rows = epochs + 1
    table = pd.DataFrame(rng.uniform(0.2, 0.9, (rows, len(COLUMNS.split()))), columns=COLUMNS.split())
    progress = 1 - 0.5 ** np.arange(rows)
    return table.assign(
        epoch=np.arange(rows),
        accuracy=0.1 + (final - 0.1) * progress + rng.normal(0, 0.01, rows),
        beta_eff=rng.uniform(0.5, 2) * np.exp(rng.normal(0, 0.2, rows)),
    )


@pytest.fixture(scope="module")
def evidence():
    """Two zoos, each with three tasks, three families of four networks, and two seeds."""
    rng, rows, histories = np.random.default_rng(0), [], []
    for zoo, task, family, number, seed in product(("scratch", "transfer"), "xyz", "abc", range(4), (0, 1)):
        final = 0.4 + 0.1 * number + 0.05 * "abc".index(family) + rng.normal(0, 0.01)
        rows.append((zoo, task, family, f"{family}-{number}", seed, final))
        histories.append(history(rng, final))
    return Evidence(pd.DataFrame(rows, columns=[*KEY, "final"]), histories)


@pytest.fixture(scope="module")
def initial(evidence):
    return evidence.runs[KEY].assign(flops=np.arange(len(evidence.runs)), snip=1.0)


@pytest.mark.parametrize("name", bootstrap.MEASURES)
def test_a_measure_with_copies_is_that_of_repeated_candidates(name):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 17)).round(1)  # with ties
    values[2] = rng.integers(0, 3, 17)
    finals = rng.normal(size=17).round(1) + 1e-3
    copies = bootstrap.copies_of(range(17), 8, rng)
    found = bootstrap.MEASURES[name](bootstrap.Group(values, finals), copies)
    times = copies.T.astype(int)
    expected = [[OF_PACKAGE[name](np.repeat(row, n), np.repeat(finals, n)) for n in times] for row in values]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_every_resample_draws_as_many_candidates_as_there_are():
    copies = bootstrap.copies_of(range(12), 50, np.random.default_rng(0))
    assert copies.shape == (12, 50)
    np.testing.assert_allclose(copies.sum(0), 12)


def test_means_and_intervals_are_those_of_the_groups(evidence):
    finals = evidence.runs["final"].to_numpy()
    noisy = finals + np.random.default_rng(1).normal(0, 0.1, len(finals))
    scores = pd.DataFrame({"combined": noisy, "right": finals, "wrong": -finals, "none": np.nan})
    table = verdict.intervals(scores, evidence, resamples=40).set_index(["zoo", "measure", "method"])
    groups = [spearman(noisy[members], finals[members]) for members in evidence.groups.values()]
    of_noisy = table.loc[("all", "spearman", "combined")]
    assert of_noisy["mean"] == pytest.approx(np.mean(groups))
    assert of_noisy["low"] < of_noisy["mean"] < of_noisy["high"]
    assert of_noisy[["more", "more_low", "more_high"]].tolist() == pytest.approx([0, 0, 0])
    for sign, method in ((1, "right"), (-1, "wrong")):
        ends = table.loc[("scratch", "kendall", method), ["mean", "low", "high"]]
        assert ends.tolist() == pytest.approx([sign] * 3)
    assert table.loc[("all", "pairs > 0", "none"), "mean"] == pytest.approx(0.5)
    assert np.isnan(table.loc[("all", "spearman", "none"), "mean"])
    more = table.loc[("all", "spearman", "right")]
    assert more["more_low"] <= more["more"] <= more["more_high"] < 0


def test_zoos_of_the_same_networks_are_drawn_together(evidence):
    chosen = evidence.runs["zoo"] == "transfer"
    part = evidence.runs[chosen]
    runs = pd.concat([part, part.assign(zoo="frozen")], ignore_index=True)
    both = Evidence(runs, evidence.histories[: len(runs)])
    scores = pd.DataFrame({"combined": np.random.default_rng(0).normal(size=len(part))})
    table = verdict.intervals(pd.concat([scores, scores], ignore_index=True), both, resamples=20)
    table = table.set_index(["zoo", "measure", "method"])
    for zoo in ("frozen", "all"):
        np.testing.assert_allclose(table.loc[zoo].to_numpy(), table.loc["transfer"].to_numpy())


def test_the_tables_of_the_verdict_name_the_best_first(evidence):
    finals = evidence.runs["final"].to_numpy()
    scores = pd.DataFrame({"bad": -finals, "combined": finals})
    made = dict(verdict.tables(verdict.intervals(scores, evidence, resamples=10)))
    assert all(list(table.index) == ["combined", "bad"] for table in made.values())
    assert next(iter(made.values())).loc["combined", "all"] == "1.000 [1.000, 1.000]"


def test_a_probe_that_few_runs_have_is_no_score(evidence, initial):
    found = scores.all_scores(evidence, 3, initial)
    np.testing.assert_allclose(found["layer_probe"], [history["layer_probe"][3] for history in evidence.histories])
    few = [history.assign(layer_probe=np.nan) if k % 3 else history for k, history in enumerate(evidence.histories)]
    without = scores.all_scores(Evidence(evidence.runs, few), 3, initial)
    assert without["layer_probe"].isna().all()
    assert without.drop(columns="layer_probe").columns.tolist() == found.drop(columns="layer_probe").columns.tolist()


def test_halving_in_the_order_of_the_final_accuracy_keeps_the_winner_and_against_it_loses_it(evidence):
    finals = evidence.runs["final"].to_numpy()
    for members in evidence.groups.values():
        right, wrong = (
            halving._halved(evidence, members, dict.fromkeys((1, 3, 5), sign * finals), (1, 3), 5, 2)
            for sign in (1, -1)
        )
        assert right["winner dropped"] == 0
        assert wrong["winner dropped"] == 1
        assert right["regret"] == pytest.approx(0)
        assert right["best of the kept, missing"] == pytest.approx(0)
        worst = finals[members].max() - np.sort(finals[members])[:3].max()
        assert wrong["best of the kept, missing"] == pytest.approx(worst)
        assert wrong["regret"] == pytest.approx(np.ptp(finals[members]))
        assert right["share of 5 epochs"] == pytest.approx((12 + 2 * 6 + 2 * 3) / (12 * 5))
        epochs = evidence.histories[0]["epoch"].max()
        assert right["share of all epochs"] == pytest.approx((12 + 2 * 6 + (epochs - 3) * 3) / (12 * epochs))


def test_halving_is_judged_for_every_factor_order_and_zoo(evidence):
    rows = pd.DataFrame(halving.judge(evidence))
    keys = ["after epochs", "factor", "in the order of", "zoo"]
    assert len(rows) == 2 * 2 * 4 * 2 == len(rows[keys].drop_duplicates())
    assert rows["winners dropped"].between(0, rows["rankings"]).all()
    assert set(rows["after epochs"]) == {"3", "1, 3"}


def test_the_overview_has_the_means_of_all_zoos(evidence):
    finals = evidence.runs["final"].to_numpy()
    scores = pd.DataFrame({"combined": finals, "last_seen": -finals})
    found = pd.concat(
        [verdict.intervals(scores, evidence, resamples=2).assign(epochs=number) for number in (1, 5)],
        ignore_index=True,
    )
    table = verdict.overview(found)
    assert list(table.loc["`combined`, the default"]) == ["1.00", "1.00", "0.0", "1.00"]
    right = found.set_index(["zoo", "epochs", "measure", "method"])["mean"].sort_index()["all", 5, "pairs > 0.02"]
    assert table.loc["`last_seen`", "pairs in right order after 5"] == f"{right['last_seen']:.2f}"
    assert set(table.loc["`logme`"]) == {"-"}


@pytest.mark.parametrize("by", ablation.SCHEMES.values())
def test_what_is_predicted_was_not_fitted(evidence, by):
    index = np.arange(len(evidence.runs))[:, None]
    seen = []

    def fit(x, y, runs, others):
        of_others = evidence.runs.iloc[others[:, 0]]
        for column in by:
            assert not set(runs[column]) & set(of_others[column])
        np.testing.assert_array_equal(runs.index, x[:, 0])
        seen.extend(others[:, 0])
        return np.zeros(len(others))

    learning.left_out(evidence, index, evidence.runs["final"].to_numpy(), fit, by)
    assert sorted(seen) == list(range(len(evidence.runs)))


def test_groups_count_the_same_whatever_their_size(evidence):
    runs = evidence.runs.iloc[5:]
    total = pd.Series(learning.weights(runs), runs.index).groupby([runs["zoo"], runs["task"], runs["seed"]]).sum()
    np.testing.assert_allclose(total, total.iloc[0])


def test_normal_scores_are_the_standings_that_combined_reads(evidence):
    features = learning.all_features(evidence, 3)
    expected = learning.ranked_features(features, evidence)
    np.testing.assert_allclose(ablation.encoded(features, evidence, "normal scores"), expected, atol=1e-12)
    one = next(iter(evidence.groups.values()))
    of_one = standings({k: features.iloc[k].to_dict() for k in one}, features.columns)
    np.testing.assert_allclose(expected.iloc[one], of_one)


@pytest.mark.parametrize("target", ablation.TARGETS)
def test_a_target_is_read_back(target):
    make, read = ablation.TARGETS[target]
    final, seen = np.array([0.5, 0.7]), np.array([0.3, 0.6])
    np.testing.assert_allclose(read(make(final, seen, final), seen), final)


@pytest.mark.parametrize("name", ablation.LEARNERS)
def test_every_learner_orders_what_is_linear(evidence, name):
    x = np.random.default_rng(0).normal(size=(len(evidence.runs), 3))
    predicted = ablation.LEARNERS[name](x, x[:, 0], evidence.runs, x)
    assert spearman(predicted, x[:, 0]) > 0.8


def of_lines(levels, slopes, betas):
    """Evidence of one ranking whose accuracies lie on lines against β_eff."""
    names = [f"n{k}" for k in range(len(levels))]
    runs = pd.DataFrame({"zoo": "scratch", "task": "x", "family": "a", "name": names, "seed": 0, "final": levels})
    histories = [
        pd.DataFrame({"epoch": np.arange(1, 6), "beta_eff": beta, "accuracy": level + slope * beta})
        for level, slope, beta in zip(levels, slopes, betas, strict=True)
    ]
    return Evidence(runs, histories)


def test_pooled_lines_are_read_at_zero():
    rng = np.random.default_rng(0)
    levels, betas = rng.uniform(0.5, 0.9, 8), rng.uniform(0.5, 1.5, (8, 5))
    common = of_lines(levels, np.full(8, -0.2), betas)
    for slopes in (True, False):
        found = ablation.pooled_at_zero(common, 5, "beta_eff", np.asarray, slopes)
        np.testing.assert_allclose(found, levels, atol=1e-3)
    own = of_lines(levels, np.linspace(-0.3, -0.1, 8), betas)
    found = ablation.pooled_at_zero(own, 5, "beta_eff", np.asarray)
    one = ablation.pooled_at_zero(own, 5, "beta_eff", np.asarray, slopes=False)
    assert np.abs(found - levels).max() < 0.2 * np.abs(one - levels).max()


def test_a_run_alone_is_read_as_the_papers_do(evidence):
    found = ablation.alone_at_zero(evidence, 5, "beta_eff", np.asarray)
    expected = [at_zero_capacitance(seen)[0] for seen in evidence.histories]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_ablation_has_a_row_for_everything_tried(evidence, initial, monkeypatch):
    monkeypatch.setattr(ablation, "LEARNERS", {"ridge again": learning.ridge})
    made, rows = ablation.judge(evidence, [2], initial, 5)
    (_, table), found = made[0], pd.DataFrame(rows)
    assert table.loc["learner: ridge again", "left out: both"] == pytest.approx(
        table.loc["combined: combined", "left out: both"]
    )
    assert {f"features: without {group}" for group in learning.ORDER} < set(table.index)
    assert set(found["left_out"]) == set(ablation.SCHEMES)


def test_the_error_of_a_line_at_zero_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 2, 6), rng.normal(size=6)
    assert why.error_at_zero(x, y) == pytest.approx(linregress(x, y).intercept_stderr)
    assert np.isnan(why.error_at_zero(np.ones(6), y))


def test_the_reasons_are_figures_of_the_runs(evidence):
    made, rows = why.judge(evidence)
    tables = dict(made)
    shares = tables["What the variance of log β_eff belongs to"].iloc[:, :3]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert len(rows) == len(evidence.runs)
    before = evidence.histories[0]
    fall = before.assign(beta_eff=1 / (1 + before["epoch"]), accuracy=before["epoch"] / 10, signed_denominator=0.0)
    found = why.of_run(fall, 5)
    assert found["monotone"]
    assert found["peak"] == 1
    assert found["opposite steps"] == pytest.approx(1)
    assert found["order"] == pytest.approx(-1)
    assert found["undefined"] == pytest.approx(1)


def test_misplaced_families_are_those_of_the_order_that_combined_predicts(evidence, monkeypatch):
    finals, families = evidence.runs["final"].to_numpy(), evidence.runs["family"]
    monkeypatch.setattr(why, "order", lambda evidence, epochs: finals - (families == "c"))
    by_task, by_family = (table for _, table in why.errors_of_combined(evidence))
    assert (by_family.xs("c", level="family")["too high, mean"] < 0).all()
    assert (by_family.drop("c", level="family")["too high, mean"] > 0).all()
    np.testing.assert_allclose(by_family.groupby("zoo")["too high, mean"].sum(), 0, atol=1e-12)  # of equal size
    assert (by_task["after 5"] < 1).all()


def test_intervals_hold_nineteen_of_twenty_final_accuracies_over_all_zoos(evidence):
    _, table = why.intervals_of_combined(evidence, epochs=(1, 5))
    for number in (1, 5):
        of_epochs = table.xs(number, level="epochs")
        assert of_epochs["within"].mean() == pytest.approx(0.95, abs=1 / 72)  # zoos of equal size, of 72 runs
        assert (of_epochs["within, in the worst ranking"] <= of_epochs["within"]).all()
        predicted = learning.predicted_left_out(evidence, learning.all_features(evidence, number), number)
        missed = np.abs(predicted - evidence.runs["final"])
        assert of_epochs["mean error"].mean() == pytest.approx(missed.mean())


def test_tables_replace_a_section_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables of why -->\nold\n<!-- end of why -->\nafter\n")
    table = pd.DataFrame({"a|b": [0.12345, np.nan]}, index=pd.Index(["x", "y"], name="method"))
    for _ in range(2):
        pages.write_section(page, "why", [("Title", table)])
        assert page.read_text() == (
            "before\n<!-- tables of why -->\n\n**Title**\n\n"
            "| method | a\\|b |\n| --- | --- |\n| x | 0.123 |\n| y | - |\n\n<!-- end of why -->\nafter\n"
        )
    with pytest.raises(SystemExit, match="no lines <!-- tables of halving -->"):
        pages.write_section(page, "halving", [])
