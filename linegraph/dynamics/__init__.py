"""Equilibria, reduction and resilience of dynamics on any network."""

from linegraph.dynamics.equilibrium import Equilibrium, equilibrium
from linegraph.dynamics.flow import trajectory
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

__all__ = [
    "SIS",
    "BalancedDynamics",
    "Dynamics",
    "EdgeDynamics",
    "Equilibrium",
    "FactoredDynamics",
    "Mutualistic",
    "Neuronal",
    "Regulatory",
    "equilibrium",
    "trajectory",
]
