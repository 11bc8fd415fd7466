"""Pages that are made at every build: copies of the tutorials, in the order in which tutorials/README.md names them."""

import re
import shutil
from pathlib import Path

TUTORIALS = Path(__file__).parents[2] / "tutorials"


def in_order():
    """The names of all notebooks: as tutorials/README.md lists them, then those that it does not name."""
    readme = (TUTORIALS / "README.md").read_text(encoding="utf-8")
    listed = dict.fromkeys(re.findall(r"\]\(([\w-]+)\.ipynb\)", readme))
    there = sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
    return [*(name for name in listed if name in there), *(name for name in there if name not in listed)]


def copy_tutorials(app, config):
    """The notebooks and the page that lists them, into ``docs/tutorials``."""
    folder = Path(app.srcdir) / "tutorials"
    folder.mkdir(exist_ok=True)
    names = in_order()
    for stale in {path.name for path in folder.glob("*.ipynb")} - {f"{name}.ipynb" for name in names}:
        (folder / stale).unlink()
    for name in names:
        _copy(TUTORIALS / f"{name}.ipynb", folder / f"{name}.ipynb")
    readme = (TUTORIALS / "README.md").read_text(encoding="utf-8")
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *names, "```", ""])
    _write(folder / "index.md", f"{readme}\n{toctree}")


def _copy(source, target):
    if not target.exists() or source.read_bytes() != target.read_bytes():
        shutil.copyfile(source, target)  # a file that has not changed keeps its time, so that its page is not made anew


def _write(target, text):
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("config-inited", copy_tutorials, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
