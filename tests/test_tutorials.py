import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def check_outputs(notebook):
    """Refuse a notebook without outputs, with a figure that is not shown, or with warnings that users would see."""
    assert any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        if cell.cell_type == "code" and "lg.plot." in cell.source:
            assert any("image/png" in output.get("data", {}) for output in outputs), cell.source
        said = "".join(output.text for output in outputs if output.get("name") == "stderr")  # with bars of progress
        assert "Warning" not in said, said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    check_outputs(notebook)  # as stored
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    check_outputs(notebook)


def test_the_index_lists_all_tutorials_in_the_order_of_their_numbers():
    listed = re.findall(r"\]\(([\w-]+)\.ipynb\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed
    assert listed == sorted((path.stem for path in NOTEBOOKS), key=lambda name: int(name.split("_")[0]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_tutorials_lead_somewhere(path):
    prose = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert all((FOLDER / name).exists() for name in re.findall(r"\]\((?!http)([^)]+)\)", prose))
