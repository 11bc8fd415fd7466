import numpy as np
import pytest
import torch

import linegraph as lg
from linegraph.errors import ConvergenceError
from linegraph.linalg import eigen
from linegraph.linalg.eigen import ORDERS
from linegraph.linalg.krylov import krylov_schur, lanczos, leading_part
from tests.metrics.graphs import random_graph

N = 120


def solve(matrix, k, which, basis=20, max_iter=300, start=None, tol=1e-10):
    start = torch.randn(len(matrix), dtype=matrix.dtype) if start is None else start
    return krylov_schur(lambda v: matrix @ v, start, k, order=ORDERS[which], basis=basis, tol=tol, max_iter=max_iter)


def expected(values, k, which):
    values = values.numpy()
    return values[np.argsort(ORDERS[which](values), kind="stable")][:k]


@pytest.mark.parametrize("which", ["LR", "LM"])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_symmetric(which, k):
    matrix = torch.randn(N, N, dtype=torch.float64)
    matrix = matrix + matrix.mT
    values, vectors = solve(matrix, k, which)
    assert np.allclose(values[:k].real, expected(torch.linalg.eigvalsh(matrix), k, which), rtol=1e-9)
    assert np.allclose(values.imag, 0, atol=1e-9)
    assert torch.allclose(matrix.to(values.dtype) @ vectors, vectors * values, atol=1e-7)


@pytest.mark.parametrize("which", ["LR", "LM"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_general(which, k):
    matrix = torch.randn(N, N, dtype=torch.float64)
    values, vectors = solve(matrix, k, which)
    sizes = ORDERS[which](values[:k].numpy())
    assert np.allclose(sizes, ORDERS[which](expected(torch.linalg.eigvals(matrix), k, which)), rtol=1e-8)
    assert torch.allclose(matrix.to(values.dtype) @ vectors, vectors * values, atol=1e-7)


def test_repeated_eigenvalues_and_invariant_spaces():
    matrix = torch.diag(torch.tensor([5.0, 5, 3, 3, 3, 1] + [0] * 30, dtype=torch.float64))
    basis, _ = torch.linalg.qr(torch.randn(36, 36, dtype=torch.float64))
    values, _ = solve(basis @ matrix @ basis.mT, 5, "LR", basis=12)
    assert np.allclose(values[:5].real, [5, 5, 3, 3, 3])


def test_a_start_that_is_an_eigenvector():
    matrix = torch.diag(torch.arange(30.0, dtype=torch.float64))
    values, _ = solve(matrix, 2, "LR", basis=10, start=torch.eye(30, dtype=torch.float64)[3])
    assert np.allclose(values[:2].real, [29, 28])


def test_zero():
    values, _ = solve(torch.zeros(30, 30, dtype=torch.float64), 2, "LM", basis=8)
    assert not values.any()


def test_single_precision():
    matrix = torch.randn(N, N)
    matrix = matrix + matrix.mT
    values, _ = solve(matrix, 3, "LR", tol=1e-5)
    assert np.allclose(values[:3].real, expected(torch.linalg.eigvalsh(matrix), 3, "LR"), rtol=1e-5)


def test_what_does_not_converge_raises():
    with pytest.raises(ConvergenceError, match="2 restarts") as caught:
        solve(torch.randn(N, N, dtype=torch.float64), 5, "LM", max_iter=2)
    assert caught.value.iterations == 2
    assert caught.value.residual > caught.value.tolerance


def test_lanczos_has_the_moments_of_its_start():
    matrix = torch.randn(N, N, dtype=torch.float64)
    matrix = (matrix + matrix.mT) / 20
    start = torch.randn(N, dtype=torch.float64)
    diagonal, beside = lanczos(lambda v: matrix @ v, start, 6)
    small = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    start /= start.norm()
    for power in range(12):
        found = np.linalg.matrix_power(small, power)[0, 0]
        assert found == pytest.approx(float(start @ torch.linalg.matrix_power(matrix, power) @ start), rel=1e-9)


def test_lanczos_ends_in_an_invariant_space():
    diagonal, beside = lanczos(lambda v: 3 * v, torch.randn(10, dtype=torch.float64), 5)
    assert (len(diagonal), len(beside)) == (1, 0)
    assert diagonal[0] == pytest.approx(3)


def of_every_kind(P):
    return {
        "singular": lg.singular_values(P, 3),
        "symmetric": lg.eigenvalues(P, 3, symmetrize=True),
        "general": lg.eigenvalues(P, 3).abs(),
        "laplacian": lg.laplacian_eigenvalues(P, 3),
        "hubs": lg.hits(P).hubs,
        "leading": lg.eigenvector_centrality(P),
        "norm": torch.tensor(lg.spectral_norm(P)),
    }


def test_the_device_solver_finds_what_scipy_finds(monkeypatch):
    G = random_graph(400, 4000)
    expected = of_every_kind(G)
    monkeypatch.setattr(eigen, "stays_on_device", lambda A: True)
    for name, found in of_every_kind(G).items():
        assert torch.allclose(found, expected[name], rtol=1e-8, atol=1e-8), name


@pytest.mark.parametrize("sizes", [[40], [40, 25]])
def test_the_leading_part_is_the_projection_on_the_leading_space(sizes):
    """Of one component, and of two of which the first leads."""
    torch.manual_seed(0)
    blocks = [torch.rand(n, n, dtype=torch.float64) / (k + 1) for k, n in enumerate(sizes)]
    A = torch.block_diag(*(block.T @ block for block in blocks))
    start = torch.ones(len(A), dtype=torch.float64)
    component = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    found = leading_part(lambda v: A @ v, start, A @ start, component, tol=1e-10, tie=1e-8, max_iter=100)
    leading = torch.linalg.eigh(A)[1][:, -1]
    torch.testing.assert_close(found, leading * (leading @ start), atol=1e-8, rtol=1e-8)
