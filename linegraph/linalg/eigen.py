"""Eigenvalues of couplings: which solver finds them.

============================  ==========================================================================
n ≤ 256, or k > n/4           LAPACK through torch, of the matrix that n products make
CPU                           ARPACK through SciPy: ``eigsh`` and ``eigs`` of ``to_scipy()``
CUDA                          Krylov–Schur in torch, whose basis stays on the device
============================  ==========================================================================

``torch.lobpcg`` takes matrices only, no operators, and only symmetric ones.

Operators are scaled to a norm of about 1, since ARPACK's test of convergence treats eigenvalues below ε^(2/3) as that
large. The Krylov space of one vector holds one eigenvector of a multiple eigenvalue; rounding adds some of the others,
so that copies may be missed without notice. A symmetric operator is therefore searched again, with the found
eigenvalues moved to 0, until no further eigenvalue belongs among the first k.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs, eigsh
from torch import Tensor

from linegraph.coupling.base import Coupling
from linegraph.errors import ConvergenceError
from linegraph.linalg.krylov import krylov_schur
from linegraph.linalg.limits import DENSE_PRODUCTS
from linegraph.linalg.operators import Derived, dense, normalized
from linegraph.linalg.options import check_finite
from linegraph.progress import counting

__all__ = ["arpack", "eigenpairs", "finite", "first_eigenvalues", "is_small", "symmetric_eigenpairs"]

ROUGH = 1e-4
"""Relative residual of the first, rough search for missed eigenvalues."""

ZERO_ROUNDINGS = 100
"""A remaining eigenvalue counts as 0 if it is at most this many roundings of the largest eigenvalue."""

ORDERS: dict[str, Callable[[Any], Any]] = {
    "LM": lambda values: -np.abs(values),
    "LR": lambda values: -np.real(values),
}
"""SciPy's names for the order of eigenvalues: by magnitude, or by real part, the largest first."""


