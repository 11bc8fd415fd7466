"""Arguments are checked before anything is computed; a wrong one raises an error that names it."""

import inspect
import math

import numpy as np
import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph.errors import DataError, LinegraphError

ITERATIONS = {
    "katz": lambda P, **options: lg.katz(P, alpha=0.1, **options),
    "pagerank": lg.pagerank,
    "hits": lg.hits,
    "eigenvector_centrality": lg.eigenvector_centrality,
    "singular_values": lambda P, **options: lg.singular_values(P, 1, **options),
    "singular_triplets": lambda P, **options: lg.singular_triplets(P, 1, **options),
    "eigenvalues": lambda P, **options: lg.eigenvalues(P, 1, **options),
    "laplacian_eigenvalues": lambda P, **options: lg.laplacian_eigenvalues(P, 1, **options),
    "spectral_radius": lg.spectral_radius,
    "spectral_norm": lg.spectral_norm,
    "spectral_gap": lg.spectral_gap,
    "stable_rank": lg.stable_rank,
}
TAKE_GRAPHS = [
    *("assortativity", "betweenness", "capacitance", "coarse_graph", "communities", "density", "diagnose"),
    *("eigenvalues", "eigenvector_centrality", "hits", "is_acyclic", "katz", "laplacian_eigenvalues", "layer_pairs"),
    *("line_graph", "pagerank", "reciprocity", "sample_line_graph", "singular_triplets", "singular_value_density"),
    *("singular_values", "spectral_density", "spectral_gap", "spectral_norm", "spectral_radius", "stable_rank"),
    *("strength_distribution", "strengths", "summary"),
]
DYNAMICS_OF_GRAPHS = ["equilibrium", "largest_component", "perturb", "reduce", "resilience_curve", "trajectory"]
FUNCTIONS = {
    name: getattr(space, name)
    for space in (lg, lg.dynamics, lg.selection)
    for name in space.__all__
    if inspect.isfunction(getattr(space, name))
}
RING = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))


@pytest.mark.parametrize("name", ITERATIONS)
def test_metrics_refuse_what_is_no_tolerance_or_number_of_iterations(name):
    for tol in (0, 0.0, -1e-8, math.nan, math.inf, "1e-8", True):
        with pytest.raises(DataError, match="tol must be positive and finite, got"):
            ITERATIONS[name](RING, tol=tol)
    for most in (0, -1, math.nan, 2.5, None, True):
        with pytest.raises(ValueError, match=r"max_iter must be 1 or more, got .*; pass such an integer"):
            ITERATIONS[name](RING, max_iter=most)
    ITERATIONS[name](RING, tol=np.float32(1e-6), max_iter=np.int64(100))


@pytest.mark.parametrize("density", [lg.spectral_density, lg.singular_value_density])
@pytest.mark.parametrize("name", ["probes", "steps"])
def test_densities_refuse_what_is_no_number_of_probes_or_steps(density, name):
    for number in (0, math.nan, 2.5, None):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more"):
            density(RING, **{name: number})


def test_verify_and_trained_networks_refuse_what_is_no_tolerance():
    model, loss = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)), torch.nn.functional.mse_loss
    data = torch.randn(4, 3), torch.randn(4, 1)
    for tol in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(LinegraphError, match="tol must be positive and finite"):
            lg.NeuralCoupling(model, loss, data).verify(tol)
        with pytest.raises(LinegraphError, match="tol must be positive and finite"):
            lg.dynamics.trained_equilibrium(model, loss, data, tol=tol)


def test_power_laws_refuse_what_is_no_number_of_strengths():
    for number in (9, math.nan, 100.0):
        with pytest.raises(ValueError, match="sample must be 10 or more"):
            lg.strength_distribution(RING).power_law(sample=number)


