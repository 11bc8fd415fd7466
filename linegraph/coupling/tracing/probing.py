"""Absolute Jacobians of autograd nodes for which there is no formula, found by probing what the nodes send back.

An autograd node sends back Jᵀ g. Probes g with one entry in every block give the entries of J, where J is block
diagonal over the leading dimensions of input and output: with blocks of one entry for an elementwise function, of one
row for an operation along the last dimension, of one sample for most others. So an elementwise function costs one
probe, and an operation on m entries of a sample costs m. Whether J is block diagonal is found by random numbers: it is,
with probability 1, if Jᵀ commutes with factors of the blocks.

J is formed only where it has few entries, and only in a sweep with absolute Jacobians that reaches the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from linegraph.coupling.tracing.node_notes import is_custom

__all__ = ["ProbedJacobian", "UnprobedError"]

MOST_ENTRIES = 1 << 22
"""Number of entries up to which the blocks of a Jacobian are formed; more where the activations are large."""
MOST_ACTIVATIONS = 4
"""Number of activations, of the size of the input or the output, up to whose entries a Jacobian is formed."""
MOST_PROBES = 1 << 11
"""Number of entries of an output block up to which its Jacobian is formed; there is one probe for each."""

Pull = Callable[[Tensor], Tensor]
"""The map g ↦ Jᵀ g."""


class UnprobedError(Exception):
    """The absolute Jacobian of a node cannot be found; says why."""


class ProbedJacobian:
    """The map from what arrives at an autograd node to what it would send back if its Jacobian were |J|."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._found: dict[tuple[int, int], Pull] = {}

    def __call__(self, sent: Sequence[Tensor | None], came: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """|J|ᵀ g for the gradients g that ``came`` to the node, which has ``sent`` Jᵀ g back.

        Raises:
            UnprobedError: if J is too large, or the node sends back something else than Jᵀ g.
        """

        def through(i: int, s: Tensor) -> Tensor:
            return torch.stack([self._pull(i, o, s, came)(g) for o, g in enumerate(came) if g is not None]).sum(0)

        return tuple(None if s is None else through(i, s) for i, s in enumerate(sent))

    def _pull(self, i: int, o: int, sent: Tensor, came: Sequence[Tensor | None]) -> Pull:
        if (i, o) not in self._found:
            g = came[o]
            assert g is not None

            def pull(probe: Tensor) -> Tensor:
                given = self._nothing(came)
                given[o] = _complex(probe, g)
                found = self._run(given)[i]
                # The engine brings what a node sends back into the shape of its input.
                return _real(_zeros(sent) if found is None else found.sum_to_size(sent.shape).to(sent.dtype))

            with torch.no_grad():
                absolute = _absolute(pull, _real(_zeros(g)), _real(_zeros(sent)))
            self._found[i, o] = lambda g: _complex(absolute(_real(g)), sent)
        return self._found[i, o]

    def _nothing(self, came: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Gradients of zeros at the outputs; at those that nothing comes to, only if the node may not expect None."""
        if not is_custom(self._node):
            return [None if c is None else _zeros(c) for c in came]
        outputs: Any = self._node._input_metadata
        return [torch.zeros(tuple(m.shape), dtype=m.dtype, device=m.device) for m in outputs]

    def _run(self, given: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        node: Any = self._node
        found = node.apply(*given) if is_custom(node) else node(*given)
        return found if isinstance(found, tuple) else (found,)


def _absolute(pull: Pull, y: Tensor, x: Tensor) -> Pull:
    """g ↦ |J|ᵀ g from g ↦ Jᵀ g, for an output and an input of the shapes and number types of y and x."""
    generator = torch.Generator().manual_seed(0)

    def random(shape: Sequence[int]) -> Tensor:
        return (torch.rand(shape, generator=generator, device="cpu") + 0.5).to(y)

    probe, tolerance = random(y.shape), torch.finfo(x.dtype).eps ** 0.75
    answer = pull(probe)

    def agree(found: Tensor, expected: Tensor) -> bool:
        return bool(((found - expected).abs() <= tolerance * expected.abs().amax()).all())

    def is_block_diagonal(dims: int) -> bool:
        factors = random(y.shape[:dims])
        of_y, of_x = (factors.view(*factors.shape, *(1,) * (t.ndim - dims)) for t in (y, x))
        return agree(pull(probe * of_y), answer * of_x.to(x.dtype))

    if not y.numel() or not x.numel():
        return lambda g: x
    common = next((d for d, (p, q) in enumerate(zip(y.shape, x.shape, strict=False)) if p != q), None)
    common = min(y.ndim, x.ndim) if common is None else common
    dims = next(d for d in range(common, -1, -1) if d == 0 or is_block_diagonal(d))
    blocks = prod(y.shape[:dims])
    rows, columns = y.numel() // blocks, x.numel() // blocks
    limit = max(MOST_ENTRIES, MOST_ACTIVATIONS * max(y.numel(), x.numel()))
    if rows > MOST_PROBES or blocks * rows * columns > limit:
        raise UnprobedError(
            f"its Jacobian, {blocks:,} blocks of {rows:,} × {columns:,} entries, is too large to be formed"
        )
    local = x.new_empty(blocks, rows, columns)
    for row in range(rows):
        g = y.new_zeros(blocks, rows)
        g[:, row] = 1
        local[:, row] = pull(g.view(y.shape)).reshape(blocks, columns)
    if not agree((probe.view(blocks, 1, rows).to(x.dtype) @ local).view(x.shape), answer):
        raise UnprobedError("what it sends back is not linear in the gradient that arrives")
    local.abs_()
    return lambda g: (g.reshape(blocks, 1, rows).to(x.dtype) @ local).view(x.shape)


def _zeros(t: Tensor) -> Tensor:
    """Zeros in the shape and number type of a tensor, which may be one of many under ``vmap``."""
    return torch.zeros(t.shape, dtype=t.dtype, device=t.device)


def _real(t: Tensor) -> Tensor:
    """A tensor, with real and imaginary parts of complex numbers along a dimension of their own."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def _complex(t: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`_real`."""
    return torch.view_as_complex(t.contiguous()) if like.is_complex() else t
