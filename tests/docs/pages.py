"""The pages that people read, and the blocks of code in them."""

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
MADE = {"_build", "figures", "tutorials"}  # by a build of the site

FENCE = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str
    not_run: str | None  # the reason, from the comment <!-- not run: ... --> before the block


def pages():
    """README.md, CONTRIBUTING.md, and the Markdown pages under docs."""
    there = (path for path in DOCS.rglob("*.md") if not MADE & {*path.relative_to(DOCS).parts})
    return [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(there)]


def blocks(path):
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(REPOSITORY).as_posix()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(name, line, found["language"], found["code"], found["reason"])
