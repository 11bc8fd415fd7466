"""The site has a page of everything that is public, and builds without a warning."""

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import nbformat
import pytest

import linegraph as lg
from tests.docs.pages import DOCS, MADE, REPOSITORY, pages

ROOMS = ["dynamics", "selection", "plot", "report", "datasets", "operations"]
DOCUMENTED = set(
    re.findall(
        r"^\.\. auto(?:class|function):: linegraph\.([\w.]+)$",
        "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.rst")),
        re.M,
    )
)


def test_the_reference_lists_every_public_name():
    rooms = {name for name in lg.__all__ if getattr(lg, name).__class__.__name__ == "module"}
    public = {name for name in lg.__all__ if name not in rooms and not hasattr(lg.errors, name)}
    public |= {f"{room}.{name}" for room in {*ROOMS, *rooms} - {"errors"} for name in getattr(lg, room).__all__}
    assert public <= DOCUMENTED
    assert ".. automodule:: linegraph.errors\n   :members:" in (DOCS / "api" / "errors.rst").read_text()


def test_the_reference_lists_nothing_that_is_gone():
    for name in DOCUMENTED:
        room, _, last = name.rpartition(".")
        if room not in ("lightning", "transformers"):
            home = import_module(f"linegraph.{room}") if room else lg
            assert last in home.__all__, name


def test_the_gallery_has_an_example_of_every_figure():
    examples = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "gallery").glob("*.py")}
    assert set(examples) == set(lg.plot.__all__)
    assert all(f"lg.plot.{name}(" in text for name, text in examples.items())


def test_every_page_is_in_a_table_of_contents():
    there = {path.relative_to(DOCS).with_suffix("").as_posix() for path in pages() if DOCS in path.parents}
    there |= {path.relative_to(DOCS).with_suffix("").as_posix() for path in (DOCS / "api").glob("*.rst")}
    listed = {"index"}
    for page in (path for path in DOCS.rglob("*.*") if path.suffix in (".md", ".rst")):
        if not MADE & {*page.relative_to(DOCS).parts}:
            folder = page.relative_to(DOCS).parent.as_posix()
            text = page.read_text(encoding="utf-8")
            found = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.M | re.S)
            found += re.findall(r"^\.\. toctree::\n(.*?)(?:^\S|\Z)", text, re.M | re.S)
            names = [line.strip() for block in found for line in block.splitlines() if line.strip()]
            listed |= {name if folder == "." else f"{folder}/{name}" for name in names if not name.startswith(":")}
    assert there <= listed


def test_the_list_of_tutorials_is_complete():
    listed = re.findall(r"\]\((\S+?\.ipynb)\)", (REPOSITORY / "tutorials/README.md").read_text(encoding="utf-8"))
    there = {path.name for path in (REPOSITORY / "tutorials").glob("*.ipynb")}
    assert sorted(listed) == sorted(there)


def test_tutorials_show_what_they_print():
    """The site shows the outputs that are stored with a notebook, and runs none."""
    for path in (REPOSITORY / "tutorials").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        assert any(cell.get("outputs") for cell in cells), path.name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site, and what Sphinx said.

    All but the figures, whose code takes half a minute; of a copy, since a build writes pages beside its sources.
    """
    if find_spec("sphinx_gallery") is None:
        pytest.skip("needs the extra docs")
    folder = tmp_path_factory.mktemp("copy")
    pages_beside = [*REPOSITORY.glob("*.md"), REPOSITORY / "datasets" / "README.md"]
    for path in REPOSITORY.iterdir():
        if path.name not in ("docs", "datasets") and path not in pages_beside:
            (folder / path.name).symlink_to(path)
    (folder / "datasets").mkdir()
    for path in pages_beside:  # a link would lead back to the original, and its links to pages outside of the copy
        shutil.copyfile(path, folder / path.relative_to(REPOSITORY))
    docs = folder / "docs"
    shutil.copytree(DOCS, docs, ignore=shutil.ignore_patterns(*MADE))
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    command = [sys.executable, "-m", "sphinx", *options, str(docs), str(folder / "site")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return folder / "site", subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(built):
    site, sphinx = built
    assert sphinx.returncode == 0, sphinx.stderr
    remote = re.compile(r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"(?:https?:)?//(?!arxiv|doi)")
    for page in site.rglob("*.html"):
        assert not remote.search(page.read_text(encoding="utf-8")), page.name


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_are_shown_without_the_network(built, chromium, width):
    """Formulas are set, nothing is asked of the network, and nothing but wide blocks has to be scrolled sideways."""
    site, _ = built
    context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
    tab, said = context.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("requestfailed", lambda request: said.append(request.url))
    tutorials = [f"tutorials/{path.stem}" for path in sorted((REPOSITORY / "tutorials").glob("*.ipynb"))]
    for name in ("index", "theory/coupling", "api/metrics", *tutorials):
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        if name.startswith("theory"):
            tab.wait_for_selector("mjx-container svg, mjx-container mjx-math")
            assert not tab.query_selector_all("mjx-merror")
    context.close()
    assert not said
