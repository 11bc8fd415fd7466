import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import linegraph as lg
from linegraph import dynamics
from linegraph.dynamics.reduction import branch_curves
from linegraph.errors import DataError, DegenerateCapacitanceWarning
from tests.dynamics.reference import MODELS, random_network, vector
from tests.dynamics.test_models import Bare


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_reduction_equals_the_dense_formula(seed, n):
    torch.manual_seed(seed)
    A = torch.rand(n, n, dtype=torch.float64)
    x = torch.rand(n, 3, dtype=torch.float64)
    P = lg.from_scipy(sp.csr_array(A.numpy()))
    reduced = dynamics.reduce(P, x)
    torch.testing.assert_close(reduced.x_eff, (A @ x).sum(0) / A.sum())
    assert reduced.beta_eff == pytest.approx(float((A @ A).sum() / A.sum()))
    x_eff, _ = dynamics.reduce(P, x[:, 1])
    assert x_eff == pytest.approx(float(reduced.x_eff[1]))


def test_reduction_of_nothing_and_of_the_wrong_length():
    empty = lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), num_nodes=3)
    with pytest.warns(DegenerateCapacitanceWarning):
        reduced = dynamics.reduce(empty, torch.ones(3))
    assert math.isnan(reduced.x_eff)
    assert math.isnan(reduced.beta_eff)
    with pytest.raises(DataError, match=r"\(3,\)"):
        dynamics.reduce(empty, torch.ones(4))


def cubic(model, beta):
    """Coefficients of the polynomial whose non-negative roots are the mutualistic branches."""
    x = np.polynomial.Polynomial([0, 1])
    own = model.B + x * (1 - x / model.K) * (x / model.C - 1)
    return (own * (model.D + (model.E + model.H) * x) + beta * x * x).coef[::-1]


@settings(max_examples=40)
@given(st.floats(0, 40))
def test_mutualistic_branches_are_the_roots_of_a_polynomial(beta):
    model = dynamics.Mutualistic()
    roots = np.roots(cubic(model, beta))
    real = np.sort(roots[(abs(roots.imag) < 1e-7) & (roots.real >= 0)].real)
    found = dynamics.branches(model, beta)
    np.testing.assert_allclose([b.x for b in found], real, rtol=1e-6)
    if len(found) == 3:
        assert [b.stable for b in found] == [True, False, True]


@settings(max_examples=40)
@given(st.floats(0, 20))
def test_regulatory_and_epidemic_branches_in_closed_form(beta):
    found = dynamics.branches(dynamics.Regulatory(), beta)
    root = math.sqrt(max(beta**2 - 4, 0))
    expected = [0.0, (beta - root) / 2, (beta + root) / 2] if beta >= 2 else [0.0]
    np.testing.assert_allclose([b.x for b in found], np.unique(expected), rtol=1e-6, atol=1e-9)
    found = dynamics.branches(dynamics.SIS(), beta)
    assert [b.x for b in found] == pytest.approx([0.0, 1 - 1 / beta] if beta > 1 else [0.0], abs=1e-9)
    assert [b.stable for b in found] == ([False, True] if beta > 1 else [None if beta == 1 else True])


def test_a_fold_is_one_marginal_root():
    assert dynamics.branches(dynamics.Regulatory(), 2.0)[1] == (pytest.approx(1.0, abs=1e-7), None)
    for model in (dynamics.Mutualistic(), dynamics.Neuronal()):
        for point in dynamics.bifurcations(model):
            at = [b for b in dynamics.branches(model, point.beta) if abs(b.x - point.x) < 1e-6]
            assert [b.stable for b in at] == [None]


def test_tipping_points_in_closed_form():
    assert dynamics.tipping_points(dynamics.Regulatory()) == [pytest.approx(2.0, rel=1e-12)]
    assert dynamics.tipping_points(dynamics.Regulatory(B=3, h=2)) == [pytest.approx(6.0, rel=1e-12)]
    assert dynamics.tipping_points(dynamics.Regulatory(h=1)) == [pytest.approx(1.0)]  # x/(1+x): transcritical at B
    assert dynamics.tipping_points(dynamics.SIS(B=0.3)) == [pytest.approx(0.3)]
    # h = 4: the minimum of x + x⁻³ is at x⁴ = 3
    assert dynamics.tipping_points(dynamics.Regulatory(h=4)) == [pytest.approx(3**0.25 * 4 / 3, rel=1e-10)]
    # Neuronal: folds where x − 1 = exp(x − μ)
    folds = dynamics.bifurcations(dynamics.Neuronal())
    assert [f.kind for f in folds] == ["fold", "fold"]
    for fold in folds:
        assert fold.x - 1 == pytest.approx(math.exp(fold.x - 3.5), rel=1e-9)
        assert fold.beta == pytest.approx(fold.x * (1 + math.exp(3.5 - fold.x)), rel=1e-12)


