"""Centralities by sums over walks: Katz and PageRank.

All centralities have the same orientation: P[i, j] is the influence of j on i, the edge j → i, and the centrality of a
node depends on its in-edges. On the line graph of a network, influence goes from later synapses to earlier ones; pass
``P.T`` for the opposite direction, that of the forward pass.

Results are tensors (n,) on P's device, in P's dtype; where nodes have names, Series (n,) with the names as index.
``tol`` is a relative tolerance, by default 1e-10, in single precision 1.2e-5, in the norm that each function names. A
computation that does not converge raises an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import bicgstab
from torch import Tensor

from linegraph.arguments import as_real, as_tensor
from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import ConvergenceError, DataError
from linegraph.io.accept import AnyGraph, as_coupling, labelled, without_names
from linegraph.linalg.irreducible import blocks_of, irreducible_parts, irreducible_spectra
from linegraph.linalg.limits import DENSE_PRODUCTS
from linegraph.linalg.operators import Derived, entries
from linegraph.linalg.options import check_finite, solver_options
from linegraph.metrics.norms import spectral_radius
from linegraph.metrics.requirements import non_negative_strengths
from linegraph.progress import Bar, counting

__all__ = ["katz", "pagerank"]

MAX_ITER = 1000
LEAPS = 3
"""Most calls of ``bicgstab``, each for the residual of the last; more than one helps if α is near its bound."""

ROUNDINGS = 4
"""Residual at a node that counts as rounding, in units of the rounding of x at this node."""


def katz(
    P: AnyGraph,
    *,
    alpha: float,
    beta: float | Tensor = 1.0,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> Tensor | pd.Series:
    """Katz centrality x = α P x + β 1: the sum over walks that end at a node, with weight α^t for walks of t steps.

        x = (I − αP)⁻¹ β 1 = β Σ_t α^t P^t 1

    On an acyclic graph the sum has finitely many terms, is exact, and needs no bound on α. On a graph with cycles it
    converges for |α| < 1/ρ(P), which is checked when a cycle is found, and x is the solution of a linear system.
    Couplings may be negative.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        alpha: the weight α of one step, in inverse units of P.
        beta: the initial centrality β of each node: a number, a tensor (n,) or a Series with the names of the nodes.
        tol: bound on the residual ‖β1 − (I − αP)x‖₁ relative to ‖β1‖₁. A residual within four roundings of x at every
            node is accepted too, as it is not reducible if α is near its bound. On an acyclic graph the residual is 0.
        max_iter: largest number of products.
        progress: show a bar over products.

    Returns:
        x (n,), in the units of β, not normalised, as in networkx with ``normalized=False``: a tensor in P's dtype, or a
        Series with the node names as index where the nodes have names. An isolated node has its β.

    Cost: one product per layer of an acyclic graph, and four vectors. If the strongly connected components of a graph
    have up to 256 nodes: dense algebra for each component, and one product per step between them. With other cycles:
    some tens of products by SciPy's ``bicgstab`` and eight vectors; on a device other than the CPU, log(tol)/log(α ρ)
    products. If αP ≥ 0 and β > 0, a solution x > 0 proves that α is below its bound (I − αP is then an M-matrix);
    otherwise the cost of :func:`~linegraph.spectral_radius` is added.

    Raises:
        DataError: if alpha is not finite, or not below 1/ρ(P) on a graph with cycles; if beta has another shape; if
            ``tol`` is not positive and finite, or ``max_iter`` is not a positive integer.
        ConvergenceError: if ``max_iter`` products do not suffice.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: L. Katz, Psychometrika 18 (1953); A. Berman, R. Plemmons, Nonnegative Matrices in the Mathematical
    Sciences (1994), chapter 6, for M-matrices; H. van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992), for the solver.

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))
        >>> lg.katz(path, alpha=0.5)
        tensor([1.0000, 1.5000, 1.7500])
    """
    P = as_coupling(P)
    tol = solver_options(P, tol, max_iter, progress)["tol"]
    alpha = as_real("alpha", alpha)
    wanted = f"a number, or numbers ({P.num_nodes},)"
    start = as_tensor("beta", without_names(P, beta), wanted, dtype=P.dtype, device=P.device)
    if start.ndim > 1 or (start.ndim == 1 and len(start) != P.num_nodes):
        raise DataError(f"beta must be a number or of shape ({P.num_nodes},), got {tuple(start.shape)}")

    def step(term: Tensor) -> Tensor:
        return P.matvec(term).mul_(alpha)

    with counting(progress, unit="product", desc="Katz centrality") as bar:
        series = _Series(P, step, start.expand(P.num_nodes), "Katz", max_iter, bar)
        if series.ends():
            return labelled(P, series.total, "katz")
        if (found := _by_components(P, alpha, series.start, max_iter, progress)) is not None:
            return labelled(P, found, "katz")
        may_prove = alpha > 0 and P.is_non_negative and bool((start > 0).all())
        if may_prove:
            series.leap(tol)
        if not (may_prove and series.proves_convergence()):
            if _radius_below(P, alpha, progress) == 0:
                tol = 0.0  # terms cancelled, so later ones may be larger, but the series has finitely many
            elif not may_prove:
                series.leap(tol)
        series.sum_to(tol)
        return labelled(P, series.total, "katz")


def _by_components(P: Coupling, alpha: float, start: Tensor, max_iter: int, progress: bool) -> Tensor | None:
    """Katz centrality of a graph whose strongly connected components are small; None for other couplings.

    Walks within a component are summed by dense algebra. Walks from component to component have bounded length and are
    summed step by step. Large and small scores are equally accurate, as in a chain of components if alpha is near its
    bound.
    """
    matrix = entries(P) if isinstance(P, GraphCoupling) else None
    if matrix is None or any(nodes.shape[1] > DENSE_PRODUCTS for nodes in irreducible_parts(matrix)):
        return None
    parts = irreducible_spectra(matrix, 1, "LM", P.device, **solver_options(P, None, MAX_ITER, progress))
    _check_bound(P, alpha, max((float(part.values.abs().max()) for part in parts), default=0.0))
    number = -1 - np.arange(P.num_nodes)
    inverses = []
    for part in parts:
        number[part.nodes] = part.nodes[:, :1]
        inside = torch.from_numpy(blocks_of(matrix, part.nodes))
        factors = torch.linalg.lu_factor(torch.eye(inside.shape[1], dtype=torch.float64, device="cpu") - alpha * inside)
        inverses.append((part.nodes, factors))
    between = coo_array(matrix)
    crosses = number[between.coords[0]] != number[between.coords[1]]
    between = csr_array((between.data[crosses], tuple(c[crosses] for c in between.coords)), shape=matrix.shape)

    def within(term: np.ndarray) -> np.ndarray:
        for nodes, factors in inverses:
            term[nodes] = torch.linalg.lu_solve(*factors, torch.from_numpy(term[nodes]).unsqueeze(2)).squeeze(2).numpy()
        return term

    term = within(start.double().cpu().numpy().copy())
    total = term.copy()
    for _ in range(max_iter):
        term = within(alpha * (between @ term))
        if not term.any():
            return torch.from_numpy(total).to(P.device, P.dtype)
        total += term
    return None


def _radius_below(P: Coupling, alpha: float, progress: bool) -> float:
    """ρ(P), if Katz's sum converges for α."""
    radius = spectral_radius(P, progress=progress)
    _check_bound(P, alpha, radius)
    return radius


