"""The page in a browser without network, and what can be read without one."""

import base64
import io
import re
from datetime import UTC, datetime

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.report import Page
from tests.report.pages import check

HTML = ["<script>alert(1)</script>", '<img src=x onerror="alert(2)">', "</title></table><b>&amp;\"'", "=1+1"]
NAMES = [f"{i}. " + "a.very_long/name-of/a_candidate.with_parts" * 2 for i in range(40)]


def long_table(rows=60):
    rng = np.random.default_rng(0)
    names = [*HTML, *(name[:60] for name in NAMES)]
    numbers = {f"a_column_of_numbers_{i}": rng.normal(size=rows) * 10.0 ** rng.integers(-9, 9, rows) for i in range(11)}
    return pd.DataFrame({"name": (names * 2)[:rows], **numbers})


def drawn(label="curve"):
    _, ax = plt.subplots(layout="constrained")
    ax.plot([1, 3, 2], label=label)
    ax.set(xlabel=label, ylabel="y")
    ax.legend()
    return ax


def full(**options):
    page = Page("A page of <b>all</b> parts", lead="What it is.", settings={"seed": 3, HTML[0]: HTML[1]}, **options)
    page.facts({"candidates": 60, HTML[0]: HTML[1], "long": NAMES[0]})
    page.text(f"One paragraph.\n\nAnother: {HTML[1]}")
    page.heading(HTML[0])
    page.table("Long", long_table(), note=HTML[2])
    page.figure(HTML[1], drawn(HTML[0]), data=long_table(5), caption=HTML[2])
    return page


def small():
    page = Page("Sorting")
    frame = pd.DataFrame(
        {
            "name": ["b", "A10", None, "a2", "c"],
            "number": [10.0, 9.0, np.nan, -1.5, 1e-5],
            "other": [np.inf, 3, None, -np.inf, 1_000_000],
        }
    )
    page.table("Small", frame)
    return page


def test_a_page_is_well_formed_and_names_are_text():
    page = check(full().html())
    for text in HTML[:3]:
        assert page.text.count(text) >= 1
    assert not any("onerror" in attributes for _, attributes in page.elements)


def test_the_contents_lead_to_every_part():
    page = Page("t")
    page.table("First", pd.DataFrame({"x": [1]}))
    page.heading("Section")
    page.table("Second", pd.DataFrame({"x": [1]}))
    html = page.html()
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert re.findall(r'level-(\d)"><a href="#([\w-]+)">([\w ]+)<', contents) == [
        ("2", "part-1", "First"),
        ("2", "part-2", "Section"),
        ("3", "part-3", "Second"),
        ("2", "made", "How this page was made"),
    ]
    assert '<h3 id="part-3">Second</h3>' in html


def test_the_policy_allows_one_style_and_one_script_and_nothing_of_the_network():
    (policy,) = (meta["content"] for meta in check(full().html()).all("meta") if "http-equiv" in meta)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[\w+/=]+'", rules["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/=]+'", rules["style-src"])


def test_the_data_have_all_rows_and_digits():
    page, frame = Page("t"), pd.DataFrame({"x": np.random.default_rng(0).random(700)})
    page.table("Numbers", frame, rows=20)
    html = page.html()
    assert html.count("<tr>") == 21
    assert "680 more are in the data" in html
    (address,) = (a["href"] for a in check(html).all("a") if a.get("download"))
    read = pd.read_csv(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))
    pd.testing.assert_frame_equal(read, frame)


def test_the_page_says_how_it_was_made():
    page = full(date=datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    text = check(page.html()).text
    assert f"Made on 2026-03-01 12:30 UTC by linegraph {lg.__version__}" in text
    assert "seed 3 " in text
    assert page.html() == str(page)
    assert repr(page) == "Page('A page of <b>all</b> parts', tables=1, figures=1)"


def test_a_page_may_be_empty_and_tables_too():
    page = Page("Nothing")
    page.table("No rows", pd.DataFrame({"x": []}))
    page.table("No columns", pd.DataFrame(index=[1, 2]).reset_index(drop=True))
    assert check(page.html()).text.count("This table has no rows.") == 2


def test_a_page_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    assert Page("Old").write(str(path)) == path
    new = Page("New")
    monkeypatch.setattr(Page, "html", lambda self: "x" * 10 + "\udcff")  # which UTF-8 cannot encode
    with pytest.raises(UnicodeEncodeError):
        new.write(path)
    assert "<h1>Old</h1>" in path.read_text(encoding="utf-8")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_the_data_to_download_may_be_more_than_the_table():
    page = Page("t")
    page.table("Numbers", pd.DataFrame({"x": [1]}), data=pd.DataFrame({"x": [1], "y": [2]}))
    assert page.parts[0].csv == "x,y\r\n1,2\r\n"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Page(3),
        lambda: Page("t", lead=3),
        lambda: Page("t", settings=[1]),
        lambda: Page("t", date="today"),
        lambda: Page("t").heading(None),
        lambda: Page("t").text(None),
        lambda: Page("t").facts([1]),
        lambda: Page("t").table(3, pd.DataFrame()),
        lambda: Page("t").table("t", {"x": [1]}),
        lambda: Page("t").figure("t", "figure"),
        lambda: Page("t").figure("t", drawn(), data=[1]),
        lambda: Page("t").table("t", pd.DataFrame(), data=[1]),
        lambda: Page("t").write(3),
    ],
)
def test_arguments_of_another_type_are_refused(wrong):
    with pytest.raises(ArgumentTypeError):
        wrong()


