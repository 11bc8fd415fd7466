"""The page of benchmarks is made from their results."""

import json
import sys

import torch

from benchmarks import page


def test_the_page_is_that_of_the_results():
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.written(), "write docs/benchmarks.md anew: python -m benchmarks.page"


def test_every_result_is_on_the_page():
    written = page.PAGE.read_text(encoding="utf-8")
    files = sorted(page.RESULTS.glob("*.json"))
    assert files
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        assert found["command"] in written
        assert all(title in written for title in found["tables"])


def test_what_a_benchmark_writes_becomes_a_section(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["line_graph.py", "--runs", "2", "--json", "there.json", "--batch", "8"])
    rows = [
        {"network": "a|b", "edges": 120000, "ours": torch.tensor(0.12345), "igraph": float("nan")},
        {"network": "c", "edges": 12, "ours": 1.5, "PyG": "too large"},
    ]
    page.save(tmp_path / "line_graph.json", "line_graph", {"seconds": rows})
    section = page.written()
    assert "$ python -m benchmarks.metrics --json benchmarks/results/metrics.json\n" in section  # which has no result
    assert "## Explicit line graphs against PyG" in section
    assert "$ python -m benchmarks.line_graph --runs 2 --batch 8\n" in section
    assert "| network | edges | ours | igraph | PyG |\n|---|---|---|---|---|\n" in section
    assert "| a\\|b | 120,000 | 0.123 | – | – |\n| c | 12 | 1.5 | – | too large |\n" in section


def test_a_table_of_many_columns_is_turned():
    turned = page._table([{"case": "first", **{f"figure {k}": k for k in range(8)}}])
    assert turned[0] == "| case | first |"
    assert len(turned) == 10
