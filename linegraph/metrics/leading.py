"""Centralities from leading eigenvectors and singular vectors: hubs and authorities, eigenvector centrality.

For orientation, results and tolerances see :mod:`linegraph.metrics.centrality`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.sparse.csgraph import breadth_first_order
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import AmbiguousSolutionError
from linegraph.io.accept import AnyGraph, as_coupling, labelled
from linegraph.linalg.components import is_acyclic
from linegraph.linalg.eigen import eigenpairs, symmetric_eigenpairs
from linegraph.linalg.irreducible import irreducible_spectra
from linegraph.linalg.krylov import leading_part
from linegraph.linalg.limits import DENSE_PRODUCTS
from linegraph.linalg.operators import entries, graph_of, keeps_apart, normal, normalized, restricted
from linegraph.linalg.options import check_finite, default_tolerance, solver_options, tie_tolerance
from linegraph.metrics.requirements import non_negative_strengths
from linegraph.numerics import pieces
from linegraph.progress import Bar, counting

__all__ = ["Hits", "eigenvector_centrality", "hits"]

MAX_ITER = 1000


@dataclass(frozen=True)
class Hits:
    """Kleinberg's two scores of each node, tensors, or Series with the node names as index where the nodes have names.

    Each of the two sums to 1.

    Attributes:
        hubs: (n,), h = Pᵀ a up to scale: large for nodes that influence nodes of large authority score.
        authorities: (n,), a = P h up to scale: large for nodes that nodes of large hub score influence.
    """

    hubs: Tensor | pd.Series
    authorities: Tensor | pd.Series


def hits(P: AnyGraph, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False) -> Hits:
    """Hub scores h and authority scores a, with h = Pᵀ a and a = P h up to scale: the leading singular vectors of P.

    A good hub influences good authorities, and a good authority is influenced by good hubs. If several singular vectors
    have the largest singular value, h is the projection of the vector of ones onto the space that the right ones span.
    Kleinberg's iteration from equal scores converges to it.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0.
        tol: bound on the relative residual ‖PᵀP h − σ² h‖₂ / σ². By default 1e-10, in single precision 1.2e-5, but no
            less than the rounding of activations, 5e-4 in float16 and 4e-3 in bfloat16.
        max_iter: largest number of steps.
        progress: show a bar over products.

    Returns:
        The scores, each (n,), ≥ 0, without unit, with the sum 1, as in networkx (igraph scales the largest to 1):
        tensors in P's dtype, or Series with the node names as index where the nodes have names. An isolated node has 0.

    Cost: the strengths, then 2n products for n ≤ 256; otherwise two products per step. If the paths of a network act
    element by element, its line graph has one component per channel, and a few steps find the leading component and
    its scores, with six vectors. If the steps x → PᵀP x converge slowly, a conjugate gradient method follows, with some
    tens of products and a dozen vectors.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        AmbiguousSolutionError: if all couplings are 0.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` steps do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: J. Kleinberg, Journal of the ACM 46 (1999); L. Collatz, Mathematische Zeitschrift 48 (1942), for the bounds;
    A. Knyazev, SIAM J. Sci. Comput. 23 (2001), for the conjugate gradients.

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2], [0, 0]]))
        >>> lg.hits(star).hubs
        tensor([0.0000, 0.5000, 0.5000])
    """
    P = as_coupling(P)
    tol = max(default_tolerance(P), P.rounding / 2) if tol is None else tol
    tol = solver_options(P, tol, max_iter, progress)["tol"]
    received = non_negative_strengths(P, "HITS")[0]
    if not P.num_nodes:
        return _hits(P, received, received.clone())
    if not bool(received.any()):
        raise AmbiguousSolutionError("HITS: all couplings are 0, so every score is as good as any other")
    with counting(progress, unit="product", desc="HITS") as bar:
        leading = _Leading(P, received, bar)
        if P.num_nodes > DENSE_PRODUCTS:
            leading.iterate(tol)
    if not leading.residual <= tol:
        leading.finish(tol, max_iter)
    hubs = leading.vector
    authorities = P.matvec(hubs).clamp_min_(0)
    return _hits(P, _to_sum_one(hubs), _to_sum_one(authorities))


def _hits(P: Coupling, hubs: Tensor, authorities: Tensor) -> Hits:
    return Hits(labelled(P, hubs, "hubs"), labelled(P, authorities, "authorities"))


class _Leading:
    """The leading eigenvector of A = PᵀP, P ≥ 0; if several have the same eigenvalue, the projection of ones on them.

    A is block diagonal, with one block for each component of the columns of P: often thousands, with leading
    eigenvalues of nearly the same size. A step x → A x acts on all blocks at once. For x > 0 the leading eigenvalue λ
    of a block lies between xᵀA x / xᵀx (Rayleigh) and max_i (A x)_i / x_i (Collatz, Wielandt). A component is removed
    when its upper bound is below the lower bound of another one. The bounds converge as fast as the steps do.

    Args:
        P: the coupling.
        received: (n,), its in-strengths.
        bar: counts products.

    Attributes:
        vector: (n,), the approximate eigenvector x ≥ 0; 0 in the components that are removed.
        residual: ‖A x − λ x‖ / λ‖x‖, with the λ of each component.
    """

    def __init__(self, P: Coupling, received: Tensor, bar: Bar) -> None:
        self._P, self._received, self._bar = P, received, bar
        self._scale = float(received.max())
        self._margin = tie_tolerance(P)
        self.vector = torch.ones_like(received)
        self.residual = math.inf

    def iterate(self, tol: float) -> None:
        """Steps x → A x, while each reduces the residual or the number of components to a quarter or less."""
        self._components = self._P.column_components()
        self._count = int(self._components.max()) + 1
        images = self._times_transposed(self._received / self._scale)
        left = self._count
        while True:
            before, last = self.residual, left
            left = self._leave_out(images)
            pays = self.residual <= before / 4 or left <= last / 4
            self.vector = images.div_(images.max())
            if self.residual <= tol or not pays:
                return
            self._bar.update()
            images = self._times_transposed(self._P.matvec(self.vector).div_(self._scale))
            if float(images[self.vector == 0].sum()) > self._margin * float(images.sum()):
                # The computed components are not those of P, as may happen if they come from one batch only.
                self._components, self._count = torch.zeros_like(self._components), 1
                self.vector.fill_(1)
                images, left = self._times_transposed(self._received / self._scale), 1

    def finish(self, tol: float, max_iter: int) -> None:
        """Compute the eigenvector on the nodes that are left, by LAPACK or a conjugate gradient method."""
        A, nodes = normal(normalized(self._P, "HITS")[0]), self.vector > 0
        if len(nodes) <= DENSE_PRODUCTS:
            values, vectors = symmetric_eigenpairs(A, len(nodes), tol=tol, max_iter=max_iter, progress=False)
            tied = vectors[:, values >= (1 - self._margin) * values[0]]
            self.vector = (tied @ tied.sum(0)).clamp_min_(0)
            return
        if not bool(nodes.all()):
            A = restricted(A, nodes)

        def counted(v: Tensor) -> Tensor:
            self._bar.update(2)
            return A.matvec(v)

        start, component = self.vector[nodes], torch.unique(self._components[nodes], return_inverse=True)[1]
        image = counted(start)
        if not keeps_apart(A, component, start, image):
            component = torch.zeros_like(component)
        found = leading_part(counted, start, image, component, tol=tol, tie=self._margin, max_iter=max_iter)
        self.vector[nodes] = found.clamp_min_(0)

    def _times_transposed(self, authorities: Tensor) -> Tensor:
        self._bar.update()
        images = self._P.rmatvec(authorities)
        check_finite(float(images.sum(dtype=torch.float64)), "HITS")
        return images

    def _leave_out(self, images: Tensor) -> int:
        """Set A x to 0 in components that cannot have the largest eigenvalue; return the number of the others."""
        parts = self._components, self.vector, images
        squares, products = images.new_zeros(2, self._count, dtype=torch.float64)
        bounds = torch.zeros_like(squares)
        for component, x, image in pieces(*parts):
            component, x, image = component.long(), x.double(), image.double()
            squares.index_add_(0, component, x * x)
            products.index_add_(0, component, x * image)
            bounds.scatter_reduce_(0, component, torch.where(x > 0, image / x, 0), "amax")
        quotients = torch.where(squares > 0, products / squares, 0)
        best = float(quotients.max())
        stays = bounds >= (1 - self._margin) * best
        error = 0.0
        for component, x, image in pieces(*parts):
            component = component.long()
            image.mul_(stays[component])
            error += float((image - quotients[component] * stays[component] * x).square().sum())
        self.residual = math.sqrt(error / float(squares[stays].sum())) / best
        return int(stays.sum())


def _to_sum_one(scores: Tensor) -> Tensor:
    return scores.div_(scores.sum(dtype=torch.float64).to(scores.dtype))


def eigenvector_centrality(
    P: AnyGraph, *, tol: float | None = None, max_iter: int = MAX_ITER, progress: bool = False
) -> Tensor | pd.Series:
    """Eigenvector centrality P x = ρ x, x ≥ 0, ‖x‖₂ = 1: a node is central if central nodes influence it.

    ρ is the spectral radius, which is an eigenvalue of P ≥ 0 (Perron, Frobenius), also for periodic graphs. In a
    strongly connected component of more than 256 nodes, a period of some hundred steps, as of a long directed ring,
    gives so many eigenvalues of magnitude near ρ that Arnoldi's method may not converge. The line graph of a
    feed-forward network is acyclic, so ρ = 0 and this centrality does not exist: use :func:`~linegraph.katz`,
    :func:`~linegraph.pagerank` or :func:`~linegraph.hits`.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0.
        tol: bound on the relative residual ‖P x − ρ x‖₂ / ρ; by default 1e-10, in single precision 1.2e-5.
        max_iter: largest number of restarts of Arnoldi's method.
        progress: show a bar over products.

    Returns:
        x (n,), without unit, as in networkx (igraph scales the largest to 1): a tensor in P's dtype, or a Series with
        the node names as index where the nodes have names. x is 0 at nodes that no walk reaches from the component
        whose spectral radius is ρ.

    Cost: the strengths and up to one product per layer to find a cycle. If the edges can be listed: dense algebra for
    each strongly connected component of up to 256 nodes, then for the nodes that the leading component reaches.
    Otherwise, and for larger components, one product per iteration and 40 vectors.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        AmbiguousSolutionError: if the graph is acyclic, or if two strongly connected components have the same largest
            ρ, to a relative 1e-8, in single precision 1.2e-5. If edges cannot be listed and n > 256, the tolerance is
            the square root of a rounding, 1.5e-8 or 3.5e-4, and equal ρ of three components in a chain may be missed.
        DataError: if ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` restarts do not reach ``tol``.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: P. Bonacich, Journal of Mathematical Sociology 2 (1972).

    Example:
        >>> import torch, linegraph as lg
        >>> ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))
        >>> lg.eigenvector_centrality(ring)
        tensor([0.5774, 0.5774, 0.5774])
    """
    P = as_coupling(P)
    options = solver_options(P, tol, max_iter, progress)
    received, _ = non_negative_strengths(P, "eigenvector centrality")
    if not P.num_nodes:
        return labelled(P, received, "eigenvector_centrality")
    if is_acyclic(P):
        raise AmbiguousSolutionError(
            "eigenvector centrality: this graph is acyclic (as is the line graph of every feed-forward network), all "
            "eigenvalues are 0 and no vector leads; use katz, pagerank or hits"
        )
    if (matrix := entries(P)) is None:
        values, vectors = eigenpairs(P, 2, "LR", **options)
        # Equal eigenvalues with a common eigenvector are computed with errors of the square root of a rounding.
        _refuse_tie(values.real, max(tie_tolerance(P), math.sqrt(P.precision)))
        return labelled(P, _to_length_one(vectors[:, 0].real), "eigenvector_centrality")
    parts = irreducible_spectra(matrix, 1, "LR", P.device, **options)
    _refuse_tie(torch.cat([part.values[:, 0].real for part in parts]), tie_tolerance(P))
    lead = max(parts, key=lambda part: float(part.values.real.max()))
    first = lead.nodes[int(lead.values.real.argmax()), 0]
    reached = np.sort(breadth_first_order(matrix.T, first, return_predecessors=False))
    _, vectors = eigenpairs(graph_of(matrix[reached][:, reached], P.device), 1, "LR", **options)
    x = torch.zeros_like(received)
    x[torch.from_numpy(reached).to(x.device)] = vectors[:, 0].real.to(x.device, x.dtype)
    return labelled(P, _to_length_one(x), "eigenvector_centrality")


def _refuse_tie(values: Tensor, tolerance: float) -> None:
    first, *others = values.sort(descending=True).values[:2].tolist()
    if others and first - others[0] <= tolerance * first:
        raise AmbiguousSolutionError(
            f"eigenvector centrality: the leading eigenvalue {first:.6g} is tied, as it is if two strongly "
            "connected components have the same one; take one component, or use pagerank, which is unique"
        )


def _to_length_one(x: Tensor) -> Tensor:
    x = (x * x.sum().sign()).clamp_min_(0)
    length: Tensor = torch.linalg.vector_norm(x)
    return x / length
