"""Whether P is right for the network at hand: against a gradient that knows nothing of P, and Pᵀ against P."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from linegraph.arguments import check_tolerance
from linegraph.errors import IdentityError, UnsupportedOperationError

if TYPE_CHECKING:
    from linegraph.coupling.neural import NeuralCoupling

__all__ = ["verify"]


def verify(P: NeuralCoupling, tol: float | None) -> pd.DataFrame:
    """How far P w + b is from −∇C, and Pᵀ from the transpose of P; see :meth:`NeuralCoupling.verify`."""
    if P.kind == "magnitude":
        raise UnsupportedOperationError(
            "P w + b = −∇C is an identity of signed couplings; verify a coupling of kind='signed' of the same network"
        )
    tol = max(1e-6, P.precision**0.5) if tol is None else tol
    check_tolerance(tol)
    expected = P.passes.plain_gradient(P.dtype)
    found = P.split(P.pull(P.weights().unsqueeze(1)).squeeze(1).add_(P.drive()))
    total = _norm(torch.stack([_norm(part) for part in expected.values()]))
    rows = []
    for name, gradient in expected.items():
        difference = _norm(gradient + found[name]) if name in found else _norm(gradient)
        rows.append((name, float(_norm(gradient)), float(difference / total) if total else float(difference)))
    table = pd.DataFrame(rows, columns=["name", "gradient", "difference"])
    wrong = table[~(table["difference"] <= tol)]
    if len(wrong):
        worst = ", ".join(f"{row.name!r} by {row.difference:.1e}" for row in wrong.itertuples(index=False))
        raise IdentityError(
            f"P w + b is not −∇C: it differs at {worst} of ‖∇C‖, more than {tol:.0e}. The way in which these weights, "
            "or what their outputs pass through, enter the loss is not followed; please report the model, and leave "
            "them out with include= until then"
        )
    _check_transpose(P, tol)
    return table


def _check_transpose(P: NeuralCoupling, tol: float) -> None:
    """vᵀ Pᵀ (P v) = ‖P v‖² for a random v."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(P.num_nodes, 1, generator=generator, dtype=P.dtype, device="cpu").to(P.device)
    image = P.pull(v)
    size = float(_norm(image)) ** 2
    found = float((P.push(image) * v).sum(dtype=torch.float64))
    if not abs(found - size) <= tol * size:
        raise IdentityError(
            f"Pᵀ is not the transpose of P: vᵀPᵀ(Pv) = {found:.6g} where ‖Pv‖² = {size:.6g}, a relative difference of "
            f"{abs(found - size) / size:.1e}, more than {tol:.0e}; an operation between synapses has a backward pass "
            "that cannot itself be differentiated. Please report the model; out-strengths and rmatvec are not to be "
            "trusted"
        )


def _norm(t: Tensor) -> Tensor:
    return torch.linalg.vector_norm(t.detach(), dtype=torch.float64)
