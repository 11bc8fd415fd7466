"""Whether equilibria are stable, and how that is found."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.system import System
from linegraph.errors import ConvergenceWarning
from tests.dynamics.reference import random_network, ring, vector
from tests.dynamics.test_models import small_network


@pytest.mark.parametrize(
    ("model", "weights", "value", "verdict"),
    [
        (dynamics.Regulatory(h=0.5), [1.0, 1.0], np.inf, "unstable"),
        (dynamics.Regulatory(f=0.5), [1.0, 1.0], -np.inf, "stable"),
        (dynamics.Regulatory(f=0.5, h=0.5), [1.0, 1.0], np.nan, "unknown"),
        (dynamics.Regulatory(h=0.5), [1.0, 0.0], -1.0, "stable"),  # no cycle: the influence ends with its receiver
        (dynamics.Regulatory(h=0.5), [1.0, -1.0], np.nan, "unknown"),
    ],
)
def test_infinite_slopes_decide_stability_or_leave_it_unknown(model, weights, value, verdict):
    P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), torch.tensor(weights).double())
    found = dynamics.equilibrium(P, model, "low")
    assert found.leading_eigenvalue == pytest.approx(value, nan_ok=True)
    assert found.stability == verdict


def test_a_node_that_is_held_without_bound_leaves_the_others_to_themselves():
    """Node 0 is at 0, where −√x has no finite slope; the pair beside it is the one without it."""
    edges, weights = torch.tensor([[0, 1, 2, 1], [1, 2, 1, 0]]), torch.tensor([1.0, 3.0, 3.0, 0.0]).double()
    whole = dynamics.equilibrium(lg.GraphCoupling(edges, weights), dynamics.Regulatory(f=0.5), vector([0.0, 9.0, 9.0]))
    pair = lg.GraphCoupling(torch.tensor([[0, 1], [1, 0]]), weights[1:3])
    assert whole.leading_eigenvalue == pytest.approx(
        dynamics.equilibrium(pair, dynamics.Regulatory(f=0.5), 9.0).leading_eigenvalue, abs=1e-6
    )


@pytest.mark.parametrize("f", [1.2, 2, 3])
@pytest.mark.parametrize("start", [0.0, 1e-3, 2.0])
def test_a_multiple_root_is_marginal_from_wherever_it_is_approached(f, start):
    found = dynamics.equilibrium(ring(2, 0.1), dynamics.Regulatory(f=f, h=4), start)
    assert float(found.x.max()) < 1e-6
    assert found.stability == "marginal"


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 14), degree=st.floats(0.2, 4), acyclic=st.booleans())
def test_leading_eigenvalue_equals_the_dense_one(seed, n, degree, acyclic):
    _, A = random_network(n, degree, seed)
    A = np.tril(A, -1) if acyclic else A
    P = lg.from_scipy(sp.csr_array(A))
    found = dynamics.equilibrium(P, dynamics.Neuronal(), "high")
    J = System(P, dynamics.Neuronal()).jacobian(found.x).to_dense().numpy()
    # The dense eigenvalues of an acyclic network, exactly −1, come back with the k-th root of a rounding.
    expected = J.diagonal().max() if acyclic else np.linalg.eigvals(J).real.max()
    assert found.leading_eigenvalue == pytest.approx(expected, abs=1e-6)


def test_leading_eigenvalue_of_large_components_is_iterative():
    P, _ = random_network(700, 6, 0)
    found = dynamics.equilibrium(P, dynamics.Regulatory(), "high")
    J = System(P, dynamics.Regulatory()).jacobian(found.x).to_dense().numpy()
    assert found.leading_eigenvalue == pytest.approx(np.linalg.eigvals(J).real.max(), abs=1e-6)
    assert found.stable is True


def test_a_start_on_an_unstable_equilibrium_stays_and_says_so():
    found = dynamics.equilibrium(ring(5, 3.0), dynamics.SIS(), 0.0)
    assert found.converged
    assert (found.stability, found.stable) == ("unstable", False)
    assert found.leading_eigenvalue == pytest.approx(2.0)


def test_a_network_in_training_is_judged_without_its_graph(monkeypatch):
    P = small_network()
    monkeypatch.setattr(lg.NeuralCoupling, "to_graph", None)
    with pytest.warns(ConvergenceWarning):
        found = dynamics.equilibrium(P, dynamics.EdgeDynamics(P.drive()), P.weights(), max_evaluations=300)
    assert not found.converged
    assert found.stability == "marginal"  # P is nilpotent
