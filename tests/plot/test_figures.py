"""What users see: nothing is blank, cut off or on top of something else; everything differs in grey."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.testing.compare import calculate_rms
from PIL import Image

import linegraph as lg
from linegraph.plot.style import COLOURS, TOP, line_of, look
from tests.plot.figures import CASES, drawn, neurons, path_of, thumbnail

INK = 250
"""Grey, from 0 to 255, below which a pixel is drawn on."""

ALIKE = 7
"""Root mean square difference of grey, from 0 to 255, that other versions and fonts may make; they make up to 4."""

# Matrices of G. Machado, M. Oliveira, L. Fernandes, IEEE Trans. Vis. Comput. Graph. 15 (2009), for linear RGB.
BLIND = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def test_every_figure_has_a_case():
    assert {name.split(",")[0] for name in CASES} == set(lg.plot.__all__)


@pytest.mark.parametrize("name", CASES)
def test_pyplot_saves_it_whole(name, tmp_path):
    ax = CASES[name]()
    assert ax.figure is pyplot.gcf()
    pyplot.savefig(tmp_path / "figure.png", dpi=72)
    picture = np.asarray(Image.open(tmp_path / "figure.png").convert("L"))
    assert (picture < INK).mean() > 0.01, "blank"
    edges = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    assert all((edge >= INK).all() for edge in edges), "something is cut off at the edge of the figure"
    for axes in [ax, *ax.child_axes]:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [label.get_window_extent() for label in labels(axis)]
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), "names overlap"
        names = [text.get_window_extent() for text in axes.texts if text.get_text() and text.get_visible()]
        if not name.startswith("line_graph"):  # where points are, so are their names
            assert not any(a.shrunk(0.9, 0.9).overlaps(b) for a, b in itertools.combinations(names, 2)), "names overlap"


def labels(axis):
    """The labels of ticks that are seen."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    shown = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [label for label in shown if label.get_visible() and label.get_text()]


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_drawn_outside_the_room_of_given_axes(name, layout):
    figure, (given, other) = pyplot.subplots(1, 2, figsize=(15, 6), dpi=50, layout=layout)
    other.set_axis_off()
    assert CASES[name](given) is given
    picture = drawn(figure, dpi=50)
    begin = int(other.get_position().x0 * picture.shape[1])
    assert (picture[:, :begin] < INK).any()
    assert (picture[:, begin:] >= INK).all()


@pytest.mark.parametrize("name", CASES)
def test_it_looks_as_it_did(name):
    before, now = np.asarray(Image.open(path_of(name)), dtype=float), np.asarray(thumbnail(name), dtype=float)
    assert calculate_rms(before, now) < ALIKE


def test_the_comparison_tells_figures_apart():
    pictures = {name: np.asarray(Image.open(path_of(name)), dtype=float) for name in CASES}
    for a, b in itertools.combinations(pictures, 2):
        assert calculate_rms(pictures[a], pictures[b]) > ALIKE, (a, b)


def test_candidates_differ_in_grey():
    pictures = []
    for number in range(TOP):
        figure, ax = pyplot.subplots(figsize=(2, 1))
        ax.plot([0, 1, 2], [0, 1, 0], **look(number), linestyle=line_of(number), markersize=8)
        ax.set_axis_off()
        pictures.append(drawn(figure))
    for a, b in itertools.combinations(pictures, 2):
        differs = np.abs(a - b) > 25
        assert differs.sum() > 0.15 * (np.minimum(a, b) < INK).sum()


@pytest.mark.parametrize("kind", BLIND)
def test_colours_differ_to_the_colour_blind(kind):
    linear = [np.power(to_rgb(colour), 2.2) for colour in COLOURS]
    seen = [np.clip(np.array(BLIND[kind]) @ colour, 0, 1) ** (1 / 2.2) for colour in linear]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.15


def test_signs_differ_in_grey():
    def of_neurons(sign):
        data = neurons(4, 3, 2).clone()
        data.edge_weight = sign * data.edge_weight.abs()
        return drawn(lg.plot.neuron_graph(data, pyplot.figure(figsize=(6, 4)).add_subplot()).figure)

    differs = np.abs(of_neurons(1) - of_neurons(-1)) > 60
    assert differs.sum() > 100
    ax = lg.plot.layer_pairs(pd.DataFrame([[0.0, 1.0], [-1.0, 0.0]], ["a", "b"], ["a", "b"]))
    (minus,) = [line for line in ax.lines if line.get_gid() == "minus" and len(line.get_xdata())]
    assert minus.get_xydata().tolist() == [[0, 1]]
