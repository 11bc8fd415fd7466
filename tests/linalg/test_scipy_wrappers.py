"""SciPy's solvers and graph searches are called in one module each, so that they fail and round alike everywhere."""

import ast
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import linegraph as lg
from linegraph.errors import ConvergenceError
from linegraph.linalg.eigen import arpack
from linegraph.numerics import component_numbers

PACKAGE = Path(lg.__file__).parent

HOMES = {
    "connected_components": "numerics.py",
    "eigs": "linalg/eigen.py",
    "eigsh": "linalg/eigen.py",
    "svds": None,
    "gmres": None,
}
"""Names of SciPy, and the one module that may import each."""


@pytest.mark.parametrize("name", HOMES)
def test_one_module_imports_it(name):
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scipy")
        if name in [alias.name for alias in node.names]
    }
    assert found == ({HOMES[name]} if HOMES[name] else set())


def test_components_of_both_kinds_and_stored_zeros():
    matrix = sp.csr_array(([1.0, 1.0, 2.0, 0.0], ([0, 1, 2, 3], [1, 0, 1, 2])), shape=(4, 4))
    weak, strong = component_numbers(matrix), component_numbers(matrix, "strong")
    assert weak[0] == weak[1] == weak[2] != weak[3]
    assert strong[0] == strong[1]
    assert len(set(strong.tolist())) == 3
    assert matrix.nnz == 4  # the caller's matrix keeps its stored zero


@pytest.mark.parametrize("symmetric", [True, False])
def test_arpack_finds_the_largest_eigenvalues(symmetric):
    values = np.arange(1.0, 31)
    operator = aslinearoperator(sp.diags_array(values).tocsr())
    found, vectors = arpack(operator, 2, "LM", start=np.ones(30), tol=1e-10, symmetric=symmetric)
    np.testing.assert_allclose(np.sort(found.real), [29, 30], rtol=1e-8)
    np.testing.assert_allclose(operator @ vectors, vectors * found, atol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_arpack_of_zero_and_without_convergence(symmetric):
    zero = aslinearoperator(sp.csr_array((30, 30)))
    found, _ = arpack(zero, 2, "LM", start=np.ones(30), tol=1e-10, symmetric=symmetric)
    assert not found.any()
    close = aslinearoperator(sp.diags_array(1 + 1e-9 * np.arange(300.0)).tocsr())
    start = np.random.default_rng(0).standard_normal(300)
    with pytest.raises(ConvergenceError, match="after 1 restarts"):
        arpack(close, 2, "LM", start=start, tol=1e-14, symmetric=symmetric, max_iter=1)
