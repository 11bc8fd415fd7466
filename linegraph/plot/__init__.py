"""Figures. Every function draws into a matplotlib Axes and returns it; none opens a window or writes a file.

Without ``ax=`` the Axes are those of a new figure of pyplot, so that ``plt.savefig("figure.png")`` and ``plt.show()``
just after it work; a notebook shows the figure by itself. With ``ax=`` nothing is drawn outside the room of these Axes.
"""

from linegraph.plot.dynamics import state_against_capacity, state_against_loss
from linegraph.plot.histories import accuracy_against_capacitance, capacitance_against, capacitance_over_training
from linegraph.plot.layers import layer_bars, layer_pairs, layer_values
from linegraph.plot.matrices import coupling_matrix
from linegraph.plot.networks import coarse_graph, line_graph, neuron_graph
from linegraph.plot.rankings import predicted_against_true, ranking
from linegraph.plot.spectra import singular_values, spectral_density, strength_ccdf
from linegraph.plot.topologies import topology

__all__ = [
    "accuracy_against_capacitance",
    "capacitance_against",
    "capacitance_over_training",
    "coarse_graph",
    "coupling_matrix",
    "layer_bars",
    "layer_pairs",
    "layer_values",
    "line_graph",
    "neuron_graph",
    "predicted_against_true",
    "ranking",
    "singular_values",
    "spectral_density",
    "state_against_capacity",
    "state_against_loss",
    "strength_ccdf",
    "topology",
]
