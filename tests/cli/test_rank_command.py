import json

import pandas as pd
import pytest
from matplotlib.image import imread

import linegraph as lg


def arguments(*more):
    return ["rank", "--model", "nets:zoo", "--data", "nets:few", "--out", "runs", *more]


def test_rank_and_resume(run, monkeypatch, tmp_path):
    given = arguments("--epochs", 2, "--train-fully", "--final-epochs", 3, "--batch-size", 32)
    found = run(*given)
    assert {"one", "two", "kendall_tau"} <= {*found.stdout.split()}
    assert found.stderr == "training and held-out data of nets:few\n"  # no progress bar where nobody sees it
    out = tmp_path / "runs"
    table = pd.read_csv(out / "ranking.csv")
    assert set(table["name"]) == {"one", "two"}
    assert len(pd.read_csv(out / "history.csv")) == 8  # epochs 0 to 3
    assert len(pd.read_csv(out / "correlations.csv")) == 3
    assert "Ranking of candidate networks" in (out / "report.html").read_text()
    for figure in ("accuracy_vs_capacitance.png", "predicted_vs_true.png"):
        assert imread(out / figure)[..., :3].std() > 0.01
    monkeypatch.setattr("linegraph.selection.training.evaluate", None)  # all is there already
    again = json.loads(run(*given, "--json").stdout)
    assert [row["name"] for row in again["ranking"]] == table["name"].tolist()
    pd.testing.assert_frame_equal(pd.read_csv(out / "ranking.csv"), table)


def test_progress_where_somebody_sees_it(run, monkeypatch):
    monkeypatch.setattr("linegraph.progress.is_watched", lambda: True)
    assert "4/4" in run(*arguments("--epochs", 2)).stderr


def test_the_built_in_candidates(run, monkeypatch):
    """``--dataset digits`` alone ranks them, of which two are left here."""
    from linegraph.selection import candidates

    some = {name: candidates.digits_candidates()[name] for name in ("mlp-4-4", "mlp-64-64")}
    monkeypatch.setattr(candidates, "digits_candidates", lambda: some)
    given = ["rank", "--dataset", "digits", "--epochs", 1, "--method", "last_seen", "--json", "--out", "runs"]
    assert {row["name"] for row in json.loads(run(*given).stdout)["ranking"]} == set(some)


def test_methods_and_metric(run):
    given = arguments("--epochs", 1, "--method", "num_parameters", "--method", "last_seen", "--metric", "f1")
    found = json.loads(run(*given, "--json").stdout)
    assert found["metric"] == "f1"
    assert [row["name"] for row in found["ranking"]] == ["two", "one"]  # the larger one first


def test_a_candidate_that_fails_is_a_row(run):
    found = run(
        "rank", "--model", "nets:small", "--model", "nets:bad", "--data", "nets:few", "--epochs", 1, "--out", "r"
    )
    assert "ValueError: no way" in " ".join(found.stdout.split())
    assert "needs two epochs" in " ".join(found.stdout.split())


def test_all_fail(run, tmp_path):
    found = run("rank", "--model", "nets:bad", "--data", "nets:few", "--epochs", 1, "--out", "runs", code=1)
    assert "no candidate could be ranked; bad: ValueError" in found.stderr
    assert not (tmp_path / "runs/ranking.csv").exists()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--kind", "big"], 2, "unknown kind 'big'"),
        (["--method", "logmee"], 2, "did you mean 'logme'"),
        (["--epochs", "0"], 2, "Invalid value for '--epochs'"),
        (["--train-fully", "--final-epochs", "3"], 2, "at least --epochs"),
        (["--loss", "mse_loss"], 1, "pass --loss cross_entropy"),
        (["--metric", "acc"], 1, "metric"),
        (["--data", "nets:loader"], 1, "rank needs held-out data too"),
        (["--weights", "none.safetensors"], 1, "of which candidate"),
    ],
)
def test_errors(run, more, code, message):
    found = run(*arguments(*more), code=code)
    assert found.stdout == ""
    assert message in found.told


def test_own_data_need_candidates(run):
    assert "name candidates" in run("rank", "--data", "nets:few", "--out", "runs", code=2).told
    assert "Missing option" in run("rank", code=2).told


def test_interruption_says_how_to_go_on(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(lg, "rank", interrupted)
    assert "the same command goes on" in run(*arguments(), code=130).stderr


def test_a_folder_of_other_settings_stays_as_it_is(run, tmp_path):
    run(*arguments("--epochs", 1))
    kept = (tmp_path / "runs/history.csv").read_text(), (tmp_path / "runs/ranking.csv").read_text()
    message = run(*arguments("--epochs", 1, "--seed", 1), code=1).stderr
    assert "other settings: seed (0, now 1)" in message
    assert ((tmp_path / "runs/history.csv").read_text(), (tmp_path / "runs/ranking.csv").read_text()) == kept


def test_a_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "runs").write_text("")
    assert run(*arguments(), code=1).stderr.count("linegraph: ") == 1
