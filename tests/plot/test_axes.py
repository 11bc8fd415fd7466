import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from linegraph.errors import ArgumentTypeError
from linegraph.plot.axes import add_colour_bar, add_legend, axes_or_new, label_axes


def test_axes_are_those_given_or_of_a_new_figure_of_pyplot():
    ax = Figure().add_subplot()
    before = pyplot.get_fignums()
    assert axes_or_new(ax) is ax
    assert pyplot.get_fignums() == before
    new = axes_or_new(None, width=3, height=2)
    assert new is pyplot.gca()
    assert new.figure.get_size_inches().tolist() == [3, 2]
    with pytest.raises(ArgumentTypeError, match="ax must be the Axes"):
        axes_or_new(new.figure)


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_colour_bars_take_their_room_from_their_axes(layout):
    figure, (left, right) = pyplot.subplots(1, 2, layout=layout, figsize=(10, 4))
    figure.canvas.draw()
    other, whole = right.get_position().bounds, left.get_position()
    image = left.imshow(np.eye(3), aspect="auto")
    bar = add_colour_bar(left, image, "a label (unit)")
    figure.canvas.draw()
    if layout is None:
        assert right.get_position().bounds == other
    seen = bar.ax.get_tightbbox().transformed(figure.transFigure.inverted())
    assert whole.x0 < seen.x0 < seen.x1 < right.get_position().x0
    assert bar.ax.get_position().y0 == pytest.approx(left.get_position().y0)


def test_colour_bars_of_less_than_a_decade_have_plain_numbers():
    figure, ax = pyplot.subplots()
    bar = add_colour_bar(ax, ax.imshow([[2.0, 5.0]], norm=LogNorm(2, 5)), "size")
    figure.canvas.draw()
    labels = [label.get_text() for label in bar.ax.get_yticklabels()]
    assert len(labels) > 2
    assert all(float(label) for label in labels)


def test_legends_name_in_the_given_order_once():
    ax = axes_or_new(None)
    for label in ("b", "a", "b", "c"):
        ax.plot([0, 1], label=label)
    add_legend(ax, within=True, order=["c", "missing"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["c", "b", "a"]
    empty = axes_or_new(None)
    add_legend(empty, within=True)
    assert empty.get_legend() is None


def test_labels_have_lines_as_long_as_the_axes():
    ax = axes_or_new(None, width=2, height=2)
    label_axes(
        ax, x="a very long label of this axis", y="short", title="a title that is longer than the figure is wide"
    )
    assert "\n" in ax.get_xlabel()
    assert "\n" in ax.get_title()
    assert ax.get_ylabel() == "short"
