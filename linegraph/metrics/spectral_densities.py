"""Spectral densities by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal

from linegraph.arguments import check_number_of
from linegraph.coupling.base import Coupling
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.linalg.krylov import lanczos
from linegraph.linalg.operators import normal, normalized, symmetrized
from linegraph.linalg.options import check_finite
from linegraph.progress import counting

__all__ = ["SpectralDensity", "singular_value_density", "spectral_density"]

PROBES = 8
STEPS = 64


@dataclass(frozen=True)
class SpectralDensity:
    """A distribution of n eigenvalues or singular values as a weighted set of points; the weights sum to 1.

    Attributes:
        nodes: float64 (m,), ascending: where the mass is.
        weights: (m,), how much of it, the mean over probes.
        probes: how many were used.
    """

    nodes: np.ndarray
    weights: np.ndarray
    probes: int

    def __repr__(self) -> str:
        ends = f"from {self.nodes[0]:.4g} to {self.nodes[-1]:.4g}"
        return f"SpectralDensity(nodes={len(self.nodes)} {ends}, probes={self.probes})"

    def density(self, points: np.ndarray, *, width: float | None = None) -> np.ndarray:
        """The density at ``points``, every node smoothed to a Gaussian of standard deviation ``width``.

        By default a hundredth of the range of the nodes.
        """
        width = self.default_width if width is None else width
        if not width > 0:
            raise ValueError(f"width must be positive, got {width}")
        points = np.asarray(points, dtype=float)
        bumps = np.exp(-0.5 * ((points[..., None] - self.nodes) / width) ** 2)
        density: np.ndarray = bumps @ self.weights / (width * np.sqrt(2 * np.pi))
        return density

    def moment(self, power: int) -> float:
        """Mean of λ^power over the distribution."""
        return float(self.weights @ self.nodes**power)

    @property
    def default_width(self) -> float:
        """A hundredth of the range of the nodes; a hundredth where all are equal."""
        return float(np.ptp(self.nodes)) / 100 or 0.01


def spectral_density(
    P: AnyGraph,
    *,
    probes: int = PROBES,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> SpectralDensity:
    """How the n eigenvalues of the symmetrised coupling (P + Pᵀ)/2 are distributed: (1/n) Σ δ(λ − λ_i).

    Stochastic Lanczos quadrature: a random vector of unit length weighs the eigenvalues by chance, the same on
    average; the Gauss quadrature of its Lanczos matrix has its first 2 · steps − 1 moments exactly. (P itself has no
    density worth looking at where the graph is acyclic: all its eigenvalues are 0.)

    Args:
        P: any coupling.
        probes: random vectors; the noise falls like 1/√(n · probes).
        steps: Lanczos steps, at most n; details finer than about (λ_max − λ_min)/steps are not resolved.
        generator: draws the vectors; by default a fixed seed.
        progress: show a bar over Lanczos steps.

    Cost: 2 · probes · steps products, and six vectors, whatever the number of steps.

    Raises:
        ValueError: if ``probes`` or ``steps`` is no integer of 1 or more, or P has no node.
        NonFiniteError: if a product is NaN or infinite.

    Source: L. Lin, Y. Saad, C. Yang, SIAM Review 58 (2016); S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38
    (2017).

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), torch.ones(4, dtype=torch.float64))
        >>> found = lg.spectral_density(ring, probes=4)  # eigenvalues −1, 0, 0, 1
        >>> [round(float(x), 6) for x in (found.nodes[0], found.nodes[-1], found.weights.sum())]
        [-1.0, 1.0, 1.0]
    """
    P = as_coupling(P)
    return _quadrature(P, symmetrized, lambda values: values, probes, steps, generator, progress)


def singular_value_density(
    P: AnyGraph,
    *,
    probes: int = PROBES,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> SpectralDensity:
    """How the n singular values of P are distributed: :func:`spectral_density` of PᵀP, in terms of σ = √λ.

    Arguments, cost and errors are those of :func:`spectral_density`. Values below about σ₁ √(machine epsilon) come out
    as 0 or as that.

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0], dtype=torch.float64))
        >>> found = lg.singular_value_density(path, probes=4)  # σ = 0, 2, 3
        >>> round(float(found.nodes[-1]), 6)
        3.0
    """
    P = as_coupling(P)
    return _quadrature(P, normal, lambda values: np.sqrt(np.maximum(values, 0)), probes, steps, generator, progress)


def _quadrature(
    P: Coupling,
    symmetric: Callable[[Coupling], Coupling],
    transform: Callable[[np.ndarray], np.ndarray],
    probes: int,
    steps: int,
    generator: torch.Generator | None,
    progress: bool,
) -> SpectralDensity:
    n = P.num_nodes
    check_number_of("probes", probes)
    check_number_of("steps", steps)
    if not n:
        raise ValueError("a density needs a node, got a coupling of 0 nodes")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    scaled, size = normalized(P, "spectral density")
    A = symmetric(scaled)
    nodes, weights = [], []
    with counting(progress, total=probes * min(steps, n), unit="step") as bar:

        def apply(v: torch.Tensor) -> torch.Tensor:
            bar.update()
            return A.matvec(v)

        for _ in range(probes):
            start = torch.randn(n, generator=generator, device=generator.device, dtype=P.dtype).to(P.device)
            diagonal, beside = lanczos(apply, start, min(steps, n))
            check_finite(float(diagonal.sum()), "spectral density")
            values, vectors = eigh_tridiagonal(diagonal, beside)
            nodes.append(transform(values) * size)
            weights.append(vectors[0] ** 2 / probes)
    order = np.argsort(np.concatenate(nodes), kind="stable")
    return SpectralDensity(np.concatenate(nodes)[order], np.concatenate(weights)[order], probes)
