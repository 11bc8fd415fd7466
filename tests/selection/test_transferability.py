import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import mutual_info_score

from linegraph.errors import DataError, NonFiniteError
from linegraph.selection import h_score, leep, logme, nce


def samples(n, d, classes=3, spread=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return torch.randn(classes, d, generator=g)[y] * spread + torch.randn(n, d, generator=g), y


def by_sklearn(features, labels):
    scores = []
    for c in labels.unique():
        fit = BayesianRidge(
            compute_score=True,
            fit_intercept=False,
            alpha_1=0,
            alpha_2=0,
            lambda_1=0,
            lambda_2=0,
            max_iter=5000,
            tol=1e-9,
        ).fit(features.double().numpy(), (labels == c).double().numpy())
        scores.append(fit.scores_[-1] / len(labels))
    return np.mean(scores)


@pytest.mark.parametrize(
    ("n", "d", "spread"), [(60, 5, 1.0), (60, 59, 0.5), (60, 60, 0.5), (60, 300, 0.3), (40, 90, 2.0)]
)
def test_logme_is_the_evidence_of_bayesian_ridge_for_fewer_and_more_features_than_samples(n, d, spread):
    features, labels = samples(n, d, spread=spread)
    assert logme(features, labels) == pytest.approx(by_sklearn(features, labels), abs=1e-4)


def test_logme_is_the_density_of_the_labels_at_its_maximum():
    """By the normal density of y with covariance I/β + FFᵀ/α, at many α and β."""
    features, labels = samples(12, 20)
    found = logme(features, labels)
    F = features.double().numpy()
    best = []
    for c in labels.unique():
        y = (labels == c).double().numpy()
        densities = [
            scipy.stats.multivariate_normal(np.zeros(12), np.eye(12) / beta + F @ F.T / alpha).logpdf(y) / 12
            for alpha in np.geomspace(1e-2, 1e6, 60)
            for beta in np.geomspace(1e-1, 1e4, 40)
        ]
        best.append(max(densities))
    assert np.mean(best) <= found <= np.mean(best) + 0.02


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_logme_does_not_depend_on_the_unit_or_basis_of_the_features(unit):
    features, labels = samples(30, 50)
    turn = torch.linalg.qr(torch.randn(50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    assert logme(features.double() @ turn * unit, labels) == pytest.approx(logme(features, labels), abs=1e-6)
    assert logme(torch.cat([features, torch.zeros(30, 7)], 1), labels) == pytest.approx(logme(features, labels))


def test_features_without_any_information():
    labels = torch.arange(20) % 2
    bare = -0.5 * (math.log(2 * math.pi * 0.5) + 1)
    assert logme(torch.zeros(20, 3), labels) == pytest.approx(bare)


def between_classes(f, labels):
    """The covariance of the class means of centred features."""
    means = [f[labels == c].mean(0) for c in labels.unique()]
    return sum(float((labels == c).double().mean()) * np.outer(m, m) for c, m in enumerate(means))


def test_the_h_score_without_shrinkage_is_pillais_trace():
    features, labels = samples(80, 6)
    f = features.double().numpy()
    f = f - f.mean(0)
    between = sum(
        (labels == c).double().mean().item() * np.outer(m, m) for c in range(3) for m in [f[labels == c].mean(0)]
    )
    within = f.T @ f / 80 - between
    ratios = scipy.linalg.eigh(between, within, eigvals_only=True)
    assert h_score(features, labels, shrinkage=0) == pytest.approx((ratios / (1 + ratios)).sum())


@pytest.mark.parametrize(("n", "d"), [(80, 6), (30, 50)])
def test_the_shrunk_h_score_by_dense_matrices(n, d):
    from sklearn.covariance import ledoit_wolf

    features, labels = samples(n, d)
    f = features.double().numpy()
    covariance, rho = ledoit_wolf(f)
    f = f - f.mean(0)
    between = sum(
        (labels == c).double().mean().item() * np.outer(m, m) for c in range(3) for m in [f[labels == c].mean(0)]
    )
    expected = (1 - rho) * np.trace(np.linalg.solve(covariance, between))
    assert h_score(features, labels) == pytest.approx(expected)
    assert h_score(features * 1e6, labels) == pytest.approx(expected)
    assert 0 < expected < 2


def test_the_unshrunk_h_score_counts_classes_where_features_outnumber_samples():
    features, labels = samples(30, 200, spread=0)
    assert h_score(features, labels, shrinkage=0) == pytest.approx(2)
    assert h_score(features, labels) < 1


def test_leep_by_its_definition():
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(20, 4, generator=g, dtype=torch.float64).softmax(1)
    labels = torch.arange(20) % 3
    joint = torch.zeros(3, 4, dtype=torch.float64)
    for n in range(20):
        joint[labels[n]] += theta[n] / 20
    expected = np.mean(
        [math.log(sum(joint[labels[n], z] / joint[:, z].sum() * theta[n, z] for z in range(4))) for n in range(20)]
    )
    assert leep(theta, labels) == pytest.approx(expected)


def test_source_classes_without_mass_change_nothing():
    theta = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels = torch.arange(20) % 3
    padded = torch.cat([theta, torch.zeros(20, 2)], 1)
    assert leep(padded, labels) == pytest.approx(leep(theta, labels))
    assert nce(padded, labels) == pytest.approx(nce(theta, labels))


def test_nce_is_information_minus_entropy():
    theta = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels = torch.arange(40) % 3 + 5
    z = theta.argmax(1)
    assert nce(theta, labels) == pytest.approx(
        mutual_info_score(labels, z) - mutual_info_score(labels, labels), abs=1e-12
    )
    assert leep(torch.nn.functional.one_hot(z).float(), labels) == pytest.approx(nce(theta, labels))


@pytest.mark.parametrize("score", [h_score, logme, leep, nce])
def test_what_has_no_score(score):
    values, labels = torch.full((6, 2), 0.5), torch.arange(6) % 2
    for wrong, other, says in (
        (values[:, 0], labels, r"must be \(N, D\), got \(6,\)"),
        (values, labels[:3], r"labels must be \(6,\)"),
        (values, labels.float(), "class indices, integers"),
        (values, torch.zeros(6).long(), "two classes or more, got 1"),
        (values, None, "labels must be"),
    ):
        with pytest.raises(DataError, match=says):
            score(wrong, other)
    with pytest.raises(NonFiniteError, match="2 numbers are not"):
        score(torch.where(torch.eye(6, 2) > 0, math.nan, values), labels)


def test_scores_are_no_probabilities():
    with pytest.raises(DataError, match="softmax"):
        leep(torch.randn(6, 3), torch.arange(6) % 2)
    with pytest.raises(DataError, match="0/0"):
        h_score(torch.ones(6, 3), torch.arange(6) % 2)
    with pytest.raises(DataError, match="shrinkage"):
        h_score(torch.randn(6, 3), torch.arange(6) % 2, shrinkage=2)
