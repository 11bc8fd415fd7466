"""Scores of pre-trained networks from their features or source classes: LogME, H-score, LEEP and NCE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from linegraph.arguments import as_real, as_tensor
from linegraph.errors import DataError, NonFiniteError
from linegraph.selection.methods import register_method

__all__ = ["h_score", "leep", "logme", "nce"]

Array = NDArray[np.float64]


def logme(features: Any, labels: Any) -> float:
    """LogME: the largest log evidence of a Bayesian linear model of the labels, per sample.

    For each class c, with y ∈ {0, 1}ᴺ its indicator, y = F w + e, w ~ N(0, α⁻¹ I), e ~ N(0, β⁻¹ I), without intercept.
    The score is the mean over classes of max_{α,β} log p(y | F, α, β) / N. The evidence is that of D weights whether D
    is smaller or larger than N. With t = α/β, singular values s of F, left singular vectors U and z = Uᵀy, the best β
    is known, β⁻¹ = (Σ z² t/(t + s²) + ‖y‖² − ‖z‖²)/N, so that only t is searched, on the whole axis:
    log p = −N/2 (log 2π + 1 − log β) − ½ Σ log(1 + s²/t).

    Args:
        features: (N, D), such as those that enter the last layer of a network.
        labels: class indices (N,).

    Returns:
        The score, in nats per sample; higher is better.

    Raises:
        DataError: if the shapes are wrong, the labels are no integers, or there are fewer than two classes.
        NonFiniteError: if a feature is not finite.

    Cost: a singular value decomposition, O(N D min(N, D)), after a forward pass over the samples.

    Source: K. You et al., ICML 2021, arXiv 2102.11005.

    Example:
        >>> import torch
        >>> from linegraph.selection import logme
        >>> labels = torch.arange(60) % 3
        >>> separable = torch.nn.functional.one_hot(labels).double()
        >>> logme(separable, labels) > logme(torch.ones(60, 3), labels)
        True
    """
    f, y = _samples("features", features, labels)
    u, s, _ = np.linalg.svd(f, full_matrices=False)
    return float(np.mean([_evidence((u.T @ (y == c)) ** 2, s**2, int((y == c).sum()), len(y)) for c in np.unique(y)]))


def _evidence(z2: Array, s2: Array, squares: int, n: int) -> float:
    """The largest log evidence per sample, for squared projections ``z2`` and ``squares`` = ‖y‖²."""
    from scipy.optimize import minimize_scalar

    rest = max(squares - float(z2.sum()), 0.0)
    top = max(float(s2.max(initial=0.0)), np.finfo(float).tiny)

    def loss(log_t: Any) -> Any:
        t = top * np.exp(np.asarray(log_t))[..., None]
        variance = ((z2 * (t / (t + s2))).sum(-1) + rest) / n
        # A variance that is 0 in floating point is that of a limit t → 0, where the evidence is constant.
        variance = np.maximum(variance, np.finfo(float).tiny)
        return 0.5 * (math.log(2 * math.pi) + 1 + np.log(variance)) + 0.5 * np.log1p(s2 / t).sum(-1) / n

    grid = np.linspace(-30, 30, 241)  # in it s²/t ranges beyond what double precision resolves
    losses = loss(grid)
    best = int(np.argmin(losses))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(lambda x: float(loss(x)), bounds=around, method="bounded", options={"xatol": 1e-8})
    return -min(float(found.fun), float(losses[best]))


def h_score(features: Any, labels: Any, *, shrinkage: float | None = None) -> float:
    """The H-score tr(Σ_ρ⁻¹ (1 − ρ) Σ_z): the variance of the class means, relative to that of the features.

    Σ_z is the covariance of E[f | y], Σ that of the features f, and Σ_ρ = (1 − ρ) Σ + ρ (tr Σ / D) I.

    Args:
        features: (N, D).
        labels: class indices (N,).
        shrinkage: ρ in [0, 1]. By default that of Ledoit and Wolf, since Σ is singular where D ≥ N, and the score then
            only counts classes. 0 gives the H-score as it was first published, with the pseudo-inverse of Σ.

    Returns:
        The score, from 0 to the number of classes minus 1; higher is better.

    Raises:
        DataError: if the shapes are wrong, the labels are no integers, there are fewer than two classes, ``shrinkage``
            is not in [0, 1], or all samples have the same features.
        NonFiniteError: if a feature is not finite.

    Cost: a singular value decomposition, O(N D min(N, D)), and O(N D²) for the shrinkage, after a forward pass over the
    samples.

    Source: Y. Bao et al., ICIP 2019; shrunk as by S. Ibrahim et al., ECML 2022, arXiv 2110.06893.

    Example:
        >>> import torch
        >>> from linegraph.selection import h_score
        >>> labels = torch.arange(60) % 3
        >>> round(h_score(torch.nn.functional.one_hot(labels).double(), labels, shrinkage=0), 6)
        2.0
    """
    f, y = _samples("features", features, labels)
    centred = f - f.mean(0)
    variance = float((centred**2).sum()) / len(y)
    if variance <= (np.finfo(float).eps * float(np.abs(f).max())) ** 2 * f.shape[1]:
        raise DataError("all samples have the same features, so that the H-score is 0/0")
    if shrinkage is None:
        from sklearn.covariance import ledoit_wolf_shrinkage

        rho = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    else:
        rho = as_real("shrinkage", shrinkage, 0, 1)
    # Class means lie in the row space of the centred features, where Σ_ρ is diagonal in the right singular vectors.
    _, s, v = np.linalg.svd(centred, full_matrices=False)
    kept = s > s.max() * max(f.shape) * np.finfo(float).eps
    within = (1 - rho) * s[kept] ** 2 / len(y) + rho * variance / f.shape[1]
    classes, counts = np.unique(y, return_counts=True)
    means = np.stack([centred[y == c].mean(0) for c in classes]) @ v[kept].T
    return float((1 - rho) * ((counts / len(y))[:, None] * means**2 / within).sum())


def leep(probabilities: Any, labels: Any) -> float:
    """LEEP: (1/N) Σ_n log Σ_z P(y_n | z) θ_z(x_n), with P(y, z) = (1/N) Σ_n θ_z(x_n) [y_n = y].

    θ(x) are the probabilities that the pre-trained classifier gives to the classes z of its own task.

    Args:
        probabilities: (N, source classes), rows that add up to 1. A class with probability 0 for every sample is left
            out.
        labels: class indices of the new task (N,).

    Returns:
        The score, at most 0; higher is better.

    Raises:
        DataError: if the shapes are wrong, the labels are no integers, or there are fewer than two classes; if the
            probabilities are negative or do not add up to 1.
        NonFiniteError: if a probability is not finite.

    Cost: O(N (source classes)), after a forward pass over the samples.

    Source: C. Nguyen et al., ICML 2020, arXiv 2002.12462.

    Example:
        >>> import torch
        >>> from linegraph.selection import leep
        >>> labels = torch.arange(6) % 2
        >>> leep(torch.nn.functional.one_hot(labels).double(), labels)
        0.0
    """
    theta, y = _probabilities(probabilities, labels)
    theta = theta[:, theta.sum(0) > 0]
    joint = _onehot(y).T @ theta
    given = joint / joint.sum(0)
    return float(np.log(((_onehot(y) @ given) * theta).sum(1)).mean())


def nce(probabilities: Any, labels: Any) -> float:
    """NCE, the negative conditional entropy −H(Y | Z) of the labels Y given the most probable source classes Z.

    Args:
        probabilities: (N, source classes), rows that add up to 1.
        labels: class indices of the new task (N,).

    Returns:
        The score, at most 0, in nats; higher is better.

    Raises:
        DataError: as :func:`leep`.
        NonFiniteError: if a probability is not finite.

    Cost: O(N (source classes)), after a forward pass over the samples.

    Source: A. Tran, C. Nguyen, T. Hassner, ICCV 2019, arXiv 1908.08142.

    Example:
        >>> import torch
        >>> from linegraph.selection import nce
        >>> labels = torch.arange(6) % 2
        >>> round(nce(torch.full((6, 3), 1 / 3), labels), 4)
        -0.6931
    """
    theta, y = _probabilities(probabilities, labels)
    return leep(np.eye(theta.shape[1])[theta.argmax(1)], y)


def _samples(name: str, given: Any, labels: Any) -> tuple[Array, NDArray[np.int64]]:
    """Features or probabilities (N, D) in double precision, and labels (N,) from 0 to classes − 1."""
    values = as_tensor(name, given, "a tensor (N, D)").cpu()
    y = as_tensor("labels", labels, "class indices (N,)").cpu()
    if values.ndim != 2 or not values.numel():
        raise DataError(f"{name} must be (N, D), got {tuple(values.shape)}; flatten or average over positions")
    if y.ndim != 1 or len(y) != len(values):
        raise DataError(f"labels must be ({len(values)},), one for each row of {name}, got {tuple(y.shape)}")
    if y.dtype.is_floating_point or y.dtype.is_complex:
        raise DataError(f"labels must be class indices, integers, got {y.dtype}; scores of classes need classes")
    if values.dtype.is_complex:
        raise DataError(f"{name} must be real, got {values.dtype}")
    array: Array = values.double().numpy()
    if not np.isfinite(array).all():
        raise NonFiniteError(f"{name} must be finite; {int((~np.isfinite(array)).sum())} numbers are not")
    classes, indices = np.unique(_numpy(y), return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"labels must have two classes or more, got {len(classes)}: one class has no order")
    return array, indices


def _numpy(t: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = t.numpy()
    return found


def _probabilities(given: Any, labels: Any) -> tuple[Array, NDArray[np.int64]]:
    theta, y = _samples("probabilities", given, labels)
    if theta.min() < 0 or np.abs(theta.sum(1) - 1).max() > 1e-2:  # rows in half precision add up to 1 within 1e-3
        raise DataError("probabilities must be at least 0 and each row add up to 1; apply softmax(1) to scores")
    return theta, y


def _onehot(y: NDArray[np.int64]) -> Array:
    return np.eye(int(y.max()) + 1)[y]


register_method(
    "logme",
    logme,
    needs=["features"],
    formula="mean over classes of (1/N) max_{α,β} log p(y | F, α, β)",
    source="You et al., ICML 2021, arXiv 2102.11005",
    cost=1 / 3,
)
register_method(
    "h_score",
    h_score,
    needs=["features"],
    formula="tr(Σ_ρ⁻¹ (1 − ρ) cov(E[f | y])), ρ of Ledoit and Wolf",
    source="Bao et al., ICIP 2019; Ibrahim et al., ECML 2022, arXiv 2110.06893",
    cost=1 / 3,
)
register_method(
    "leep",
    leep,
    needs=["source classes"],
    formula="(1/N) Σ_n log Σ_z P(y_n | z) θ_z(x_n)",
    source="Nguyen et al., ICML 2020, arXiv 2002.12462",
    cost=1 / 3,
)
register_method(
    "nce",
    nce,
    needs=["source classes"],
    formula="−H(Y | Z), Z the most probable source class",
    source="Tran, Nguyen, Hassner, ICCV 2019, arXiv 1908.08142",
    cost=1 / 3,
)
