"""Composite operations, written out as simpler operations that have rules.

Some calls of torch contain several weighted operations: an LSTM, multi-head attention, an einsum. When a synapse weight
enters such a call, a function of this module runs instead. It computes the same output step by step, so that every
weighted operation inside becomes a synapse call of its own. Time steps that share a weight become several calls of it.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations.names import name_of

__all__ = ["decomposes", "decomposition", "opened"]

Function = Callable[..., Any]

_DECOMPOSITIONS: dict[str, Function] = {}


def decomposition(function: Function) -> Function | None:
    """A function that computes the same output by simpler operations; None if there is none."""
    if (known := _DECOMPOSITIONS.get(name_of(function))) is not None:
        return known
    return opened(function)


def decomposes(*names: str) -> Callable[[Function], Function]:
    """Decorator that registers a function as the decomposition of the operations of these names."""

    def register(function: Function) -> Function:
        _DECOMPOSITIONS.update(dict.fromkeys(names, function))
        return function

    return register


_DISPATCH = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def opened(function: Function) -> Function | None:
    """A Python function of torch, copied so that its inner operations are seen one by one; None for others.

    torch's own function first checks for a ``TorchFunctionMode``, which then sees the function as one operation; in the
    copy this check always answers no.
    """
    if not isinstance(function, types.FunctionType):
        return None
    if not set(_DISPATCH) & set(function.__code__.co_names) & function.__globals__.keys():
        return None
    if function is F.batch_norm:  # its inner operation, torch.batch_norm, is translated back to it by signatures.py
        return None
    scope = {**function.__globals__, **dict.fromkeys(_DISPATCH, lambda *_: False)}
    found = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    found.__kwdefaults__ = function.__kwdefaults__
    return found


# Gates --------------------------------------------------------------------------------------------------


@decomposes("glu")
def _glu(input: Tensor, dim: int = -1) -> Tensor:
    first, second = input.chunk(2, dim)
    return first * torch.sigmoid(second)


@decomposes("prelu")
def _prelu(input: Tensor, weight: Tensor) -> Tensor:
    slope = weight.view(-1, *(1,) * (input.ndim - 2)) if weight.numel() > 1 else weight
    return torch.where(input > 0, input, slope * input)


@decomposes("neg", "negative", "__neg__")
def _negative(input: Tensor) -> Tensor:
    return input * -1.0


# Elementwise products ----------------------------------------------------------------------------------


@decomposes("addcmul")
def _addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    product = tensor1 * tensor2
    return input + (product if value == 1 else product * value)


@decomposes("addcdiv")
def _addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    quotient = tensor1 / tensor2
    return input + (quotient if value == 1 else quotient * value)


@decomposes("lerp")
def _lerp(input: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    return input + (end - input) * weight


@decomposes("div", "divide", "true_divide", "__truediv__")
def _quotient(input: Tensor, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is not None:
        with torch.no_grad():  # a step function
            return torch.div(input, other, rounding_mode=rounding_mode)
    return input * (other.reciprocal() if isinstance(other, Tensor) else 1 / other)


# Masks --------------------------------------------------------------------------------------------------


@decomposes("tril")
def _tril(input: Tensor, diagonal: int = 0) -> Tensor:
    return input * torch.ones_like(input.detach()).tril(diagonal)


@decomposes("triu")
def _triu(input: Tensor, diagonal: int = 0) -> Tensor:
    return input * torch.ones_like(input.detach()).triu(diagonal)


@decomposes("masked_fill")
def _masked_fill(input: Tensor, mask: Tensor, value: float | Tensor) -> Tensor:
    return input * ~mask + torch.zeros_like(input.detach()).masked_fill(mask, value)


# Tensor contractions ------------------------------------------------------------------------------------


@decomposes("bilinear")
def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[o] = Σ_ij W[o, i, j] x₁[i] x₂[j]: linear in the products x₁[i] x₂[j], which are its input neurons."""
    products = (input1.unsqueeze(-1) * input2.unsqueeze(-2)).flatten(-2)
    return F.linear(products, weight.flatten(1), bias)


