"""Eigenvalues of couplings: which solver finds them.

============================  ==========================================================================
n ≤ 256, or k > n/4           LAPACK through torch, of the matrix that n products make
CPU                           ARPACK through SciPy: ``eigsh`` and ``eigs`` of ``to_scipy()``
CUDA                          Krylov–Schur in torch, whose basis stays on the device
============================  ==========================================================================

``torch.lobpcg`` takes matrices only, no operators, and only symmetric ones.

Operators are iterated in units of their size: ARPACK takes eigenvalues below ε^(2/3) for that large when it decides
what has converged. The Krylov space of one vector holds one eigenvector of a tied eigenvalue; rounding brings some of
the others, so that copies are missed without notice. Symmetric operators are therefore searched again, beside what was
found, until nothing is found that belongs among the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigs, eigsh
from torch import Tensor
from tqdm import tqdm

from linegraph.coupling.base import Coupling
from linegraph.errors import ConvergenceError
from linegraph.metrics.krylov import krylov_schur
from linegraph.metrics.operators import DENSE, Derived, dense, normalized
from linegraph.metrics.requirements import check_finite

__all__ = ["eigenpairs", "first_eigenvalues", "symmetric_eigenpairs"]

ROUGH = 1e-3
"""Relative residual of a first look for what was missed."""

ORDERS: dict[str, Callable[[Any], Any]] = {
    "LM": lambda values: -np.abs(values),
    "LA": lambda values: -np.real(values),
    "LR": lambda values: -np.real(values),
}
"""SciPy's names for which eigenvalues come first: largest in magnitude, algebraically, in their real part."""


