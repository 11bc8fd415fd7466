import json
import sys

import numpy as np
import pandas as pd
import pytest

from linegraph.cli import output
from linegraph.cli.output import Output, plain, printed

TABLE = pd.DataFrame(
    {
        "name": ["first", "second"],
        "shape": [(3, 4), (5,)],
        "value": [0.123456789, -0.0],
        "count": [12345, 1],
        "missing": [float("nan"), None],
        "reason": ["short", "a long text that " * 6],
    }
)


def test_json_has_null_for_what_is_not_finite():
    given = {"a": np.float32(0.5), "b": float("nan"), "c": [np.inf, np.int64(3), True, None], "d": pd.Series({"e": 1})}
    assert plain(given) == {"a": 0.5, "b": None, "c": [None, 3, True, None], "d": {"e": 1}}
    assert plain(TABLE)[0]["shape"] == [3, 4]


def test_a_table_that_is_piped_has_a_line_for_each_row(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = printed(TABLE).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == list(TABLE)
    assert lines[1].split()[:5] == ["first", "3x4", "0.1235", "12,345", "-"]
    assert lines[2].split()[2] == "0"
    assert ("a long text that " * 6).strip() in lines[2]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_in_a_terminal_tables_are_whole_in_any_width(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    wide = pd.concat([TABLE, pd.DataFrame({f"column_{i}": [i + 0.5, 100.25 * i] for i in range(9)})], axis=1)
    text = printed(wide)
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    assert {*map(str, wide.columns)} <= {*words}
    assert {"8.5", "802", "12,345"} <= {*words}
    assert words.count("text") == 6
    assert "..." not in text
    assert "…" not in text
    assert words.count("second") == text.count("\n\n") + 1  # each block begins with the names


def test_files_are_written_and_told(tmp_path, capsys):
    results = Output("any", as_json=False, out=tmp_path / "new")
    results.table("layers", TABLE, "Layers")
    results.table("sizes", pd.Series({"nodes": 3}), "Sizes")
    results.finish()
    told = capsys.readouterr().out
    assert "Layers\nname" in told
    assert str(tmp_path / "new") in told
    assert pd.read_csv(tmp_path / "new/layers.csv")["count"].tolist() == [12345, 1]
    assert pd.read_csv(tmp_path / "new/sizes.csv").to_numpy().tolist() == [["nodes", 3]]


def test_json_is_all_of_stdout(tmp_path, capsys):
    results = Output("any", as_json=True, out=tmp_path)
    results.say("text")
    results.table("layers", TABLE, "Layers")
    results.finish()
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == "any"
    assert [row["count"] for row in found["layers"]] == [12345, 1]


def test_figures_are_written_and_closed(tmp_path):
    import matplotlib.pyplot as plt
    from matplotlib.image import imread

    figure, axes = plt.subplots()
    axes.plot([0, 1])
    Output("any", as_json=False, out=tmp_path).figure("line", axes)
    assert imread(tmp_path / "line.png")[..., :3].std() > 0.01
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize(
    ("text", "number"),
    [("12,345", 12345), ("-1.5e-3", -0.0015), ("7", 7), ("x1", "x1"), (True, True), ("1.2.3", "1.2.3")],
)
def test_numbers_in_texts(text, number):
    found = output._number(text)
    assert type(found) is type(number)
    assert found == pytest.approx(number) if isinstance(number, float) else found == number


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 bytes"), (1536, "1.5 KiB"), (2**30, "1 GiB"), (2**51, "2,048 TiB")]
)
def test_bytes(number, text):
    assert output.in_bytes(number) == text
