import base64
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from linegraph.errors import ArgumentTypeError
from linegraph.report.images import as_image, figure_of


def data_of(image):
    return base64.b64decode(image.address.partition(",")[2])


def test_a_figure_is_an_svg_without_date_comments_and_metadata():
    _, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    ax.plot([1, 2], label="<script>alert(1)</script> -- <!-- & -->")
    ax.legend()
    image = as_image(figure_of(ax))
    svg = data_of(image).decode()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert not any(element.tag.endswith(("script", "metadata")) for element in root.iter())
    assert "<!" not in svg
    assert image.suffix == "svg"
    # The whole figure with a small margin, in pixels of which an inch has 96.
    assert abs(image.width - 6 * 96) < 30
    assert abs(image.height - 3 * 96) < 30
    assert as_image(figure_of(ax)) == image


def test_a_heavy_figure_is_a_png_of_the_same_size():
    _, ax = plt.subplots(figsize=(4, 3), layout="constrained")
    light = as_image(ax.figure)
    ax.scatter(*np.random.default_rng(0).random((2, 20_000)))
    heavy = as_image(ax.figure)
    assert (light.suffix, heavy.suffix) == ("svg", "png")
    assert data_of(heavy).startswith(b"\x89PNG")
    assert abs(light.width - heavy.width) <= 8


def test_the_figure_is_that_of_axes_in_a_figure_within_it_too():
    figure = plt.figure()
    assert figure_of(figure) is figure
    assert figure_of(figure.subfigures(1, 2)[0].subplots()) is figure


@pytest.mark.parametrize("wrong", [None, "figure", 3, plt])
def test_what_is_no_figure_is_refused(wrong):
    with pytest.raises(ArgumentTypeError, match="axes must be the Axes or the Figure of matplotlib"):
        figure_of(wrong)
