import itertools

import pytest
import torch
from matplotlib import pyplot

import linegraph as lg
from linegraph.plot.ticks import name_ticks


@pytest.mark.parametrize(("values", "plain"), [([3.7, 3.4, 3.1], True), ([100.0, 1.0], False)])
def test_ticks_of_less_than_a_decade_are_plain(values, plain):
    ax = lg.plot.singular_values(torch.tensor(values))
    ax.figure.draw_without_rendering()
    labels = [text.get_text() for text in [*ax.get_yticklabels(), *ax.get_yticklabels(minor=True)] if text.get_text()]
    assert len(labels) > 2
    assert all("$" in label for label in labels) is not plain


@pytest.mark.parametrize("count", [5, 400])
def test_names_are_thinned_where_they_do_not_fit(count):
    figure, ax = pyplot.subplots(figsize=(4, 3))
    ax.set(xlim=(-1, count), ylim=(-1, count))
    names = [f"layer {number}" for number in range(count)]
    for axis in (ax.xaxis, ax.yaxis):
        name_ticks(axis, range(count), names)
    figure.canvas.draw()
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        shown = [label.get_text() for label in labels]
        assert all(name in names for name in shown)
        assert (len(shown) == count) is (count == 5)
        boxes = [label.get_window_extent() for label in labels]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    places = [tick.get_loc() for tick in ax.xaxis.get_major_ticks()]
    assert [names[round(place)] for place in places] == [label.get_text() for label in ax.get_xticklabels()]
