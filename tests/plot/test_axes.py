import pytest
import torch

import linegraph as lg


@pytest.mark.parametrize(("values", "plain"), [([3.7, 3.4, 3.1], True), ([100.0, 1.0], False)])
def test_ticks_of_less_than_a_decade_are_plain(values, plain):
    ax = lg.plot.singular_values(torch.tensor(values))
    ax.figure.draw_without_rendering()
    labels = [text.get_text() for text in [*ax.get_yticklabels(), *ax.get_yticklabels(minor=True)] if text.get_text()]
    assert len(labels) > 2
    assert all("$" in label for label in labels) is not plain