def test_published_tipping_point_of_the_mutualistic_model():
    (tipping,) = dynamics.tipping_points(dynamics.Mutualistic())
    assert tipping == pytest.approx(6.97, abs=5e-3)
    assert dynamics.tipping_points(Bare()) == [pytest.approx(tipping, rel=1e-9)]


@pytest.mark.parametrize("name", MODELS)
def test_branches_change_in_number_only_at_tipping_points(name):
    model, _ = MODELS[name]
    critical = dynamics.tipping_points(model)
    edges = [0.05, *critical, 40.0]
    for low, high in pairwise(edges):
        counts = {len(dynamics.branches(model, beta)) for beta in np.linspace(low, high, 9)[1:-1]}
        assert len(counts) == 1, (name, low, high, counts)
    for beta in critical:
        below, above = (len(dynamics.branches(model, beta * factor)) for factor in (1 - 1e-5, 1 + 1e-5))
        assert below != above


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beta", [0.7, 2.6, 6.5, 15.0])
@pytest.mark.parametrize("start", ["low", "high"])
def test_the_theory_rests_where_its_equation_does(name, beta, start):
    model, equations = MODELS[name]
    A = np.array([[beta]])
    x = model.starts[start]
    end = solve_ivp(lambda _, x: equations(A, x), (0, 300), [x], method="LSODA", rtol=1e-10, atol=1e-12).y[0, -1]
    assert dynamics.mean_field_state(model, beta, start) == pytest.approx(end, abs=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_the_theory_rests_where_it_is_at_rest(name):
    model, _ = MODELS[name]
    for beta in (0, 2.2, 8, 14):
        for x in [x for x, stable in dynamics.branches(model, beta) if stable]:
            for start in np.clip([x, np.nextafter(x, -1), np.nextafter(x, 99)], *model.domain):
                assert dynamics.mean_field_state(model, beta, start) == pytest.approx(x, rel=1e-12)


def test_the_theory_describes_a_regular_network_exactly():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2, 0, 1, 2], [1, 2, 0, 2, 0, 1]]), torch.full((6,), 4.0).double())
    for name, (model, _) in MODELS.items():
        for start in ("low", "high"):
            found = dynamics.equilibrium(ring, model, start)
            x_eff, beta = dynamics.reduce(ring, found.x)
            assert beta == pytest.approx(8.0)
            assert x_eff == pytest.approx(dynamics.mean_field_state(model, beta, start), abs=1e-7), name


def test_theory_without_an_end_is_nan():
    assert math.isnan(dynamics.mean_field_state(dynamics.EdgeDynamics(1.0), 2.0, 0.0))
    assert dynamics.branches(dynamics.EdgeDynamics(1.0), -2.0) == [(pytest.approx(0.5), True)]
    with pytest.raises(DataError, match="finite"):
        dynamics.branches(dynamics.SIS(), math.nan)


def test_reduction_of_the_network_s_own_coupling():
    P, A = random_network(9, 4, 0)
    x = np.linspace(1, 2, 9)
    for state in (vector(x), x, x.tolist(), vector(x).requires_grad_()):
        assert dynamics.reduce(P, state).x_eff == pytest.approx((A @ x).sum() / A.sum())
    whole = np.arange(18).reshape(9, 2)
    np.testing.assert_allclose(dynamics.reduce(P, torch.from_numpy(whole)).x_eff, (A @ whole).sum(0) / A.sum())
    apart = lg.GraphCoupling(P.edge_index, 0 * P.weight, num_nodes=9)
    with pytest.warns(DegenerateCapacitanceWarning):
        assert dynamics.reduce(apart, torch.from_numpy(whole)).x_eff.isnan().tolist() == [True, True]
    assert dynamics.reduce(sp.csr_array(A), vector(x)) == pytest.approx(
        dynamics.reduce(lg.from_scipy(sp.csr_array(A)), vector(x))
    )
    with pytest.raises(DataError, match="from_scipy"):
        dynamics.reduce(sp.csr_array(A).toarray(), vector(x))


# states that hold for every beta ----------------------------------------------------------------------------


