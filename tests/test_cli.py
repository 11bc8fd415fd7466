import pandas as pd
import pytest
from matplotlib.image import imread

import linegraph as lg
from linegraph import cli, datasets
from linegraph.selection.candidates import digits_candidates
from tests.architectures import ARCHITECTURES


@pytest.fixture
def small(monkeypatch):
    """Three candidates, one of them a transformer, and a fifth of the digits."""

    def load():
        (x, y), valid = datasets.digits()
        return (x[:260], y[:260]), valid

    some = {name: digits_candidates()[name] for name in ("mlp-64-64", "cnn-8")} | {"vit": ARCHITECTURES["vit"]}
    monkeypatch.setitem(cli.DATASETS, "digits", (load, lambda: some))


def run(monkeypatch, *arguments):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["linegraph", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.mark.usefixtures("small")
def test_rank(monkeypatch, tmp_path, capsys):
    out = tmp_path / "runs"
    arguments = ["rank", "--epochs", 2, "--train-fully", "--final-epochs", 4, "--out", out]
    assert run(monkeypatch, *arguments) == 0
    printed = capsys.readouterr()
    assert "mlp-64-64" in printed.out
    assert "kendall_tau" in printed.out
    assert "12/12" in printed.err  # the progress bar
    table = pd.read_csv(out / "ranking.csv")
    assert set(table["name"]) == {"mlp-64-64", "cnn-8", "vit"}
    assert len(pd.read_csv(out / "history.csv")) == 15  # three candidates, epochs 0 to 4
    for figure in ("accuracy_vs_capacitance.png", "predicted_vs_true.png"):
        assert imread(out / figure)[..., :3].std() > 0.01
    assert run(monkeypatch, *arguments) == 0
    pd.testing.assert_frame_equal(pd.read_csv(out / "ranking.csv"), table)


@pytest.mark.usefixtures("small")
def test_rank_after_one_epoch(monkeypatch, tmp_path, capsys):
    """The accuracy is seen, though nothing can be regressed on."""
    assert run(monkeypatch, "rank", "--epochs", 1, "--out", tmp_path) == 0
    assert "needs two epochs" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "ranking.csv")
    assert table["last_seen"].notna().all()
    assert table["epochs"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank", "--out", "x", "--dataset", "mnist"], "unknown data set 'mnist'"),
        (["rank", "--out", "x", "--kind", "big"], "unknown kind 'big'"),
        (["rank", "--out", "x", "--epochs", "0"], "greater than or equal to 1"),
        (["rank", "--out", "x", "--train-fully", "--final-epochs", "3"], "at least --epochs"),
        (["rank"], "Missing option '--out'"),
    ],
)
def test_bad_arguments(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("small")
def test_interruption_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "rank", interrupted)
    assert run(monkeypatch, "rank", "--out", tmp_path) == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_folder_of_other_settings_is_one_line_and_stays_as_it_is(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "rank", "--epochs", 2, "--out", tmp_path) == 0
    kept = (tmp_path / "history.csv").read_text(), (tmp_path / "ranking.csv").read_text()
    capsys.readouterr()
    assert run(monkeypatch, "rank", "--epochs", 2, "--seed", 1, "--out", tmp_path) == 1
    message = capsys.readouterr().err
    assert "other settings: seed (0, now 1)" in message
    assert message.count("\n") == 1
    assert ((tmp_path / "history.csv").read_text(), (tmp_path / "ranking.csv").read_text()) == kept


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be_made_is_one_line(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "rank", "--out", tmp_path / "file") == 1
    assert "Traceback" not in capsys.readouterr().err


def resilience(out, *more):
    edges = "".join(f"{i} {(i + step) % 20} 1.2\n" for i in range(20) for step in (1, 2, 5))
    (out / "web.txt").write_text(edges)
    return ["resilience", out / "web.txt", "--steps", 4, "--repeats", 2, "--out", out / "runs", *more]


