import copy
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import linregress
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import linegraph as lg
from benchmarks.selection import learning, new_features, new_figures, recording
from benchmarks.selection.evidence import KEY, Evidence
from benchmarks.selection.recording import BATCH
from linegraph.selection import spearman

CLASSES, STEPS = 3, 4
DERIVED = ("gain", "fall", "bend", "unused")


def samples(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 8, 8, generator=generator)
    y = torch.arange(n) % CLASSES
    return x + y[:, None, None, None] * torch.linspace(-0.3, 0.3, 8), y


TRAIN, VALID = samples(STEPS * BATCH, 0), samples(90, 1)


def network():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 7)
    )
    return nn.Sequential(body, nn.Tanh(), nn.Linear(7, CLASSES))


def started(kind="SGD"):
    model = network()
    options = {"lr": 0.05, "momentum": 0.9} if kind == "SGD" else {"lr": 1e-3}
    optimizer = getattr(torch.optim, kind)(model.parameters(), **options)
    torch.manual_seed(1)
    return model, optimizer


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_figures_of_a_run_that_is_trained_as_it_would_be_without_them(kind):
    model, optimizer = started(kind)
    found = new_figures.figures(model, optimizer, TRAIN, VALID, (1, 2)).set_index("epoch")
    plain, optimizer = started(kind)
    states = [copy.deepcopy(plain)]
    for _ in range(2):
        for indices in torch.randperm(len(TRAIN[0])).split(BATCH):
            plain.train()
            optimizer.zero_grad()
            F.cross_entropy(plain(TRAIN[0][indices]), TRAIN[1][indices]).backward()
            optimizer.step()
            states.append(copy.deepcopy(plain))
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for epoch in (1, 2):
        middle, end = states[STEPS * epoch - STEPS // 2].eval(), states[STEPS * epoch].eval()
        with torch.no_grad():
            for state, column in ((middle, "half_valid_loss"), (end, "valid_loss")):
                assert found[column][epoch] == pytest.approx(
                    float(F.cross_entropy(state(VALID[0]), VALID[1])), rel=1e-4
                )
    # The branch with a constant learning rate is the network itself in the middle of the next epoch.
    for column in ("accuracy", "valid_loss", "probe"):
        assert found[f"longer_{column}"][1] == pytest.approx(found[f"half_{column}"][2], rel=1e-4), column
    assert found.notna().all(axis=None)


def test_averaged_weights_are_means_over_the_last_half_of_the_epoch(monkeypatch):
    model, optimizer = started()
    states, step = [], new_figures.step

    def watched(*given):
        loss = step(*given)
        states.append([p.detach().clone() for p in model.parameters()])
        return loss

    monkeypatch.setattr(new_figures, "step", watched)
    _, averaged = new_figures.train_epoch(model, optimizer, TRAIN, VALID)
    for found, *each in zip(averaged.module.parameters(), *states[STEPS // 2 :], strict=True):
        torch.testing.assert_close(found, torch.stack(each).mean(0))
    new_figures.of_averaged(averaged, TRAIN, VALID)
    norm = averaged.module[0][1]
    x = averaged.module[0][0](TRAIN[0])
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_the_learning_rate_of_a_branch_falls_to_0(monkeypatch):
    model, optimizer = started()
    rates, step = [], new_figures.step

    def watched(branch, other, x, y):
        assert branch is not model
        rates.append(other.param_groups[0]["lr"])
        return step(branch, other, x, y)

    monkeypatch.setattr(new_figures, "step", watched)
    new_figures.of_branch(model, optimizer, TRAIN, VALID, new_figures.RATES["annealed"])
    assert rates == pytest.approx([0.05, 0.025])


def test_the_penalty_of_a_ridge_regression_has_the_least_leave_one_out_error():
    torch.manual_seed(2)
    y, true = torch.arange(24) % 3, torch.arange(60) % 3
    centres = torch.randn(3, 5)
    seen, others = (centres[c] + torch.randn(len(c), 5) for c in (y, true))
    x = ((seen - seen.mean(0)) / seen.std(0)).double().numpy()
    z = ((others - seen.mean(0)) / seen.std(0)).double().numpy()
    targets, errors = 2 * np.eye(3)[y] - 1, []
    for penalty in new_figures.PENALTIES:
        without = [np.arange(24) != i for i in range(24)]
        fits = [Ridge(24 * penalty).fit(x[keep], targets[keep]) for keep in without]
        errors.append(sum(((fit.predict(x[[i]]) - targets[i]) ** 2).sum() for i, fit in enumerate(fits)))
    best = Ridge(24 * new_figures.PENALTIES[int(np.argmin(errors))]).fit(x, targets)
    expected = (best.predict(z).argmax(1) == true.numpy()).mean()
    assert new_figures.ridge_accuracy(seen, y, others, true) == pytest.approx(expected)
    constant = torch.cat([seen, torch.ones(24, 1)], 1), torch.cat([others, torch.ones(60, 1)], 1)
    assert new_figures.ridge_accuracy(constant[0], y, constant[1], true) == pytest.approx(expected)


def test_probes_and_the_shape_of_features():
    torch.manual_seed(3)
    x, y, z, true = torch.randn(40, 6), torch.randint(4, (40,)), torch.randn(30, 6), torch.randint(4, (30,))
    voting = KNeighborsClassifier(10, metric="cosine").fit(x, y)
    assert new_figures.nearest(x, y, z, true) == pytest.approx(voting.score(z, true))
    values = np.linalg.eigvalsh(np.cov(x.numpy().T))
    assert new_figures.effective_rank(x) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-4)
    assert new_figures.effective_rank(x.T) == pytest.approx(
        np.trace(np.cov(x.numpy())) ** 2 / (np.cov(x.numpy()) ** 2).sum(), rel=1e-4
    )
    groups = pd.DataFrame(x.numpy()).groupby(y.numpy())
    within = ((x.numpy() - groups.transform("mean")) ** 2).sum(axis=1).mean()
    ratio = within / ((groups.mean() - x.numpy().mean(0)) ** 2).sum(axis=1).mean()
    assert new_figures.collapse(x, y) == pytest.approx(np.log(ratio), rel=1e-4)


def test_what_enters_the_weights():
    model = network().eval()
    first, second, third, last = new_figures.entering(model, VALID[0])
    places = [
        VALID[0][:, :, rows, columns].mean((2, 3)) for rows, columns in product((slice(4), slice(4, 8)), repeat=2)
    ]
    torch.testing.assert_close(first, torch.stack(places, 2).flatten(1))
    assert second.shape == (90, 24)
    torch.testing.assert_close(third, model[0][:6](VALID[0]))
    torch.testing.assert_close(last, new_figures.outputs(model, VALID[0])[0])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_weights_zeros_and_predictions():
    model = network().eval()
    found = new_figures.of_weights(model, *VALID)
    model.zero_grad()
    F.cross_entropy(model(VALID[0]), VALID[1]).backward()
    weights = [p for p in model.parameters() if p.ndim > 1]
    ratios = np.log([float(w.grad.norm() / w.detach().norm()) for w in weights])
    assert found["steepness"] == pytest.approx(ratios.mean(), rel=1e-4)
    assert found["steepness_last"] == pytest.approx(ratios[-1] - ratios[0], rel=1e-3)
    norms = [(np.linalg.norm(w.detach().flatten(1)), np.linalg.norm(w.detach().flatten(1), 2)) for w in weights]
    assert found["spectral"] == pytest.approx(np.mean([np.log(s) for _, s in norms]), rel=1e-4)
    assert found["stable_rank"] == pytest.approx(np.mean([np.log(f**2 / s**2) for f, s in norms]), rel=1e-4)
    with torch.no_grad():
        zeros = [(model[0][: i + 1](VALID[0]) == 0).numpy() for i in (2, 4)]
        scores = model(VALID[0]).double().numpy()
    assert found["dead"] == pytest.approx(np.mean([z.mean() for z in zeros]), rel=1e-4)
    assert found["dead_units"] == pytest.approx(np.mean([z.all(0).mean() for z in zeros]), abs=1e-6)
    margins = [row[c] - np.delete(row, c).max() for row, c in zip(scores, VALID[1], strict=True)]
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    predicted = new_figures.of_predictions(model(VALID[0]), VALID[1])
    assert predicted["margin"] == pytest.approx(np.mean(margins) / scores.std(ddof=1), rel=1e-4)
    assert predicted["entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-4)


def test_sums_over_layers_and_the_size_of_the_coupling():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    data = TRAIN[0][:20], TRAIN[1][:20]
    found = new_figures.of_coupling(model, data)
    P = lg.NeuralCoupling(model, F.cross_entropy, data, kind="signed")
    values = np.linalg.svd(P.to_scipy() @ np.eye(P.num_nodes), compute_uv=False)
    assert found["norm"] == pytest.approx(np.log(values[0]), abs=0.02)
    assert np.exp(found["rank"]) == pytest.approx((values**2).sum() / values[0] ** 2, rel=0.5)
    strengths = lg.NeuralCoupling(model, F.cross_entropy, data, kind="magnitude").in_strength().numpy()
    means = np.log([part.mean() for part in np.split(strengths, [768, 788])[:2]])  # nothing follows the last layer
    assert found["strength_slope"] == pytest.approx(means[1] - means[0], rel=1e-3)
    assert found["strength_last"] == pytest.approx(strengths[768:788].sum() / strengths.sum(), rel=1e-3)
    assert found["strength_deviation"] == pytest.approx(means.std(ddof=1), rel=1e-3)


def test_figures_over_depth():
    layers = pd.DataFrame({"num_synapses": [10, 20, 40, 5], "flow": [3.0, 5.0, 2.0, 0.0]})
    found = new_figures.over_depth(layers, "flow")
    means = np.log([0.3, 0.25, 0.05])
    assert found["slope"] == pytest.approx(linregress([0, 0.5, 1], means).slope)
    assert (found["last"], found["deviation"]) == pytest.approx((0.2, means.std(ddof=1)))
    assert np.isnan(list(new_figures.over_depth(layers[2:], "flow").values())).all()


def test_chosen_runs_have_all_families_and_both_sources():
    runs = list(new_figures.chosen_runs())
    assert {(run.zoo, run.task) for run in runs} == set(new_figures.CHOSEN)
    assert len(set(runs)) == len(runs)
    for name in ("scratch", "transfer"):
        there = {family for family, network in recording.networks(name) if not network.endswith("@imagenet")}
        assert {run.family for run in runs if run.zoo == name} - {"efficientnet-lite"} == there
    sources = {run.name.partition("@")[2] for run in runs if run.zoo == "transfer"}
    assert sources >= set(recording.SOURCES)


def test_a_recording_goes_on_and_becomes_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "RUNS", tmp_path)
    monkeypatch.setattr(new_figures, "TABLE", tmp_path / "table.parquet")
    runs = list(new_figures.chosen_runs())[:3]
    monkeypatch.setattr(new_figures, "chosen_runs", lambda: runs)
    monkeypatch.setattr(recording, "started", lambda run, data: (run.name,))
    taken = []

    def figures(name):
        taken.append(name)
        return pd.DataFrame({"epoch": [1, 3], "accuracy": [0.25, 0.5]})

    monkeypatch.setattr(new_figures, "figures", figures)
    with pytest.raises(SystemExit, match="new_figures makes it"):
        new_figures.read_table()
    new_figures.record(None, minutes=0)
    assert taken == []
    new_figures.record(None)
    new_figures.path_of(runs[1]).unlink()
    new_figures.record(None)
    assert taken == [run.name for run in [*runs, runs[1]]]
    new_figures.collect()
    table = new_figures.read_table()
    assert set(table[KEY].itertuples(index=False, name=None)) == {
        tuple(getattr(run, name) for name in KEY) for run in runs
    }
    assert table["accuracy"].tolist() == [0.25, 0.5] * 3


# the comparison ---------------------------------------------------------------------------------------------------


def evidence_and_figures():
    """Two tasks, three families of four networks, two seeds; annealed_accuracy is the final accuracy."""
    rng, rows, histories, figures = np.random.default_rng(0), [], [], []
    columns = [f"quarter_{k}" for k in (1, 2, 3, 4)]
    columns += [name for names in new_features.GROUPS.values() for name in names if not name.endswith(DERIVED)]
    columns += [*new_features.ALONE, *new_features.LOSSES, "accuracy"]
    for task, family, number, seed in product("xy", "abc", range(4), (0, 1)):
        final = 0.4 + 0.1 * number + rng.normal(0, 0.02)
        key = ("scratch", task, family, f"{family}-{number}", seed)
        rows.append((*key, final))
        epochs = np.arange(5)
        history = {"epoch": epochs, "accuracy": rng.uniform(0.3, 0.5, 5), "valid_loss": rng.uniform(1, 2, 5)}
        histories.append(pd.DataFrame(history | {"linear_probe": rng.uniform(0.3, 0.5, 5)}))
        noise = dict(zip(columns, rng.uniform(0.1, 1, len(columns)), strict=True))
        figures.append(dict(zip(KEY, key, strict=True)) | noise | {"epoch": 1, "annealed_accuracy": final})
    return Evidence(pd.DataFrame(rows, columns=[*KEY, "final"]), histories), pd.DataFrame(figures)


def test_what_a_feature_adds_is_found():
    evidence, figures = evidence_and_figures()
    tables, rows = new_features.judge(evidence, figures, [1], resamples=20)
    table = pd.DataFrame(rows).query("zoo == 'all'")
    for fit in new_features.FITS:
        found = table[table["asked"] == fit].set_index("method")
        assert found["mean"]["annealed"] > max(0.7, found["mean"]["nothing"] + 0.3)
        assert found["more_high"]["annealed"] < 0
    found = table[table["asked"] == new_features.FITS[0]].set_index("method")
    assert found["mean"]["annealed_accuracy"] == pytest.approx(1)
    own = [history["linear_probe"][1] for history in evidence.histories]
    finals = evidence.runs["final"].to_numpy()
    expected = np.mean([spearman(np.array(own)[members], finals[members]) for members in evidence.groups.values()])
    assert found["mean"]["linear_probe"] == pytest.approx(expected)
    recorded, groups, alone, marks = (table for _, table in tables)
    assert recorded["runs"].tolist() == [48]
    assert {"nothing", *new_features.GROUPS} < set(groups.index)
    assert {"combined", *new_features.ALONE} < set(alone.index)
    assert marks.index[0] == "annealed_accuracy"
    assert set(marks.index) == set(new_features.SINGLE)
    assert marks["after 1"].iloc[0] > "+0.3"
    for column in (groups.iloc[1:, -3], groups.iloc[1:, -1], alone.drop("combined").iloc[:, -1]):
        assert column.str.match(r"[+-]\d\.\d{3} \[[+-]\d\.\d{3}, [+-]\d\.\d{3}\]").all()


def test_what_the_probe_of_layers_adds_is_that_of_other_tasks():
    evidence, figures = evidence_and_figures()
    for history, final in zip(evidence.histories, evidence.runs["final"], strict=True):
        history["layer_probe"] = final
    assert not len(new_features.without_figures(evidence, figures))
    rows = new_features.without_figures(evidence, figures[figures["task"] == "x"])
    assert set(evidence.runs["task"].iloc[rows]) == {"y"}
    found = new_features.confirmed(evidence, rows, [1, 3], resamples=20)
    assert found.loc["all", "tasks"] == 1
    for column in ("after 1", "after 3"):
        assert "+0.3" < found.loc["scratch", column] == found.loc["all", column] < "+1"
        assert " [-" not in found.loc["all", column]
    features = learning.all_features(evidence, 1)
    assert not new_features.are_recorded(features)
    assert new_features.are_recorded(features.fillna(0.5))


def test_groups_that_are_still_recorded_are_left_out():
    evidence, figures = evidence_and_figures()
    rows, of_runs = new_features.with_figures(evidence, figures[14:], 1)  # of 12 networks in each group
    assert rows.tolist() == list(range(14, 48))
    rows, of_runs = new_features.with_figures(evidence, figures[16:], 1)
    assert rows.tolist() == list(range(24, 48))
    assert of_runs["annealed_accuracy"].tolist() == pytest.approx(evidence.runs["final"].iloc[rows].tolist())
