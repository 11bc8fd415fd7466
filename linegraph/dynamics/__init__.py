"""Equilibria, reduction and resilience of dynamics on any network.

Models
    ``Mutualistic``, ``Regulatory``, ``SIS``, ``Neuronal``, ``EdgeDynamics``; ``Dynamics``, ``FactoredDynamics`` and
    ``BalancedDynamics`` to write a model
Equilibria
    ``equilibrium``, ``trajectory``
The one-dimensional theory
    ``reduce``, ``branches``, ``bifurcations``, ``tipping_points``, ``mean_field_state``
Resilience
    ``perturb``, ``projection``, ``largest_component``, ``resilience_curve``
Networks in training
    ``drift``, ``trained_equilibrium``
"""

from linegraph.dynamics.equilibria import Equilibrium, equilibrium
from linegraph.dynamics.models import (
    SIS,
    BalancedDynamics,
    Dynamics,
    EdgeDynamics,
    FactoredDynamics,
    Mutualistic,
    Neuronal,
    Regulatory,
)
from linegraph.dynamics.perturbation import largest_component, perturb, projection
from linegraph.dynamics.reduction import (
    Bifurcation,
    Branch,
    Reduced,
    bifurcations,
    branches,
    mean_field_state,
    reduce,
    tipping_points,
)
from linegraph.dynamics.resilience import resilience_curve
from linegraph.dynamics.training import TrainedEquilibrium, drift, trained_equilibrium
from linegraph.dynamics.trajectories import trajectory

__all__ = [
    "SIS",
    "BalancedDynamics",
    "Bifurcation",
    "Branch",
    "Dynamics",
    "EdgeDynamics",
    "Equilibrium",
    "FactoredDynamics",
    "Mutualistic",
    "Neuronal",
    "Reduced",
    "Regulatory",
    "TrainedEquilibrium",
    "bifurcations",
    "branches",
    "drift",
    "equilibrium",
    "largest_component",
    "mean_field_state",
    "perturb",
    "projection",
    "reduce",
    "resilience_curve",
    "tipping_points",
    "trained_equilibrium",
    "trajectory",
]