@pytest.mark.parametrize("model", ["mutualistic", "regulatory", "sis", "neuronal"])
def test_resilience(monkeypatch, tmp_path, capsys, model):
    arguments = resilience(tmp_path, "--model", model, "--perturb", "links", "--undirected")
    assert run(monkeypatch, *arguments) == 0
    printed = capsys.readouterr()
    assert "20 nodes, 120 edges, β_eff = 7.2" in printed.out
    assert "Tipping points" in printed.out
    assert "2/2" in printed.err  # the progress bar
    table = pd.read_csv(tmp_path / "runs/resilience.csv")
    assert len(table) == 4 * 2 * 2
    assert table["converged"].all()
    for figure in ("state_vs_capacity.png", "state_vs_loss.png"):
        assert imread(tmp_path / "runs" / figure)[..., :3].std() > 0.01
    monkeypatch.setattr("linegraph.dynamics.resilience._repeat", None)  # all is there already
    assert run(monkeypatch, *arguments) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "runs/resilience.csv"), table)


def test_resilience_of_the_largest_component(monkeypatch, tmp_path):
    for component, nodes in (("weak", 10), ("strong", 1)):  # a tree, all of whose edges lead outward
        arguments = resilience(tmp_path, "--component", component)
        (tmp_path / "web.txt").write_text("".join(f"{(i - 1) // 2} {i}\n" for i in range(1, 10)))
        arguments[arguments.index("--out") + 1] = tmp_path / component
        assert run(monkeypatch, *arguments) == 0
        table = pd.read_csv(tmp_path / component / "resilience.csv")
        assert (table.loc[table["fraction"] == 0, "nodes"] == nodes).all()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--model", "lorenz"], 2, "unknown model 'lorenz'"),
        (["--perturb", "edges"], 2, "unknown perturbation 'edges'"),
        (["--component", "giant"], 2, "unknown component 'giant'"),
        (["--most", "1.5"], 2, "less than or equal to 1"),
        (["--steps", "1"], 2, "greater than or equal to 2"),
    ],
)
def test_bad_arguments_of_resilience(monkeypatch, tmp_path, capsys, more, code, message):
    assert run(monkeypatch, *resilience(tmp_path, *more)) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_resilience_names_damaged_files(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, *resilience(tmp_path)) == 0
    damaged = next((tmp_path / "runs").rglob("repeat-0.json"))
    damaged.write_text("[{")
    capsys.readouterr()
    assert run(monkeypatch, *resilience(tmp_path)) == 1
    assert "repeat-0.json is damaged" in capsys.readouterr().err


def test_resilience_names_bad_files_and_goes_on_after_interruption(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "resilience", tmp_path / "none.txt", "--out", tmp_path) == 1
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("ant plant\nformica oak\n")
    of_names = ("resilience", tmp_path / "names.txt", "--out", tmp_path)
    assert run(monkeypatch, *of_names) == 1
    assert "--header or --no-header" in capsys.readouterr().err

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("linegraph.dynamics.resilience._repeat", interrupted)
    assert run(monkeypatch, *resilience(tmp_path)) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert run(monkeypatch, *of_names, "--header") == 130
    assert "2 nodes, 1 edges" in capsys.readouterr().out


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"linegraph {lg.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["--version", "rank", "resilience"]),
        (["rank", "--help"], ["--train-fully", "run the same command again"]),
        (["resilience", "--help"], ["--undirected", "run the same command again"]),
    ],
)
def test_help(monkeypatch, capsys, arguments, words):
    assert run(monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)


def test_resilience_takes_the_weights_that_are_named(monkeypatch, tmp_path, capsys):
    arguments = resilience(tmp_path)
    edges = "".join(f"{i},{(i + step) % 20},{step},0.5\n" for i in range(20) for step in (1, 2))
    (tmp_path / "web.txt").write_text("from,to,length,flow\n" + edges)
    assert run(monkeypatch, *arguments) == 1
    assert "--weight or --unweighted" in capsys.readouterr().err
    for more, beta in ((["--weight", "length"], "3 "), (["--weight", "flow"], "1 "), (["--unweighted"], "2 ")):
        arguments[arguments.index("--out") + 1] = tmp_path / beta.strip()
        assert run(monkeypatch, *arguments, *more) == 0
        assert f"40 edges, β_eff = {beta}" in capsys.readouterr().out
