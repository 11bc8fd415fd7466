"""Figures. Every function draws into a matplotlib Axes and returns it; none opens a window or writes a file.

Without ``ax=`` the Axes are those of a new figure of pyplot, so that ``plt.savefig("figure.png")`` and ``plt.show()``
just after it work; a notebook shows the figure by itself. With ``ax=`` nothing is drawn outside the room of these Axes.
"""

from linegraph.plot.dynamics import state_against_capacity, state_against_loss
from linegraph.plot.graphs import coupling_matrix, neuron_graph
from linegraph.plot.metrics import layer_bars, layer_pairs, singular_values, spectral_density, strength_ccdf
from linegraph.plot.selection import accuracy_against_capacitance, predicted_against_true

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
]
