"""Features of a training history after its last epoch: numbers without a unit that exist for every network and task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FEATURES", "GROUPS", "features_of", "standings"]

Reading = Callable[[str], float]
"""The value of a column in one row of a history."""


def _log(x: float) -> float:
    return math.log(abs(x)) if x and math.isfinite(x) else math.nan


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


STATES: dict[str, dict[str, Callable[[Reading], float]]] = {
    "accuracy": {
        "accuracy": lambda at: at("accuracy"),
        "seen_accuracy": lambda at: at("seen_accuracy"),
        "accuracy_gap": lambda at: at("seen_accuracy") - at("accuracy"),
        "valid_loss": lambda at: -_log(at("valid_loss")),
        "seen_loss": lambda at: -_log(at("seen_loss")),
        "loss_gap": lambda at: _log(at("valid_loss")) - _log(at("seen_loss")),
    },
    "linear probe": {
        "linear_probe": lambda at: at("linear_probe"),
        "probe_gain": lambda at: at("linear_probe") - at("accuracy"),
    },
    "layer probe": {
        "layer_probe": lambda at: at("layer_probe"),
        "layer_probe_gain": lambda at: at("layer_probe") - at("accuracy"),
        "layer_probe_over_linear": lambda at: at("layer_probe") - at("linear_probe"),
    },
    "gradient": {
        "relative_gradient": lambda at: _log(_ratio(at("gradient_norm") * at("weight_norm"), at("seen_loss"))),
        "speed": lambda at: _log(_ratio(at("gradient_norm") ** 2, at("seen_loss"))),
        "weight_scale": lambda at: _log(_ratio(at("weight_norm") ** 2, at("num_synapses"))),
        "relative_saliency": lambda at: _log(_ratio(at("saliency"), at("seen_loss"))),
        "growth_of_weights": lambda at: -_ratio(at("weight_gradient"), at("saliency")),
        "gradient_layers": lambda at: at("gradient_layers"),
        "gradient_in_first": lambda at: at("gradient_in_first"),
    },
    "coupling": {
        "drive_share": lambda at: _log(_ratio(at("drive_norm"), at("gradient_norm"))),
        "coupled_share": lambda at: _log(_ratio(at("coupled_norm"), at("gradient_norm"))),
        "flow_share": lambda at: _ratio(at("flow"), at("saliency")),
        "flow_direction": lambda at: _ratio(at("weight_coupled"), at("flow")),
        "flow_layers": lambda at: at("flow_layers"),
        "flow_in_first": lambda at: at("flow_in_first"),
        "symmetry": lambda at: at("symmetry"),
        "relative_heterogeneity": lambda at: _log(_ratio(at("heterogeneity"), at("mean_strength"))),
        "capacitance": lambda at: _log(
            _ratio(at("beta_eff") * at("weight_norm") ** 2, at("num_synapses") * at("seen_loss"))
        ),
        "mean_strength": lambda at: _log(
            _ratio(at("mean_strength") * at("weight_norm") ** 2, at("num_synapses") * at("seen_loss"))
        ),
    },
    "signed coupling": {
        "signed_share": lambda at: _log(_ratio(at("signed_mean_strength"), at("mean_strength"))),
        "signed_symmetry": lambda at: at("signed_symmetry"),
        "gradient_coupling": lambda at: _ratio(at("gradient_coupling"), at("beta_eff")),
    },
}
"""Features of one row by group; with each comes its change since epoch 0."""

CURVES: dict[str, dict[str, Callable[[pd.DataFrame], float]]] = {
    "accuracy": {
        "best_accuracy": lambda seen: float(seen["accuracy"].max()),
        "mean_accuracy": lambda seen: float(seen["accuracy"].mean()),
        "last_step": lambda seen: float(seen["accuracy"].diff().iloc[-1]),
        "best_valid_loss": lambda seen: -_log(float(seen["valid_loss"].min())),
        "loss": lambda seen: -_log(float(seen["loss"].iloc[-1])),
        "sum_of_losses": lambda seen: -_log(float(seen["loss"].mean())),
    },
    "size": {
        "num_synapses": lambda seen: _log(float(seen["num_synapses"].iloc[-1])),
        "num_layers": lambda seen: _log(float(seen["num_layers"].iloc[-1])),
    },
}
"""Features of all rows by group; the row of epoch 0, if there is one, has no training loss."""

SINCE = "_since_start"
GROUPS: dict[str, tuple[str, ...]] = {
    group: (
        *(name for state in STATES.get(group, ()) for name in (state, f"{state}{SINCE}")),
        *CURVES.get(group, ()),
    )
    for group in dict.fromkeys((*STATES, *CURVES))
}
"""The names of the features by group."""

FEATURES: tuple[str, ...] = tuple(name for names in GROUPS.values() for name in names)


def features_of(history: pd.DataFrame, names: Iterable[str] = FEATURES) -> dict[str, float]:
    """The features of a history after its last row.

    Args:
        history: one row per epoch. A feature of columns or of an epoch 0 that it does not have is nan.
        names: the features wanted.
    """
    found: dict[str, float] = {}
    start = history[history["epoch"] == 0] if "epoch" in history else history[:0]
    first, last = _reading(start[:1]), _reading(history[-1:])
    wanted = frozenset(names)
    for states in STATES.values():
        for name, state in states.items():
            if wanted & {name, f"{name}{SINCE}"}:
                now = _safely(state, last)
                found |= {name: now, f"{name}{SINCE}": now - _safely(state, first)}
    for curves in CURVES.values():
        found |= {name: _safely(curve, history) for name, curve in curves.items() if name in wanted}
    return {name: found[name] for name in names}


def standings(features: Mapping[str, Mapping[str, float]], names: Iterable[str]) -> NDArray[np.float64]:
    """Features as standings among candidates that are ranked together, so that units and tasks do not matter.

    Args:
        features: the features of every candidate.
        names: the features wanted, in the order of the columns.

    Returns:
        (candidates, features): the normal score Φ⁻¹((r − 1/2)/m) of the rank r among the m candidates with a value,
        ties at their mean rank; 0, the middle, where there is no value.
    """
    from scipy.special import ndtri

    table = pd.DataFrame([dict(found) for found in features.values()], columns=list(names), dtype=float)
    table = table.replace([math.inf, -math.inf], math.nan)
    quantiles = (table.rank() - 0.5) / table.notna().sum()
    values: NDArray[np.float64] = ndtri(quantiles.fillna(0.5).to_numpy())
    return values


def _reading(row: pd.DataFrame) -> Reading:
    values = row.iloc[0].to_dict() if len(row) else {}
    return lambda name: float(values.get(name, math.nan))


def _safely(feature: Callable[..., float], given: object) -> float:
    try:
        return float(feature(given))
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
