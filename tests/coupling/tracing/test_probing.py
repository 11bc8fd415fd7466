"""Absolute Jacobians of single autograd nodes, against dense ones of autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linegraph.coupling.tracing import probing
from linegraph.coupling.tracing.probing import ProbedJacobian, UnprobedError
from tests.comparison import close


class Counted(torch.autograd.Function):
    """A function of torch as one node, which counts the calls of its backward."""

    @staticmethod
    def forward(ctx, x, function, calls):
        ctx.save_for_backward(x)
        ctx.function, ctx.calls = function, calls
        return function(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.calls.append(grad.shape)
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(ctx.function(leaf), leaf, grad)[0], None, None


def absolute(function, x, g):
    """|J|ᵀ g as the node of a function sends it back, and the number of probes that it took."""
    calls = []
    leaf = x.detach().requires_grad_()
    y = Counted.apply(leaf, function, calls)
    jacobian = ProbedJacobian(y.grad_fn)
    (found, *_) = jacobian((torch.zeros_like(x), None, None), (g,))
    again = jacobian((torch.zeros_like(x), None, None), (2 * g,))[0]
    close(again, 2 * found)
    return found, len(calls)


def dense(function, x, g):
    """|J|ᵀ g from the dense Jacobian, of real and imaginary parts where the output is complex."""

    def real(x):
        y = function(x)
        return torch.view_as_real(y) if y.is_complex() else y

    jacobian = torch.autograd.functional.jacobian(real, x).abs().reshape(-1, x.numel())
    flat = torch.view_as_real(g).flatten() if g.is_complex() else g.flatten()
    return (flat @ jacobian).view(x.shape)


SHAPE = (3, 4, 5)
FUNCTIONS = {
    "elementwise": torch.sin,
    "its sign alone": lambda x: -x,
    "along the last dimension": lambda x: x.cumprod(2),
    "along the first dimension": lambda x: x.cumprod(0),
    "along the middle": lambda x: x - x.mean(1, keepdim=True),
    "along two dimensions": lambda x: x * x.square().sum((0, 2), keepdim=True),
    "along all": lambda x: x / x.square().sum(),
    "to one number": lambda x: x.square().sum(),
    "variance over the middle": lambda x: x.var(1),
    "variance over the ends": lambda x: x.var((0, 2)),
    "transposed": lambda x: (x**3).permute(2, 0, 1),
    "flattened": lambda x: x.flatten(1).cumprod(1),
    "repeated": lambda x: x.sin().repeat(2, 1, 1),
    "Fourier transform": lambda x: torch.fft.fft(x, dim=1),
    "real Fourier transform": lambda x: torch.fft.rfft(x),
    "two dimensions of it": torch.fft.fft2,
    "constant": lambda x: 0 * x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_are_those_of_the_dense_jacobian(name):
    x, function = torch.randn(SHAPE, dtype=torch.float64), FUNCTIONS[name]
    g = torch.randn_like(function(x))
    close(absolute(function, x, g)[0], dense(function, x, g))


def test_an_empty_output_sends_zeros():
    x = torch.randn(SHAPE)
    assert not absolute(lambda x: x[:, :0], x, x[:, :0])[0].any()


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
def test_blocks_along_any_dimensions(shape, data):
    x = torch.randn(shape, dtype=torch.float64)
    dims = data.draw(st.lists(st.integers(0, x.ndim - 1), min_size=1, unique=True))
    keepdim = data.draw(st.booleans())
    for function in (lambda x: x - (x**2).sum(dims, keepdim=True), lambda x: (x**2).sum(dims, keepdim=keepdim)):
        g = torch.randn_like(function(x))
        close(absolute(function, x, g)[0], dense(function, x, g))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_less_precision(dtype):
    x = torch.randn(SHAPE, dtype=torch.float64)
    for function in (torch.sin, lambda x: x - x.mean(1, keepdim=True)):
        g = torch.rand_like(function(x))
        found, _ = absolute(function, x.to(dtype), g.to(dtype))
        close(found.double(), dense(function, x, g), 20 * torch.finfo(dtype).eps)


def test_few_probes_are_needed():
    """Of an elementwise function one for an entry, of a transform one for a row, however large the tensors."""
    x = torch.randn(40, 30, 50)
    of_blocks = 2 + x.ndim + 1  # what finds the blocks
    _, probes = absolute(torch.sin, x, x)
    assert probes <= of_blocks + 2
    found, probes = absolute(lambda x: torch.fft.fft(x, dim=1), x, torch.complex(x, -x))
    assert probes <= of_blocks + 6  # also tries dimensions that mix; 2,000 blocks, one probe for 60 rows
    angle = 2 * math.pi * torch.arange(30)[:, None] * torch.arange(30) / 30
    expected = torch.einsum("bkd,kt->btd", x, angle.cos().abs()) + torch.einsum("bkd,kt->btd", -x, angle.sin().abs())
    close(found, expected, 1e-4)


def test_what_is_too_large_or_not_linear_is_refused(monkeypatch):
    x = torch.randn(4, 6, dtype=torch.float64)
    monkeypatch.setattr(probing, "MOST_ENTRIES", 100)
    absolute(torch.sin, x, x)
    absolute(lambda x: x.cumsum(1), x, x)  # the same 36 entries for every row
    with pytest.raises(UnprobedError, match="4 blocks of 6 × 6 entries"):
        absolute(lambda x: x.cumprod(1), x, x)
    monkeypatch.undo()
    monkeypatch.setattr(probing, "MOST_PROBES", 5)
    with pytest.raises(UnprobedError, match="too large"):
        absolute(lambda x: x.cumprod(1), x, x)
    absolute(lambda x: x.cumsum(1), x, x)

    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return grad.clamp(-0.1, 0.1)

    y = Clipped.apply(x.requires_grad_())
    with pytest.raises(UnprobedError, match="not linear"):
        ProbedJacobian(y.grad_fn)((torch.zeros_like(x),), (x.detach(),))


def test_a_node_of_two_inputs_and_two_outputs():
    class Rotation(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a - 2 * b, 3 * b

        @staticmethod
        def backward(ctx, of_first, of_second):
            return of_first, -2 * of_first + 3 * of_second

    a, b = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    first, second = Rotation.apply(a, b)
    g, h = torch.randn(2, 5, dtype=torch.float64)
    jacobian = ProbedJacobian(first.grad_fn)
    sent = torch.zeros(5, dtype=torch.float64)
    of_a, of_b = jacobian((sent, sent), (g, h))
    close(of_a, g)
    close(of_b, 2 * g + 3 * h)
    of_a, of_b = ProbedJacobian(second.grad_fn)((sent, sent), (None, h))
    close(of_a, sent)
    close(of_b, 3 * h)
