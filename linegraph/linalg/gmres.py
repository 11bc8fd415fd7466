"""GMRES in torch, for operators given by their products, on any device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["gmres"]


def gmres(
    product: Callable[[Tensor], Tensor], b: Tensor, inverse: Tensor, *, tol: float, restart: int = 30, cycles: int = 6
) -> Tensor:
    """Solve A x = b by restarted GMRES with a diagonal preconditioner.

    Args:
        product: the map x → A x, of vectors (n,).
        b: the right-hand side (n,).
        inverse: the diagonal (n,) of the preconditioner, which multiplies from the right.
        tol: bound on the residual ‖A x − b‖₂, relative to ‖b‖₂.
        restart: number of products between two restarts; ``restart`` + 1 vectors are kept.
        cycles: largest number of restarts.

    Returns:
        x (n,) on the device of b; if the tolerance is not reached, the best x found.

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
