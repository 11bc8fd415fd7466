"""Krylov methods in torch: eigenvalues on devices that SciPy cannot use, Lanczos quadrature, leading components.

On a CPU eigenvalues are computed by SciPy; see :mod:`linegraph.linalg.eigen`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.linalg import schur
from torch import Tensor

from linegraph.errors import ConvergenceError
from linegraph.numerics import pieces

__all__ = ["krylov_schur", "lanczos", "leading_part"]

Apply = Callable[[Tensor], Tensor]
Order = Callable[[Any], Any]

DEPENDENT = 1e-10
"""Eigenvalue of the Gram matrix of unit vectors up to which they count as linearly dependent."""


def lanczos(apply: Apply, start: Tensor, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal and off-diagonal of the tridiagonal matrix of a symmetric map, in double precision.

    The three-term recurrence without re-orthogonalisation: three vectors for any number of steps. Rounding makes
    copies of converged eigenvalues, which share their weight in a quadrature; eigenvalues are not to be read off.
    """
    diagonal, beside = [], []
    before, v = torch.zeros_like(start), start / torch.linalg.vector_norm(start)
    scale, beta = 0.0, 0.0
    for _ in range(steps):
        w = apply(v).sub_(before, alpha=beta)
        alpha = float(w @ v)
        w.sub_(v, alpha=alpha)
        beta = float(torch.linalg.vector_norm(w))
        diagonal.append(alpha)
        scale = max(scale, abs(alpha), beta)
        if beta <= 10 * torch.finfo(start.dtype).eps * scale:
            break  # the Krylov space is invariant
        beside.append(beta)
        before, v = v, w.div_(beta)
    return np.array(diagonal), np.array(beside[: len(diagonal) - 1])


def leading_part(
    apply: Apply, start: Tensor, image: Tensor, component: Tensor, *, tol: float, tie: float, max_iter: int
) -> Tensor:
    """The part of a vector (n,) in the space of the largest eigenvalue of a symmetric map, which may be tied.

    Locally optimal conjugate gradients: each step takes the vector of largest Rayleigh quotient in the span of x, A x
    and the step before. All components take their steps at once, but each finds its own vector, so that no rounding
    error passes between components whose largest eigenvalues are tied. Unlike Lanczos' method, it never has to continue
    with a random vector.

    Args:
        apply: the map, of vectors (n,), between nodes of one component only.
        start: the vector, with a part in the leading space of each component.
        image: the map applied to ``start``.
        component: (n,), int64, the number of the component of each node, from 0 on.
        tol: bound on the residual ‖A x − λ x‖₂ / λ₁‖x‖₂ of each component whose eigenvalue may be the largest.
        tie: relative difference up to which eigenvalues of components are taken for equal.
        max_iter: largest number of steps.

    Raises:
        ConvergenceError: after ``max_iter`` steps.

    Source: A. Knyazev, SIAM J. Sci. Comput. 23 (2001).
    """
    count = int(component.max()) + 1
    vectors = [start, torch.zeros_like(start), torch.zeros_like(start)]  # x, residual, step before
    images = [image, torch.zeros_like(start), torch.zeros_like(start)]
    residual = np.inf
    for _ in range(max_iter):
        x, image = vectors[0], images[0]
        squares, products, parts = _gram([x], [x, image, start], component, count).squeeze(1).unbind(1)
        values = products / squares
        vectors[1] = image - values.to(x.dtype)[component] * x
        errors = (_gram(vectors[1:2], vectors[1:2], component, count).flatten() / squares).sqrt()
        best = float(values.max())
        may_lead = values + errors >= (1 - tie) * best
        residual = float(errors[may_lead].max()) / best
        if residual <= tol:
            return x * torch.where(may_lead, parts / squares, 0).to(x.dtype)[component]
        # The residual gets small, and half precision ends at 6e-8; its length does not matter.
        vectors[1] = vectors[1] / vectors[1].abs().max()
        images[1] = apply(vectors[1])
        along = _best_combination(_gram(vectors, vectors, component, count), _gram(vectors, images, component, count))
        for basis in (vectors, images):
            steps = [part * weight.to(x.dtype)[component] for part, weight in zip(basis, along.unbind(1), strict=True)]
            basis[2] = steps[1].add_(steps[2])
            basis[0] = steps[0].add_(basis[2])
    raise ConvergenceError(
        f"the leading vector has not converged after {max_iter} steps: relative residual {residual:.1e}, tolerance "
        f"{tol:.1e}; raise max_iter or tol",
        iterations=max_iter,
        residual=residual,
        tolerance=tol,
    )


def _gram(left: list[Tensor], right: list[Tensor], component: Tensor, count: int) -> Tensor:
    """Inner products (count, left, right) within each component, in double precision."""
    sums = torch.zeros(count, len(left), len(right), dtype=torch.float64, device=component.device)
    for places, *parts in pieces(component, *left, *right):
        a, b = (torch.stack(some, 1).double() for some in (parts[: len(left)], parts[len(left) :]))
        sums.index_add_(0, places, a.unsqueeze(2) * b.unsqueeze(1))
    return sums


