"""Figures of strengths and spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from linegraph.arguments import as_real, as_tensor, check_number_of, check_type
from linegraph.errors import DataError
from linegraph.metrics.power_law import PowerLaw
from linegraph.metrics.spectral_densities import SpectralDensity
from linegraph.metrics.strength import StrengthDistribution
from linegraph.plot.axes import add_legend, axes_or_new, label_axes
from linegraph.plot.style import COLOURS, MARKERS, line_of

__all__ = ["singular_values", "spectral_density", "strength_ccdf"]


def strength_ccdf(distribution: Any, ax: Any = None, *, fit: Any = None, label: str | None = None) -> Any:
    """The share of nodes with at least a given strength, on logarithmic axes, with a power law fitted to the tail.

    Strengths have the units of P. Further curves can be drawn into the same Axes.

    Args:
        distribution: what :func:`~linegraph.strength_distribution` returns; strengths of 0 or less cannot be drawn.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        fit: what ``distribution.power_law()`` returns; no line by default.
        label: name of the curve in the legend.

    Returns:
        The matplotlib Axes.

    Raises:
        ArgumentTypeError: if ``distribution``, ``fit`` or ``ax`` is of another type.
        DataError: if no strength is positive.

    Cost: at most about 3,000 points are drawn.

    Source: A. Clauset, C. Shalizi, M. Newman, SIAM Review 51 (2009), figures of empirical distributions and fits.

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2, 3], [0, 0, 0]]))
        >>> lg.plot.strength_ccdf(lg.strength_distribution(star)).get_ylabel()
        'share of nodes with at least this strength'
    """
    from linegraph.plot.ticks import plain_ticks

    wanted = "a StrengthDistribution, made by lg.strength_distribution"
    check_type("distribution", distribution, StrengthDistribution, wanted)
    if fit is not None:
        check_type("fit", fit, PowerLaw, "a PowerLaw, made by distribution.power_law()")
    ax = axes_or_new(ax)
    positive = distribution.values > 0
    if not positive.any():
        raise DataError("no strength is positive, and a logarithmic axis shows no other")
    x, y = distribution.values[positive], distribution.ccdf[positive]
    drawn, label = _seen(x), label or f"{distribution.direction}-strength"
    if y[0] < 1:
        label += f" ({1 - y[0]:.2g} of the nodes have none above 0)"
    size = 5 if len(drawn) < 200 else 3.5
    ax.loglog(x[drawn], y[drawn], _marker(ax), color=_colour(ax), markersize=size, markeredgewidth=0, label=label)
    if fit is not None:
        share = float(y[np.searchsorted(x, fit.x_min * (1 - 1e-9))])
        # Cut the line where it falls far below the last point.
        low = np.log(fit.x_min) + np.log(2 * share / y[-1]) / (fit.alpha - 1)
        tail = np.geomspace(fit.x_min, np.exp(min(low, np.log(x[-1]))), 50)
        if fit.discrete:
            tail = fit.unit * np.unique(np.rint(tail / fit.unit))
        text = rf"power law: $\alpha = {fit.alpha:.2f} \pm {fit.sigma:.2f}$, $x_\min$ = {fit.x_min:.2g}"
        text += f",\n{fit.tail:,} of {fit.fitted:,} nodes in the tail"
        ax.loglog(tail, fit.ccdf(tail, share), "--", color="k", linewidth=1.5, label=text, gid="fit")
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    where = "" if distribution.layer is None else f" of {distribution.layer}"
    symbol = {"in": r" $\delta_\mathrm{in}$", "out": r" $\delta_\mathrm{out}$"}.get(distribution.direction, "")
    label_axes(ax, x=f"strength{symbol}{where} (units of $P$)", y="share of nodes with at least this strength")
    ax.grid(alpha=0.3)
    add_legend(ax, within=True)
    return ax


def singular_values(values: Any, ax: Any = None, *, label: str | None = None) -> Any:
    """Singular values, in units of P, against their rank, on a logarithmic axis.

    Args:
        values: what :func:`~linegraph.singular_values` returns (k,). Values below the machine epsilon times the largest
            are not drawn.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        label: name of the curve; a legend is drawn if it is given.

    Returns:
        The matplotlib Axes.

    Raises:
        ArgumentTypeError: if ``ax`` is not Axes.
        DataError: if ``values`` are not numbers (k,), or none is positive.

    Cost: proportional to the number of values.

    Source: R. Cattell, Multivariate Behavioral Research 1 (1966), for the plot of a spectrum against rank.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.plot.singular_values(torch.tensor([3.0, 2.0])).get_xlabel()
        'rank'
    """
    from linegraph.plot.ticks import plain_ticks

    wanted = "singular values (k,), made by lg.singular_values"
    values = as_tensor("values", values, wanted, dtype=torch.float64, device=torch.device("cpu")).numpy()
    if values.ndim != 1:
        raise DataError(f"values must be {wanted}, got the shape {values.shape}")
    positive = values > np.finfo(float).eps * values.max(initial=0)
    if not positive.any():
        raise DataError("no singular value is positive, and a logarithmic axis shows no other")
    ax = axes_or_new(ax)
    ranks, size = np.arange(1, len(values) + 1)[positive], 5 if len(values) < 100 else 3
    style = {"color": _colour(ax), "marker": _marker(ax), "linewidth": 1, "markersize": size}
    ax.semilogy(ranks, values[positive], label=label, **style)
    rounded = "" if positive.all() else f"{(~positive).sum()} of {len(values)} are 0 up to rounding"
    label_axes(ax, x="rank", y=r"singular value $\sigma$ of $P$ (units of $P$)", title=rounded)
    ax.xaxis.get_major_locator().set_params(integer=True)
    plain_ticks(ax.yaxis)
    ax.grid(alpha=0.3)
    add_legend(ax, within=True)
    return ax


def spectral_density(
    density: Any, ax: Any = None, *, width: float | None = None, points: int = 500, label: str | None = None
) -> Any:
    """A smoothed spectral density on a logarithmic axis, since spectra of P have a high peak at 0 and thin tails.

    If no eigenvalue or singular value is negative, the part that smoothing moves below 0 is reflected to above 0.

    Args:
        density: what :func:`~linegraph.spectral_density` or :func:`~linegraph.singular_value_density` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.
        width: standard deviation of the Gaussian, in units of P; by default a hundredth of the range.
        points: number of points of the curve.
        label: name of the curve in the legend, which also gives the width.

    Returns:
        The matplotlib Axes.

    Raises:
        ArgumentTypeError: if ``density`` is not a spectral density, or ``ax`` not Axes.
        DataError: if ``width`` is not positive, or ``points`` not an integer of 2 or more.

    Cost: ``points`` times the number of nodes of the density.

    Source: L. Lin, Y. Saad, C. Yang, SIAM Review 58 (2016), for the smoothing by Gaussians.

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))
        >>> lg.plot.spectral_density(lg.spectral_density(ring)).get_yscale()
        'log'
    """
    wanted = "a SpectralDensity, made by lg.spectral_density or lg.singular_value_density"
    check_type("density", density, SpectralDensity, wanted)
    check_number_of("points", points, least=2)
    width = density.default_width if width is None else as_real("width", width)
    low, high = density.nodes[0] - 3 * width, density.nodes[-1] + 3 * width
    folded = density.nodes[0] >= 0
    x = np.linspace(max(low, 0) if folded else low, high, points)
    y = density.density(x, width=width) + (density.density(-x, width=width) if folded else 0)
    ax = axes_or_new(ax)
    of_both = folded or bool(_drawn(ax))
    style = {"color": _colour(ax), "linestyle": line_of(_drawn(ax)), "linewidth": 1.5}
    ax.semilogy(x, y, label=f"{label or 'density'}, smoothed by {width:.2g}", **style)
    # Between eigenvalues that are far apart, a Gaussian falls to 1e-300.
    ax.set_ylim(max(ax.dataLim.minposy, ax.dataLim.y1 * 1e-7), ax.dataLim.y1 * 1.3)
    value = r"eigenvalue $\lambda$ or singular value $\sigma$" if of_both else r"eigenvalue $\lambda$"
    label_axes(ax, x=f"{value} (units of $P$)", y="density (1 / units of $P$)")
    ax.grid(alpha=0.3)
    add_legend(ax, within=True)
    return ax


def _drawn(ax: Any) -> int:
    """How many curves are in the Axes, without fits."""
    return sum(line.get_gid() != "fit" for line in ax.lines)


def _colour(ax: Any) -> str:
    return COLOURS[_drawn(ax) % len(COLOURS)]


def _marker(ax: Any) -> str:
    return MARKERS[_drawn(ax) % len(MARKERS)]


def _seen(x: np.ndarray, most: int = 3000) -> np.ndarray:
    """Indices of about ``most`` points to draw, spread over the logarithmic axis and the ranks, with both ends."""
    if len(x) <= most:
        return np.arange(len(x))
    over_axis = np.searchsorted(x, np.geomspace(x[0], x[-1], most // 2)).clip(0, len(x) - 1)
    over_ranks = len(x) - np.geomspace(1, len(x), most // 2).astype(int)
    return np.unique(np.concatenate([[0, len(x) - 1], over_axis, over_ranks]))
