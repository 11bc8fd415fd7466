"""Kinds of coupling: "signed", "magnitude", "flow" and "energy", each with other entries and products.

A kind names the tape that records the passes, signed or with absolute values, and computes its products from those of
that tape's P:

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
from typing import Any

import torch
from torch import Tensor

from linegraph.arguments import check_choice, check_generator, check_number_of
from linegraph.coupling.recorded import Recorded
from linegraph.coupling.tracing.magnitude import MagnitudeTape
from linegraph.coupling.tracing.tape import Tape
from linegraph.errors import DataError
from linegraph.numerics import double_dot
from linegraph.processes import agreed

__all__ = ["COUPLING_KINDS", "Energy", "Kind"]

BlockProduct = Callable[[Tensor], Tensor]

DEFAULT_PROBES = 32
"""Random probes that "energy" averages over, unless the user says otherwise."""

PROBES_PER_PRODUCT = 4
"""Probes that one product multiplies as a block, so that the data are read once for all of them."""


class Kind:
    """The kinds "signed" and "magnitude", whose entries are those of the tape's P; base class of the others.

    Args:
        tape: the class of tape that records the passes.

    Attributes:
        is_of_the_tape: whether the entries are those of the tape's P.
        is_estimated: whether strengths are estimated by random probes, and so have standard errors.
        is_non_negative: whether no entry is negative.
    """

    is_of_the_tape = True
    is_estimated = False

    def __init__(self, tape: type[Tape]) -> None:
        self.tape = tape
        self.is_non_negative = not tape.signed

    def multiply(self, P: Recorded, product: BlockProduct, block: Tensor) -> Tensor:
        """The product of this kind with a block (n, k).

        ``product`` multiplies a block by the tape's P or its transpose.
        """
        return product(block)

    def in_strength(self, P: Recorded) -> Tensor:
        """P 1 of this kind, (n,)."""
        return P.tape_in_strength()

    def out_strength(self, P: Recorded) -> Tensor:
        """Pᵀ 1 of this kind, (n,)."""
        return P.tape_out_strength()

    def total(self, P: Recorded, v: Tensor) -> float:
        """1ᵀ P v of this kind, for a vector (n,)."""
        return P.tape_total(v)

    def standard_errors(self, P: Recorded) -> tuple[Tensor, Tensor]:
        """Standard errors of the in- and out-strengths, each (n,).

        Raises:
            DataError: if the strengths are exact.
        """
        raise DataError(f"the strengths of kind={P.kind!r} are exact; only kind='energy' has standard errors")

    def entries(self, P: Recorded, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        """Turn entries of the tape's P at (targets, sources) into entries of this kind."""
        return entries


