"""Newton–Krylov: the last digits of an equilibrium, whatever the device and whether or not P is explicit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.system import Jacobian, System, largest

__all__ = ["Root", "gmres", "newton"]

DENSE = 400
"""Up to this many nodes a step solves with the dense Jacobian."""

STEPS = 60
"""At a double root the error halves with every step; this many reach the rounding."""


class Root(NamedTuple):
    """Where Newton's method came to rest."""

    x: Tensor
    residual: float
    evaluations: int


def newton(system: System, x: Tensor, tol: float) -> Root | None:
    """A root of F near x (n,), or None if the iteration does not settle.

    A step is halved until it lowers max |F|, and kept in the domain. The iteration ends when the residual is below
    ``tol`` and the step too small to matter: at a double root (an equilibrium at a fold) the residual is the square
    of the error, and small long before x is exact.

    Source: C. T. Kelley, Solving Nonlinear Equations with Newton's Method (2003).
    """
    velocity = system(x)
    residual = largest(velocity)
    evaluations = 1
    for _ in range(STEPS):
        if residual == 0:
            return Root(x, residual, evaluations)
        direction = _solve(system.jacobian(x), -velocity)
        if not bool(direction.isfinite().all()):
            return None
        for halving in range(12):
            trial = system.clamp(x + direction * 0.5**halving)
            velocity_there = system(trial)
            evaluations += 1
            if largest(velocity_there) < residual:
                break
        else:
            return Root(x, residual, evaluations) if residual <= tol else None
        moved = largest(trial - x)
        x, velocity, residual = trial, velocity_there, largest(velocity_there)
        if residual <= tol and moved <= 1e-7 * (1 + largest(x)):
            return Root(x, residual, evaluations)
    return Root(x, residual, evaluations) if residual <= tol else None


def gmres(
    product: Callable[[Tensor], Tensor], b: Tensor, inverse: Tensor, *, tol: float, restart: int = 30, cycles: int = 6
) -> Tensor:
    """X with A x ≈ b, to a residual of ``tol`` relative to b, by restarted GMRES with a diagonal preconditioner.

    ``inverse`` (n,) multiplies from the right. Memory: ``restart`` + 1 vectors. If the tolerance is not reached, the
    best x found; on the device of b.

    Source: Y. Saad, M. H. Schultz, SIAM J. Sci. Stat. Comput. 7 (1986).
    """
    x = torch.zeros_like(b)
    goal = tol * float(b.norm())
    for _ in range(cycles):
        r = b - product(x) if bool(x.any()) else b
        norm = float(r.norm())
        if norm <= goal or not np.isfinite(norm):
            break
        basis = torch.empty(restart + 1, len(b), dtype=b.dtype, device=b.device)
        basis[0] = r / norm
        hessenberg = np.zeros((restart + 1, restart))
        target = np.zeros(restart + 1)
        target[0] = norm
        for k in range(restart):
            w = product(inverse * basis[k])
            size = float(w.norm())
            for _ in range(2):  # orthogonalised twice, since once loses digits
                overlap = basis[: k + 1] @ w
                w = w - overlap @ basis[: k + 1]
                hessenberg[: k + 1, k] += overlap.cpu().numpy()
            hessenberg[k + 1, k] = float(w.norm())
            small, aim = hessenberg[: k + 2, : k + 1], target[: k + 2]
            y = np.linalg.lstsq(small, aim, rcond=None)[0]
            exhausted = hessenberg[k + 1, k] <= 1e-14 * size
            if exhausted or np.linalg.norm(small @ y - aim) <= goal:
                break
            basis[k + 1] = w / hessenberg[k + 1, k]
        x = x + inverse * (torch.from_numpy(y).to(b) @ basis[: k + 1])
    return x


def _solve(J: Jacobian, b: Tensor) -> Tensor:
    if len(b) <= DENSE and isinstance(J.system.P, GraphCoupling):
        matrix = J.to_dense()
        solution, failed = torch.linalg.solve_ex(matrix, b)
        return solution if not int(failed) else torch.linalg.pinv(matrix) @ b
    tiny = torch.finfo(b.dtype).tiny
    diagonal = torch.where(J.diagonal.abs() > tiny, J.diagonal, torch.ones_like(b))
    return gmres(J.matvec, b, 1 / diagonal, tol=max(1e-10, 32 * torch.finfo(b.dtype).eps))
