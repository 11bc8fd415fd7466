"""Kinds of coupling: what becomes of P's entries.

A kind says on which tape the passes run, and turns the products of that tape's P into its own:

=============  =========================  ==================================================
kind           entry                      products
=============  =========================  ==================================================
``signed``     P_ij                       those of the tape
``magnitude``  Σ of absolute factors      those of the tape of absolute paths
``flow``       w_i P_ij w_j               w ∘ P (w ∘ v)
``energy``     P_ij²                      by random signs ε: E[(P ε) ∘ P (ε ∘ v)]
=============  =========================  ==================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from linegraph.coupling.paths import MagnitudeTape
from linegraph.coupling.tape import Tape

__all__ = ["KINDS", "Energy", "Kind", "Strengths"]

Product = Callable[[Tensor], Tensor]

PROBES = 32
AT_ONCE = 4
"""Probes in one product: a block of them is read with the data once."""


class Strengths(NamedTuple):
    """P 1 and Pᵀ 1, and the sum of the absolute terms of 1ᵀP1."""

    incoming: Tensor
    outgoing: Tensor
    absolute_total: float


class Recorded(Protocol):
    """What a kind may ask of the coupling that it is of."""

    @property
    def num_nodes(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def weights(self) -> Tensor: ...
    def gradient(self) -> Tensor: ...
    def drive(self) -> Tensor: ...
    def pull(self, block: Tensor) -> Tensor: ...
    def push(self, block: Tensor) -> Tensor: ...
    def tape_strengths(self) -> Strengths: ...


class Kind:
    """The coupling of a tape as it is."""

    def __init__(self, tape: type[Tape]) -> None:
        self.tape = tape

    def multiply(self, P: Recorded, product: Product, block: Tensor) -> Tensor:
        """This kind's product with a block (n, k), from P's own."""
        return product(block)

    def strengths(self, P: Recorded) -> Strengths:
        """This kind's strengths."""
        return P.tape_strengths()

    def entries(self, P: Recorded, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        """This kind's entries at (targets, sources), from P's own."""
        return entries


class Flow(Kind):
    """F = diag(w) P diag(w): the share of one synapse's weight in the motion of another, weighted by that one."""

    def multiply(self, P: Recorded, product: Product, block: Tensor) -> Tensor:
        w = P.weights().unsqueeze(1)
        return w * product(w * block)

    def strengths(self, P: Recorded) -> Strengths:
        # P w = −(∇C + b), so that one gradient gives the in-strengths without a product.
        w = P.weights()
        incoming = -w * (P.gradient() + P.drive())
        outgoing = w * P.push(w.unsqueeze(1)).squeeze(1)
        return Strengths(incoming, outgoing, float(incoming.abs().sum(dtype=torch.float64)))

    def entries(self, P: Recorded, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        w = P.weights()
        return w[targets] * entries * w[sources]


class Energy(Kind):
    """Squared entries, estimated by products with random signs ε: E[(P ε)_i²] = Σ_j P_ij².

    The signs are those of one seed in every product, so that the operator stays one and the same linear map.
    """

    def __init__(self, probes: int | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__(Tape)
        self.probes = PROBES if probes is None else probes
        if self.probes < 2:
            raise ValueError(f"probes must be 2 or more, to tell the standard error, got {self.probes}")
        self._seed = (
            0 if generator is None else int(torch.randint(2**62, (), generator=generator, device=generator.device))
        )
        self._errors: tuple[Tensor, Tensor] | None = None

    def multiply(self, P: Recorded, product: Product, block: Tensor) -> Tensor:
        total = torch.zeros_like(block)
        for signs in self._signs(P, 1):
            found = product(torch.cat([signs, signs * block], 1))
            total += found[:, :1] * found[:, 1:]
        return total / self.probes

    def strengths(self, P: Recorded) -> Strengths:
        (incoming, error_in), (outgoing, error_out) = (self._squares(P, product) for product in (P.pull, P.push))
        self._errors = error_in, error_out
        return Strengths(incoming, outgoing, float(incoming.sum(dtype=torch.float64)))

    def errors(self) -> tuple[Tensor, Tensor]:
        """Standard errors of the last strengths."""
        assert self._errors is not None
        return self._errors

    def entries(self, P: Recorded, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        return entries.square()

    def _squares(self, P: Recorded, product: Product) -> tuple[Tensor, Tensor]:
        """Mean of (P ε)² over the probes, and its standard error (Welford's recurrence)."""
        mean = torch.zeros(P.num_nodes, dtype=P.dtype, device=P.device)
        spread, count = torch.zeros_like(mean), 0
        for signs in self._signs(P, AT_ONCE):
            for sample in product(signs).square_().unbind(1):
                count += 1
                change = sample - mean
                mean += change / count
                spread += change * (sample - mean)
        return mean, (spread / (count * (count - 1))).sqrt_()

    def _signs(self, P: Recorded, at_once: int) -> Iterator[Tensor]:
        """Blocks of random signs, in all ``probes`` columns, the same on every device and in every call."""
        generator = torch.Generator().manual_seed(self._seed)
        for first in range(0, self.probes, at_once):
            shape = (min(at_once, self.probes - first), P.num_nodes)
            bits = torch.randint(2, shape, generator=generator, dtype=torch.int8)
            yield bits.mT.to(P.device, P.dtype).mul_(2).sub_(1)


KINDS: dict[str, Callable[..., Kind]] = {
    "signed": partial(Kind, Tape),
    "magnitude": partial(Kind, MagnitudeTape),
    "flow": partial(Flow, Tape),
    "energy": Energy,
}


def make(kind: str, **options: Any) -> Kind:
    """The kind of this name; ``probes`` and ``generator`` belong to energy alone."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    given = {name: value for name, value in options.items() if value is not None}
    if given and kind != "energy":
        raise ValueError(
            f"{next(iter(given))}= belongs to kind='energy', which estimates by random probes; got {kind!r}"
        )
    return KINDS[kind](**given)
