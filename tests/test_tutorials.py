from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "lg.plot." in cell.source:
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source
    assert "IProgress" not in nbformat.writes(notebook)


def test_there_are_tutorials():
    assert NOTEBOOKS
