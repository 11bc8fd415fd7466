"""What a mean loss divides its sum by; batches are weighted by it, so that P is that of the loss on all data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from linegraph.errors import LossError

__all__ = [
    "LOSSES",
    "Divisor",
    "check_loss",
    "divides_elementwise",
    "divisor",
    "ignored_index",
    "is_torchs",
    "name_of",
    "reduces_by_sum",
    "torchs_function",
]


def check_loss(loss_fn: Any) -> None:
    """Check that a loss is a function of outputs and targets, and not, for instance, a class.

    Raises:
        LossError: names what was given.
    """
    if isinstance(loss_fn, type):
        raise LossError(f"loss_fn is the class {loss_fn.__name__}; pass an instance, {loss_fn.__name__}()")
    if not callable(loss_fn):
        raise LossError(f"loss_fn must be a function loss_fn(outputs, targets), got a {type(loss_fn).__name__}")


def reduces_by_sum(loss_fn: Any) -> bool:
    """Whether a loss states that it sums over samples. Every other loss is taken for a mean.

    It states so by an attribute ``reduction == "sum"``, or by that keyword of a :func:`functools.partial`.
    """
    if isinstance(loss_fn, partial) and not hasattr(loss_fn, "reduction"):
        given = loss_fn.keywords.get("reduction")
        if loss_fn.keywords.get("size_average") is False:  # torch's older name
            return True
        return reduces_by_sum(loss_fn.func) if given is None else given == "sum"
    if (owner := _owner(loss_fn)) is not None:
        return reduces_by_sum(owner)
    return getattr(loss_fn, "reduction", "mean") == "sum"


def _owner(loss_fn: Any) -> Any:
    """The module whose ``forward`` or ``__call__`` the loss is, or which was compiled to it; None otherwise."""
    if inspect.ismethod(loss_fn) and loss_fn.__name__ in ("forward", "__call__"):
        return loss_fn.__self__ if isinstance(loss_fn.__self__, nn.Module) else None
    return getattr(loss_fn, "_orig_mod", None) if isinstance(loss_fn, nn.Module) else None


def name_of(loss_fn: Any) -> str:
    """The name of a loss for messages."""
    if isinstance(loss_fn, partial):
        return name_of(loss_fn.func)
    return getattr(loss_fn, "__qualname__", None) or type(loss_fn).__name__


# torch's own -----------------------------------------------------------------------------------------

Settings = Mapping[str, Any]
Divisor = Callable[[Tensor, Settings], Tensor | int]


def _elements(targets: Tensor, settings: Settings) -> int:
    return targets.numel()


def _labels(targets: Tensor, settings: Settings) -> int:
    """Number of labels, one for each sample."""
    return targets.numel()


def _samples(targets: Tensor, settings: Settings) -> int:
    """Number of samples, where each has a row of labels."""
    return len(targets) if targets.ndim > 1 else 1


def _elements_or_samples(targets: Tensor, settings: Settings) -> int:
    """Divisor of the Kullback-Leibler divergence."""
    return len(targets) if settings.get("reduction") == "batchmean" else targets.numel()


def _classes(targets: Tensor, settings: Settings) -> Tensor | int:
    """Number of targets that are not ignored, or the sum of the weights of their classes."""
    if targets.is_floating_point():  # probabilities of classes: the divisor is the number of samples and positions
        return targets.numel() // targets.shape[1] if targets.ndim > 1 else 1
    ignored = settings.get("ignore_index")
    kept, weight = targets != (-100 if ignored is None else ignored), settings.get("weight")
    if weight is None:
        return kept.sum()
    chosen = weight.detach()[torch.where(kept, targets, 0).long()]
    return torch.where(kept, chosen, 0).sum(dtype=torch.float64)


_ELEMENTWISE: list[tuple[Callable[..., Any], type[nn.Module]]] = [
    (F.mse_loss, nn.MSELoss),
    (F.l1_loss, nn.L1Loss),
    (F.smooth_l1_loss, nn.SmoothL1Loss),
    (F.huber_loss, nn.HuberLoss),
    (F.binary_cross_entropy, nn.BCELoss),
    (F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss),
    (F.poisson_nll_loss, nn.PoissonNLLLoss),
    (F.gaussian_nll_loss, nn.GaussianNLLLoss),
    (F.soft_margin_loss, nn.SoftMarginLoss),
    (F.hinge_embedding_loss, nn.HingeEmbeddingLoss),
    (F.multilabel_soft_margin_loss, nn.MultiLabelSoftMarginLoss),
]
_OTHERS: list[tuple[Callable[..., Any], type[nn.Module], Divisor]] = [
    (F.kl_div, nn.KLDivLoss, _elements_or_samples),
    (F.multi_margin_loss, nn.MultiMarginLoss, _labels),
    (F.multilabel_margin_loss, nn.MultiLabelMarginLoss, _samples),
    (F.cross_entropy, nn.CrossEntropyLoss, _classes),
    (F.nll_loss, nn.NLLLoss, _classes),
]
_ALL = [*((f, m, _elements) for f, m in _ELEMENTWISE), *_OTHERS]
LOSSES: dict[str, Callable[..., Tensor]] = {called.__name__: called for called, *_ in _ALL}
"""Losses of torch that compare outputs with targets, by their names in :mod:`torch.nn.functional`."""

_DIVISORS: dict[Any, Divisor] = {function: by for called, module, by in _ALL for function in (called, module.forward)}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    function: called for called, module, _ in _ALL for function in (called, module.forward)
}
if hasattr(nn, "LinearCrossEntropyLoss"):
    _DIVISORS[nn.LinearCrossEntropyLoss.forward] = _classes


def divisor(loss_fn: Any, targets: Any) -> Tensor | int | None:
    """What a mean loss of torch's own divides the sum over a batch by; None for any other loss.

    If targets are classes, it is the number of those that are not ignored, or the sum of their class weights; otherwise
    the number of elements or samples. It is a tensor if it is counted on the device.
    """
    function, settings = _recognised(loss_fn)
    by = _DIVISORS.get(function)
    if by is None or not isinstance(targets, Tensor) or not (targets.ndim or by is _classes):
        return None
    return by(targets, settings)


def is_torchs(loss_fn: Any) -> bool:
    """Whether a loss is torch's own, and so has no state that a call changes."""
    return _recognised(loss_fn)[0] in _DIVISORS