def _check_bound(P: Coupling, alpha: float, radius: float) -> None:
    if abs(alpha) * radius >= 1 - 4 * P.precision:
        raise DataError(
            f"alpha={alpha:g} is not below 1/ρ(P) = {1 / radius:.6g}, where Katz's sum over walks diverges; "
            f"choose a smaller one, such as {0.85 / radius:.3g}"
        )


def pagerank(
    P: AnyGraph,
    *,
    damping: float = 0.85,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> Tensor | pd.Series:
    """PageRank: the stationary probabilities of a random walk with jumps.

        x = d (S + 1 aᵀ/n) x + (1 − d) 1/n,   S = P diag(1/δ_out),   Σ x = 1

    With probability d the walker at node j follows an edge j → i, chosen in proportion to P[i, j]; otherwise it jumps
    to a node chosen uniformly. From a dangling node, one with δ_out = 0, it always jumps (a is 1 at dangling nodes and
    0 elsewhere). Hence x is proportional to the solution y of (I − dS) y = 1, which is the Katz sum of S. The error of
    this sum after t terms is of order d^t; on an acyclic graph the sum has finitely many terms.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy), with couplings ≥ 0.
        damping: d, the probability of following an edge, 0 ≤ d < 1.
        tol: bound on the error ‖x − exact‖₁, relative to ‖x‖₁ = 1.
        max_iter: largest number of products.
        progress: show a bar over products.

    Returns:
        x (n,), probabilities that sum to 1, as in igraph and networkx: a tensor in P's dtype, or a Series with the node
        names as index where the nodes have names. All are 1/n if P is 0.

    Cost: the strengths, then one product per layer of an acyclic graph, and seven vectors. With cycles: some tens of
    products by SciPy's ``bicgstab`` and eight vectors; on a device other than the CPU at most log(tol (1 − d))/log(d)
    products, 150 by default. The products of kind="energy" are estimated by probes, so the scores have their error too.

    Raises:
        NegativeCouplingError: if there are negative couplings.
        DataError: if damping is outside [0, 1), ``tol`` is not positive and finite, or ``max_iter`` no positive
            integer.
        ConvergenceError: if ``max_iter`` products do not suffice.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: S. Brin, L. Page, Computer Networks and ISDN Systems 30 (1998);
    A. Langville, C. Meyer, Internet Mathematics 1 (2004).

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2], [0, 0]]))
        >>> lg.pagerank(star)
        tensor([0.5745, 0.2128, 0.2128])
    """
    P = as_coupling(P)
    if not (damping := as_real("damping", damping, 0)) < 1:
        raise DataError(f"damping must be at least 0 and less than 1, got {damping}")
    tol = solver_options(P, tol, max_iter, progress)["tol"] * (1 - damping)
    # In place, since a vector of a large network takes much of the memory.
    share = non_negative_strengths(P, "PageRank")[1]
    tiny = torch.finfo(P.dtype).tiny
    dangling = share <= tiny
    share.clamp_min_(tiny).reciprocal_().mul_(damping).masked_fill_(dangling, 0)

    def step(term: Tensor) -> Tensor:
        return P.matvec(term.mul_(share))

    with counting(progress, unit="product", desc="PageRank") as bar:
        series = _Series(P, step, torch.ones_like(share[:1]).expand(P.num_nodes), "PageRank", max_iter, bar)
        if not series.ends():
            series.leap(tol)
            series.sum_to(tol)
        y = series.total
    return labelled(P, y.div_(y.sum(dtype=torch.float64)) if P.num_nodes else y, "pagerank")


class _Series:
    """A partial sum x of the series Σ_t step^t(start).

    Args:
        P: the coupling whose products make a step.
        step: a linear function of a vector (n,), which may overwrite its argument.
        start: (n,), the first term.
        metric: the name of the metric in errors.
        max_iter: largest number of steps.
        bar: counts the steps.

    Attributes:
        start: (n,), the first term.
        total: (n,), the partial sum x.
        term: (n,), the next term, which is the residual start − (x − step(x)).
        residual: the 1-norm of ``term`` relative to that of ``start``.
    """

    def __init__(
        self, P: Coupling, step: Callable[[Tensor], Tensor], start: Tensor, metric: str, max_iter: int, bar: Bar
    ) -> None:
        self._P, self._step, self.start, self._metric, self._max_iter, self._bar = (
            P,
            step,
            start,
            metric,
            max_iter,
            bar,
        )
        self._scale = _size(start)
        self._steps = 0
        self.total, self.term = torch.zeros_like(start), start.clone()
        self.residual = 1.0 if self._scale else 0.0

    def ends(self) -> bool:
        """Sum terms until one is 0, then return True; return False when a term has as many non-zero nodes as the last.

        A term of step t is non-zero at the nodes where walks of t steps end, provided that walks start at all nodes and
        that no terms cancel. These nodes are a subset of those of step t − 1. If there are equally many, the two sets
        are the same and stay the same in all later steps, so the graph has a cycle.
        """
        reached = len(self.term) if self.residual else 0
        while reached:
            self._add()
            left = int(self.term.count_nonzero())
            if left >= reached:
                return False
            reached = left
        return True

    def sum_to(self, tol: float) -> None:
        """Add terms until the residual is within ``tol``; if ``tol`` is 0, until the next term is 0."""
        while not self._reached(tol):
            if self._steps >= self._max_iter:
                raise ConvergenceError(
                    f"{self._metric} has a relative residual of {self.residual:.1e} in the 1-norm after "
                    f"{self._max_iter} products, more than {tol:.1e}; raise max_iter or tol, or attenuate more",
                    iterations=self._max_iter,
                    residual=self.residual,
                    tolerance=tol,
                )
            self._add()

    def leap(self, tol: float) -> None:
        """Add the rest of the series, the solution y of y − step(y) = term, in at most half of the steps left."""
        if self._P.device.type != "cpu":
            return  # SciPy would copy every vector to the host and back

        def remainder(block: Tensor) -> Tensor:
            return block - self._pass_on(block.squeeze(1).clone()).unsqueeze(1)

        system = Derived(self._P, remainder, remainder).to_scipy()
        goal = tol * self._scale / math.sqrt(len(self.term))  # in the 2-norm
        for _ in range(LEAPS):
            steps = (self._max_iter - self._steps) // 2
            if self._reached(tol) or steps < 2:
                return
            more = torch.from_numpy(bicgstab(system, self.term.numpy(), rtol=0.0, atol=goal, maxiter=steps // 2)[0])
            term = self.term - more + self._pass_on(more.clone())
            size = _size(term) / self._scale
            if not size < self.residual:
                return
            self.total += more
            self.term, self.residual = term, size

    def proves_convergence(self) -> bool:
        """Whether x > 0 and x − step(x) > 0; if a step maps vectors ≥ 0 to vectors ≥ 0, the series then converges."""
        return bool((self.total > 0).all()) and bool((self.term < self.start).all())

    def _reached(self, tol: float) -> bool:
        """Whether the residual is within ``tol``, or at every node no larger than a few roundings of x."""
        if self.residual <= tol or not tol:
            return self.residual <= tol
        return bool((self.term.abs() <= self.total.abs().mul_(ROUNDINGS * self._P.precision)).all())

    def _add(self) -> None:
        self.total += self.term
        self.term = self._pass_on(self.term)
        self.residual = _size(self.term) / self._scale
        check_finite(self.residual, self._metric)

    def _pass_on(self, term: Tensor) -> Tensor:
        self._steps += 1
        self._bar.update()
        return self._step(term)


def _size(term: Tensor) -> float:
    return float(torch.linalg.vector_norm(term, 1, dtype=torch.float64))