def _best_combination(gram: Tensor, form: Tensor) -> Tensor:
    """Coefficients (c, m) of the vectors of largest Rayleigh quotient, from their inner products (c, m, m)."""
    lengths = gram.diagonal(dim1=1, dim2=2).sqrt()
    unit = torch.where(lengths > 0, 1 / lengths, 0)
    scaled = unit.unsqueeze(1) * unit.unsqueeze(2)
    squares, axes = torch.linalg.eigh(gram * scaled)
    axes = axes * torch.where(squares > DEPENDENT, squares, torch.inf).rsqrt().unsqueeze(1)
    form = form * scaled
    best = torch.linalg.eigh(axes.mT @ ((form + form.mT) / 2) @ axes)[1][:, :, -1:]
    return (axes @ best).squeeze(2) * unit


def krylov_schur(
    apply: Apply, start: Tensor, k: int, *, order: Order, basis: int, tol: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """The k first eigenpairs of a real linear map by ``order``, on the device of ``start``.

    Arnoldi's method with full orthogonalisation, restarted with the Schur vectors wanted (for a symmetric map this is
    thick-restart Lanczos). A pair has converged when its residual ‖A x − λ x‖₂ is below tol · |λ₁|.

    Args:
        apply: the map, of vectors (n,).
        start: first vector (n,).
        k: number of eigenpairs, less than ``basis``.
        order: a function of complex eigenvalues; the eigenpairs with its smallest values come first.
        basis: number of Krylov vectors, at most n; ``basis`` + 1 vectors are kept in memory.
        tol: bound on the relative residual.
        max_iter: largest number of restarts.

    Returns:
        Complex eigenvalues (k,), or (k + 1,) if the last one is half of a conjugate pair, and their vectors as columns.

    Raises:
        ConvergenceError: after ``max_iter`` restarts.

    Source: G. W. Stewart, SIAM J. Matrix Anal. Appl. 23 (2001).
    """
    V = torch.empty(basis + 1, len(start), dtype=start.dtype, device=start.device)
    V[0] = start / torch.linalg.vector_norm(start)
    H = np.zeros((basis + 1, basis))
    done, residual = 0, np.inf
    for _ in range(max_iter):
        for j in range(done, basis):
            _extend(apply, V, H, j)
        # The small problem is solved on the host; only its (basis, basis) rotation goes to the device.
        T, Z, first = _ordered_schur(H[:basis], order, k)
        last = H[basis] @ Z
        largest = np.abs(np.linalg.eigvals(T[:first, :first])).max()
        residual = float(np.linalg.norm(last[:first]) / largest) if largest else 0.0
        if residual <= tol:
            return _ritz_pairs(V[:basis], T, Z, first, order)
        T, Z, done = _ordered_schur(H[:basis], order, min(basis - 1, k + (basis - k) // 2))
        last = H[basis] @ Z
        V[:done] = _to(V, Z[:, :done].T) @ V[:basis]
        V[done] = V[basis]
        H[:] = 0
        H[:done, :done], H[done, :done] = T[:done, :done], last[:done]
    raise ConvergenceError(
        f"{k} eigenvalues have not converged after {max_iter} restarts: relative residual {residual:.1e}, tolerance "
        f"{tol:.1e}; raise max_iter or tol",
        iterations=max_iter,
        residual=residual,
        tolerance=tol,
    )


def _extend(apply: Apply, V: Tensor, H: np.ndarray, j: int) -> None:
    """One more vector of the Arnoldi basis."""
    w = apply(V[j])
    size = float(torch.linalg.vector_norm(w))
    for _ in range(2):  # twice is enough (Kahan, Parlett)
        overlap = V[: j + 1] @ w
        w = w - overlap @ V[: j + 1]
        H[: j + 1, j] += overlap.cpu().double().numpy()
    length = float(torch.linalg.vector_norm(w))
    if length > 10 * torch.finfo(w.dtype).eps * size:
        H[j + 1, j], V[j + 1] = length, w / length
        return
    # The space is invariant. Continue with a random vector orthogonal to it, to find further copies of eigenvalues.
    generator = torch.Generator().manual_seed(j)
    w = torch.randn(len(w), generator=generator, dtype=w.dtype, device="cpu").to(w.device)
    for _ in range(2):
        w = w - (V[: j + 1] @ w) @ V[: j + 1]
    V[j + 1] = w / torch.linalg.vector_norm(w).clamp_min(torch.finfo(w.dtype).tiny)


def _ordered_schur(H: np.ndarray, order: Order, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Real Schur form with the ``count`` first eigenvalues in front, one more if the last is half of a pair."""
    keys = np.sort(order(np.linalg.eigvals(H)))
    threshold = keys[count - 1] + 1e-9 * max(abs(keys[0]), abs(keys[-1]))
    T, Z, found = schur(H, sort=lambda re, im: bool(order(complex(re, im)) <= threshold))
    # Rounding may move all eigenvalues over the threshold; one is kept, since an empty basis would lose all progress.
    return T, Z, min(max(found, 1), len(H) - 1) if count < len(H) else len(H)


def _ritz_pairs(V: Tensor, T: np.ndarray, Z: np.ndarray, first: int, order: Order) -> tuple[Tensor, Tensor]:
    values, small = np.linalg.eig(T[:first, :first])
    places = np.argsort(order(values), kind="stable")
    values, small = values[places].astype(complex), Z[:, :first] @ small[:, places]
    vectors = torch.complex(*(V.mT @ _to(V, part) for part in (small.real, small.imag)))
    return torch.from_numpy(values).to(V.device, vectors.dtype), vectors


def _to(V: Tensor, array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, order="C")).to(V.device, V.dtype)