@decomposes("einsum")
def _einsum(equation: str, *operands: Any) -> Tensor:
    """Two tensors are contracted by one product of matrices; more of them from left to right, as in torch."""
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else list(operands)
    terms, output = _subscripts(equation, [t.ndim for t in tensors])
    tensors, terms = map(list, zip(*map(_without_repetitions, tensors, terms), strict=True))
    while len(tensors) > 1:
        later = set(output).union(*terms[2:])
        kept = [i for i in dict.fromkeys(terms[0] + terms[1]) if i in later]
        tensors[:2] = [_contract(tensors[0], terms[0], tensors[1], terms[1], kept)]
        terms[:2] = [kept]
    (only,), (term,) = tensors, terms
    if summed := [d for d, i in enumerate(term) if i not in output]:
        only, term = only.sum(summed), [i for i in term if i in output]
    return only.permute([term.index(i) for i in output])


def _subscripts(equation: str, ndims: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The indices of every operand and of the output, with the dimensions of an ellipsis named "0", "1", ..."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    free = [n - len(t.replace("...", "")) for t, n in zip(texts, ndims, strict=True)]
    widest = max([f for f, t in zip(free, texts, strict=True) if "..." in t], default=0)
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))

    def named(text: str, count: int) -> list[str]:
        before, dots, after = text.partition("...")
        return [*before, *(str(i) for i in range(widest - count, widest) if dots), *after]

    return [named(t, f) for t, f in zip(texts, free, strict=True)], named(right, widest)


def _without_repetitions(tensor: Tensor, term: list[str]) -> tuple[Tensor, list[str]]:
    """The diagonal of a tensor along every index that its term has twice; the index becomes the last dimension."""
    for index in [i for i in dict.fromkeys(term) if term.count(i) > 1]:
        while term.count(index) > 1:
            first, second = [d for d, i in enumerate(term) if i == index][:2]
            tensor = torch.diagonal(tensor, 0, first, second)
            term = [i for d, i in enumerate(term) if d not in (first, second)] + [index]
    return tensor, term


def _contract(a: Tensor, a_term: list[str], b: Tensor, b_term: list[str], kept: list[str]) -> Tensor:
    """The sum of a · b over all indices that are not kept, as (batch, rows, inner) @ (batch, inner, columns)."""
    for tensor, term, other in ((a, a_term, b_term), (b, b_term, a_term)):
        if lonely := [i for i in term if i not in other and i not in kept]:
            dims = [term.index(i) for i in lonely]
            rest = [i for i in term if i not in lonely]
            if tensor is a:
                a, a_term = a.sum(dims), rest
            else:
                b, b_term = b.sum(dims), rest
    both = [i for i in a_term if i in b_term]
    batch, inner = [i for i in both if i in kept], [i for i in both if i not in kept]
    rows, columns = [i for i in a_term if i not in both], [i for i in b_term if i not in both]
    size = {**dict(zip(b_term, b.shape, strict=True)), **dict(zip(a_term, a.shape, strict=True))}

    def count(indices: list[str]) -> int:
        return prod(size[i] for i in indices)

    left = a.permute([a_term.index(i) for i in batch + rows + inner])
    right = b.permute([b_term.index(i) for i in batch + inner + columns])
    shape = (count(batch),) if batch else ()
    product = left.reshape(*shape, count(rows), count(inner)) @ right.reshape(*shape, count(inner), count(columns))
    found = batch + rows + columns
    return product.reshape([size[i] for i in found]).permute([found.index(i) for i in kept])


@decomposes("tensordot")
def _tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: None = None) -> Tensor:
    if isinstance(dims, int):
        over_a, over_b = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        over_a, over_b = ([int(d)] if not isinstance(d, list | tuple) else list(d) for d in dims)
    over_a, over_b = [d % a.ndim for d in over_a], [d % b.ndim for d in over_b]
    letters = [chr(ord("a") + d) for d in range(a.ndim)]
    others = [chr(ord("A") + d) for d in range(b.ndim)]
    for d, e in zip(over_a, over_b, strict=True):
        others[e] = letters[d]
    kept = [i for d, i in enumerate(letters) if d not in over_a] + [i for d, i in enumerate(others) if d not in over_b]
    return _contract(a, letters, b, others, kept)