class Flow(Kind):
    """The kind "flow", F = diag(w) P diag(w).

    The share of synapse j in the motion of synapse i, times the weight of i.
    """

    is_of_the_tape = False

    def multiply(self, P: Recorded, product: BlockProduct, block: Tensor) -> Tensor:
        w = P.weights().unsqueeze(1)
        return w * product(w * block)

    def in_strength(self, P: Recorded) -> Tensor:
        # P w = −(∇C + b), so that one gradient gives the in-strengths without a product.
        return -P.weights() * (P.gradient() + P.drive())

    def out_strength(self, P: Recorded) -> Tensor:
        w = P.weights()
        return w * P.push(w.unsqueeze(1)).squeeze(1)

    def total(self, P: Recorded, v: Tensor) -> float:
        return float(double_dot(P.out_strength(), v))

    def entries(self, P: Recorded, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        w = P.weights()
        return w[targets] * entries * w[sources]


class Energy(Kind):
    """The kind "energy": squared entries, estimated by products with random signs ε, E[(P ε)_i²] = Σ_j P_ij².

    All products draw their signs from the same seed, so that the operator is one linear map.

    Args:
        probes: how many vectors ε to average over, at least 2.
        generator: draws the seed; by default it is 0.
    """

    is_of_the_tape = False
    is_estimated = True

    def __init__(self, probes: int | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__(Tape)
        self.is_non_negative = True
        self.probes = DEFAULT_PROBES if probes is None else probes
        check_number_of("probes", self.probes, least=2)  # a single one has no standard error
        seed = 0 if generator is None else torch.randint(2**62, (), generator=generator, device=generator.device)
        self._seed = agreed(int(seed))  # the same signs in every process
        self._estimates: dict[str, tuple[Tensor, Tensor]] = {}

    def multiply(self, P: Recorded, product: BlockProduct, block: Tensor) -> Tensor:
        total = torch.zeros_like(block)
        for signs in self._signs(P, 1):
            found = product(torch.cat([signs, signs * block], 1))
            total += found[:, :1] * found[:, 1:]
        return total / self.probes

    def in_strength(self, P: Recorded) -> Tensor:
        return self._estimate(P, P.pull)[0].clone()

    def out_strength(self, P: Recorded) -> Tensor:
        return self._estimate(P, P.push)[0].clone()

    def total(self, P: Recorded, v: Tensor) -> float:
        return float(double_dot(P.out_strength(), v))

    def standard_errors(self, P: Recorded) -> tuple[Tensor, Tensor]:
        """Standard errors of the in- and out-strengths, each (n,), from the spread over the probes."""
        return self._estimate(P, P.pull)[1].clone(), self._estimate(P, P.push)[1].clone()

    def _estimate(self, P: Recorded, product: BlockProduct) -> tuple[Tensor, Tensor]:
        """The strengths by P or Pᵀ, as ``product`` says, and their standard errors; computed once and kept."""
        name = product.__name__
        if name not in self._estimates:
            self._estimates[name] = self._squares(P, product)
        return self._estimates[name]

    def entries(self, P: Recorded, entries: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
        return entries.square()

    def _squares(self, P: Recorded, product: BlockProduct) -> tuple[Tensor, Tensor]:
        """Mean of (P ε)² over the probes, and its standard error (Welford's recurrence)."""
        mean = torch.zeros(P.num_nodes, dtype=P.dtype, device=P.device)
        spread, count = torch.zeros_like(mean), 0
        for signs in self._signs(P, PROBES_PER_PRODUCT):
            for sample in product(signs).square_().unbind(1):
                count += 1
                change = sample - mean
                mean += change / count
                spread += change * (sample - mean)
        return mean, (spread / (count * (count - 1))).sqrt_()

    def _signs(self, P: Recorded, columns: int) -> Iterator[Tensor]:
        """Random signs in blocks (n, ``columns``), ``probes`` columns in all.

        The same on every device and in every call.
        """
        generator = torch.Generator().manual_seed(self._seed)
        for first in range(0, self.probes, columns):
            shape = (min(columns, self.probes - first), P.num_nodes)
            bits = torch.randint(2, shape, generator=generator, dtype=torch.int8, device="cpu")
            yield bits.mT.to(P.device, P.dtype).mul_(2).sub_(1)


COUPLING_KINDS: dict[str, Callable[..., Kind]] = {
    "signed": partial(Kind, Tape),
    "magnitude": partial(Kind, MagnitudeTape),
    "flow": partial(Flow, Tape),
    "energy": Energy,
}


def make(kind: str, **options: Any) -> Kind:
    """Make the kind of this name.

    Args:
        kind: a key of :data:`COUPLING_KINDS`.
        **options: ``probes`` and ``generator`` of "energy"; None means the default.

    Raises:
        DataError: if there is no such kind, or it takes no such option.
        ArgumentTypeError: if ``generator`` is not one of torch's.
    """
    check_choice("kind", kind, COUPLING_KINDS)
    given = {name: value for name, value in options.items() if value is not None}
    if given and kind != "energy":
        raise DataError(
            f"{next(iter(given))}= belongs to kind='energy' only, which averages over random probes; got {kind!r}"
        )
    check_generator(given.get("generator"))
    return COUPLING_KINDS[kind](**given)
