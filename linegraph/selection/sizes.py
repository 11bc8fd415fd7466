"""Sizes of a network as scores: numbers of parameters and of operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from linegraph.arguments import check_module
from linegraph.coupling.model.data import batch_size
from linegraph.quiet import ignoring
from linegraph.selection.constructed import checked, unchanged
from linegraph.selection.methods import register_method

__all__ = ["flops", "num_parameters"]

FUSED = nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention
"""Modules that run in evaluation mode as one operation, which torch does not count."""


def num_parameters(model: nn.Module, loss_fn: Any = None, data: Any = None) -> float:
    """The number of parameters of a network, frozen ones included, and tied ones counted once.

    Args:
        model: the network.
        loss_fn: not used.
        data: not used.

    Returns:
        The number, as a float; higher is taken as better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.

    Cost: none.

    Source: the baseline of C. White et al., ICLR blog track 2022, "A deeper look at zero-cost proxies".

    Example:
        >>> import torch
        >>> from linegraph.selection import num_parameters
        >>> num_parameters(torch.nn.Linear(3, 2))
        8.0
    """
    check_module(model)
    return float(sum(p.numel() for p in model.parameters()))


def flops(model: nn.Module, loss_fn: Any, data: Any) -> float:
    """The number of floating-point operations of a forward pass, per sample.

    Args:
        model: the network, which is left unchanged.
        loss_fn: not used.
        data: one (inputs, targets) pair, or an iterable of pairs, of which the first batch is used.

    Returns:
        The number, in which a multiplication and an addition are two; higher is taken as better. Counted are matrix
        products, convolutions, recurrences and attention, as ``torch.utils.flop_counter`` does.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample, or their number is not certain.

    Cost: one forward pass of a batch.

    Source: ``torch.utils.flop_counter``; the baseline of C. White et al., ICLR blog track 2022.

    Example:
        >>> import torch
        >>> from linegraph.selection import flops
        >>> flops(torch.nn.Linear(3, 2), None, (torch.randn(8, 3), torch.arange(8)))
        12.0
    """
    from torch.utils.flop_counter import FlopCounterMode

    inputs, targets = checked(data)[0]
    samples = len(targets) if isinstance(inputs, Mapping) else batch_size(inputs, targets)
    with unchanged(model) as call, torch.no_grad(), _unfused(), FlopCounterMode(display=False) as counter:
        for module in model.modules():
            if isinstance(module, FUSED):
                module.training = True
        call(inputs)
    return float(counter.get_total_flops()) / samples


@contextmanager
def _unfused() -> Iterator[None]:
    """A context in which recurrent layers do not run as one operation of a library, which torch does not count."""
    told = ignoring("TF32 acceleration", category=UserWarning)  # of the second context, about other devices
    with told, torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
        yield


for name, function, formula in (
    ("num_parameters", num_parameters, "the number of parameters"),
    ("flops", flops, "floating-point operations of a forward pass, per sample"),
):
    register_method(
        name,
        function,
        needs=["initialisation"],
        formula=formula,
        source="White et al., ICLR blog track 2022, A deeper look at zero-cost proxies",
    )
