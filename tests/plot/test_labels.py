import itertools

import numpy as np
import pytest
from matplotlib import pyplot

from linegraph.plot.labels import in_lines, label_points, short_names, signed


@pytest.mark.parametrize(
    ("names", "short", "note"),
    [
        (["0.weight", "2.weight"], ["0", "2"], "….weight"),
        (["net.0.weight", "net.10.weight"], ["0", "10"], "net.….weight"),
        (["a", "b"], ["a", "b"], ""),
        (["resnet18", "resnet34"], ["resnet18", "resnet34"], ""),  # words are not cut
        (["lite0", "lite0"], ["lite0", "lite0"], ""),
        (["net.weight", "net.bias"], ["weight", "bias"], "net.…"),
        (["net", "net.weight"], ["net", "net.weight"], ""),  # one would be left without a name
        (["alone.weight"], ["alone.weight"], ""),
        ([], [], ""),
        ([1, 2], ["1", "2"], ""),
    ],
)
def test_what_all_names_begin_and_end_with_is_left_out(names, short, note):
    assert short_names(names) == (short, note)


def test_what_most_long_names_begin_and_end_with_is_left_out_too():
    blocks = [f"encoder.layers.{i}.attention.output.dense.weight" for i in range(6)]
    short, note = short_names(["embeddings.weight", *blocks, "head.weight"])
    assert short == ["embeddings", *(f"…{i}…" for i in range(6)), "head"]
    assert note == "….weight"


def test_long_names_lose_their_middle_and_stay_different():
    names = [f"{'a' * 40}{i}{'b' * 40}" for i in range(10)]
    short, _ = short_names(names)
    assert len(set(short)) == 10
    names = [f"{i}{'x' * 80}{i}" for i in range(10)]
    assert max(map(len, short_names(names)[0])) <= 32


def test_lines_are_not_longer_than_their_room():
    text = "sum of |couplings| received (units of $P$)"
    assert in_lines(text, 400, 10) == text
    assert in_lines(text, 160, 10) == "sum of |couplings| received\n(units of $P$)"
    assert max(map(len, in_lines("one two three four five six", 80, 10).split("\n"))) <= 15
    assert len(in_lines("w" * 100, 100, 10)) < 20


def test_numbers_have_the_minus_of_print():
    assert [signed(-0.5), signed(0.25, 1)] == ["−0.50", "0.2"]


@pytest.mark.parametrize("count", [3, 12])
def test_names_of_points_cover_neither_named_points_nor_names_nor_leave_the_axes(count):
    rng = np.random.default_rng(0)
    figure, ax = pyplot.subplots()
    x, y = rng.normal(size=(2, 60))
    ax.scatter(x, y)
    names = [f"name {i}" for i in range(count)]
    without = label_points(ax, x[:count], y[:count], names, obstacles=np.column_stack([x, y]))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert {text.get_text() for text in ax.texts} | set(without) == set(names)
    assert len(boxes) > count / 2
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    pixels = ax.transData.transform(np.column_stack([x, y]))[: count if count > 3 else None]
    assert not any(box.contains(*pixel) for box in boxes for pixel in pixels)
    assert all(ax.bbox.contains(*corner) for box in boxes for corner in box.corners())
    for text in ax.texts:
        assert tuple(text.xy) == (x[names.index(text.get_text())], y[names.index(text.get_text())])
