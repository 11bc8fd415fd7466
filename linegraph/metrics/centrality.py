"""Centralities by sums over walks: Katz and PageRank.

Orientation, the same for all centralities: P[i, j] is the influence of j on i, the edge j → i, and a node is central
through its in-edges, by what it receives. On the line graph of a network influence runs from later synapses to earlier
ones; ``P.T`` asks the same question in the direction of the signal.

Results are tensors (n,) on P's device, in P's dtype. ``tol`` is by default 1e-10, in single precision 1.2e-5, in the
norm that each function names, relative and so independent of n. What does not converge raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from linegraph.coupling.base import Coupling
from linegraph.errors import ConvergenceError
from linegraph.metrics.norms import spectral_radius
from linegraph.metrics.requirements import check_finite, default_tolerance, non_negative_strengths

__all__ = ["katz", "pagerank"]

MAX_ITER = 1000


def katz(
    P: Coupling,
    *,
    alpha: float,
    beta: float | Tensor = 1.0,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> Tensor:
    """Katz centrality x = α P x + β 1: walks that end at a node, those of length t weighted by α^t.

        x = (I − αP)⁻¹ β 1 = β Σ_t α^t P^t 1

    On an acyclic graph the sum ends at the longest path, is exact, and needs no bound on α. Otherwise it converges for
    |α| < 1/ρ(P), which is checked as soon as a cycle shows and before anything can diverge. Couplings may be negative.

    Args:
        P: any coupling.
        alpha: attenuation of a step.
        beta: what each node has of its own, a number or a tensor (n,).
        tol: the sum stops when the residual ‖β1 − (I − αP)x‖₁ falls to this part of ‖β1‖₁; on an acyclic
            graph it ends of itself, with residual 0.
        max_iter: most products.
        progress: show a bar over products.

    Returns:
        x (n,), not normalised: networkx with ``normalized=False``. An isolated node has its β.

    Cost: a product for each layer of an acyclic graph, else about log(tol)/log(α ρ) of them, and four vectors; with
    cycles, also those of :func:`~linegraph.metrics.norms.spectral_radius`.

    Raises:
        ValueError: if alpha is not finite, or not below 1/ρ(P) on a graph with cycles; beta of another shape.
        ConvergenceError: if ``max_iter`` products do not suffice.
        NonFiniteError: if a product is NaN or infinite.

    Source: L. Katz, Psychometrika 18 (1953).

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))
        >>> lg.katz(path, alpha=0.5)
        tensor([1.0000, 1.5000, 1.7500])
    """
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, got {alpha}")
    start = torch.as_tensor(beta, dtype=P.dtype, device=P.device)
    if start.ndim > 1 or (start.ndim == 1 and len(start) != P.num_nodes):
        raise ValueError(f"beta must be a number or of shape ({P.num_nodes},), got {tuple(start.shape)}")

    def ends() -> bool:
        radius = spectral_radius(P, progress=progress)
        if abs(alpha) * radius >= 1:
            raise ValueError(
                f"alpha={alpha:g} is not below 1/ρ(P) = {1 / radius:.6g}, where Katz's sum over walks diverges; "
                f"choose a smaller one, such as {0.85 / radius:.3g}"
            )
        return radius == 0

    def step(term: Tensor) -> Tensor:
        return P.matvec(term).mul_(alpha)

    tol = default_tolerance(P) if tol is None else tol
    return _series(step, start.expand(P.num_nodes).clone(), "Katz", tol, max_iter, progress, ends)


def pagerank(
    P: Coupling,
    *,
    damping: float = 0.85,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
    progress: bool = False,
) -> Tensor:
    """PageRank: where a walker is found that follows couplings j → i in proportion to P[i, j], or else jumps anywhere.

        x = d (S + 1 aᵀ/n) x + (1 − d) 1/n,   S = P diag(1/δ_out),   Σ x = 1

    with a = 1 on dangling nodes, δ_out = 0, from which the walker always jumps. Jumps go to all nodes alike, so x is
    the solution of (I − dS) y = 1 brought to the sum 1, and y is the Katz sum of S. It converges like d^t on any
    graph, and ends at the longest path on an acyclic one.

    Args:
        P: couplings ≥ 0.
        damping: d, the probability of following a coupling, 0 ≤ d < 1.
        tol: bound on the error ‖x − exact‖₁, relative to ‖x‖₁ = 1.
        max_iter: most products.
        progress: show a bar over products.

    Returns:
        x (n,), summing to 1: igraph's and networkx's. All 1/n where P is 0.

    Cost: the strengths, then a product for each layer of an acyclic graph, else at most
    log(tol (1 − d))/log(d), 150 by default; five vectors. kind="energy" estimates its products by probes, and
    the scores carry their error.

    Raises:
        ValueError: if damping is outside [0, 1).
        NegativeCouplingError: if there are negative couplings.
        ConvergenceError: if ``max_iter`` products do not suffice.
        NonFiniteError: if a product is NaN or infinite.

    Source: S. Brin, L. Page, Computer Networks 30 (1998); A. Langville, C. Meyer, Internet Mathematics 1 (2004).

    Example:
        >>> import torch, linegraph as lg
        >>> star = lg.GraphCoupling(torch.tensor([[1, 2], [0, 0]]))
        >>> lg.pagerank(star)
        tensor([0.5745, 0.2128, 0.2128])
    """
    if not 0 <= damping < 1:
        raise ValueError(f"damping must be at least 0 and less than 1, got {damping}")
    # In place, since a vector may be a good part of the memory there is.
    share = non_negative_strengths(P, "PageRank")[1]
    tiny = torch.finfo(P.dtype).tiny
    dangling = share <= tiny
    share.clamp_min_(tiny).reciprocal_().mul_(damping).masked_fill_(dangling, 0)

    def step(term: Tensor) -> Tensor:
        return P.matvec(term.mul_(share))

    tol = (default_tolerance(P) if tol is None else tol) * (1 - damping)
    y = _series(step, torch.ones_like(share), "PageRank", tol, max_iter, progress)
    return y.div_(y.sum(dtype=torch.float64)) if P.num_nodes else y


def _series(
    step: Callable[[Tensor], Tensor],
    start: Tensor,
    metric: str,
    tol: float,
    max_iter: int,
    progress: bool,
    ends: Callable[[], bool] | None = None,
) -> Tensor:
    """Σ_t step^t(start), to the end where the terms become 0, else to the relative tolerance in the 1-norm.

    ``step`` may overwrite its argument. While fewer and fewer entries of the term are non-zero, the graph may be
    acyclic; when they cease to get fewer it probably has a cycle, and ``ends`` is asked once whether the sum ends of
    itself all the same, or raises if it diverges. Without it the sum may be stopped from the first.
    """
    may_stop = ends is None
    total, term, reached, residual = start.clone(), start, len(start), 1.0
    scale = float(torch.linalg.vector_norm(start, 1, dtype=torch.float64))
    del start  # one vector less to hold
    with tqdm(disable=not progress, unit="product") as bar:
        for _ in range(max_iter):
            term = step(term)
            bar.update()
            residual = float(torch.linalg.vector_norm(term, 1, dtype=torch.float64)) / scale if scale else 0.0
            check_finite(residual, metric)
            if residual == 0:
                return total
            left = int(term.count_nonzero())
            if left >= reached and ends is not None:
                may_stop, ends = not ends(), None
            total += term
            # Terms of a sum that ends may grow again after one that is small.
            if residual <= tol and may_stop:
                return total
            reached = left
    if residual <= tol:
        return total
    raise ConvergenceError(
        f"{metric} has a relative residual of {residual:.1e} in the 1-norm after {max_iter} products, more than "
        f"{tol:.1e}; raise max_iter or tol, or attenuate more",
        iterations=max_iter,
        residual=residual,
        tolerance=tol,
    )