def symmetric_eigenpairs(
    A: Coupling,
    k: int,
    which: str,
    *,
    tol: float,
    max_iter: int,
    progress: bool,
    start: Tensor | None = None,
    basis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k first eigenvalues (k,), real, and orthonormal eigenvectors (n, k) of a symmetric coupling.

    Raises:
        ConvergenceError: if ``max_iter`` restarts do not reach the tolerance.
        NonFiniteError: if a product is not finite.
    """
    if _is_small(k, A.num_nodes):
        matrix = _finite(dense(A))
        return _first(torch.linalg.eigh((matrix + matrix.mT) / 2), k, which)

    def search(B: Coupling, count: int, start: Tensor, tol: float) -> tuple[Tensor, Tensor]:
        values, vectors = _iterate(eigsh, B, count, which, tol, max_iter, progress, start, basis)
        return values.real, vectors.real

    values, vectors = search(A, k, _random(A, 0) if start is None else start, tol)
    if k == 1:
        return values, vectors  # whatever its copies
    for again in itertools.count(1):
        rest, start = _beside(A, values, vectors, which), _random(A, again)
        last, size = _keys(values, which)[-1], abs(float(values[0]))
        # What lies well behind may be a cluster that takes long to tell apart: a rough look comes first.
        rough = max(ROUGH, tol)
        if _keys(search(rest, 1, start, rough)[0], which)[0] > last + 10 * rough * size:
            return values, vectors
        more, theirs = search(rest, min(2 ** (again - 1), k), start, tol)
        missed = torch.from_numpy(_keys(more, which) < last - 10 * tol * size).to(A.device)
        if not bool(missed.any()):
            return values, vectors
        theirs = theirs[:, missed] - vectors @ (vectors.mT @ theirs[:, missed])
        theirs /= torch.linalg.vector_norm(theirs, dim=0)
        values, vectors = _first((torch.cat([values, more[missed]]), torch.cat([vectors, theirs], 1)), k, which)
    raise AssertionError("there are n eigenvalues at most")


def eigenpairs(A: Coupling, k: int, which: str, *, tol: float, max_iter: int, progress: bool) -> tuple[Tensor, Tensor]:
    """The k first eigenvalues (k,) and right eigenvectors (n, k) of any coupling, complex.

    Raises:
        ConvergenceError: if ``max_iter`` restarts do not reach the tolerance.
        NonFiniteError: if a product is not finite.
    """
    if _is_small(k, A.num_nodes):
        return _first(torch.linalg.eig(_finite(dense(A))), k, which)
    # With SciPy's 20 vectors the restarts miss some of a cluster (half the time for 5 of 600), with 40 they found all.
    return _iterate(eigs, A, k, which, tol, max_iter, progress, _random(A, 0), max(2 * k + 1, 40))


def first_eigenvalues(values: Tensor, k: int, which: str) -> Tensor:
    """The k first of each row of eigenvalues (..., m)."""
    return values.gather(-1, _order(values, which)[..., :k])


def _keys(values: Tensor, which: str) -> np.ndarray:
    return ORDERS[which](values.cpu().numpy())


def _order(values: Tensor, which: str) -> Tensor:
    return torch.from_numpy(_keys(values, which)).argsort(stable=True).to(values.device)


def _first(pairs: tuple[Tensor, Tensor], k: int, which: str) -> tuple[Tensor, Tensor]:
    values, vectors = pairs
    first = _order(values, which)[:k]
    return values[first], vectors[:, first]


def _beside(A: Coupling, values: Tensor, vectors: Tensor, which: str) -> Coupling:
    """A with the eigenvalues found moved to a place behind the last of them."""
    place = 0.0 if which == "LM" else values[-1] - values[0].abs()
    moves = (values - place).unsqueeze(1)

    def multiply(block: Tensor) -> Tensor:
        return A.matvec(block).sub_(vectors @ (moves * (vectors.mT @ block)))

    return Derived(A, multiply, multiply)


def _random(A: Coupling, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(A.num_nodes, generator=generator, dtype=A.dtype, device="cpu").sub_(0.5).to(A.device)


def stays_on_device(A: Coupling) -> bool:
    """Whether the basis is where SciPy cannot reach it."""
    return A.device.type != "cpu"


def _is_small(k: int, n: int) -> bool:
    # Above n/4 a Krylov basis of 2k + 1 vectors is no smaller than half the matrix.
    return n <= DENSE or 4 * k > n


def _finite(matrix: Tensor) -> Tensor:
    check_finite(float(matrix.abs().max()), "spectrum")
    return matrix


def _iterate(
    solver: Callable,
    A: Coupling,
    k: int,
    which: str,
    tol: float,
    max_iter: int,
    progress: bool,
    start: Tensor,
    basis: int | None,
) -> tuple[Tensor, Tensor]:
    basis = min(A.num_nodes - 1, max(basis or 20, 2 * k + 1))
    A, size = normalized(A, "spectrum")
    with tqdm(disable=not progress, unit="product") as bar:

        def counted(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def multiply(block: Tensor) -> Tensor:
                bar.update(block.shape[1])
                return _finite(product(block))

            return multiply

        A = Derived(A, counted(A.matvec), counted(A.rmatvec))
        if stays_on_device(A):
            values, vectors = krylov_schur(
                A.matvec, start, k, order=ORDERS[which], basis=basis, tol=tol, max_iter=max_iter
            )
            return values[:k] * size, vectors[:, :k]
        try:
            found = solver(A.to_scipy(), k, which=which, ncv=basis, tol=tol, maxiter=max_iter, v0=start.numpy())
        except ArpackNoConvergence as error:
            raise ConvergenceError(
                f"{len(error.eigenvalues)} of {k} eigenvalues have converged after {max_iter} restarts to the relative "
                f"residual {tol:.1e}; raise max_iter or tol",
                iterations=max_iter,
                residual=float("nan"),
                tolerance=tol,
            ) from None
        except ArpackError as error:
            raise ConvergenceError(
                f"ARPACK gave up: {error}", iterations=0, residual=float("nan"), tolerance=tol
            ) from None
    values, vectors = (torch.from_numpy(np.ascontiguousarray(part)) for part in found)
    return _first((values * size, vectors), k, which)
