"""Measures of agreement of many methods on many resamples of candidates at once.

A resample is given by the number of copies of every candidate. With the signs S_ij = sgn(x_i − x_j) of scores x, F_ij
of finals, and copies c, Kendall's τ_b is cᵀ(S∘F)c / √(cᵀ(S∘S)c · cᵀ(F∘F)c), the rank of a candidate is (S c)_i / 2 up
to a constant, and so on: every measure is made of products of a matrix with c, which all resamples share.
"""

import warnings
from functools import cached_property

import numpy as np

__all__ = ["GAPS", "MEASURES", "Group", "copies_of", "percentiles"]

GAPS = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Differences of final accuracies from which on the order of a pair is asked for: the fidelity."""


class Group:
    """Candidates that are ranked together, with the values of some methods.

    Args:
        values: (methods, candidates), higher is better, finite.
        finals: final accuracies (candidates,).
    """

    def __init__(self, values, finals):
        self.values, self.finals = np.asarray(values, float), np.asarray(finals, float)
        self.of_scores = _compared(self.values)
        self.of_finals = _compared(self.finals)

    @cached_property
    def agreements(self):
        return self.of_scores * self.of_finals

    def spearman(self, copies):
        """Spearman's ρ (methods, resamples) for copies (candidates, resamples)."""
        ranks, of_finals = self.of_scores @ copies, self.of_finals @ copies
        return _normalised(_total(copies, ranks * of_finals), _total(copies, ranks**2), _total(copies, of_finals**2))

    def kendall(self, copies):
        """Kendall's τ_b, as :meth:`spearman`."""
        return _normalised(
            _total(copies, self.agreements @ copies),
            _total(copies, self.of_scores**2 @ copies),
            _total(copies, self.of_finals**2 @ copies),
        )

    def weighted_tau(self, copies):
        """Vigna's weighted τ with additive hyperbolic weights, averaged over ranks by score and by final accuracy."""
        products = [part @ copies for part in (self.agreements, self.of_scores**2, self.of_finals**2)]
        found = []
        for row, (agree, differ) in zip(self.values, zip(*products[:2], strict=True), strict=True):
            taus = []
            for order in (np.lexsort((-self.finals, -row)), np.lexsort((-row, -self.finals))):
                weights = _hyperbolic(copies[order].astype(int))
                taus.append(_normalised(*(_total(weights, p[order]) for p in (agree, differ, products[2]))))
            found.append((taus[0] + taus[1]) / 2)
        return np.array(found)

    def regret(self, copies):
        """Top-1 regret; candidates that tie for the highest score are equally likely to be chosen."""
        present = copies > 0
        best = np.where(present, self.finals[:, None], -np.inf).max(0)
        scores = np.where(present, self.values[:, :, None], -np.inf)
        chosen = copies * (scores == scores.max(1, keepdims=True))
        return best - np.einsum("mnr,n->mr", chosen, self.finals) / chosen.sum(1)

    def pairwise(self, copies, gap):
        """The fraction of pairs, further apart than the gap, that are ordered rightly; ties count one half."""
        counted = (_differences(self.finals) > gap).astype(np.float32)
        right, all_pairs = _total(copies, (self.of_scores * counted) @ copies), _total(copies, counted @ copies)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 + right / all_pairs) / 2


MEASURES = {
    "spearman": Group.spearman,
    "kendall": Group.kendall,
    "weighted tau": Group.weighted_tau,
    "regret": Group.regret,
    **{f"pairs > {gap:g}": lambda group, copies, gap=gap: group.pairwise(copies, gap) for gap in GAPS},
}
"""Functions of a group and of copies (candidates, resamples) that return (methods, resamples)."""


def copies_of(names, resamples, rng):
    """How often each name is drawn if as many are drawn as there are: (names, resamples)."""
    return rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).T.astype(np.float32)


def percentiles(draws, level=0.95):
    """The ends of the percentile interval over the last axis; nan where no draw has a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "All-NaN slice"
        return np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)


def _compared(values):
    """The signs of the differences of all pairs, in single precision, in which sums of copies are exact."""
    return np.sign(_differences(values)).astype(np.float32)


def _differences(values):
    return values[..., :, None] - values[..., None, :]


def _total(weights, of_candidates):
    return (weights.astype(float) * of_candidates).sum(-2)


def _normalised(of_both, of_one, of_other):
    with np.errstate(invalid="ignore", divide="ignore"):
        return of_both / np.sqrt(of_one * of_other)


def _hyperbolic(copies):
    """The sum of 1/(rank + 1) over the copies (candidates, resamples) of each candidate, in the order of ranks."""
    last = copies.cumsum(0)
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, last.max() + 1))])
    return sums[last] - sums[last - copies]