class Written(dynamics.Dynamics):
    """f and g(x, x) as they stand."""

    def __init__(self, alone, pair, domain=(-math.inf, math.inf)):
        self.alone, self.pair, self.domain = alone, pair, domain

    def self_term(self, x):
        return self.alone(x)

    def pair_term(self, x, y):
        return self.pair(x, y)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (dynamics.Regulatory(f=2, h=2), [(1, 0, "transcritical")]),  # β = 1 + x²
        (dynamics.Regulatory(B=3, f=1.5, h=1.5), [(3, 0, "transcritical")]),
        (dynamics.Regulatory(f=0.5, h=0.5), [(1, 0, "transcritical")]),
        (dynamics.Regulatory(f=1, h=1.0001), [(1.0010214582768588, 1.0009213661e-4, "fold")]),  # β → ∞ at 0, slowly
        (Written(lambda x: 0.3 - x, lambda x, y: (1 - x) * (y - 0.3), (0.0, 5.0)), [(1 / 0.7, 0.3, "transcritical")]),
        (Written(lambda x: -((x - 0.3) ** 2) * x, lambda x, y: (y - 0.3) ** 2), [(0.3, 0.3, "transcritical")]),
        (Written(lambda x: -x - x**3, lambda x, y: y), [(1, 0, "pitchfork")]),  # β = 1 + x²
        (Written(lambda x: -x + x**3, lambda x, y: y), [(1, 0, "pitchfork")]),
        (Written(lambda x: -x - x**2, lambda x, y: y), [(1, 0, "transcritical")]),
        (Written(lambda x: -(x**2), lambda x, y: 1.0), [(0, 0, "fold")]),  # β = x²
    ],
)
def test_branches_that_meet_a_state_that_holds_for_every_beta(model, expected):
    found = dynamics.bifurcations(model)
    assert [b.kind for b in found] == [kind for _, _, kind in expected]
    np.testing.assert_allclose([b[:2] for b in found], [b[:2] for b in expected], rtol=1e-6, atol=1e-7)
    for beta, state, kind in expected:
        if kind != "fold":  # the number of states near it changes at the critical β
            counts = [sum(abs(b.x - state) < 0.2 for b in dynamics.branches(model, beta * c)) for c in (0.99, 1.01)]
            low, _ = model.domain
            assert counts[0] != counts[1] or (kind == "transcritical" and state > low)


@pytest.mark.parametrize(
    ("model", "until"),
    [
        (dynamics.Regulatory(f=2, h=4), 6),  # near 0, x² is more than βx⁴
        (dynamics.Regulatory(f=0.5, h=0.5), 1),  # √x against β√x
        (dynamics.Regulatory(f=2, h=2), 1),
        (dynamics.Regulatory(f=1, h=0.5), 0),
        (dynamics.SIS(), 1),
    ],
)
def test_curves_of_nothing_are_stable_where_a_little_of_it_vanishes(model, until):
    lines = [(betas, stable) for betas, x, stable in branch_curves(model, 6.0) if not x.any()]
    assert max((betas.max() for betas, stable in lines if stable), default=0) == pytest.approx(until, abs=0.02)
    assert sum(betas.max() - betas.min() for betas, stable in lines if not stable) == pytest.approx(6 - until, abs=0.02)


def test_stability_at_an_exact_fold_and_where_slopes_are_infinite():
    cubic = Written(lambda x: x - x**3, lambda x, y: torch.ones_like(x))
    at_fold = dynamics.branches(cubic, 2 / (3 * math.sqrt(3)))
    assert [b.stable for b in at_fold] == [None, True]
    np.testing.assert_allclose([b.x for b in at_fold], [-1 / math.sqrt(3), 2 / math.sqrt(3)])
    assert [b.stable for b in dynamics.branches(dynamics.Regulatory(h=0.5), 1.0)] == [False, True]
    assert [b.stable for b in dynamics.branches(dynamics.Regulatory(f=0.5), 1.0)] == [True]
    assert dynamics.branches(dynamics.Regulatory(h=0.5), 0.0) == [(0, True)]


def test_what_has_no_one_dimensional_theory_is_said():
    with pytest.raises(DataError, match="SIS has no start 'mid'"):
        dynamics.mean_field_state(dynamics.SIS(), 2, "mid")
    with pytest.raises(DataError, match="start must be a finite number, got nan"):
        dynamics.mean_field_state(dynamics.SIS(), 2, math.nan)
    for start in (-0.1, 1.1):
        with pytest.raises(DataError, match=r"outside the domain \[0, 1\] of SIS"):
            dynamics.mean_field_state(dynamics.SIS(), 2, start)
    varying = dynamics.EdgeDynamics(vector([1.0, 2.0]))
    for function in (dynamics.tipping_points, lambda m: dynamics.branches(m, 2.0)):
        with pytest.raises(DataError, match="the drive must be one number"):
            function(varying)


def test_a_pair_term_that_is_one_number_is_one_for_every_pair():
    model = Written(lambda x: -x, lambda x, y: 1.0)
    assert dynamics.branches(model, 2.0) == [(2.0, True)]
    P, A = random_network(8, 4, 0)
    found = dynamics.equilibrium(P, model, torch.zeros(8, 2))
    np.testing.assert_allclose(found.x.numpy(), np.repeat(A.sum(1)[:, None], 2, 1), atol=1e-7)
    assert found.stable == (True, True)


def test_slopes_that_change_sign_beside_0_have_an_end():
    """x^0.0001 is more than a half for every number above 0, and 0 there."""
    model = dynamics.Regulatory(B=0.95, f=1.0, h=1.0001)
    (nothing, (x, stable)) = dynamics.branches(model, 2.0)
    assert nothing.x == pytest.approx(0, abs=1e-200)
    assert x == pytest.approx(2 / 0.95 - 1, rel=1e-3)
    assert stable
