"""Tolerances and numbers of iterations are checked before anything is computed, whatever the coupling."""

import inspect
import math

import numpy as np
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
    for space in (lg, lg.dynamics)
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
    defaults = {"generator": None, "seed": 0, "progress": False, "directory": None, "executor": None}
    for argument, default in defaults.items():
        if argument in parameters:
            assert parameters[argument].default == default
            assert parameters[argument].kind is inspect.Parameter.KEYWORD_ONLY
    assert not {"seed", "generator"} <= parameters.keys()
    for argument in ("tol", "max_iter"):
        if argument in parameters:
            assert parameters[argument].kind is inspect.Parameter.KEYWORD_ONLY
