import json

import pandas as pd
import pytest
from matplotlib.image import imread

from linegraph.cli.resilience_command import _agreement


def arguments(out, *more):
    edges = "".join(f"{i} {(i + step) % 20} 1.2\n" for i in range(20) for step in (1, 2, 5))
    (out / "web.txt").write_text(edges)
    return ["resilience", out / "web.txt", "--steps", 4, "--repeats", 2, "--out", out / "runs", *more]


@pytest.mark.parametrize("dynamics", ["mutualistic", "regulatory", "sis", "neuronal"])
def test_resilience(run, monkeypatch, tmp_path, dynamics):
    given = arguments(tmp_path, "--model", dynamics, "--perturb", "links", "--undirected")
    found = run(*given)
    assert "20 nodes, 120 edges, β_eff = 7.2" in found.stdout
    assert "Tipping points" in found.stdout
    assert found.stderr == ""  # no progress bar where nobody sees it
    table = pd.read_csv(tmp_path / "runs/resilience.csv")
    assert len(table) == 4 * 2 * 2
    assert table["converged"].all()
    for figure in ("state_vs_capacity.png", "state_vs_loss.png"):
        assert imread(tmp_path / "runs" / figure)[..., :3].std() > 0.01
    monkeypatch.setattr("linegraph.dynamics.resilience._repeat", None)  # all is there already
    again = json.loads(run(*given, "--json").stdout)
    assert len(again["resilience"]) == len(table)
    assert again["capacitance"]["beta_eff"] == pytest.approx(7.2)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "runs/resilience.csv"), table)


def test_agreement_counts_copies_near_the_theory(run, tmp_path):
    """The counts are those of the rows in the file."""
    run(*arguments(tmp_path, "--most", "1"))
    curve = pd.read_csv(tmp_path / "runs/resilience.csv")
    found = pd.read_csv(tmp_path / "runs/agreement.csv")
    assert found["copies"].sum() == curve["beta_eff"].notna().sum() < len(curve)
    tip = float(found["beta_eff"].iloc[0].split()[-1])
    for row in found.itertuples():
        is_above = row.beta_eff.startswith("above")
        own = curve[(curve["start"] == row.start) & ((curve["beta_eff"] >= tip) == is_above)].dropna()
        off = abs(own["x_eff"] / own["x_theory"] - 1)
        assert (row.copies, row.close) == (len(own), (off <= 0.1).sum())
        assert row.largest == pytest.approx(off.max(), abs=1e-6)


def test_states_of_0_agree():
    curve = pd.DataFrame({"start": "low", "beta_eff": [1.0, 3.0], "x_eff": [0.0, 1e-12], "x_theory": 0.0})
    found = _agreement(curve, [2.0])
    assert found["beta_eff"].tolist() == ["below 2", "above 2"]
    assert found["close"].tolist() == [1, 1]
    assert _agreement(curve, [])["beta_eff"].tolist() == ["any"]


def test_progress_where_somebody_sees_it(run, monkeypatch, tmp_path):
    monkeypatch.setattr("linegraph.progress.is_watched", lambda: True)
    assert "2/2" in run(*arguments(tmp_path)).stderr


def test_the_largest_component(run, tmp_path):
    for component, nodes in (("weak", 10), ("strong", 1)):  # a tree, all of whose edges lead outward
        given = arguments(tmp_path, "--component", component)
        (tmp_path / "web.txt").write_text("".join(f"{(i - 1) // 2} {i}\n" for i in range(1, 10)))
        given[given.index("--out") + 1] = tmp_path / component
        run(*given)
        table = pd.read_csv(tmp_path / component / "resilience.csv")
        assert (table.loc[table["fraction"] == 0, "nodes"] == nodes).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dynamics", "lorenz"], "unknown dynamics 'lorenz'"),
        (["--perturb", "edges"], "unknown perturbation 'edges'"),
        (["--component", "giant"], "unknown component 'giant'"),
        (["--most", "1.5"], "Invalid value for '--most'"),
        (["--steps", "1"], "Invalid value for '--steps'"),
    ],
)
def test_bad_options(run, tmp_path, more, message):
    assert message in run(*arguments(tmp_path, *more), code=2).told


def test_damaged_files_are_named(run, tmp_path):
    run(*arguments(tmp_path))
    next((tmp_path / "runs").rglob("repeat-0.json")).write_text("[{")
    assert "repeat-0.json is damaged" in run(*arguments(tmp_path), code=1).stderr


def test_bad_files_are_named_and_interruption_says_how_to_go_on(run, monkeypatch, tmp_path):
    assert "there is no file" in run("resilience", tmp_path / "none.txt", "--out", tmp_path, code=1).stderr
    (tmp_path / "names.txt").write_text("ant plant\nformica oak\n")
    of_names = ("resilience", tmp_path / "names.txt", "--out", tmp_path)
    assert "--header or --no-header" in run(*of_names, code=1).stderr

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("linegraph.dynamics.resilience._repeat", interrupted)
    assert "the same command goes on" in run(*arguments(tmp_path), code=130).stderr
    assert "2 nodes, 1 edges" in run(*of_names, "--header", code=130).stdout


def test_the_weights_that_are_named(run, tmp_path):
    given = arguments(tmp_path)
    edges = "".join(f"{i},{(i + step) % 20},{step},0.5\n" for i in range(20) for step in (1, 2))
    (tmp_path / "web.txt").write_text("from,to,length,flow\n" + edges)
    assert "--weight or --unweighted" in run(*given, code=1).stderr
    for more, beta in ((["--weight", "length"], "3 "), (["--weight", "flow"], "1 "), (["--unweighted"], "2 ")):
        given[given.index("--out") + 1] = tmp_path / beta.strip()
        assert f"40 edges, β_eff = {beta}" in run(*given, *more).stdout
