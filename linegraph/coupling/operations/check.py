"""``check_rule``: the rule of a weighted operation, against the operation itself and against autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from linegraph.coupling.operations.rules import Bound, Rule, applied, bind
from linegraph.coupling.operations.signatures import in_one_form
from linegraph.errors import RuleError

__all__ = ["check_rule"]

MAX_ENTRIES = 512
"""Number of entries of the weight whose neurons are checked, one by one."""


def check_rule(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, weight: Tensor
) -> Bound:
    """Check the rule that is registered for a call of a weighted operation.

    Every member of the rule is compared with what it must be: W · x with the output of the call, its linearity in W and
    in x, Wᵀ g and x ⊗ g with the derivatives of ⟨g, W · x⟩ by autograd, the products with a weight of ones, and the
    neurons and degrees with the entries of outputs that each entry of the weight changes.

    Args:
        function: the function that a binder is registered for.
        args: the arguments of the call by position, with small tensors in double precision.
        kwargs: the arguments by keyword.
        weight: the one among all arguments that is the weight.

    Returns:
        The arguments by their roles, as the binder gave them.

    Raises:
        RuleError: if no binder takes the call, or a member of the rule is wrong; names the member.

    Cost: one product for each entry of the weight, up to 512.

    Example:
        >>> import torch, linegraph as lg
        >>> x, w = torch.randn(5, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
        >>> lg.operations.check_rule(torch.mm, (x, w), weight=w).rule
        Matmul(op='matmul', input_dim=-1, output_dim=-1, weight_dims=(1, 0))
    """
    with torch.no_grad():
        expected = function(*args, **(kwargs or {}))
        call = in_one_form(function, tuple(args), dict(kwargs or {}))
        bound = bind(*call, lambda t: t is weight)
        if bound is None:
            raise RuleError(
                f"no binder of {getattr(function, '__name__', function)} takes this call with this weight; register "
                "one with @binds(function), which returns a Bound whose weight is the tensor itself"
            )
        y = applied(bound.rule, bound.x, weight, bound.bias)
        _same(bound.finish(y) if bound.finish else y, expected, bound.rule, "apply, with bias and finish,", "the call")
        V, x = _random(weight), _random(bound.x)
        g = _random(bound.rule.apply(x, V))
        _check_linear(bound.rule, x, V)
        _check_ones(bound.rule, x, V, g)
        _check_matrices(bound.rule, x, V, g)
        _check_neurons(bound.rule, x, V, g)
    _check_products(bound.rule, x, V, g)
    return bound


def _check_linear(rule: Rule, x: Tensor, V: Tensor) -> None:
    W, z = _random(V, 1), _random(x, 1)
    both = rule.apply(x, V)
    _same(rule.apply(x, 2 * V - W), 2 * both - rule.apply(x, W), rule, "apply", "linear in the weight")
    _same(rule.apply(2 * x - z, V), 2 * both - rule.apply(z, V), rule, "apply", "linear in the input")


def _check_products(rule: Rule, x: Tensor, V: Tensor, g: Tensor) -> None:
    """Wᵀ g and x ⊗ g against the derivatives of ⟨g, W · x⟩, and their own derivatives by g, which Pᵀ takes."""
    x, V, g = (t.requires_grad_() for t in (x, V, g))
    by_x, by_weight = torch.autograd.grad((g * rule.apply(x, V)).sum(), [x, V])
    back, outer = rule.to_input(V.detach(), g, x.shape), rule.to_weight(x.detach(), g, V.detach())
    _same(back, by_x, rule, "to_input", "the derivative of ⟨g, apply(x, V)⟩ by x")
    _same(outer, by_weight, rule, "to_weight", "the derivative of ⟨g, apply(x, V)⟩ by the weight")
    with torch.no_grad():
        again, other = _random(x, 2), _random(V, 2)
        of_input, of_weight = rule.apply(again, V), rule.apply(x, other)
    for t, seed, y, name in ((back, again, of_input, "to_input"), (outer, other, of_weight, "to_weight")):
        (by_g,) = torch.autograd.grad((t * seed).sum(), g) if t.requires_grad else (None,)
        if by_g is None:
            raise RuleError(f"{name} of {rule.op} cannot be differentiated by g, as products with Pᵀ do")
        _same(by_g, y, rule, f"the derivative of {name} by g", "apply")


def _check_ones(rule: Rule, x: Tensor, V: Tensor, g: Tensor) -> None:
    shape, ones = tuple(V.shape), torch.ones_like(V)
    _same(rule.apply_ones(x, shape), rule.apply(x, ones), rule, "apply_ones", "apply with a weight of ones")
    back = rule.to_input_ones(g, x.shape, shape)
    _same(back, rule.to_input(ones, g, x.shape), rule, "to_input_ones", "to_input with a weight of ones")


def _check_matrices(rule: Rule, x: Tensor, V: Tensor, g: Tensor) -> None:
    if (pair := rule.matrices(x, g, tuple(V.shape))) is not None:
        _same(torch.mm(*pair), rule.to_weight(x, g, V), rule, "the product of matrices", "to_weight")


def _check_neurons(rule: Rule, x: Tensor, V: Tensor, g: Tensor) -> None:
    """Every entry of the weight must change the outputs of its output neuron only, and read its input neuron only."""
    shape = tuple(V.shape)
    into, out = (t.expand(shape).flatten() for t in rule.neurons(shape))
    for degrees, neurons, name in zip(rule.degrees(shape), (into, out), ("first", "second"), strict=True):
        counted = torch.bincount(neurons, minlength=len(degrees))
        _same(degrees, counted, rule, f"the {name} of degrees", f"the count of the {name} of neurons")
    arriving, leaving = rule.degrees(shape)
    if len(leaving) != g.shape[rule.output_dim]:
        raise RuleError(
            f"{rule.op} has {len(leaving)} output neurons by degrees, but its output has {g.shape[rule.output_dim]} "
            f"entries along output_dim={rule.output_dim}"
        )
    reads = rule.input_dim is not None and x.shape[rule.input_dim] == len(arriving)
    for entry in torch.randperm(V.numel())[:MAX_ENTRIES].tolist():
        unit = torch.zeros_like(V)
        unit.view(-1)[entry] = 1
        _check_only(rule, rule.apply(x, unit), rule.output_dim, int(out[entry]), f"output neuron of weight {entry}")
        if reads:
            back = rule.to_input(unit, g, x.shape)
            _check_only(rule, back, rule.input_dim or 0, int(into[entry]), f"input neuron of weight {entry}")


def _check_only(rule: Rule, t: Tensor, dim: int, neuron: int, what: str) -> None:
    others = t.index_fill(dim, torch.tensor([neuron], device=t.device), 0)
    if others.any():
        raise RuleError(f"neurons of {rule.op}: the {what} is {neuron}, but the weight acts on others along {dim=}")


def _random(like: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)


def _same(found: Tensor, expected: Tensor, rule: Rule, what: str, other: str) -> None:
    """Raise if two tensors differ by more than rounding, in shape or in value."""
    if found.shape != expected.shape:
        raise RuleError(
            f"{what} of {rule.op} is not {other}: its shape is {tuple(found.shape)}, not {tuple(expected.shape)}"
        )
    parts = (expected, found - expected)
    size, difference = (float(t.detach().abs().max()) if t.numel() else 0.0 for t in parts)
    if not difference <= 1e-8 * max(size, 1.0):
        raise RuleError(f"{what} of {rule.op} is not {other}: they differ by up to {difference:.2g}, of {size:.2g}")