@decomposes("linalg_multi_dot")
def _multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of all matrices, from left to right."""
    return reduce(torch.matmul, tensors)


@decomposes("chain_matmul")
def _chain_matmul(*matrices: Tensor) -> Tensor:
    return reduce(torch.matmul, matrices)


@decomposes("outer", "ger")
def _outer(input: Tensor, vec2: Tensor) -> Tensor:
    return input.unsqueeze(1) * vec2


@decomposes("addr")
def _addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return input * beta + vec1.unsqueeze(1) * vec2 * alpha


@decomposes("kron")
def _kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: reshaped so that dimensions of the two alternate, multiplied elementwise, then merged."""
    n = max(input.ndim, other.ndim)
    first, second = ([*(1,) * (n - t.ndim), *t.shape] for t in (input, other))
    left = input.reshape([size for outer in first for size in (outer, 1)])
    right = other.reshape([size for inner in second for size in (1, inner)])
    return (left * right).reshape([a * b for a, b in zip(first, second, strict=True)])


@decomposes("linalg_vecdot")
def _vecdot(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    return (x * y).sum(dim)


@decomposes("addbmm")
def _addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return input * beta + (batch1 @ batch2).sum(0) * alpha


@decomposes("_grouped_mm")
def _grouped_mm(
    mat_a: Tensor, mat_b: Tensor, offs: Tensor, bias: Tensor | None = None, out_dtype: torch.dtype | None = None
) -> Tensor:
    """Each group of rows times a matrix of its own, as in a mixture of experts; group i ends before row ``offs[i]``.

    Rows after the last group give 0.
    """
    *groups, rest = mat_a.tensor_split(offs.tolist())
    products = [rows @ matrix for rows, matrix in zip(groups, mat_b.unbind(), strict=True)]
    y = torch.cat([*products, rest.new_zeros(len(rest), mat_b.shape[-1])])
    return y if bias is None else y + bias


# Parametrised weights -----------------------------------------------------------------------------------


@decomposes("linalg_vector_norm")
def _vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm ‖W‖ = Σ d W with d = ∂‖W‖/∂W held constant: linear in W, with the value and derivative of the norm."""
    if math.isinf(ord):
        return (torch.amax if ord > 0 else torch.amin)(x.abs(), () if dim is None else dim, keepdim)
    with torch.no_grad():
        size = x.detach().abs()
        norm = (size**ord).sum(dim, keepdim=True) ** (1 / ord)
        direction = torch.where(norm > 0, x.detach().sign() * (size / norm) ** (ord - 1), 0)
    return (x * direction).sum(dim, keepdim=keepdim, dtype=dtype)


@decomposes("_weight_norm")
def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """W = v · (g / ‖v‖), with norms over all dimensions but one.

    The norm is ‖v‖ = Σ v̂ v with v̂ = v / ‖v‖ held constant: linear in v, with the value and derivative of the norm.
    """
    direction = v.detach() / torch.norm_except_dim(v.detach(), 2, dim)
    norm = v * direction
    norm = norm.sum() if dim == -1 else norm.sum([d for d in range(v.ndim) if d != dim % v.ndim], keepdim=True)
    return v * (g / norm)


# Recurrent networks -------------------------------------------------------------------------------------


def _lstm_step(gates: Tensor, state: tuple[Tensor, ...], weights: Sequence[Any]) -> tuple[Tensor, ...]:
    hidden, cell = state
    _, w_hidden, _, b_hidden, *projection = weights
    i, f, g, o = (gates + F.linear(hidden, w_hidden, b_hidden)).chunk(4, -1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    hidden = torch.sigmoid(o) * torch.tanh(cell)
    return (F.linear(hidden, projection[0]) if projection else hidden), cell


def _gru_step(gates: Tensor, state: tuple[Tensor, ...], weights: Sequence[Any]) -> tuple[Tensor, ...]:
    (hidden,) = state
    _, w_hidden, _, b_hidden = weights
    reset, update, new = gates.chunk(3, -1)
    reset_h, update_h, new_h = F.linear(hidden, w_hidden, b_hidden).chunk(3, -1)
    update = torch.sigmoid(update + update_h)
    new = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
    return (new + update * (hidden - new),)


def _plain_step(activation: Function) -> Function:
    def step(gates: Tensor, state: tuple[Tensor, ...], weights: Sequence[Any]) -> tuple[Tensor, ...]:
        return (activation(gates + F.linear(state[0], weights[1], weights[3])),)

    return step


_STEPS = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": _plain_step(torch.tanh),
    "rnn_relu": _plain_step(torch.relu),
}


def _direction(
    step: Function, x: Sequence[Tensor], state: tuple[Tensor, ...], weights: Sequence[Any], reverse: bool
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """One recurrent layer in one direction, over time steps x_t of shape (B_t, features) with B_t not increasing.

    Returns the outputs of all time steps, and the final state.
    """
    sizes = [len(part) for part in x]
    gates = F.linear(torch.cat(list(x)), weights[0], weights[2]).split(sizes)
    order = range(len(x))
    outputs: list[Tensor] = [x[0]] * len(x)
    for t in reversed(order) if reverse else order:
        active = tuple(part[: sizes[t]] for part in state)
        moved = step(gates[t], active, weights)
        outputs[t] = moved[0]
        waiting = len(state[0]) > sizes[t]
        state = tuple(torch.cat([m, s[sizes[t] :]]) for m, s in zip(moved, state, strict=True)) if waiting else moved
    return outputs, state


def _recurrent(name: str) -> Function:
    """``torch.lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)``.

    Also for ``gru``, ``rnn_tanh`` and ``rnn_relu``.

    The packed form is ``(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)``.
    """

    def run(*args: Any) -> tuple[Tensor, ...]:
        packed = isinstance(args[3], list | tuple)
        data, sizes = args[0], args[1].tolist() if packed else None
        hx, params, biases, layers, dropout, training, bidirectional, *rest = args[2:] if packed else args[1:]
        batch_first = bool(rest and rest[0])
        steps = list(data.split(sizes)) if packed else list(data.unbind(1 if batch_first else 0))
        states = list(zip(*(s.unbind(0) for s in ((hx,) if isinstance(hx, Tensor) else hx)), strict=True))
        directions = 2 if bidirectional else 1
        per_cell = len(params) // (layers * directions)
        finals = []
        for layer in range(layers):
            found = []
            for way in range(directions):
                cell = layer * directions + way
                given = list(params[cell * per_cell : (cell + 1) * per_cell])
                weights = given if biases else [*given[:2], None, None, *given[2:]]
                outputs, final = _direction(_STEPS[name], steps, states[cell], weights, reverse=way == 1)
                found.append(outputs)
                finals.append(final)
            steps = [torch.cat(parts, -1) for parts in zip(*found, strict=True)] if bidirectional else found[0]
            if dropout and training and layer < layers - 1:
                steps = [F.dropout(part, dropout) for part in steps]
        output = torch.cat(steps) if packed else torch.stack(steps, 1 if batch_first else 0)
        return output, *(torch.stack(parts) for parts in zip(*finals, strict=True))

    return run


def _cell(name: str) -> Function:
    """``torch.lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh)``; also for the other cells."""

    def run(
        x: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
    ) -> Any:
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        moved = _STEPS[name](F.linear(x, w_ih, b_ih), state, [w_ih, w_hh, b_ih, b_hh])
        return moved if name == "lstm" else moved[0]

    return run


for _name in _STEPS:
    decomposes(_name)(_recurrent(_name))
    decomposes(f"{_name}_cell")(_cell(_name))