def symmetric_eigenpairs(
    A: Coupling,
    k: int,
    *,
    tol: float,
    max_iter: int,
    progress: bool,
    basis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k eigenvalues largest in magnitude (k,), real, and orthonormal eigenvectors (n, k), of a symmetric coupling.

    Raises:
        ConvergenceError: if ``max_iter`` restarts do not reach the tolerance.
        NonFiniteError: if a product is not finite.
    """
    if is_small(k, A.num_nodes):
        matrix = finite(dense(A))
        return _first(torch.linalg.eigh((matrix + matrix.mT) / 2), k, "LM")

    def search(B: Coupling, count: int, start: Tensor, tol: float) -> tuple[Tensor, Tensor]:
        values, vectors = _iterate(True, B, count, "LM", tol, max_iter, progress, start, basis)
        return values.real, vectors.real

    values, vectors = search(A, k, _random(A, 0), tol)
    if k == 1:
        return values, vectors  # one copy is enough
    rough = max(ROUGH, tol)
    for again in itertools.count(1):
        rest, start = _deflated(A, values, vectors), _random(A, again)
        size, last = float(values[0].abs()), float(values[-1].abs())
        missed_from = last + 10 * tol * size
        if float(rest.matvec(start).abs().max()) <= ZERO_ROUNDINGS * A.precision * size:
            return values, vectors
        # The remaining eigenvalues may form a cluster that converges slowly, so a rough search comes first.
        best, theirs = search(rest, 1, start, rough)
        if float(best.abs()) * (1 + 2 * rough) < missed_from:
            return values, vectors
        more, theirs = search(rest, min(2 ** (again - 1), k), theirs[:, 0].contiguous(), tol)
        missed = more.abs() > missed_from
        if not bool(missed.any()):
            return values, vectors
        theirs = theirs[:, missed] - vectors @ (vectors.mT @ theirs[:, missed])
        theirs /= torch.linalg.vector_norm(theirs, dim=0)
        values, vectors = _first((torch.cat([values, more[missed]]), torch.cat([vectors, theirs], 1)), k, "LM")
    raise AssertionError("there are n eigenvalues at most")


def eigenpairs(A: Coupling, k: int, which: str, *, tol: float, max_iter: int, progress: bool) -> tuple[Tensor, Tensor]:
    """The k first eigenvalues (k,) and right eigenvectors (n, k) of any coupling, complex.

    Raises:
        ConvergenceError: if ``max_iter`` restarts do not reach the tolerance.
        NonFiniteError: if a product is not finite.
    """
    if is_small(k, A.num_nodes):
        return _first(torch.linalg.eig(finite(dense(A))), k, which)
    # With SciPy's 20 vectors the restarts miss some of a cluster (half the time for 5 of 600), with 40 they found all.
    return _iterate(False, A, k, which, tol, max_iter, progress, _random(A, 0), max(2 * k + 1, 40))


def first_eigenvalues(values: Tensor, k: int, which: str) -> Tensor:
    """The k first of each row of eigenvalues (..., m)."""
    return values.gather(-1, _order(values, which)[..., :k])


def _order(values: Tensor, which: str) -> Tensor:
    return torch.from_numpy(ORDERS[which](values.cpu().numpy())).argsort(stable=True).to(values.device)


def _first(pairs: tuple[Tensor, Tensor], k: int, which: str) -> tuple[Tensor, Tensor]:
    values, vectors = pairs
    first = _order(values, which)[:k]
    return values[first], vectors[:, first]


def _deflated(A: Coupling, values: Tensor, vectors: Tensor) -> Coupling:
    """The symmetric A with the eigenvalues found moved to 0."""

    def multiply(block: Tensor) -> Tensor:
        return A.matvec(block).sub_(vectors @ (values.unsqueeze(1) * (vectors.mT @ block)))

    return Derived(A, multiply, multiply)


def _random(A: Coupling, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(A.num_nodes, generator=generator, dtype=A.dtype, device="cpu").sub_(0.5).to(A.device)


def stays_on_device(A: Coupling) -> bool:
    """Whether the vectors are on a device that SciPy cannot use."""
    return A.device.type != "cpu"


def is_small(k: int, n: int) -> bool:
    """Whether k of n eigenvalues are computed by LAPACK from a dense matrix."""
    # Above n/4 a Krylov basis of 2k + 1 vectors is no smaller than half the matrix.
    return n <= DENSE_PRODUCTS or 4 * k > n


def finite(matrix: Tensor) -> Tensor:
    """The same numbers, if all are finite.

    Raises:
        NonFiniteError: if one is not.
    """
    check_finite(float(matrix.abs().max()), "spectrum")
    return matrix


def _iterate(
    symmetric: bool,
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
    if not size:  # a Krylov method would have no second vector
        nothing = torch.zeros(k, dtype=A.dtype, device=A.device)
        return nothing, torch.eye(A.num_nodes, k, dtype=A.dtype, device=A.device)
    with counting(progress, unit="product", desc="spectrum") as bar:

        def counted(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def multiply(block: Tensor) -> Tensor:
                bar.update(block.shape[1])
                return finite(product(block))

            return multiply

        A = Derived(A, counted(A.matvec), counted(A.rmatvec))
        if stays_on_device(A):
            values, vectors = krylov_schur(
                A.matvec, start, k, order=ORDERS[which], basis=basis, tol=tol, max_iter=max_iter
            )
            return values[:k] * size, vectors[:, :k]
        found = arpack(
            A.to_scipy(),
            k,
            which,
            symmetric=symmetric,
            start=start.numpy(),
            tol=tol,
            max_iter=max_iter,
            basis=basis,
        )
    values, vectors = (torch.from_numpy(np.ascontiguousarray(part)) for part in found)
    return _first((values * size, vectors), k, which)


def arpack(
    operator: LinearOperator,
    k: int,
    which: str,
    *,
    start: np.ndarray,
    tol: float,
    symmetric: bool = False,
    max_iter: int | None = None,
    basis: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k first eigenvalues (k,) and eigenvectors (n, k) of an operator, by ARPACK (SciPy's ``eigsh`` and ``eigs``).

    Args:
        operator: (n, n), n > k + 1.
        k: the number of eigenvalues.
        which: SciPy's name of the end of the spectrum: ``"LM"``, ``"LR"``, ``"LA"``.
        start: (n,), a random vector, the first one of the Krylov space. If the operator maps it to 0, the operator is
            taken for 0, and all eigenvalues are 0.
        tol: relative residual.
        symmetric: whether the operator is symmetric.
        max_iter: number of restarts; 10 n by default.
        basis: number of Krylov vectors; SciPy's choice by default.

    Raises:
        ConvergenceError: if the tolerance is not reached.
    """
    n = len(start)
    solver, iterations = eigsh if symmetric else eigs, 10 * n if max_iter is None else max_iter

    def failed(why: str) -> ConvergenceError:
        return ConvergenceError(why, iterations=iterations, residual=float("nan"), tolerance=tol)

    try:
        return solver(operator, k, which=which, ncv=basis, tol=tol, maxiter=iterations, v0=start)
    except ArpackNoConvergence as error:
        raise failed(
            f"{len(error.eigenvalues)} of {k} eigenvalues have converged after {iterations} restarts to the relative "
            f"residual {tol:.1e}; raise max_iter or tol"
        ) from None
    except ArpackError as error:
        if not (operator @ start).any():
            return np.zeros(k, start.dtype), np.eye(n, k, dtype=start.dtype)
        raise failed(f"ARPACK stopped: {error}") from None
