"""Every block of Python of the README and the documentation runs; its commands are commands of this repository.

The blocks of a page share one namespace and run in their order, in an empty folder. The digits are fewer than the page
says, so that what takes minutes takes seconds.
"""

import pytest
import torch

import linegraph as lg
from tests.docs.pages import blocks, pages

ALL = [block for path in pages() for block in blocks(path)]
RUN = {}
for each in ALL:
    if each.language == "python" and each.not_run is None:
        RUN.setdefault(each.page, []).append(each)

REASONS = {"needs downloads", "starts processes that import this page"}


def few_digits(load):
    """The first digits of each class, of the same shapes and types."""

    def loaded(**options):
        return tuple(_first(pair, 12) for pair in load(**options))

    return loaded


def _first(pair, of_each):
    images, labels = pair
    rows = torch.cat([(labels == digit).nonzero()[:of_each, 0] for digit in range(10)]).sort().values
    return images[rows], labels[rows]


@pytest.mark.parametrize("page", RUN)
def test_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("linegraph.datasets.digits", few_digits(lg.datasets.digits))
    torch.manual_seed(0)
    namespace = {"__name__": "__main__"}
    try:
        for block in RUN[page]:
            code = compile("\n" * (block.line - 1) + block.code, page, "exec")
            exec(code, namespace)
    finally:
        plt.close("all")


def test_few_blocks_are_not_run_and_say_why():
    left_out = [block for block in ALL if block.language == "python" and block.not_run is not None]
    assert {block.not_run for block in left_out} <= REASONS
    assert len(left_out) <= 6


def test_blocks_name_their_language():
    """Else they would be neither run nor coloured."""
    assert {block.language for block in ALL} <= {"python", "console", "text", "bibtex", "toml"}
