"""linegraph: the training of a neural network as dynamics on the line graph of its weights.

The operator P
    ``NeuralCoupling`` (of a network, a loss and data), ``GraphCoupling`` (of explicit edges), ``Coupling`` (their
    common interface), ``from_pyg``, ``from_igraph``, ``from_networkx``, ``from_scipy``, ``read_network``
Graphs
    ``line_graph``, ``neuron_graph``, ``coarse_graph``, ``sample_line_graph``, ``to_igraph``, ``to_networkx``,
    ``read_graphml``, ``write_graphml``
Metrics of any coupling, and of any graph of PyG, igraph, networkx or SciPy
    ``capacitance``, ``strengths``, ``strength_distribution``, ``density``, ``reciprocity``, ``assortativity``
    ``katz``, ``pagerank``, ``hits``, ``eigenvector_centrality``, ``betweenness``, ``communities``
    ``singular_values``, ``singular_triplets``, ``eigenvalues``, ``laplacian_eigenvalues``, ``spectral_density``,
    ``singular_value_density``, ``spectral_radius``, ``spectral_norm``, ``spectral_gap``, ``stable_rank``
    ``is_acyclic``, ``diagnose``, ``layer_pairs``, ``summary``
    ``topology``, of the neurons of a network too, beside null models
Weighted operations of your own
    ``operations``
Dynamics
    ``dynamics``
Model selection
    ``CapacitanceProbe``, ``CapacitanceTracker``, ``predict_final``, ``rank``, ``selection_methods``,
    ``register_method``
    ``lightning.CapacitanceCallback``, ``transformers.CapacitanceCallback`` (need the packages of these names)
Plots and reports
    ``plot``, ``report``
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from linegraph import packages

if TYPE_CHECKING:
    from linegraph import datasets, dynamics, errors, operations, plot, report
    from linegraph.coupling.base import Coupling
    from linegraph.coupling.graph import GraphCoupling
    from linegraph.coupling.model.parameters import Synapse
    from linegraph.coupling.neural import NeuralCoupling
    from linegraph.errors import CoverageWarning
    from linegraph.graphs.coarse_graphs import coarse_graph
    from linegraph.graphs.line_graphs import line_graph
    from linegraph.graphs.neuron_graphs import neuron_graph
    from linegraph.graphs.sampling import sample_line_graph
    from linegraph.io.convert import from_igraph, from_networkx, from_pyg, from_scipy
    from linegraph.io.export import to_igraph, to_networkx
    from linegraph.io.graphml import read_graphml, write_graphml
    from linegraph.io.networks import read_network
    from linegraph.linalg.components import is_acyclic
    from linegraph.metrics.centrality import katz, pagerank
    from linegraph.metrics.community_structure import Communities, betweenness, communities
    from linegraph.metrics.diagnostics import diagnose, layer_pairs, summary
    from linegraph.metrics.leading import Hits, eigenvector_centrality, hits
    from linegraph.metrics.neural_capacitance import Capacitance, capacitance
    from linegraph.metrics.norms import spectral_gap, spectral_norm, spectral_radius, stable_rank
    from linegraph.metrics.power_law import PowerLaw
    from linegraph.metrics.spectral_densities import SpectralDensity, singular_value_density, spectral_density
    from linegraph.metrics.spectrum import (
        SingularTriplets,
        eigenvalues,
        laplacian_eigenvalues,
        singular_triplets,
        singular_values,
    )
    from linegraph.metrics.strength import StrengthDistribution, Strengths, strength_distribution, strengths
    from linegraph.metrics.structure import assortativity, density, reciprocity
    from linegraph.selection.methods import Method, register_method, selection_methods
    from linegraph.selection.predictors import Prediction, predict_final
    from linegraph.selection.probe import CapacitanceProbe
    from linegraph.selection.ranking import rank
    from linegraph.selection.tracker import CapacitanceTracker
    from linegraph.topologies import topology

__version__ = "0.1.0"

__all__ = [
    "Capacitance",
    "CapacitanceProbe",
    "CapacitanceTracker",
    "Communities",
    "Coupling",
    "CoverageWarning",
    "GraphCoupling",
    "Hits",
    "Method",
    "NeuralCoupling",
    "PowerLaw",
    "Prediction",
    "SingularTriplets",
    "SpectralDensity",
    "StrengthDistribution",
    "Strengths",
    "Synapse",
    "assortativity",
    "betweenness",
    "capacitance",
    "coarse_graph",
    "communities",
    "datasets",
    "density",
    "diagnose",
    "dynamics",
    "eigenvalues",
    "eigenvector_centrality",
    "errors",
    "from_igraph",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "hits",
    "is_acyclic",
    "katz",
    "laplacian_eigenvalues",
    "layer_pairs",
    "line_graph",
    "neuron_graph",
    "operations",
    "pagerank",
    "plot",
    "predict_final",
    "rank",
    "read_graphml",
    "read_network",
    "reciprocity",
    "register_method",
    "report",
    "sample_line_graph",
    "selection_methods",
    "singular_triplets",
    "singular_value_density",
    "singular_values",
    "spectral_density",
    "spectral_gap",
    "spectral_norm",
    "spectral_radius",
    "stable_rank",
    "strength_distribution",
    "strengths",
    "summary",
    "to_igraph",
    "to_networkx",
    "topology",
    "write_graphml",
]


# Imported when first used, as the names above: pandas, SciPy and the package itself take as long to import as torch.
_NAMES_OF = {
    "coupling.base": "Coupling",
    "coupling.graph": "GraphCoupling",
    "coupling.model.parameters": "Synapse",
    "coupling.neural": "NeuralCoupling",
    "errors": "CoverageWarning",
    "graphs.coarse_graphs": "coarse_graph",
    "graphs.line_graphs": "line_graph",
    "graphs.neuron_graphs": "neuron_graph",
    "graphs.sampling": "sample_line_graph",
    "io.convert": "from_igraph from_networkx from_pyg from_scipy",
    "io.export": "to_igraph to_networkx",
    "io.graphml": "read_graphml write_graphml",
    "io.networks": "read_network",
    "linalg.components": "is_acyclic",
    "metrics.centrality": "katz pagerank",
    "metrics.community_structure": "Communities betweenness communities",
    "metrics.diagnostics": "diagnose layer_pairs summary",
    "metrics.leading": "Hits eigenvector_centrality hits",
    "metrics.neural_capacitance": "Capacitance capacitance",
    "metrics.norms": "spectral_gap spectral_norm spectral_radius stable_rank",
    "metrics.power_law": "PowerLaw",
    "metrics.spectral_densities": "SpectralDensity singular_value_density spectral_density",
    "metrics.spectrum": "SingularTriplets eigenvalues laplacian_eigenvalues singular_triplets singular_values",
    "metrics.strength": "StrengthDistribution Strengths strength_distribution strengths",
    "metrics.structure": "assortativity density reciprocity",
    "selection.methods": "Method register_method selection_methods",
    "selection.predictors": "Prediction predict_final",
    "selection.probe": "CapacitanceProbe",
    "selection.ranking": "rank",
    "selection.tracker": "CapacitanceTracker",
    "topologies": "topology",
}
_HOMES = {name: home for home, names in _NAMES_OF.items() for name in names.split()}
_ROOMS = (
    *("coupling", "datasets", "dynamics", "errors", "graphs", "io", "lightning"),
    *("linalg", "metrics", "operations", "plot", "report", "selection", "transformers"),
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"linegraph.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'linegraph' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"linegraph.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


packages.warn_of_name_clash()
