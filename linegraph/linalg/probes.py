"""Random probes: estimates of sums over the entries of P, from products with vectors of random signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from linegraph.arguments import check_generator, check_number_of
from linegraph.coupling.base import Coupling
from linegraph.progress import counting

__all__ = ["PROBES_PER_PRODUCT", "are_exact", "check_probes", "random_signs"]

PROBES_PER_PRODUCT = 4
"""Number of probes in one product, which reads the data once for all of them."""


def check_probes(probes: int, generator: Any = None) -> None:
    """Refuse fewer than two probes, and generators of other libraries than torch.

    Raises:
        DataError: names the number.
        ArgumentTypeError: names the type of the generator.
    """
    check_number_of("probes", probes, least=2)
    check_generator(generator)


def are_exact(P: Coupling, probes: int) -> bool:
    """Whether there are as many probes as nodes, so that the sums are exact."""
    return P.num_nodes <= probes


def random_signs(
    P: Coupling, probes: int, generator: torch.Generator | None = None, *, progress: bool = False
) -> Iterator[Tensor]:
    """Blocks (n, up to 4) of columns ε with E[ε εᵀ] = I: ``probes`` columns of random signs in all.

    Where n ≤ ``probes`` they are the n columns of √n · I, whose mean of ε εᵀ is I exactly. The same seed gives the
    same signs on every device; the default seed is fixed.

    Raises:
        DataError: if ``probes`` is less than 2.
        ArgumentTypeError: if ``generator`` is none.
    """
    check_probes(probes, generator)
    n = P.num_nodes
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    count = min(n, probes)
    with counting(progress, total=count, unit="probe", desc="random vectors") as bar:
        for first in range(0, count, PROBES_PER_PRODUCT):
            columns = min(PROBES_PER_PRODUCT, count - first)
            if are_exact(P, probes):
                block = torch.eye(n, dtype=P.dtype, device=P.device)[:, first : first + columns] * n**0.5
            else:
                bits = torch.randint(2, (columns, n), generator=generator, device=generator.device, dtype=torch.int8)
                block = bits.mT.to(P.device, P.dtype).mul_(2).sub_(1)
            yield block
            bar.update(columns)
