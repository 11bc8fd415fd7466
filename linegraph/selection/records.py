"""What one record of a training run holds: capacitances of several kinds, sums over synapses, and sums over layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from linegraph.coupling.neural import NeuralCoupling
from linegraph.metrics.neural_capacitance import FIGURES, capacitance
from linegraph.numerics import double_dot

__all__ = ["COLUMNS", "capacitances", "column_names", "layer_sums", "totals"]

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


def capacitances(couplings: Sequence[NeuralCoupling]) -> dict[str, float]:
    """The figures of the capacitance of each kind; the names of all but the first kind begin with the kind.

    For the signed kind, also ∇CᵀP∇C/‖∇C‖², by how much the coupling lets the gradient grow as the weights follow it.
    """
    found: dict[str, float] = {}
    for i, P in enumerate(couplings):
        prefix = f"{P.kind}_" if i else ""
        found |= {f"{prefix}{name}": value for name, value in capacitance(P).as_dict().items()}
        if P.kind == "signed":
            g = P.gradient()
            square = double_dot(g, g)
            found[ALONG_GRADIENT] = float(double_dot(g, P @ g) / square) if square else math.nan
    return found


def column_names(kinds: Sequence[str]) -> set[str]:
    """The columns that a record of these kinds fills itself."""
    figures = {f"{f'{kind}_' if i else ''}{name}" for i, kind in enumerate(kinds) for name in FIGURES}
    return figures | COLUMNS.keys() | {ALONG_GRADIENT}


def layer_sums(couplings: Sequence[NeuralCoupling]) -> pd.DataFrame:
    """Sums over the synapses of each layer.

    Returns:
        One row per layer, in the order of ``P.synapses``, with the columns ``layer``, ``num_synapses``, the sums
        ``weight_square`` Σ w², ``gradient_square`` Σ (∇C)², ``drive_square`` Σ b², ``coupled_square`` Σ (P w)²,
        ``saliency`` Σ |w ∘ ∇C|, ``flow`` Σ |w ∘ P w|, ``weight_gradient`` Σ w ∘ ∇C, ``weight_coupled`` Σ w ∘ P w, and
        for every kind Σ δ_in and Σ δ_out as ``<kind>_in_strength`` and ``<kind>_out_strength``.
    """
    P = couplings[0]
    w, gradient, b = P.weights(), P.gradient(), P.drive()
    coupled = -(gradient + b)  # the identity P w + b = −∇C, which holds for the signed P whatever the kind of this one
    vectors = {
        "weight_square": w.square(),
        "gradient_square": gradient.square(),
        "drive_square": b.square(),
        "coupled_square": coupled.square(),
        "saliency": (w * gradient).abs(),
        "flow": (w * coupled).abs(),
        "weight_gradient": w * gradient,
        "weight_coupled": w * coupled,
    }
    for other in couplings:
        vectors |= {
            f"{other.kind}_in_strength": other.in_strength(),
            f"{other.kind}_out_strength": other.out_strength(),
        }
    sums = {name: _by_layer(P, v) for name, v in vectors.items()}
    layers = {"layer": [s.name for s in P.synapses], "num_synapses": [s.numel for s in P.synapses]}
    return pd.DataFrame({**layers, **sums})


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
