"""Power laws of strengths, fitted by maximum likelihood: continuous laws, and discrete laws of multiples of a unit.

Degrees are integers, and if all edges have the same weight, strengths are integer multiples of it. A continuous law
fitted to integers has too large an exponent if the tail begins at 1 or 2 (3.0 in place of 2.6). This module computes
the exponents of both kinds. The package ``powerlaw`` limits discrete exponents to 3, so it fits only the alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from linegraph.quiet import ignoring
from linegraph.turns import turn

__all__ = ["PowerLaw", "fit", "lattice_unit"]

ALTERNATIVES = ("lognormal", "exponential", "stretched_exponential", "truncated_power_law")
SAME = 1e-6
"""Relative difference up to which strengths count as equal: the rounding of sums in single precision."""
FRACTIONS, PARTS = 100, 10
"""A unit that is not an integer is the smallest strength divided by up to 100, or the least gap divided by up to 10."""
MOST_UNITS = 1 << 20
"""Largest smallest strength in units; with smaller units, all numbers in single precision are nearly multiples."""
TERMS = 16
"""Number of terms of the zeta function that are summed before the Euler–Maclaurin formula gives the rest."""


@dataclass(frozen=True)
class PowerLaw:
    """A power law p(x) ∝ x^(−α) for x ≥ x_min, fitted by maximum likelihood, and its comparison with alternatives.

    Attributes:
        alpha: exponent α.
        sigma: standard error of α.
        x_min: the smallest strength of the tail, chosen to minimise ``distance``.
        distance: Kolmogorov–Smirnov distance between the tail and the fit.
        tail: number of strengths in the tail.
        fitted: number of positive strengths from which the tail was chosen.
        alternatives: one row for each of lognormal, exponential, stretched_exponential and truncated_power_law:
            ``ratio``, the normalised log-likelihood ratio R, positive if the power law fits better, and ``p``; the sign
            of R is significant only if p is below about 0.1. Both are nan if the alternative could not be fitted.
        unit: for a discrete law, the number of which all strengths are multiples, 1 for degrees. The law is one of
            the multiples k, p(k) = k^(−α)/ζ(α, k_min) with Hurwitz' zeta function, and the alternatives are discrete
            too. None for a continuous law.
    """

    alpha: float
    sigma: float
    x_min: float
    distance: float
    tail: int
    fitted: int
    alternatives: pd.DataFrame = field(repr=False)
    unit: float | None = None

    @property
    def discrete(self) -> bool:
        """Whether the law is one of multiples of ``unit``, such as degrees."""
        return self.unit is not None

    def ccdf(self, x: np.ndarray, share: float) -> np.ndarray:
        """The share of nodes whose strength is at least x, by the fitted law.

        For a continuous law it is ``share`` times (x/x_min)^(1−α). For a discrete law it is ``share`` times
        ζ(α, k)/ζ(α, k_min), where k units are the smallest multiple of the unit that is at least x.

        Args:
            x: strengths of any shape, at least x_min, in the units of P.
            share: the share of nodes in the tail, in [0, 1].

        Returns:
            The shares, an array in the shape of ``x``.

        Example:
            >>> import pandas as pd, linegraph as lg
            >>> law = lg.PowerLaw(3.0, 0.1, 2.0, 0.05, 100, 200, pd.DataFrame())
            >>> law.ccdf([2.0, 4.0], 0.5).tolist()
            [0.5, 0.125]
        """
        x = np.asarray(x, dtype=float)
        if self.unit is None:
            return share * (x / self.x_min) ** (1 - self.alpha)
        k, k_min = np.ceil(x / self.unit * (1 - SAME)), np.rint(self.x_min / self.unit)
        found: np.ndarray = share * np.exp(_log_zeta(self.alpha, k) - _log_zeta(self.alpha, k_min))
        return found


def lattice_unit(x: np.ndarray) -> float | None:
    """The largest number of which all x > 0 are multiples, up to rounding; None if there is none.

    For integers it is the greatest common divisor. Otherwise the smallest strength and the least gap between two
    strengths are divided by small integers, and each quotient is tried. Smaller units are not tried, since every number
    is nearly a multiple of a small unit, and a continuous law then describes the strengths as well. A sum of k equal
    numbers may have an error of k roundings, and is accepted.
    """
    x = np.unique(x)
    if (x == np.rint(x)).all() and x[-1] < 2.0**53:
        unit = float(np.gcd.reduce(x.astype(np.int64)))
        return unit if x[0] / unit <= MOST_UNITS else None
    rounding = np.finfo(np.float32 if (x == x.astype(np.float32)).all() else np.float64).eps
    gaps = np.diff(x)[np.diff(np.log(x)) > SAME]
    of_gaps = np.rint(x[0] / gaps.min() * np.arange(1, PARTS + 1)) if len(gaps) else []
    for units in sorted({*range(1, FRACTIONS + 1), *(int(k) for k in of_gaps if 1 <= k <= MOST_UNITS)}):
        multiples = x / x[0] * units
        off = np.abs(multiples - np.rint(multiples))
        if (off <= np.minimum(rounding * multiples * (multiples + 2), 0.1)).all():
            return float(x[0] / units)
    return None


def fit(strengths: np.ndarray, unit: float | None) -> PowerLaw:
    """Fit a law to strengths > 0 with more than two distinct values: discrete with a ``unit``, otherwise continuous."""
    x = np.sort(strengths / np.median(strengths) if unit is None else np.rint(strengths / unit))
    values, counts = np.unique(x, return_counts=True)
    if unit is None:  # merge values that differ by rounding only
        first = np.flatnonzero(np.r_[True, np.diff(np.log(values)) > SAME])
        values, counts = values[first], np.add.reduceat(counts, first)
    scan = _Tails(values, counts, discrete=unit is not None)
    best = int(np.argmin(scan.distances))
    alpha, size = float(scan.alphas[best]), int(scan.sizes[best])
    tail = x >= values[best]
    return PowerLaw(
        alpha=alpha,
        sigma=scan.standard_error(best) / size**0.5,
        x_min=float(np.sort(strengths)[-size]),
        distance=float(scan.distances[best]),
        tail=size,
        fitted=len(x),
        alternatives=_alternatives(x[tail], scan.log_likelihoods(best, x[tail]), discrete=unit is not None),
        unit=unit,
    )


class _Tails:
    """The fits of all tails, except those that begin at one of the two largest values.

    Attributes:
        alphas: (tails,), the exponent of the tail that begins at each value.
        sizes: (tails,), the number of strengths in each tail.
        distances: (tails,), the Kolmogorov–Smirnov distance of each tail to its fit.
    """

    def __init__(self, values: np.ndarray, counts: np.ndarray, *, discrete: bool) -> None:
        self.values, self.discrete = values, discrete
        at_least = counts[::-1].cumsum()[::-1]
        logs = np.log(values)
        sums = (counts * logs)[::-1].cumsum()[::-1]
        tails = slice(len(values) - 2)
        self.sizes = at_least[tails]
        means = sums[tails] / self.sizes - logs[tails]
        self.alphas = _discrete_exponents(means, values[tails]) if discrete else 1 + 1 / means
        self.distances = np.array([self._distance(begin, at_least) for begin in range(len(self.sizes))])

    def _distance(self, begin: int, at_least: np.ndarray) -> float:
        """The Kolmogorov–Smirnov distance max |S − F| between the data S and the law F.

        A continuous law is compared with the shares of strengths below each value, as in the code of Clauset et al. A
        discrete law is compared with the shares up to each value too.
        """
        x, alpha, left = self.values[begin:], self.alphas[begin], at_least[begin:] / at_least[begin]
        if not self.discrete:
            return float(np.abs((x / x[0]) ** (1 - alpha) - left).max())
        law = np.exp(_log_zeta(alpha, np.r_[x, x + 1]) - _log_zeta(alpha, x[0]))
        return float(np.abs(law - np.r_[left, left[1:], 0]).max())

    def standard_error(self, begin: int) -> float:
        """The standard error of α times √size: 1/√(d²log ζ/dα²) for a discrete law, α − 1 for a continuous one."""
        alpha = self.alphas[begin]
        if not self.discrete:
            return float(alpha - 1)
        step = 1e-4 * (alpha - 1)
        ahead, behind = _log_zeta_slope(np.array([alpha + step, alpha - step]), self.values[begin])
        return float(1 / np.sqrt((ahead - behind) / (2 * step)))

    def log_likelihoods(self, begin: int, x: np.ndarray) -> np.ndarray:
        """log p(x) of each strength x in the tail."""
        alpha, x_min = self.alphas[begin], self.values[begin]
        if self.discrete:
            found: np.ndarray = -alpha * np.log(x) - _log_zeta(alpha, x_min)
        else:
            found = np.log((alpha - 1) / x_min) - alpha * np.log(x / x_min)
        return found


def _discrete_exponents(means: np.ndarray, x_min: np.ndarray) -> np.ndarray:
    """The α that maximise −α Σ log(x/x_min) − n log(x_min^α ζ(α, x_min)), from the means of log(x/x_min).

    Source: A. Clauset, C. Shalizi, M. Newman, SIAM Review 51 (2009), section 3; the likelihood is concave.
    """
    low, high = np.full_like(means, np.log(1e-8)), np.full_like(means, np.log(1e8))
    for _ in range(64):  # bisection of log(α − 1)
        middle = (low + high) / 2
        too_small = _log_zeta_slope(1 + np.exp(middle), x_min) + np.log(x_min) + means < 0
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    alphas: np.ndarray = 1 + np.exp((low + high) / 2)
    return alphas


def _log_zeta(alpha: Any, q: Any) -> Any:
    """log ζ(α, q) = log Σ_(k≥0) (q + k)^(−α), q ≥ 1, by Euler–Maclaurin, with q^(−α) factored out against underflow."""
    alpha, q = np.broadcast_arrays(alpha, np.asarray(q, dtype=float))
    terms = np.exp(-alpha * np.log1p(np.arange(TERMS).reshape(-1, *[1] * q.ndim) / q)).sum(0)
    end = q + TERMS
    rest, factor = end / (alpha - 1) + 1 / 2, alpha / end
    for k, coefficient in enumerate((1 / 12, -1 / 720, 1 / 30240, -1 / 1209600)):  # B_2/2!, B_4/4! and so on
        rest = rest + coefficient * factor
        factor = factor * (alpha + 2 * k + 1) * (alpha + 2 * k + 2) / end**2
    return -alpha * np.log(q) + np.log(terms + rest * np.exp(-alpha * np.log(end / q)))


def _log_zeta_slope(alpha: np.ndarray, q: Any) -> np.ndarray:
    """d log ζ(α, q)/dα, by a complex step, which has no cancellation error."""
    slope: np.ndarray = _log_zeta(alpha + 1e-30j, q).imag / 1e-30
    return slope


def _alternatives(x: np.ndarray, log_likelihoods: np.ndarray, *, discrete: bool) -> pd.DataFrame:
    import powerlaw

    # One thread at a time, since the package resets the warning filters of the process.
    with turn(), ignoring(module="powerlaw|scipy|numpy"), np.errstate(all="ignore"):
        fitted = powerlaw.Fit(
            x,
            discrete=discrete,
            xmin=x.min(),
            estimate_discrete=False,
            parameter_ranges={"alpha": [0, None]},
            verbose=0,
        )

        def compared(name: str) -> tuple[float, float]:
            try:
                other = getattr(fitted, name).loglikelihoods(fitted.data)
                nested = name == "truncated_power_law"
                ratio = powerlaw.loglikelihood_ratio(log_likelihoods, other, nested=nested, normalized_ratio=True)
            except (ValueError, ArithmeticError, RuntimeError):
                return np.nan, np.nan
            return float(ratio[0]), float(ratio[1])

        rows = {name: compared(name) for name in ALTERNATIVES}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["ratio", "p"])
