"""Eigenvalues of couplings: which solver finds them.

============================  ==========================================================================
n ≤ 256, or k > n/4           LAPACK through torch, of the matrix that n products make
CPU                           ARPACK through SciPy: ``eigsh`` and ``eigs`` of ``to_scipy()``
CUDA                          Krylov–Schur in torch, whose basis stays on the device
============================  ==========================================================================

``torch.lobpcg`` takes matrices only, no operators, and only symmetric ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigs, eigsh
from torch import Tensor
from tqdm import tqdm

from linegraph.coupling.base import Coupling
from linegraph.errors import ConvergenceError, NonFiniteError
from linegraph.metrics.krylov import krylov_schur
from linegraph.metrics.operators import Derived, dense

__all__ = ["DENSE", "eigenpairs", "symmetric_eigenpairs"]

DENSE = 256

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
    n = A.num_nodes
    if _is_small(k, n):
        matrix = _finite(dense(A))
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        first = torch.from_numpy(ORDERS[which](values.cpu().numpy())).argsort(stable=True)[:k].to(A.device)
        return values[first], vectors[:, first]
    values, vectors = _iterate(eigsh, A, k, which, tol, max_iter, progress, start, basis)
    return values.real, vectors.real


def eigenpairs(
    A: Coupling, k: int, which: str, *, tol: float, max_iter: int, progress: bool, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k first eigenvalues (k,) and right eigenvectors (n, k) of any coupling, complex.

    Raises:
        ConvergenceError: if ``max_iter`` restarts do not reach the tolerance.
        NonFiniteError: if a product is not finite.
    """
    if _is_small(k, A.num_nodes):
        values, vectors = torch.linalg.eig(_finite(dense(A)))
        first = torch.from_numpy(ORDERS[which](values.cpu().numpy())).argsort(stable=True)[:k].to(A.device)
        return values[first], vectors[:, first]
    # With SciPy's 20 vectors the restarts miss some of a cluster (half the time for 5 of 600), with 40 they found all.
    return _iterate(eigs, A, k, which, tol, max_iter, progress, start, max(2 * k + 1, 40))


def stays_on_device(A: Coupling) -> bool:
    """Whether the basis is where SciPy cannot reach it."""
    return A.device.type != "cpu"


def _is_small(k: int, n: int) -> bool:
    # Above n/4 a Krylov basis of 2k + 1 vectors is no smaller than half the matrix.
    return n <= DENSE or 4 * k > n


def _finite(matrix: Tensor) -> Tensor:
    if not bool(matrix.isfinite().all()):
        raise NonFiniteError("P has entries that are NaN or infinite; it has no spectrum")
    return matrix


def _iterate(
    solver: Callable,
    A: Coupling,
    k: int,
    which: str,
    tol: float,
    max_iter: int,
    progress: bool,
    start: Tensor | None,
    basis: int | None,
) -> tuple[Tensor, Tensor]:
    n = A.num_nodes
    if start is None:
        generator = torch.Generator().manual_seed(0)
        start = torch.rand(n, generator=generator, dtype=A.dtype, device="cpu").sub_(0.5).to(A.device)
    basis = min(n - 1, basis or max(2 * k + 1, 20))
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
            return values[:k], vectors[:, :k]
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
    order = torch.from_numpy(ORDERS[which](values.numpy())).argsort(stable=True)
    return values[order], vectors[:, order]
