"""The check of P on the network at hand: P against a gradient by autograd alone, and Pᵀ against P.

The two sides of P w + b = −∇C have different rounding errors. If a gradient passes through D operations one after the
other, each with an independent relative rounding error ρ, its own relative error is about ρ √D. Sums over samples are
formed in P's precision ε, and may lose half of their digits where terms cancel, a relative error of √ε. A difference
above both is examined further before P is reported to be wrong (:mod:`linegraph.coupling.verification.dispute`).
"""

from __future__ import annotations

from math import sqrt

import pandas as pd
import torch
from torch import Tensor

from linegraph.arguments import check_tolerance
from linegraph.coupling.recorded import RecordedNetwork
from linegraph.coupling.tracing.tape import Tape
from linegraph.coupling.verification.dispute import Dispute, length
from linegraph.coupling.verification.plain_gradient import PlainGradient, plain_gradient
from linegraph.errors import IdentityError, UnsupportedOperationError
from linegraph.numerics import CANCELLATION_ROUNDINGS, power_of_two
from linegraph.processes import gathered_results

__all__ = ["verify"]


def verify(P: RecordedNetwork, tol: float | None) -> pd.DataFrame:
    """Compare P w + b with −∇C, and Pᵀ with the transpose of P, as :meth:`NeuralCoupling.verify` documents.

    Raises:
        IdentityError: if P is wrong, or if it cannot be decided which side is.
        UnsupportedOperationError: if P is of kind="magnitude".
    """
    if P.kind == "magnitude":
        raise UnsupportedOperationError(
            "P w + b = −∇C is an identity of signed couplings; verify a coupling of kind='signed' of the same network"
        )
    if tol is not None:
        check_tolerance(tol)
    plain = plain_gradient(P.passes, P.chosen, P.dtype)
    tol = _tolerance(P, plain) if tol is None else tol
    found = P.split(P.pull(P.weights().unsqueeze(1)).squeeze(1).add_(P.drive()))
    differences = {name: g + found[name] if name in found else g for name, g in plain.by_name.items()}
    total = length(plain.by_name.values()) or 1.0
    rows = [(name, length([g]), length([differences[name]]) / total) for name, g in plain.by_name.items()]
    table = pd.DataFrame(rows, columns=["name", "gradient", "difference"])
    if (off := table[~(table["difference"] <= tol)]).size:
        listed = ", ".join(f"{row.name!r} by {row.difference:.1e}" for row in off.itertuples(index=False))
        what = f"at {listed} of ‖∇C‖, more than {tol:.0e}"
        Dispute(P, plain, {name: differences[name] for name in off["name"]}, what).settle()
    _check_transpose(P, tol)
    return table


def _tolerance(P: RecordedNetwork, plain: PlainGradient) -> float:
    """The expected relative rounding error of a gradient, max(ρ √D, √ε, 1e-6)."""
    rounding = max(P.rounding, plain.rounding)
    if rounding == torch.finfo(torch.float32).eps:
        rounding = max(rounding, _rounding_of_products(P.device))
    return max(1e-6, sqrt(P.precision), rounding * sqrt(plain.depth))


def _rounding_of_products(device: torch.device) -> float:
    """The relative rounding error of single-precision products, which a device may form in TF32 or bfloat16; else 0."""
    cuda, backends = device.type == "cuda", torch.backends
    homes = (backends.cudnn, backends.cuda) if cuda else (backends.mkldnn, backends.mkldnn)
    places = (getattr(homes[0], "conv", None), getattr(homes[1], "matmul", None))
    formats = {getattr(place, "fp32_precision", None) for place in places}
    if formats == {None} and cuda:  # torch before 2.9
        formats = {"tf32" if backends.cudnn.allow_tf32 or backends.cuda.matmul.allow_tf32 else None}
    return max(2.0**-7 if "bf16" in formats else 0.0, 2.0**-10 if "tf32" in formats else 0.0)


def _is_rounding(P: RecordedNetwork, v: Tensor, size: float) -> bool:
    """Whether P v is 0 up to rounding: the signals sent back cancelled, as where a norm subtracts the mean.

    Args:
        P: the coupling.
        v: a block (n, 1).
        size: ‖P v‖, which is compared with ‖Vᵀ g‖ ‖x‖, the size before cancellation.
    """
    parts, sent, met = P.split(v.squeeze(1)), [0.0], [0.0]

    def add(tape: Tape) -> None:
        for call, g in zip(tape.calls, tape.gradients, strict=True):
            met.append(length([call.input()]))
            if g is not None and call.weight.name in parts:
                sent.append(length([call.to_input(parts[call.weight.name], g)]))

    divisor = P.passes.over(add)
    return size <= CANCELLATION_ROUNDINGS * P.precision * sum(gathered_results(lambda: sum(sent) * sum(met))) / divisor


def _check_transpose(P: RecordedNetwork, tol: float) -> None:
    """Check vᵀ Pᵀ (P v) = ‖P v‖² for a random v, with P v scaled so that half precision can hold it.

    Raises:
        IdentityError: if the two differ by more than ``tol``, relative to ‖P v‖².
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(P.num_nodes, 1, generator=generator, dtype=P.dtype, device="cpu").to(P.device)
    image = P.pull(v)
    unit = power_of_two(float(image.abs().max()), P.dtype)
    size = length([image]) ** 2
    found = float((P.push(image / unit) * v).sum(dtype=torch.float64)) * unit
    if not abs(found - size) <= tol * size and not _is_rounding(P, v, sqrt(size)):
        raise IdentityError(
            f"Pᵀ is not the transpose of P: vᵀPᵀ(Pv) = {found:.6g} where ‖Pv‖² = {size:.6g}, a relative difference of "
            f"{abs(found - size) / size:.1e}, more than {tol:.0e}; an operation between synapses has a backward pass "
            "that cannot itself be differentiated. Please report the model; out-strengths and rmatvec are not to be "
            "trusted"
        )
