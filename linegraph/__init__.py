"""linegraph: the training of a neural network as dynamics on the line graph of its weights.

The operator P
    ``NeuralCoupling`` (of a network, a loss and data), ``GraphCoupling`` (of explicit edges), ``Coupling`` (their
    common interface), ``from_pyg``, ``from_igraph``, ``from_networkx``, ``from_scipy``, ``read_graphml``
Graphs
    ``line_graph``, ``neuron_graph``, ``coarse_graph``, ``sample_line_graph``, ``to_igraph``, ``to_networkx``,
    ``write_graphml``
Metrics
    ``capacitance``
Model selection
    ``CapacitanceTracker``, ``predict_final``, ``rank``
Plots
    ``plot``
"""

from linegraph import datasets, errors, plot
from linegraph.coarse_graph import coarse_graph
from linegraph.convert import (
    from_igraph,
    from_networkx,
    from_pyg,
    from_scipy,
    read_graphml,
    to_igraph,
    to_networkx,
    write_graphml,
)
from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.neural import NeuralCoupling
from linegraph.coupling.nodes import Synapse
from linegraph.line_graph import line_graph
from linegraph.metrics.capacitance import Capacitance, capacitance
from linegraph.neuron_graph import neuron_graph
from linegraph.sampling import sample_line_graph
from linegraph.selection.predictors import Prediction, predict_final
from linegraph.selection.rank import rank
from linegraph.selection.tracker import CapacitanceTracker

__version__ = "0.1.0"

__all__ = [
    "Capacitance",
    "CapacitanceTracker",
    "Coupling",
    "GraphCoupling",
    "NeuralCoupling",
    "Prediction",
    "Synapse",
    "capacitance",
    "coarse_graph",
    "datasets",
    "errors",
    "from_igraph",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "line_graph",
    "neuron_graph",
    "plot",
    "predict_final",
    "rank",
    "read_graphml",
    "sample_line_graph",
    "to_igraph",
    "to_networkx",
    "write_graphml",
]
