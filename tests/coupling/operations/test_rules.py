"""The facts that a rule states of its operation, against the operation."""

import pytest
import torch
import torch.nn.functional as F

from linegraph.coupling.operations.factors import by_output, input_factor
from linegraph.coupling.operations.rules import bind
from tests.comparison import close

SEEDED = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=SEEDED)


X = normal(3, 4, 6)
W = normal(8, 6)
KERNEL = normal(8, 4, 3)

CALLS = {
    "linear": (F.linear, (X, W)),
    "matmul": (torch.matmul, (X, W.mT)),
    "bmm": (torch.bmm, (X, normal(3, 6, 5))),
    "conv1d": (F.conv1d, (X, KERNEL)),
    "conv1d of groups": (F.conv1d, (X, KERNEL[:, :2], None, 1, 0, 1, 2)),
    "conv_transpose1d": (F.conv_transpose1d, (X, KERNEL.transpose(0, 1).contiguous())),
    "mul": (torch.mul, (X, normal(6))),
    "embedding": (F.embedding, (torch.tensor([[0, 2], [1, 2]]), normal(3, 5))),
}
IN_LOW_PRECISION = {"linear", "matmul", "bmm", "conv1d", "conv1d of groups", "conv_transpose1d"}


def bound_call(name):
    function, args = CALLS[name]
    bound = bind(function, args, {}, lambda t: t is args[1])
    y = bound.rule.apply(bound.x, bound.weight)
    return bound.rule, bound.x, bound.weight, normal(*y.shape)


@pytest.mark.parametrize("name", CALLS)
def test_factors_and_matrices_have_the_outer_product_as_product(name):
    rule, x, weight, g = bound_call(name)
    outer, shape = rule.to_weight(x, g, weight), tuple(weight.shape)
    if rule.is_one_product:
        product = by_output(rule, g, g.ndim) @ input_factor(rule, x, shape)[0].mT
        close((product.mT if rule.is_inputs_first else product).reshape(shape), outer)
    if (matrices := rule.matrices(x, g, shape)) is not None:
        close(torch.mm(*matrices), outer)
    assert rule.is_one_product == (name in {"linear", "matmul", "conv1d"})
    assert rule.has_factors == (name in {"linear", "matmul", "conv1d", "conv1d of groups"})


@pytest.mark.parametrize("name", CALLS)
def test_autocast_lowers_what_the_rule_says(name):
    function, args = CALLS[name]
    with torch.autocast("cpu", torch.bfloat16):
        y = function(*(a.float() if torch.is_tensor(a) and a.is_floating_point() else a for a in args))
    assert (y.dtype == torch.bfloat16) == bound_call(name)[0].is_autocast == (name in IN_LOW_PRECISION)


@pytest.mark.parametrize("name", CALLS)
def test_a_bias_is_added(name):
    rule, x, weight, g = bound_call(name)
    shape = [1] * g.ndim
    shape[rule.output_dim] = g.shape[rule.output_dim]
    bias = normal(*shape)
    bias = bias.flatten() if name == "linear" else bias
    close(rule.apply_with_bias(x, weight, bias), rule.apply(x, weight) + bias)