def test_a_number_of_rows_is_one_or_more():
    with pytest.raises(DataError, match="rows must be 1 or more"):
        Page("t").table("t", pd.DataFrame(), rows=0)


def column(tab, place):
    return [row.locator("th, td").nth(place).inner_text() for row in tab.locator("tbody tr").all()]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_without_network_shows_it_without_complaint(opened, width):
    tab = opened(full(), width)
    assert tab.said == []
    assert tab.title() == "A page of <b>all</b> parts"
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert HTML[0] in column(tab, 0)
    assert tab.locator("main script, main b, img[onerror]").count() == 0


def test_numbers_sort_as_numbers_and_words_as_words_and_blanks_last(opened):
    tab = opened(small())
    heads = tab.locator("thead th")
    assert [head.get_attribute("aria-sort") for head in heads.all()] == ["none"] * 3
    heads.nth(1).get_by_role("button").click()
    assert column(tab, 1) == ["-1.5", "1e-05", "9", "10", ""]
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    heads.nth(1).get_by_role("button").click()
    assert column(tab, 1) == ["10", "9", "1e-05", "-1.5", ""]
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    heads.nth(2).get_by_role("button").click()
    assert column(tab, 2) == ["−∞", "3", "1e+06", "∞", ""]
    assert [head.get_attribute("aria-sort") for head in heads.all()] == ["none", "none", "ascending"]
    heads.nth(0).get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert column(tab, 0) == ["a2", "A10", "b", "c", ""]
    tab.keyboard.press("Space")
    assert column(tab, 0) == ["c", "b", "A10", "a2", ""]
    assert tab.said == []


def test_tables_and_figures_are_downloaded(opened, tmp_path):
    tab = opened(full())
    for name, rows in (("Download the data of Long as CSV", 60), (f"Download the data of {HTML[1]} as CSV", 5)):
        with tab.expect_download() as expected:
            tab.get_by_label(name, exact=True).click()
        expected.value.save_as(tmp_path / "data.csv")
        wanted = long_table(rows)
        wanted["name"] = wanted["name"].replace("=1+1", "'=1+1")
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "data.csv"), wanted)
        assert expected.value.suggested_filename.endswith(".csv")
    with tab.expect_download() as expected:
        tab.get_by_label("Download the figure").click()
    expected.value.save_as(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    assert tab.said == []


def test_the_page_is_read_without_scripts(chromium, tmp_path):
    path = small().write(tmp_path / "page.html")
    context = chromium.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert column(tab, 0) == ["b", "A10", "", "a2", "c"]
    assert tab.locator("button:visible").count() == 0
    context.close()


def test_on_paper_there_are_a_few_pages(opened):
    pdf = opened(full()).pdf(prefer_css_page_size=True)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 10


@pytest.mark.parametrize(("columns", "width"), [(6, 688), (9, 688), (12, 688), (17, 1016), (22, 1016)])
def test_on_paper_nothing_is_cut(opened, columns, width):
    """The width in pixels is that of A4 between its margins, in landscape for many columns."""
    page = Page("Paper")
    page.table("Numbers", long_table().iloc[:, [0, *[1 + i % 11 for i in range(columns - 1)]]])
    tab = opened(page, width)
    tab.emulate_media(media="print")
    assert tab.evaluate("document.querySelector('table').getBoundingClientRect().right") <= width
    assert tab.locator(".downloads:visible, nav:visible").count() == 0
    assert (
        tab.evaluate("document.querySelector('.scroll').scrollHeight - document.querySelector('.scroll').clientHeight")
        == 0
    )
