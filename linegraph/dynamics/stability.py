"""The eigenvalue of the Jacobian that decides whether an equilibrium is stable."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.system import Jacobian, largest
from linegraph.errors import ConvergenceError, ConvergenceWarning
from linegraph.linalg.eigen import arpack
from linegraph.linalg.limits import DENSE_EIGENVALUES
from linegraph.numerics import component_numbers

__all__ = ["judge", "leading_eigenvalue"]


def leading_eigenvalue(J: Jacobian) -> float:
    """The largest real part of an eigenvalue of J; −inf for no nodes, nan where the iteration does not converge.

    With explicit edges the eigenvalues are those of the strongly connected components one by one, which is exact
    where it matters: an acyclic or triangular network is far from normal, and iterations on the whole of it find the
    k-th root of a rounding where k equal eigenvalues meet. Components beyond 400 nodes, and couplings without explicit
    edges, go through ARPACK, matrix-free.

    Derivatives may be infinite, as that of √x at 0. A node whose own derivative is −inf is held in place and left out;
    a component with an entry +inf has the eigenvalue +inf. The result is nan where both meet at one node.
    """
    n = len(J.x)
    if n == 0:
        return -math.inf
    if not isinstance(J.system.P, GraphCoupling):
        if not bool(J.diagonal.isfinite().all() & J.matvec(torch.ones_like(J.x)).isfinite().all()):
            return math.nan
        if n <= DENSE_EIGENVALUES:
            return _dense(J.to_dense().cpu().numpy())
        dtype = np.float64 if J.x.dtype == torch.float64 else np.float32

        def product(v: np.ndarray) -> np.ndarray:
            vector = torch.from_numpy(np.ascontiguousarray(v.ravel(), dtype=dtype)).to(J.x.device)
            return J.matvec(vector).cpu().numpy()

        return _iterative(LinearOperator((n, n), matvec=product, dtype=dtype))
    return _by_component(J.diagonal.double().cpu().numpy(), J.senders.to_scipy_sparse().astype(np.float64))


def judge(value: float, J: Jacobian) -> str:
    """``stable``, ``unstable``, ``marginal`` or ``unknown``, from the leading eigenvalue.

    Marginal: within 100 √ε of 0, relative to the fastest node; at a fold the state itself, and with it the eigenvalue,
    is known only to √ε. Also marginal: where a step of F over the eigenvalue, the remaining error of x, brings a
    diagonal entry of the Jacobian nearer to 0 by more than a tenth of the eigenvalue, as near a multiple root.
    """
    if math.isnan(value):
        return "unknown"
    if math.isfinite(value):
        own = J.diagonal[J.diagonal.isfinite()]
        margin = 100 * math.sqrt(torch.finfo(J.x.dtype).eps) * (largest(own) or 1.0)
        if abs(value) <= margin or _unresolved(value, J):
            return "marginal"
    return "stable" if value < 0 else "unstable"


def _unresolved(value: float, J: Jacobian) -> bool:
    nearer = J.system.clamp(J.x - J.system(J.x) / value)
    shrinks = J.diagonal.abs() - J.system.jacobian(nearer).diagonal.abs()
    return bool((shrinks > 0.1 * abs(value)).any())


def _by_component(diagonal: np.ndarray, senders: csr_array) -> float:
    senders.eliminate_zeros()
    if not (np.isfinite(diagonal).all() and np.isfinite(senders.data).all()):
        return _with_infinite_slopes(diagonal, senders)
    loops = senders.diagonal()
    own = diagonal + loops
    label = component_numbers(senders, "strong")
    size = np.bincount(label)
    best = float(own[size[label] == 1].max(initial=-math.inf))
    if (size == 1).all():
        return best
    # Gershgorin: no eigenvalue of a component exceeds its largest row bound, so most are left out.
    reach = own + np.asarray(abs(senders).sum(axis=1)).ravel() - abs(loops)
    bound = np.full(len(size), -math.inf)
    np.maximum.at(bound, label, reach)
    order = np.argsort(label, kind="stable")
    start = np.r_[0, np.cumsum(size)]
    for component in sorted(np.flatnonzero(size > 1), key=lambda c: -bound[c]):
        if bound[component] <= best:
            break
        nodes = order[start[component] : start[component + 1]]
        block = senders if len(nodes) == len(diagonal) else senders[nodes][:, nodes]
        best = max(best, _of_block(diagonal[nodes] if block is not senders else diagonal, block))
    return best


def _with_infinite_slopes(diagonal: np.ndarray, senders: csr_array) -> float:
    held = diagonal == -math.inf
    if np.isnan(diagonal).any() or np.isnan(senders.data).any():
        return math.nan
    infinite = ~np.isfinite(senders.tocoo().data)
    rows, columns = (index[infinite] for index in senders.tocoo().coords)
    if (held[rows] | held[columns]).any():
        return math.nan
    free = np.flatnonzero(~held)
    diagonal, senders = diagonal[free], senders[free][:, free]
    if not len(free):
        return -math.inf
    label = component_numbers(senders, "strong")
    entries = senders.tocoo()
    rows, columns = entries.coords
    inside = label[rows] == label[columns]
    endless = ~np.isfinite(entries.data)
    if (endless & inside).any():
        where = np.isin(label[rows], label[rows[endless & inside]])
        return math.inf if (entries.data[inside & where] > 0).all() else math.nan
    if (diagonal == math.inf).any():
        return math.inf
    entries.data[endless] = 0  # leads from one component to another, which no eigenvalue knows of
    return _by_component(diagonal, csr_array(entries))


def _of_block(diagonal: np.ndarray, block: csr_array) -> float:
    n = len(diagonal)
    if n <= DENSE_EIGENVALUES:
        return _dense(block.toarray() + np.diag(diagonal))

    def product(v: np.ndarray) -> np.ndarray:
        found: np.ndarray = diagonal * v.ravel() + block @ v.ravel()
        return found

    return _iterative(LinearOperator((n, n), matvec=product, dtype=np.float64))


def _dense(matrix: np.ndarray) -> float:
    return float(np.linalg.eigvals(matrix).real.max())


def _iterative(operator: LinearOperator) -> float:
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(operator.dtype)
    try:
        found, _ = arpack(operator, 1, "LR", start=start, tol=1e-8)
    except ConvergenceError:
        warnings.warn(
            "the leading eigenvalue of the Jacobian did not converge, so stability is unknown", ConvergenceWarning, 2
        )
        return math.nan
    return float(found.real.max())
