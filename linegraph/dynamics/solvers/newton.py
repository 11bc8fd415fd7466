"""Newton–Krylov: the last digits of an equilibrium, on any device, with or without explicit edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor

from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.solvers.segments import Segments
from linegraph.dynamics.system import Jacobian, System
from linegraph.linalg.gmres import gmres
from linegraph.linalg.limits import DENSE_LU, SPARSE_LU_ABOVE, SPARSE_LU_UP_TO

__all__ = ["Root", "newton", "newton_step"]

STEPS = 60
"""Number of steps: enough to halve the error until it is a rounding error."""

HALVINGS = 12
"""Number of lengths of a step that are tried, each half the one before."""


class Root(NamedTuple):
    """The last state (n,) of Newton's method, and for each segment max |F| and whether it is a root."""

    x: Tensor
    residual: np.ndarray
    found: np.ndarray
    evaluations: int


def newton(system: System, x: Tensor, tol: float, held: Tensor | None = None, segments: Segments | None = None) -> Root:
    """A root of F near x (n,), separately in every segment of the nodes; one segment by default.

    Nodes ``held`` (n,) stay where they are, and their F is left out.

    A step is halved until it lowers max |F|, and clipped to the domain. At a double root (an equilibrium at a fold)
    a step only halves the error; steps that shrink by about a half are therefore doubled. The iteration ends when
    the residual is below ``tol`` and the step below 10⁻⁷ of x: at a double root the residual is the square of the
    error, and small long before x is exact.

    Source: C. T. Kelley, Solving Nonlinear Equations with Newton's Method (2003); E. Schröder (1870) for double roots.
    """
    segments = Segments([len(x)], x.device) if segments is None else segments
    free = None if held is None else (~held).to(x.dtype)
    totals = system.totals(x)
    velocity = _of_free(system.velocity(x, totals), free)
    residual = segments.largest(velocity)
    moved, failed = np.full_like(residual, np.inf), np.isinf(residual)
    searching = (residual > 0) & ~failed
    evaluations = 1
    for _ in range(STEPS):
        if not searching.any():
            break
        direction = _solve(system.jacobian(x, totals), -velocity, free)
        size = segments.largest(direction)
        failed |= searching & np.isinf(size)
        searching &= ~failed
        direction = torch.where(segments.spread(searching, x), direction, 0)
        factor = np.where((0.4 * moved < size) & (size < 0.6 * moved), 2.0, 1.0)
        stuck = searching.copy()
        for _ in range(HALVINGS):
            trial = system.clamp(x + direction * segments.spread(factor, x))
            totals_there = system.totals(trial)
            velocity_there = _of_free(system.velocity(trial, totals_there), free)
            evaluations += 1
            stuck &= ~(segments.largest(velocity_there) < np.where(factor > 1, 0.1, 1.0) * residual)
            if not stuck.any():
                break
            factor = np.where(stuck, factor / 2, factor)
        stays = segments.spread(stuck, x)
        trial = torch.where(stays, x, trial)
        totals = torch.where(stays, totals, totals_there)
        velocity = torch.where(stays, velocity, velocity_there)
        change = trial - x
        moved, x = segments.largest(change), trial
        residual = segments.largest(velocity)
        at_rest = (residual <= tol) & segments.within(change, 1e-7 * x.abs() + tol)
        searching &= ~(stuck | at_rest | (residual == 0))
    return Root(x, residual, (residual <= tol) & ~failed, evaluations)


def newton_step(system: System, x: Tensor) -> Tensor:
    """The step from x (n,) to the root of the linearised F."""
    return _solve(system.jacobian(x), -system(x), None)


def _of_free(velocity: Tensor, free: Tensor | None) -> Tensor:
    return velocity if free is None else velocity * free


def _solve(J: Jacobian, b: Tensor, free: Tensor | None) -> Tensor:
    """J⁻¹ b; with ``free`` (n,) of 0 and 1, the same for the rows and columns that are 1, and b elsewhere."""
    P = J.system.P
    if isinstance(P, GraphCoupling):
        rows = torch.arange(len(b), device=b.device) if free is None else free.nonzero().squeeze(1)
        thin = b.device.type == "cpu" and len(b) <= SPARSE_LU_UP_TO and P.num_edges <= 4 * len(b)
        if len(rows) <= DENSE_LU or thin:
            solution = _direct(J, b[rows], rows, sparse=thin and len(rows) > SPARSE_LU_ABOVE)
            return torch.zeros_like(b).index_put_((rows,), solution)
    tiny = torch.finfo(b.dtype).tiny
    diagonal = torch.where(J.diagonal.abs() > tiny, J.diagonal, torch.ones_like(b))
    product = J.matvec
    if free is not None:
        diagonal = torch.where(free > 0, diagonal, torch.ones_like(b))

        def product(v: Tensor) -> Tensor:
            return free * J.matvec(free * v) + (1 - free) * v

    return gmres(product, b, 1 / diagonal, tol=max(1e-10, 32 * torch.finfo(b.dtype).eps))


def _direct(J: Jacobian, b: Tensor, rows: Tensor, *, sparse: bool) -> Tensor:
    """The solution in given rows and columns of J, by LU decomposition."""
    if len(J.x) <= SPARSE_LU_ABOVE:
        return _dense_solution(J.to_dense()[rows][:, rows], b)
    number = torch.full((len(J.x),), -1, device=rows.device)
    number[rows] = torch.arange(len(rows), device=rows.device)
    sources, targets = number[J.senders.edge_index]
    inside = (sources >= 0) & (targets >= 0)
    sources, targets, weight = sources[inside], targets[inside], J.senders.weight[inside]
    if sparse:
        own = np.arange(len(rows))
        entries = np.r_[weight.double().numpy(), J.diagonal[rows].double().numpy()]
        places = np.r_[targets.numpy(), own], np.r_[sources.numpy(), own]
        try:
            return torch.from_numpy(splu(csc_array((entries, places))).solve(b.double().numpy())).to(b)
        except RuntimeError:  # exactly singular
            pass
    return _dense_solution(torch.diag(J.diagonal[rows]).index_put_((targets, sources), weight, accumulate=True), b)


def _dense_solution(matrix: Tensor, b: Tensor) -> Tensor:
    """The solution of a dense system; that of least norm where the matrix is singular."""
    solution, failed = torch.linalg.solve_ex(matrix, b)
    return torch.linalg.pinv(matrix) @ b if int(failed) else solution