def torchs_function(loss_fn: Any) -> Callable[..., Any] | None:
    """The function of :mod:`torch.nn.functional` that a loss of torch's own computes; None for any other loss."""
    return _FUNCTIONS.get(_recognised(loss_fn)[0])


def ignored_index(loss_fn: Any) -> int:
    """The class index that a loss ignores; -100 for a loss that states none."""
    if isinstance(loss_fn, partial):
        return int(loss_fn.keywords.get("ignore_index", ignored_index(loss_fn.func)))
    return int(getattr(loss_fn, "ignore_index", -100))


def divides_elementwise(loss_fn: Any) -> bool:
    """Whether a loss is one of torch's means over elements, which broadcast targets smaller than the outputs."""
    return _DIVISORS.get(_recognised(loss_fn)[0]) in (_elements, _elements_or_samples)


def _recognised(loss_fn: Any) -> tuple[Any, Settings]:
    """The function that a loss is, or the ``forward`` of its class, and the settings of the loss."""
    settings: dict[str, Any] = {}
    while True:
        if isinstance(loss_fn, partial) and not loss_fn.args:
            settings, loss_fn = {**loss_fn.keywords, **settings}, loss_fn.func
        elif (owner := _owner(loss_fn)) is not None:
            loss_fn = owner
        else:
            break
    if isinstance(loss_fn, nn.Module):
        forward = None if "forward" in vars(loss_fn) else type(loss_fn).forward
        names = ("reduction", "weight", "ignore_index")
        return forward, {name: getattr(loss_fn, name, None) for name in names}
    return loss_fn if inspect.isroutine(loss_fn) else None, settings
