"""Spectral densities: exact ones of small couplings, and others by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from linegraph.arguments import as_real, check_generator, check_number_of
from linegraph.coupling.base import Coupling
from linegraph.errors import DataError
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.linalg.krylov import lanczos
from linegraph.linalg.limits import DENSE_PRODUCTS
from linegraph.linalg.operators import dense, for_products, normal, normalized, symmetrized
from linegraph.linalg.options import check_finite
from linegraph.progress import counting

__all__ = ["SpectralDensity", "singular_value_density", "spectral_density"]

PROBES = 8
STEPS = 64


@dataclass(frozen=True)
class SpectralDensity:
    """A distribution of n eigenvalues or singular values, as the m nodes and weights of a quadrature.

    Attributes:
        nodes: float64 (m,), the nodes of the quadrature in ascending order, in the units of P.
        weights: float64 (m,), the weight of each, without unit; they sum to 1.
        probes: number of random vectors that were used; 0 if the nodes are all n values, exactly.
    """

    nodes: np.ndarray
    weights: np.ndarray
    probes: int

    def __repr__(self) -> str:
        ends = f"from {self.nodes[0]:.4g} to {self.nodes[-1]:.4g}"
        return f"SpectralDensity(nodes={len(self.nodes)} {ends}, probes={self.probes})"

    def density(self, points: np.ndarray, *, width: float | None = None) -> np.ndarray:
        """The density smoothed by Gaussians: the sum of a Gaussian around each node, times its weight.

        Args:
            points: where the density is evaluated, an array of any shape, in the units of P.
            width: standard deviation of the Gaussians, in the units of P; by default a hundredth of the range of the
                nodes.

        Returns:
            The density in the shape of ``points``, in inverse units of P.

        Raises:
            DataError: if ``width`` is not positive.

        Source: L. Lin, Y. Saad, C. Yang, SIAM Review 58 (2016), for the smoothing by Gaussians.

        Example:
            >>> import numpy as np, linegraph as lg
            >>> one = lg.SpectralDensity(np.array([0.0]), np.array([1.0]), 1)
            >>> round(float(one.density(np.array(0.0), width=1.0)), 4)  # 1/√(2π)
            0.3989
        """
        width = self.default_width if width is None else as_real("width", width)
        if not width > 0:
            raise DataError(f"width must be positive, got {width}")
        points = np.asarray(points, dtype=float)
        bumps = np.exp(-0.5 * ((points[..., None] - self.nodes) / width) ** 2)
        density: np.ndarray = bumps @ self.weights / (width * np.sqrt(2 * np.pi))
        return density

    def moment(self, power: int) -> float:
        """A moment of the distribution, the mean of λ^power.

        Args:
            power: the exponent.

        Returns:
            The moment, in the units of P to this power.

        Example:
            >>> import numpy as np, linegraph as lg
            >>> lg.SpectralDensity(np.array([-1.0, 1.0]), np.array([0.5, 0.5]), 1).moment(2)
            1.0
        """
        return float(self.weights @ self.nodes**power)

    @property
    def default_width(self) -> float:
        """A hundredth of the range of the nodes; 0.01 if all nodes are equal."""
        return float(np.ptp(self.nodes)) / 100 or 0.01


def spectral_density(
    P: AnyGraph,
    *,
    probes: int = PROBES,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> SpectralDensity:
    """The spectral density (1/n) Σ_i δ(λ − λ_i) of the n eigenvalues of (P + Pᵀ)/2.

    For n ≤ 256 LAPACK finds all eigenvalues of the dense matrix, and the density is exact. For others, stochastic
    Lanczos quadrature estimates it, with products of the explicit line graph if a network has up to 100,000 edges, else
    by passes through the network. A random vector of length 1 gives each eigenvalue a random weight with
    mean 1/n. The Lanczos method then finds a Gauss quadrature whose moments of order up to 2 · steps − 1 are those of
    the weighted eigenvalues. The eigenvalues of P itself are all 0 if the graph is acyclic.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        probes: number of random vectors, for n > 256; the statistical error decreases like 1/√(n · probes).
        steps: Lanczos steps per vector, for n > 256. The density is resolved to about (λ_max − λ_min)/steps.
        generator: ``torch.Generator`` that draws the vectors; by default one with a fixed seed.
        progress: show a bar over Lanczos steps.

    Returns:
        The density as n points, or probes · steps estimated ones, in ascending order, in the units of P, with their
        weights, as NumPy arrays.

    Cost: n products for n ≤ 256; otherwise 2 · probes · steps products, and six vectors, independent of the number of
    steps.

    Raises:
        DataError: if ``probes`` or ``steps`` is not an integer ≥ 1, or P has no nodes.
        ArgumentTypeError: if ``generator`` is not one of torch's.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: L. Lin, Y. Saad, C. Yang, SIAM Review 58 (2016); S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38
    (2017).

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), torch.ones(4, dtype=torch.float64))
        >>> found = lg.spectral_density(ring, probes=4)  # eigenvalues −1, 0, 0, 1
        >>> [round(float(x), 6) for x in (found.nodes[0], found.nodes[-1], found.weights.sum())]
        [-1.0, 1.0, 1.0]
    """
    return _density(as_coupling(P), _EIGENVALUES, probes, steps, generator, progress)


def singular_value_density(
    P: AnyGraph,
    *,
    probes: int = PROBES,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> SpectralDensity:
    """The spectral density (1/n) Σ_i δ(σ − σ_i) of the n singular values of P.

    It is computed as by :func:`~linegraph.spectral_density`: exactly for n ≤ 256, and else estimated, from the
    eigenvalues λ of PᵀP, with σ = √λ. Of those that are estimated, values below about σ₁ √(machine epsilon) are lost in
    rounding: they come out as 0 or as a value of that size.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        probes: number of random vectors, for n > 256; the statistical error decreases like 1/√(n · probes).
        steps: Lanczos steps per vector, for n > 256. The density of λ = σ² is resolved to about σ₁²/steps.
        generator: ``torch.Generator`` that draws the vectors; by default one with a fixed seed.
        progress: show a bar over Lanczos steps.

    Returns:
        The density as n points, or probes · steps estimated ones, in ascending order, in the units of P, with their
        weights, as NumPy arrays.

    Cost: n products for n ≤ 256; otherwise 2 · probes · steps products, and six vectors, independent of the number of
    steps.

    Raises:
        DataError: if ``probes`` or ``steps`` is not an integer ≥ 1, or P has no nodes.
        ArgumentTypeError: if ``generator`` is not one of torch's.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: L. Lin, Y. Saad, C. Yang, SIAM Review 58 (2016); S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38
    (2017).

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0], dtype=torch.float64))
        >>> found = lg.singular_value_density(path, probes=4)  # σ = 0, 2, 3
        >>> round(float(found.nodes[-1]), 6)
        3.0
    """
    return _density(as_coupling(P), _SINGULAR_VALUES, probes, steps, generator, progress)


@dataclass(frozen=True)
class _Spectrum:
    """Which values a density is of.

    Attributes:
        exact: all values of a matrix, in ascending order.
        symmetric: the operator of P that Lanczos is applied to.
        of_its: the values, of the eigenvalues of this operator.
    """

    exact: Callable[[Tensor], Tensor]
    symmetric: Callable[[Coupling], Coupling]
    of_its: Callable[[np.ndarray], np.ndarray]


_EIGENVALUES = _Spectrum(lambda A: torch.linalg.eigvalsh((A + A.mT) / 2), symmetrized, lambda values: values)
_SINGULAR_VALUES = _Spectrum(
    lambda A: torch.linalg.svdvals(A).flip(0), normal, lambda values: np.sqrt(np.maximum(values, 0))
)


def _density(
    P: Coupling, of: _Spectrum, probes: int, steps: int, generator: torch.Generator | None, progress: bool
) -> SpectralDensity:
    n = P.num_nodes
    check_number_of("probes", probes)
    check_number_of("steps", steps)
    check_generator(generator)
    if not n:
        raise DataError("a density needs a node, got a coupling of 0 nodes")
    scaled, size = normalized(for_products(P), "spectral density")
    if n <= DENSE_PRODUCTS:
        matrix = dense(scaled)
        check_finite(float(matrix.abs().max()), "spectral density")
        return SpectralDensity(of.exact(matrix).double().cpu().numpy() * size, np.full(n, 1 / n), 0)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    A = of.symmetric(scaled)
    steps = min(steps, n)
    nodes, weights = [], []
    with counting(progress, total=probes * steps, unit="step", desc="spectral density") as bar:

        def apply(v: Tensor) -> Tensor:
            bar.update()
            return A.matvec(v)

        for _ in range(probes):
            start = torch.randn(n, generator=generator, device=generator.device, dtype=P.dtype).to(P.device)
            diagonal, beside = lanczos(apply, start, steps)
            check_finite(float(diagonal.sum()), "spectral density")
            values, vectors = eigh_tridiagonal(diagonal, beside)
            nodes.append(of.of_its(values) * size)
            weights.append(vectors[0] ** 2 / probes)
    order = np.argsort(np.concatenate(nodes), kind="stable")
    return SpectralDensity(np.concatenate(nodes)[order], np.concatenate(weights)[order], probes)
