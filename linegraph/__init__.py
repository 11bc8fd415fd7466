"""linegraph: the training of a neural network as dynamics on the line graph of its weights.

The operator P
    ``NeuralCoupling`` (of a network, a loss and data), ``GraphCoupling`` (of explicit edges), ``Coupling`` (their
    common interface), ``from_pyg``, ``from_igraph``, ``from_networkx``, ``from_scipy``, ``read_network``
Graphs
    ``line_graph``
Metrics
    ``capacitance``
Dynamics
    ``dynamics``
Model selection
    ``CapacitanceTracker``, ``predict_final``, ``rank``
Plots
    ``plot``
"""

from linegraph import datasets, dynamics, errors, plot
from linegraph.convert import from_igraph, from_networkx, from_pyg, from_scipy
from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.coupling.neural import NeuralCoupling
from linegraph.coupling.nodes import Synapse
from linegraph.line_graph import line_graph
from linegraph.metrics.capacitance import Capacitance, capacitance
from linegraph.read import read_network
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
    "datasets",
    "dynamics",
    "errors",
    "from_igraph",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "line_graph",
    "plot",
    "predict_final",
    "rank",
    "read_network",
]
