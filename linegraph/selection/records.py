"""What one record of a training run holds: capacitances of several kinds, sums over synapses, and sums over layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from linegraph.coupling.neural import NeuralCoupling
from linegraph.metrics.neural_capacitance import FIGURES, capacitance, decompose
from linegraph.numerics import double_dot

__all__ = ["COLUMNS", "column_names", "measured", "totals"]

COLUMNS = {
    "num_synapses": "number n of synapses",
    "num_layers": "number of weight tensors that hold synapses",
    "weight_norm": "‖w‖",
    "gradient_norm": "‖∇C‖",
    "drive_norm": "‖b‖, b = the part of −∇C that comes from the loss directly",
    "coupled_norm": "‖P w‖, P w = the part of −∇C that comes through other synapses",
    "saliency": "Σ |w ∘ ∇C|",
    "flow": "Σ |w ∘ P w|",
    "weight_gradient": "wᵀ ∇C",
    "weight_coupled": "wᵀ P w",
    "gradient_layers": "effective number of layers that the squared gradient is spread over, as a share of all",
    "flow_layers": "the same of the flow",
    "gradient_in_first": "share of the squared gradient in the first half of the layers",
    "flow_in_first": "share of the flow in the first half of the layers",
}
"""Columns of a history beside the capacitances, with their formulas; P is the signed coupling in all of them."""

ALONG_GRADIENT = "gradient_coupling"


def measured(couplings: Sequence[NeuralCoupling]) -> tuple[dict[str, float], pd.DataFrame]:
    """The figures of a record, and their sums over the synapses of each layer.

    Args:
        couplings: one of each kind, of the same network and data.

    Returns:
        The figures: those of the capacitance of each kind, where the names of all but the first kind begin with the
        kind; :data:`COLUMNS`; and for the signed kind ∇CᵀP∇C/‖∇C‖², by how much the coupling lets the gradient grow as
        the weights follow it.

        The sums, as a table with one row per layer, in the order of ``P.synapses``, and the columns ``layer``,
        ``num_synapses``, ``weight_square`` Σ w², ``gradient_square`` Σ (∇C)², ``drive_square`` Σ b²,
        ``coupled_square`` Σ (P w)², ``saliency`` Σ |w ∘ ∇C|, ``flow`` Σ |w ∘ P w|, ``weight_gradient`` Σ w ∘ ∇C,
        ``weight_coupled`` Σ w ∘ P w, and for every kind Σ δ_in and Σ δ_out as ``<kind>_in_strength`` and
        ``<kind>_out_strength``.

    Cost: at most one training step for the gradient and the drive; for each kind the sums 1ᵀP1 and 1ᵀPP1, and its in-
    and out-strengths; for the signed kind one product more. Of the vectors (n,) at most six are held at once.
    """
    first = couplings[0]
    gradient, drive = first.gradient_and_drive()
    sums = _sums_of_vectors(first, gradient, drive)
    del drive
    figures: dict[str, float] = {}
    for P in couplings:
        incoming, outgoing = P.in_strength(), P.out_strength()
        sums |= {
            f"{P.kind}_in_strength": _by_layer(P, incoming),
            f"{P.kind}_out_strength": _by_layer(P, outgoing),
        }
        found = capacitance(P)
        decompose(found, incoming, outgoing, P.precision)
        prefix = "" if P is first else f"{P.kind}_"
        figures |= {f"{prefix}{name}": value for name, value in found.as_dict().items()}
        if P.kind == "signed":
            square = double_dot(gradient, gradient)
            figures[ALONG_GRADIENT] = float(double_dot(gradient, P @ gradient) / square) if square else math.nan
    layers = {"layer": [s.name for s in first.synapses], "num_synapses": [s.numel for s in first.synapses]}
    table = pd.DataFrame({**layers, **sums})
    return figures | totals(table), table


def column_names(kinds: Sequence[str]) -> set[str]:
    """The columns that a record of these kinds fills itself."""
    figures = {f"{f'{kind}_' if i else ''}{name}" for i, kind in enumerate(kinds) for name in FIGURES}
    return figures | COLUMNS.keys() | {ALONG_GRADIENT}


def _sums_of_vectors(P: NeuralCoupling, gradient: Tensor, drive: Tensor) -> dict[str, list[float]]:
    """The sums that are the same for every kind of coupling. Each product of vectors is dropped once it is summed."""
    w = P.weights()
    coupled = -(gradient + drive)  # the identity P w + b = −∇C, which holds for the signed P whatever the kind of this
    return {
        "weight_square": _by_layer(P, w.square()),
        "gradient_square": _by_layer(P, gradient.square()),
        "drive_square": _by_layer(P, drive.square()),
        "coupled_square": _by_layer(P, coupled.square()),
        "saliency": _by_layer(P, (w * gradient).abs_()),
        "flow": _by_layer(P, (w * coupled).abs_()),
        "weight_gradient": _by_layer(P, w * gradient),
        "weight_coupled": _by_layer(P, w * coupled),
    }


def totals(layers: pd.DataFrame) -> dict[str, float]:
    """The columns :data:`COLUMNS` of a record, from the sums over layers."""
    sums = layers.drop(columns="layer").sum()
    norms = {f"{name}_norm": math.sqrt(sums[f"{name}_square"]) for name in ("weight", "gradient", "drive", "coupled")}
    signed = {name: float(sums[name]) for name in ("saliency", "flow", "weight_gradient", "weight_coupled")}
    first = layers[: (len(layers) + 1) // 2]
    return {
        "num_synapses": int(sums["num_synapses"]),
        "num_layers": len(layers),
        **norms,
        **signed,
        "gradient_layers": _spread(layers["gradient_square"]),
        "flow_layers": _spread(layers["flow"]),
        "gradient_in_first": _share(first["gradient_square"], layers["gradient_square"]),
        "flow_in_first": _share(first["flow"], layers["flow"]),
    }


def _by_layer(P: NeuralCoupling, v: Tensor) -> list[float]:
    parts = [v[s.offset : s.offset + s.numel].sum(dtype=torch.float64) for s in P.synapses]
    found: list[float] = torch.stack(parts).tolist()
    return found


def _spread(parts: pd.Series[Any]) -> float:
    """The exponential of the entropy of shares, divided by their number: 1 if all are equal; nan if all are 0."""
    shares = parts[parts > 0] / parts.sum()
    return float(math.exp(-sum(p * math.log(p) for p in shares)) / len(parts)) if len(shares) else math.nan


def _share(some: pd.Series[Any], every: pd.Series[Any]) -> float:
    total = float(every.sum())
    return float(some.sum()) / total if total else math.nan