@pytest.mark.parametrize("name", [*TAKE_GRAPHS, *DYNAMICS_OF_GRAPHS])
def test_what_takes_a_graph_calls_it_by_one_name(name):
    first = next(iter(inspect.signature(FUNCTIONS[name]).parameters.values()))
    assert first.name == "P"
    assert "AnyGraph" in first.annotation


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_of_one_meaning_have_one_name(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    others = {"coupling", "G", "maxiter", "max_iterations", "iterations", "tolerance", "eps", "rng", "random_state"}
    assert not others & parameters.keys()
    # torch draws with a generator; other libraries, other processes and stored runs draw with a seed.
    # These take so long that their bar is shown wherever a user sees it.
    progress = None if name in {"rank", "resilience_curve", "topology", "analysis"} else False
    defaults = {"generator": None, "seed": 0, "progress": progress, "directory": None, "executor": None}
    for argument, default in defaults.items():
        if argument in parameters:
            assert parameters[argument].default == default
            assert parameters[argument].kind is inspect.Parameter.KEYWORD_ONLY
    assert not {"seed", "generator"} <= parameters.keys()
    for argument in ("tol", "max_iter"):
        if argument in parameters:
            assert parameters[argument].kind is inspect.Parameter.KEYWORD_ONLY


NETWORK = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
REGRESSION = torch.ones(4, 3), torch.zeros(4, 2)
LOSS = torch.nn.functional.mse_loss
WRONG = {
    "a negative number": -1.5,
    "a word": "wrong",
    "nothing": None,
    "a matrix": np.eye(3),
    "a module": torch.nn.Linear(3, 3),
    "a list": [{}],
    "nan": math.nan,
    "an object": object(),
}
MODEL = lg.dynamics.Regulatory()


def coupling(**options):
    return lg.NeuralCoupling(NETWORK, LOSS, REGRESSION, **options)


CALLS = {
    "katz": (lambda **given: lg.katz(RING, **{"alpha": 0.1, **given}), ["alpha", "beta"]),
    "pagerank": (lambda **given: lg.pagerank(RING, **given), ["damping"]),
    "eigenvalues": (lambda **given: lg.eigenvalues(RING, **{"k": 1, **given}), ["k"]),
    "singular_triplets": (lambda **given: lg.singular_triplets(RING, **{"k": 1, **given}), ["k"]),
    "communities": (lambda **given: lg.communities(RING, **given), ["resolution", "seed"]),
    "topology": (
        lambda **given: lg.topology(**{"graph": RING, "samples": 2, **given}),
        ["graph", "data", "null", "samples", "sources", "max_edges", "seed"],
    ),
    "strength_distribution": (lambda **given: lg.strength_distribution(RING, **given), ["direction"]),
    "spectral_density": (lambda **given: lg.spectral_density(RING, **given), ["probes", "steps"]),
    "coarse_graph": (lambda **given: lg.coarse_graph(coupling(), **given), ["by"]),
    "line_graph": (lambda **given: lg.line_graph(coupling(), **given), ["max_edges"]),
    "neuron_graph": (lambda **given: lg.neuron_graph(NETWORK, **{"inputs": REGRESSION[0], **given}), ["max_edges"]),
    "sample_line_graph": (
        lambda **given: lg.sample_line_graph(RING, **{"nodes": [0], "num_neighbors": [1], **given}),
        ["nodes", "num_neighbors"],
    ),
    "NeuralCoupling": (lambda **given: coupling(**given), ["kind", "include"]),
    "split": (lambda **given: coupling().split(**given), ["v"]),
    "matvec": (lambda **given: RING.matvec(**given), ["v"]),
    "to_graph": (lambda **given: coupling().to_graph(**given), ["max_edges"]),
    "CapacitanceTracker": (lambda model: lg.CapacitanceTracker(model, LOSS, REGRESSION), ["model"]),
    "CapacitanceProbe": (
        lambda **given: lg.CapacitanceProbe(**{"backbone": NETWORK, "num_features": 2, "num_classes": 2, **given}),
        ["backbone", "num_features", "num_classes", "hidden", "frozen", "classifier"],
    ),
    "predict_final": (
        lambda **given: lg.predict_final(
            **{"history": pd.DataFrame({"accuracy": [0.5]}), "method": "last_seen", **given}
        ),
        ["history", "method"],
    ),
    "rank": (
        lambda **given: lg.rank(**{"candidates": {"net": lambda: NETWORK}, "train": None, "valid": None, **given}),
        ["candidates", "epochs", "methods", "metric", "other_tasks", "executor", "seed", "kind", "halving", "progress"],
    ),
    "register_method": (
        lambda **given: lg.register_method(
            **{"name": "own", "function": lambda history: 0.5, "needs": ["accuracy"], **given}
        ),
        ["function", "needs", "higher_is_better", "gives", "formula", "source", "cost"],
    ),
    "spearman": (
        lambda **given: lg.selection.spearman(**{"scores": [1.0, 2.0], "finals": [0.1, 0.2], **given}),
        ["scores", "finals"],
    ),
    "pairwise_accuracy": (
        lambda **given: lg.selection.pairwise_accuracy(**{"scores": [1.0, 2.0], "finals": [0.1, 0.2], **given}),
        ["scores", "finals", "gap"],
    ),
    "logme": (
        lambda **given: lg.selection.logme(**{"features": np.eye(3), "labels": [0, 1, 1], **given}),
        ["features", "labels"],
    ),
    "h_score": (
        lambda **given: lg.selection.h_score(**{"features": np.eye(3), "labels": [0, 1, 1], **given}),
        ["shrinkage"],
    ),
    "leep": (
        lambda **given: lg.selection.leep(**{"probabilities": np.eye(3), "labels": [0, 1, 1], **given}),
        ["probabilities", "labels"],
    ),
    "snip": (
        lambda **given: lg.selection.snip(**{"model": NETWORK, "loss_fn": LOSS, "data": REGRESSION, **given}),
        ["model", "loss_fn", "data"],
    ),
    "synflow": (
        lambda **given: lg.selection.synflow(**{"model": NETWORK, "loss_fn": LOSS, "data": REGRESSION, **given}),
        ["model", "data"],
    ),
    "flops": (
        lambda **given: lg.selection.flops(**{"model": NETWORK, "loss_fn": LOSS, "data": REGRESSION, **given}),
        ["model", "data"],
    ),
    "static_ranking": (
        lambda **given: lg.selection.static_ranking(**{"results": pd.DataFrame({"a": [0.1, 0.2]}), **given}),
        ["results"],
    ),
    "rank_correlations": (
        lambda **given: lg.selection.rank_correlations(
            **{"table": pd.DataFrame({"a": [0.1], "final": [0.2]}), "methods": ["a"], "resamples": 2, **given}
        ),
        ["table", "methods", "resamples", "level", "seed"],
    ),
    "bootstrap_interval": (
        lambda **given: lg.selection.bootstrap_interval(
            **{"measure": lg.selection.regret, "scores": [1.0, 2.0], "finals": [0.1, 0.2], **given}
        ),
        ["measure", "scores", "finals", "level", "resamples", "seed"],
    ),
    "equilibrium": (
        lambda **given: lg.dynamics.equilibrium(RING, **{"model": MODEL, "start": "high", **given}),
        ["model", "start", "method", "max_evaluations"],
    ),
    "trajectory": (
        lambda **given: lg.dynamics.trajectory(RING, **{"model": MODEL, "start": "high", "times": [0.0, 1.0], **given}),
        ["model", "start", "times", "rtol", "atol"],
    ),
    "reduce": (lambda x: lg.dynamics.reduce(RING, x), ["x"]),
    "branches": (
        lambda **given: lg.dynamics.branches(**{"model": MODEL, "beta": 2.0, **given}),
        ["model", "beta"],
    ),
    "mean_field_state": (
        lambda **given: lg.dynamics.mean_field_state(**{"model": MODEL, "beta": 2.0, "start": 0.5, **given}),
        ["model", "beta", "start"],
    ),
    "tipping_points": (lambda model: lg.dynamics.tipping_points(model), ["model"]),
    "perturb": (lambda **given: lg.dynamics.perturb(RING, **given), ["nodes", "weights", "jitter"]),
    "projection": (lambda web: lg.dynamics.projection(web), ["web"]),
    "resilience_curve": (
        lambda **given: lg.dynamics.resilience_curve(
            RING, **{"model": MODEL, "kind": "nodes", "fractions": [0.1], "repeats": 1, **given}
        ),
        ["model", "fractions", "repeats", "starts", "jitter", "seed", "executor"],
    ),
    "digits": (lambda **given: lg.datasets.digits(**given), ["valid_fraction", "seed"]),
    "strength_ccdf": (
        lambda **given: lg.plot.strength_ccdf(**{"distribution": lg.strength_distribution(RING), **given}),
        ["distribution", "fit", "ax"],
    ),
    "plot_spectral_density": (
        lambda **given: lg.plot.spectral_density(**{"density": lg.spectral_density(RING), **given}),
        ["density", "width", "points", "ax"],
    ),
    "plot_singular_values": (lambda **given: lg.plot.singular_values(**{"values": [1.0], **given}), ["values", "ax"]),
    "plot_topology": (
        lambda **given: lg.plot.topology(**{"tables": lg.topology(RING, null=()), **given}),
        ["tables", "ax", "column", "measures"],
    ),
    "layer_bars": (lambda table: lg.plot.layer_bars(table), ["table"]),
    "plot_neuron_graph": (lambda data: lg.plot.neuron_graph(data), ["data"]),
    "state_against_loss": (lambda curve: lg.plot.state_against_loss(curve), ["curve"]),
    "to_igraph": (lambda graph: lg.to_igraph(graph), ["graph"]),
    "from_scipy": (lambda m: lg.from_scipy(m), ["m"]),
}
MEANT = {
    "a negative number": ["katz beta", "branches beta", "mean_field_state beta"],
    "nothing": [
        *("CapacitanceProbe num_features", "CapacitanceProbe classifier"),
        *("NeuralCoupling include", "topology data", "resilience_curve executor", "strength_ccdf fit"),
        *("rank executor", "rank halving", "rank progress", "rank other_tasks", "h_score shrinkage"),
        *("plot_topology ax", "plot_topology column", "plot_topology measures"),
        *("strength_ccdf ax", "plot_spectral_density width", "plot_spectral_density ax", "plot_singular_values ax"),
    ],
    "a matrix": [
        "logme features",
        "leep probabilities",
        "equilibrium start",
        "trajectory start",
        "reduce x",
        "projection web",
        "from_scipy m",
    ],
    "a module": [
        *("CapacitanceProbe backbone", "CapacitanceTracker model", "register_method function"),
        *("bootstrap_interval measure", "snip model", "snip loss_fn", "synflow model", "flops model"),
    ],
    "a word": ["register_method formula", "register_method source"],
}
"""Values that an argument may have."""


@pytest.mark.parametrize(("name", "argument"), [(name, each) for name, (_, many) in CALLS.items() for each in many])
def test_wrong_arguments_raise_errors_of_the_package(name, argument):
    call, _ = CALLS[name]
    for what, wrong in WRONG.items():
        if f"{name} {argument}" not in MEANT.get(what, []):
            with pytest.raises(LinegraphError):
                call(**{argument: wrong})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_generators_are_those_of_torch(name):
    if "generator" in inspect.signature(FUNCTIONS[name]).parameters and name not in ("projection", "sample_line_graph"):
        for wrong in (0, np.random.default_rng(0)):
            with pytest.raises(TypeError, match=r"generator must be a torch.Generator, such as .*, or None, got"):
                FUNCTIONS[name](coupling() if name != "perturb" else RING, generator=wrong)


@pytest.mark.parametrize("read", [lg.read_network, lg.read_graphml])
def test_paths_are_paths(read):
    for wrong in (3, None, RING):
        with pytest.raises(TypeError, match=r"path must be a path, a str or pathlib.Path, got"):
            read(wrong)
        with pytest.raises(TypeError, match=r"path must be a path, a str or pathlib.Path, got"):
            lg.write_graphml(RING, wrong)
