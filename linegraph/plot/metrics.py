"""Figures of strengths, spectra and layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from linegraph.arguments import as_real, as_tensor, check_number_of, check_type
from linegraph.errors import DataError
from linegraph.metrics.power_law import PowerLaw
from linegraph.metrics.spectral_densities import SpectralDensity
from linegraph.metrics.strength import StrengthDistribution
from linegraph.plot.axes import add_colour_bar, axes_or_new, plain_ticks
from linegraph.plot.tables import check_table

__all__ = ["layer_bars", "layer_pairs", "singular_values", "spectral_density", "strength_ccdf"]


def strength_ccdf(distribution: Any, ax: Any = None, *, fit: Any = None, label: str | None = None) -> Any:
    """The fraction of nodes with at least a given strength, on logarithmic axes, with a power law fitted to the tail.

    Strengths have the units of P.

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
        'share of nodes at least so strong'
    """
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
    ax.loglog(x[drawn], y[drawn], ".", markersize=3, label=label)
    if fit is not None:
        share = float(y[np.searchsorted(x, fit.x_min * (1 - 1e-9))])
        # Cut the line where it falls far below the last point.
        low = np.log(fit.x_min) + np.log(2 * share / y[-1]) / (fit.alpha - 1)
        tail = np.geomspace(fit.x_min, np.exp(min(low, np.log(x[-1]))), 50)
        if fit.discrete:
            tail = fit.unit * np.unique(np.rint(tail / fit.unit))
        text = f"power law, α = {fit.alpha:.2f} ± {fit.sigma:.2f}, x_min = {fit.x_min:.2g}"
        ax.loglog(tail, fit.ccdf(tail, share), "--", color="k", linewidth=1.2, label=text)
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    where = "" if distribution.layer is None else f" of {distribution.layer}"
    ax.set(xlabel=f"strength{where}", ylabel="share of nodes at least so strong")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
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
    wanted = "singular values (k,), made by lg.singular_values"
    values = as_tensor("values", values, wanted, dtype=torch.float64, device=torch.device("cpu")).numpy()
    if values.ndim != 1:
        raise DataError(f"values must be {wanted}, got the shape {values.shape}")
    positive = values > np.finfo(float).eps * values.max(initial=0)
    if not positive.any():
        raise DataError("no singular value is positive, and a logarithmic axis shows no other")
    ax = axes_or_new(ax)
    ax.semilogy(np.arange(1, len(values) + 1)[positive], values[positive], "o-", markersize=4, linewidth=1, label=label)
    ax.set(xlabel="rank", ylabel="singular value σ of P")
    ax.xaxis.get_major_locator().set_params(integer=True)
    plain_ticks(ax.yaxis)
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend(fontsize=8)
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
    ax = axes_or_new(ax)
    width = density.default_width if width is None else as_real("width", width)
    low, high = density.nodes[0] - 3 * width, density.nodes[-1] + 3 * width
    folded = density.nodes[0] >= 0
    x = np.linspace(max(low, 0) if folded else low, high, points)
    y = density.density(x, width=width) + (density.density(-x, width=width) if folded else 0)
    ax.semilogy(x, y, linewidth=1.3, label=f"{label or 'density'}, smoothed by {width:.2g}")
    # Between eigenvalues that are far apart, a Gaussian falls to 1e-300.
    ax.set_ylim(max(ax.dataLim.minposy, ax.dataLim.y1 * 1e-7), ax.dataLim.y1 * 1.3)
    ax.set(xlabel="eigenvalue λ or singular value σ", ylabel="density")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax


def layer_bars(table: pd.DataFrame, ax: Any = None, *, column: str = "share") -> Any:
    """One column of the table of :func:`~linegraph.diagnose` as bars, from the first layer at the top to the last.

    Args:
        table: what :func:`~linegraph.diagnose` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure with room for all names.
        column: name of the column to draw.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame or has no column ``layer``, or ``column`` is not a column of numbers.

    Cost: proportional to the rows of the table.

    Source: the table of :func:`~linegraph.diagnose`.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"layer": ["a", "b"], "share": [0.7, 0.3]})
        >>> lg.plot.layer_bars(table).get_xlabel()
        'share'
    """
    check_table(table, ("layer",), "lg.diagnose")
    if not isinstance(column, str) or column not in table or not pd.api.types.is_numeric_dtype(table[column]):
        numbers = ", ".join(map(repr, table.select_dtypes("number").columns))
        raise DataError(f"no column {column!r} of numbers; this table has {numbers}")
    ax = axes_or_new(ax, height=max(2.5, 1 + 0.19 * len(table)))
    places = np.arange(len(table))
    ax.barh(places, table[column].astype(float), color="C0", height=0.75)
    ax.set_yticks(places, table["layer"], fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel=column, ylabel="")
    ax.margins(y=0.01)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.grid(alpha=0.3, axis="x")
    return ax


def layer_pairs(table: pd.DataFrame, ax: Any = None) -> Any:
    """Contributions of pairs of layers to β_eff as a heat map: columns influence rows; white is 0.

    Args:
        table: what :func:`~linegraph.layer_pairs` returns.
        ax: the matplotlib Axes to draw into; by default those of a new figure.

    Returns:
        The matplotlib Axes.

    Raises:
        DataError: if the table is not a DataFrame, or its rows and columns are not the same layers.

    Cost: proportional to the entries of the table.

    Source: the table of :func:`~linegraph.layer_pairs`.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> lg.plot.layer_pairs(pd.DataFrame([[0.0, 1.0], [0.0, 0.0]], ["a", "b"], ["a", "b"])).get_ylabel()
        'influenced layer'
    """
    check_table(table, (), "lg.layer_pairs")
    if list(table.index) != list(table.columns):
        raise DataError(
            f"the rows and columns of a table of pairs are the same layers, got columns {list(table.columns)}; such a "
            "table is made by lg.layer_pairs"
        )
    size = max(3.5, 2 + 0.19 * len(table))
    ax = axes_or_new(ax, width=size + 1.5, height=size)
    values = table.to_numpy(dtype=float)
    largest = np.nanmax(np.abs(values), initial=0) or 1.0
    signed = bool((values < 0).any())
    colours = {"cmap": "RdBu_r", "vmin": -largest} if signed else {"cmap": "viridis", "vmin": 0}
    image = ax.imshow(np.where(values == 0, np.nan, values), vmax=largest, **colours)
    ax.set_xticks(range(len(table)), table.columns, fontsize=7, rotation=90)
    ax.set_yticks(range(len(table)), table.index, fontsize=7)
    ax.set(xlabel="influencing layer", ylabel="influenced layer")
    add_colour_bar(ax, image, "contribution to β_eff")
    return ax


def _seen(x: np.ndarray, most: int = 3000) -> np.ndarray:
    """Indices of about ``most`` points to draw, spread over the logarithmic axis and the ranks, with both ends."""
    if len(x) <= most:
        return np.arange(len(x))
    over_axis = np.searchsorted(x, np.geomspace(x[0], x[-1], most // 2)).clip(0, len(x) - 1)
    over_ranks = len(x) - np.geomspace(1, len(x), most // 2).astype(int)
    return np.unique(np.concatenate([[0, len(x) - 1], over_axis, over_ranks]))
