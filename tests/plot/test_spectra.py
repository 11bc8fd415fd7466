import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import trapezoid

import linegraph as lg
from linegraph.errors import DataError


def random_graph(n=400):
    weight = torch.from_numpy(1 + np.random.default_rng(0).pareto(1.5, n))
    return lg.GraphCoupling(torch.arange(n).expand(2, n), weight)


def test_strength_ccdf_with_its_fit():
    distribution = lg.strength_distribution(random_graph(), direction="in")
    fit = distribution.power_law()
    ax = Figure().add_subplot()
    assert lg.plot.strength_ccdf(distribution, ax, fit=fit) is ax
    points, line = ax.lines
    assert list(points.get_xdata()) == list(distribution.values)
    assert list(points.get_ydata()) == list(distribution.ccdf)
    # The line starts where the tail does, on the curve, and falls with the exponent.
    x, y = line.get_xdata(), line.get_ydata()
    assert (x[0], y[0]) == (pytest.approx(fit.x_min), pytest.approx(fit.tail / 400))
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(np.full(len(x) - 1, 1 - fit.alpha))
    empty = lg.strength_distribution(lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), num_nodes=3))
    with pytest.raises(DataError, match="no strength is positive"):
        lg.plot.strength_ccdf(empty)


def test_many_strengths_are_thinned_but_for_the_ends():
    distribution = lg.strength_distribution(random_graph(20_000), direction="in")
    (points,) = lg.plot.strength_ccdf(distribution).lines
    assert len(points.get_xdata()) <= 3002
    assert (points.get_xdata()[0], points.get_xdata()[-1]) == (distribution.values[0], distribution.values[-1])


def test_spectra():
    values = torch.tensor([3.0, 1.0, 0.0])
    ax = lg.plot.singular_values(values, label="P")
    assert ax.lines[0].get_xydata().tolist() == [[1, 3], [2, 1]]
    density = lg.spectral_density(random_graph(30), probes=2, steps=5)
    drawn = lg.plot.spectral_density(density, ax, width=0.5, points=7)
    assert drawn is ax
    line = ax.lines[-1]
    folded = density.density(line.get_xdata(), width=0.5) + density.density(-line.get_xdata(), width=0.5)
    assert list(line.get_ydata()) == pytest.approx(list(folded))
    assert len(line.get_xdata()) == 7
    with pytest.raises(DataError, match="no singular value is positive"):
        lg.plot.singular_values(torch.zeros(3))
    rounded = lg.plot.singular_values(torch.tensor([3.0, 1e-3, 1e-16, 1e-30], dtype=torch.float64))
    assert rounded.lines[0].get_ydata().tolist() == [3, 1e-3]


def test_later_curves_are_not_cut_off():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, 2.0, 4.0]))
    density = lg.spectral_density(ring)
    ax = lg.plot.spectral_density(density, width=0.5)
    lg.plot.spectral_density(density, ax, width=0.05)
    assert ax.get_ylim()[1] > max(line.get_ydata().max() for line in ax.lines)
    small, large = (lg.strength_distribution(random_graph(n), direction="in") for n in (400, 4000))
    ax = lg.plot.strength_ccdf(small, fit=small.power_law())
    assert ax.lines[1].get_ydata()[-1] >= small.ccdf[-1] / 2 * (1 - 1e-9)
    lg.plot.strength_ccdf(large, ax)
    assert ax.get_ylim()[0] < large.ccdf[-1]


def test_two_densities_tell_their_smoothing_and_have_all_of_their_mass():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([1.0, 2.0, 4.0]))
    ax = lg.plot.spectral_density(lg.spectral_density(ring), label="symmetrised", width=0.25)
    lg.plot.spectral_density(lg.singular_value_density(ring), ax, width=0.5)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["symmetrised, smoothed by 0.25", "density, smoothed by 0.5"]
    for line in ax.lines:
        assert trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=0.01)
    assert ax.lines[1].get_xdata().min() == 0


@pytest.mark.parametrize("values", [[2.0, 2.0], [2.0, 2.0 - 1e-15]])
def test_one_value_but_for_rounding_has_room_around_it(values):
    ax = lg.plot.singular_values(torch.tensor(values, dtype=torch.float64))
    low, high = ax.get_ylim()
    assert low < 1.9 < 2.1 < high
    lg.plot.singular_values(torch.tensor([30.0, 20.0]), ax)
    assert ax.get_ylim()[1] > 30
