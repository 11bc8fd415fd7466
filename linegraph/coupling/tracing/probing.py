"""Absolute Jacobians of autograd nodes for which there is no formula, found by probing what the nodes send back.

An autograd node sends back Jᵀ g. Along dimensions over which J is block diagonal, one probe g finds an entry of every
block: an elementwise function has blocks of one entry, an operation along one dimension has blocks of one row or
column, most others have blocks of one sample. Where all blocks are the same matrix, as in a Fourier transform, the
blocks of one probe find different entries of it, and one block is kept. Random numbers tell both, with probability 1:
J is block diagonal if Jᵀ commutes with a factor for each block, and all blocks are the same if the same vector in every
block gives the same answer.

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
"""Number of probes, each of which takes a backward call, up to which a Jacobian is formed."""

_NOT_LINEAR = "what it sends back is not linear in the gradient that arrives"

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
    if not y.numel() or not x.numel():
        return lambda g: x
    generator = torch.Generator().manual_seed(0)

    def random(shape: Sequence[int]) -> Tensor:
        return (torch.rand(shape, generator=generator, device="cpu") + 0.5).to(y)

    probe, tolerance = random(y.shape), torch.finfo(x.dtype).eps ** 0.75
    answer = pull(probe)

    def agree(found: Tensor, expected: Tensor) -> bool:
        return bool(((found - expected).abs() <= tolerance * expected.abs().amax()).all())

    if not agree(pull(-2 * probe), -2 * answer):
        raise UnprobedError(_NOT_LINEAR)

    def is_block_diagonal(of_y: int, of_x: int) -> bool:
        factors = random(y.shape[of_y : of_y + 1])
        ways = (factors.view(-1, *(1,) * (t.ndim - d - 1)) for t, d in ((y, of_y), (x, of_x)))
        on_y, on_x = ways
        return agree(pull(probe * on_y), answer * on_x.to(x.dtype))

    y_blocks, x_blocks = _blocks(y.shape, x.shape, is_block_diagonal)
    (blocks, rows), columns = y_blocks.shape, x_blocks.shape[1]
    alike = pull(y_blocks.whole(random([rows]).expand(blocks, rows)))
    is_one = agree(x_blocks.split(alike), x_blocks.split(alike)[:1])
    probes, kept = (-(-rows // blocks), 1) if is_one else (rows, blocks)
    if probes > MOST_PROBES or kept * rows * columns > max(MOST_ENTRIES, MOST_ACTIVATIONS * max(y.numel(), x.numel())):
        raise UnprobedError(
            f"its Jacobian, {kept:,} blocks of {rows:,} × {columns:,} entries, is too large to be formed"
        )
    local = x.new_empty(kept, rows, columns)
    for first in range(0, rows, blocks if is_one else 1):
        g = y.new_zeros(blocks, rows)
        if is_one:
            found = min(blocks, rows - first)
            g[:found, first : first + found] = torch.eye(found, dtype=y.dtype, device=y.device)
            local[0, first : first + found] = x_blocks.split(pull(y_blocks.whole(g)))[:found]
        else:
            g[:, first] = 1
            local[:, first] = x_blocks.split(pull(y_blocks.whole(g)))

    def through(g: Tensor) -> Tensor:
        g = y_blocks.split(g).to(x.dtype)
        return x_blocks.whole(g @ local[0] if is_one else (g.unsqueeze(2) * local).sum(1))

    if not agree(through(probe), answer):
        raise UnprobedError(_NOT_LINEAR)
    local.abs_()
    return through


class _Blocks:
    """Tensors of a shape as matrices (blocks, entries of a block), whose rows lie along some dimensions."""

    def __init__(self, shape: Sequence[int], dims: Sequence[int]) -> None:
        self._order = [*dims, *(d for d in range(len(shape)) if d not in dims)]
        self._moved = [shape[d] for d in self._order]
        self._back = [self._order.index(d) for d in range(len(shape))]
        blocks = prod(self._moved[: len(dims)])
        self.shape = blocks, prod(shape) // blocks

    def split(self, t: Tensor) -> Tensor:
        return t.permute(self._order).reshape(self.shape)

    def whole(self, t: Tensor) -> Tensor:
        return t.reshape(self._moved).permute(self._back)


def _blocks(
    y_shape: Sequence[int], x_shape: Sequence[int], is_block_diagonal: Callable[[int, int], bool]
) -> tuple[_Blocks, _Blocks]:
    """The blocks of output and input along all pairs of dimensions over which the Jacobian is block diagonal."""
    pairs = [(d, e) for d, p in enumerate(y_shape) for e, q in enumerate(x_shape) if p == q > 1]
    found: list[tuple[int, int]] = []
    for d, e in sorted(pairs, key=lambda pair: abs(pair[0] - pair[1])):
        if all(d != f and e != h for f, h in found) and is_block_diagonal(d, e):
            found.append((d, e))
    return _Blocks(y_shape, [d for d, _ in found]), _Blocks(x_shape, [e for _, e in found])


def _zeros(t: Tensor) -> Tensor:
    """Zeros in the shape and number type of a tensor, which may be one of many under ``vmap``."""
    return torch.zeros(t.shape, dtype=t.dtype, device=t.device)


def _real(t: Tensor) -> Tensor:
    """A tensor, with real and imaginary parts of complex numbers along a dimension of their own."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def _complex(t: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`_real`."""
    return torch.view_as_complex(t.contiguous()) if like.is_complex() else t
