"""Products with absolute Jacobians of softmax and normalisation, against dense Jacobians of autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from linegraph.coupling.operations.normalisation import (
    absolute_log_softmax,
    absolute_normalisation,
    absolute_softmax,
    through_normalisation,
)
from tests.comparison import close

EPS = 1e-5
ROWS = {
    "usual": torch.tensor([0.3, -1.2, 0.7, 2.0, -0.4]),
    "constant": torch.full((5,), 0.7),
    "zero": torch.zeros(5),
    "dominated by eps": torch.tensor([1e-7, 2e-7, -1e-7, 3e-8, 0.0]),
    "one entry dominates": torch.tensor([0.0, 0.1, 90.0, -0.2, 0.05]),
    "large": torch.tensor([300.0, -800.0, 500.0, 650.0, -1e3]),
    "one": torch.tensor([0.4]),
    "two": torch.tensor([0.4, -1.0]),
    "two of one size": torch.tensor([0.4, 0.4]),
}


def centring(x):
    return x - x.mean()


def scaling(x):
    return x / (x.square().mean() + EPS).sqrt()


def absolute(x, *steps):
    """The product of the dense absolute Jacobians of operations that follow each other, for one row x."""
    found = torch.eye(len(x), dtype=x.dtype)
    for step in steps:
        found = torch.autograd.functional.jacobian(step, x).abs() @ found
        x = step(x)
    return found


def softmax(x):
    return x.softmax(0)


def log_softmax(x):
    return x.log_softmax(0)


OPERATIONS = {
    "softmax": ((softmax,), lambda g, x: absolute_softmax(g, softmax(x), 0)),
    "log-softmax": ((log_softmax,), lambda g, x: absolute_log_softmax(g, softmax(x), 0)),
    "scaling": ((scaling,), lambda g, x: absolute_normalisation(g, x, EPS, centred=False)),
    "centring and scaling": ((centring, scaling), lambda g, x: absolute_normalisation(g, x, EPS, centred=True)),
}


def check(name, x):
    """Products with |J|ᵀ and, by transposition, with |J|; none is negative for vectors without negative entries."""
    steps, product = OPERATIONS[name]
    dense = absolute(x, *steps)
    unit = torch.eye(len(x), dtype=x.dtype)
    columns = torch.stack([product(g, x) for g in unit], 1)
    close(columns, dense.T)
    assert (columns >= 0).all()
    u, v = torch.randn(2, len(x), dtype=x.dtype, requires_grad=True)
    product_of_u = product(u, x)
    close(product_of_u.detach(), dense.T @ u.detach())
    (transposed,) = torch.autograd.grad(product_of_u, u, v.detach())
    close(transposed, dense @ v.detach())


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_products_with_absolute_jacobians(name, row):
    check(name, ROWS[row].double())


@settings(max_examples=40)
@given(st.sampled_from(sorted(OPERATIONS)), st.lists(st.floats(-30, 30), min_size=1, max_size=7))
def test_products_with_absolute_jacobians_of_any_row(name, row):
    check(name, torch.tensor(row, dtype=torch.float64))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("row", ROWS)
def test_products_with_jacobians_of_norms(row, centred):
    x = ROWS[row].double().requires_grad_()
    g = torch.randn_like(x)
    norm = F.layer_norm(x, x.shape, eps=EPS) if centred else F.rms_norm(x, x.shape, eps=EPS)
    (expected,) = torch.autograd.grad(norm, x, g)
    close(through_normalisation(g, x.detach(), EPS, centred=centred), expected, 1e-9)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_along_any_dimension_of_a_block(dim):
    x, g = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = x.softmax(dim)
    rows, of_rows = (t.movedim(dim, -1).reshape(-1, x.shape[dim]) for t in (x, g))
    expected = torch.stack([absolute(r, softmax).T @ h for r, h in zip(rows, of_rows, strict=True)])
    close(absolute_softmax(g, y, dim).movedim(dim, -1).reshape(expected.shape), expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_block_of_rows_with_and_without_a_dominant_entry(name):
    rows = torch.stack([ROWS[row] for row in ("usual", "one entry dominates", "constant")]).double()
    steps, _ = OPERATIONS[name]
    g = torch.randn(3, 5, dtype=torch.float64)
    found = {
        "softmax": lambda: absolute_softmax(g, rows.softmax(1), 1),
        "log-softmax": lambda: absolute_log_softmax(g, rows.softmax(1), 1),
        "scaling": lambda: absolute_normalisation(g, rows, EPS, centred=False),
        "centring and scaling": lambda: absolute_normalisation(g, rows, EPS, centred=True),
    }[name]()
    close(found, torch.stack([absolute(row, *steps).T @ h for row, h in zip(rows, g, strict=True)]))


@pytest.mark.parametrize("name", ["softmax", "log-softmax", "scaling"])
def test_no_digits_are_lost_where_one_entry_dominates(name):
    """In single precision the sum over all entries, less the entry itself, would have no digit right."""
    x = torch.tensor([18.0, 0.0, -0.5, 0.3]) if "softmax" in name else torch.tensor([3e4, 0.1, -0.2, 0.1])
    steps, product = OPERATIONS[name]
    g = torch.tensor([1.0, 0.0, 0.0, 0.0])
    expected = absolute(x.double(), *steps)[0, 0]
    assert 0 < expected < 1e-7
    assert float(product(g, x)[0]) == pytest.approx(float(expected), rel=1e-4)
