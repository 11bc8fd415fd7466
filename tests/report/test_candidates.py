import numpy as np
import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError
from tests.report.pages import check

WIDTHS = 2, 4, 8
SCRIPT = "<script>alert(1)</script>"


def perceptron(width):
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))


def broken():
    raise RuntimeError(f"no layer {SCRIPT}")


@pytest.fixture(scope="module")
def ranked():
    torch.manual_seed(0)
    x = torch.randn(80, 4)
    data = x, (x @ torch.randn(4, 3)).argmax(1)
    candidates = {f"width {width}": lambda width=width: perceptron(width) for width in WIDTHS}
    candidates |= {SCRIPT: lambda: perceptron(6), "broken": broken}
    methods = ["combined", "last_seen", "capacitance", "grad_norm"]
    return lg.rank(candidates, data, data, epochs=3, train_fully=4, methods=methods, progress=False)


def titles(page):
    return [part.title for part in page.parts if part.title]


def test_a_page_of_a_ranking_has_its_order_failures_agreement_and_methods(ranked):
    page = lg.report.ranking(ranked, settings={"seed": 0}, resamples=100)
    parsed = check(page.html())
    for name in ("Candidates", "Failures", "Agreement", "Predicted against true", "Accuracy against capacitance"):
        assert name in titles(page)
    assert {"What each method is", "Costs", "How to read this page"} <= set(titles(page))
    assert f"RuntimeError: no layer {SCRIPT}" in parsed.text
    formulas = lg.selection_methods().loc[["combined", "grad_norm"], "formula"]
    assert all(" ".join(formula.split()) in parsed.text for formula in formulas)
    facts = dict(next(part.facts for part in page.parts if part.kind == "facts"))
    assert facts["candidates"] == "5"
    assert facts["failed"] == "1"
    assert facts["first"] == ranked["name"][0]


def test_rows_are_in_the_order_of_the_ranking_with_95_percent_intervals(ranked):
    page = lg.report.ranking(ranked, resamples=10)
    (table,) = (part for part in page.parts if part.title == "Candidates")
    shown = {column.name: [cell.text for cell in column.cells] for column in table.columns}
    assert shown["name"] == list(ranked["name"])
    assert shown["place"] == ["1", "2", "3", "4", "5"]
    known = ranked["combined"].notna()
    for end, sign in (("from", -1), ("to", 1)):
        wanted = (ranked["combined"] + sign * 1.96 * ranked["combined_std"]).clip(0, 1)[known]
        found = [float(text) for text in shown[f"combined {end}"] if text]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_overlapping_intervals_are_counted():
    table = pd.DataFrame(
        {"name": list("abcd"), "combined": [0.9, 0.88, 0.8, 0.5], "combined_std": [0.02, 0.01, 0.1, 0.01]}
    ).assign(epochs=3, error=None)
    page = lg.report.ranking(table)
    facts = dict(next(part.facts for part in page.parts if part.kind == "facts"))
    assert facts["others whose interval overlaps"] == "2"
    assert facts["its predicted accuracy"] == "0.900 (0.861 to 0.939)"


def test_tables_without_history_truth_or_methods_make_shorter_pages(ranked):
    table = ranked[["name", "beta_eff", "epochs", "error"]].copy()
    table.attrs = {}
    page = lg.report.ranking(table)
    assert "Training" not in titles(page)
    assert not any("Agreement" in title for title in titles(page))
    check(page.html())


def test_a_page_where_all_failed_says_so():
    table = pd.DataFrame(
        {"name": ["a"], "combined": [np.nan], "combined_std": [np.nan], "epochs": [0], "error": ["E: x"]}
    )
    assert "No candidate could be trained." in check(lg.report.ranking(table).html()).text


def test_what_is_no_ranking_is_refused():
    with pytest.raises(ArgumentTypeError, match="table must be a pandas DataFrame"):
        lg.report.ranking([1])
    with pytest.raises(DataError, match=r"the table has no column 'name'; such a table is made by lg\.rank"):
        lg.report.ranking(pd.DataFrame({"x": [1]}))
    table = pd.DataFrame({"name": ["a"], "epochs": 1, "error": None})
    with pytest.raises(DataError, match="resamples must be 1 or more"):
        lg.report.ranking(table, resamples=0)


def test_it_is_shown_without_network(ranked, opened):
    tab = opened(lg.report.ranking(ranked, resamples=10))
    assert tab.said == []
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
