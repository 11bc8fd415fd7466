"""Figures. Every function draws into a matplotlib Axes and returns it; none opens a window or writes a file.

A notebook shows the figure if the Axes are the value of the last line of a cell.
"""

from linegraph.plot.dynamics import state_against_capacity, state_against_loss
from linegraph.plot.graphs import coupling_matrix, neuron_graph
from linegraph.plot.metrics import layer_bars, layer_pairs, singular_values, spectral_density, strength_ccdf
from linegraph.plot.selection import accuracy_against_capacitance, predicted_against_true
from linegraph.plot.topologies import topology

__all__ = [
    "accuracy_against_capacitance",
    "coupling_matrix",
    "layer_bars",
    "layer_pairs",
    "neuron_graph",
    "predicted_against_true",
    "singular_values",
    "spectral_density",
    "state_against_capacity",
    "state_against_loss",
    "strength_ccdf",
    "topology",
]
