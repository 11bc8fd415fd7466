"""How many threads torch and BLAS use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SMALL", "limited", "number_of_threads"]

SMALL = 1_000_000
"""Weights, or edges, below which one thread is used.

Threads meet at the end of every operation. If another program has the core of one of them, the others wait for as long
as the system lets it run, milliseconds for operations of microseconds.
"""


def number_of_threads(asked: int | None, size: float) -> int | None:
    """The number of threads to use; None to leave it as it is.

    Args:
        asked: what the user asks for.
        size: number of weights of the largest network, or of edges of the graph.
    """
    if asked is not None:
        return asked
    if os.environ.get("OMP_NUM_THREADS"):
        return None
    if size < SMALL:
        return 1
    import torch
    from joblib import cpu_count

    # A container, or a batch system, may allow fewer cores than the machine has, of which torch takes all.
    return min(torch.get_num_threads(), cpu_count())


@contextmanager
def limited(asked: int | None, size: float) -> Iterator[None]:
    """A context in which torch, and the BLAS of NumPy and SciPy, use that many threads; see number_of_threads."""
    number = number_of_threads(asked, size)
    if number is None:
        yield
        return
    import scipy.linalg  # noqa: F401  (the limit holds for libraries that are loaded)
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(number):
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(before)
