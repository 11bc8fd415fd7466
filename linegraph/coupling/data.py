"""The data behind P: one (inputs, targets) pair, or an iterable of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import Dataset

from linegraph.errors import DataError, LossError

__all__ = ["batch_size", "batches", "call_model", "check_devices", "check_loss", "is_empty", "is_pair", "num_batches"]


def is_pair(data: Any) -> bool:
    """Whether data is one (inputs, targets) pair rather than an iterable of pairs.

    Raises:
        DataError: if it may be either, as ((x₁, y₁), (x₂, y₂)) of tensors alike: two batches, or two inputs and two
            targets.
    """
    if isinstance(data, tuple) and len(data) == 2:
        if _are_alike(*data):
            raise DataError(
                "data is a tuple of two pairs of tensors that are alike, which may be two batches or one; pass a list "
                "of (inputs, targets) pairs for batches, or the inputs as a list [x₁, x₂] for one pair"
            )
        return True
    return isinstance(data, list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def _are_alike(first: Any, second: Any) -> bool:
    """Whether both are pairs of tensors that differ in their numbers of samples alone."""
    for part in (first, second):
        if not (isinstance(part, tuple) and len(part) == 2 and all(isinstance(t, Tensor) and t.ndim for t in part)):
            return False
    return all((a.shape[1:], a.dtype) == (b.shape[1:], b.dtype) for a, b in zip(first, second, strict=True))


def batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """The (inputs, targets) pairs of data, checked one by one; batches without a sample are left out.

    Raises:
        DataError: if data can be read only once, or an item is no pair.
    """
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        given = type(data).__name__ + ("; wrap it in a DataLoader" if isinstance(data, Dataset) else "")
        raise DataError(f"data must be an (inputs, targets) pair or an iterable of them, got {given}")
    if isinstance(data, Iterator):
        raise DataError("data is an iterator, which can be read only once; pass a list or a DataLoader")
    if isinstance(data, Mapping):
        raise DataError(f"data is {_mapping(data)}; (batch, batch.pop({_target(data)!r})) makes a pair of a batch")
    items = [data] if is_pair(data) else data
    for index, item in enumerate(items):
        if isinstance(item, Mapping):
            raise DataError(
                f"item {index} of data is {_mapping(item)}; [(batch, batch.pop({_target(item)!r})) for batch in data] "
                "makes pairs, and so does the like in collate_fn= of a DataLoader that shuffles"
            )
        if not isinstance(item, tuple | list) or len(item) != 2:
            size = f" of {len(item)} items" if isinstance(item, tuple | list) else ""
            raise DataError(f"item {index} of data is a {type(item).__name__}{size}, not an (inputs, targets) pair")
        if _num_samples(*item) != 0:
            yield _differentiable(item[0]), _differentiable(item[1])


def _differentiable(part: Any) -> Any:
    """Tensors that were made under ``torch.inference_mode``, which autograd does not take, in copies that it does."""
    with torch.inference_mode(False):
        return tree_map(lambda t: t.clone() if isinstance(t, Tensor) and t.is_inference() else t, part)


def _mapping(batch: Mapping[Any, Any]) -> str:
    keys = ", ".join(map(repr, batch)) or "none"
    return f"a {type(batch).__name__} with the keys {keys}, not an (inputs, targets) pair"


def _target(batch: Mapping[Any, Any]) -> Any:
    """The key of the targets, by its name; Hugging Face's is "labels"."""
    return next((key for key in batch if key in ("labels", "label", "targets", "target", "y")), "labels")


def num_batches(data: Any) -> int | None:
    """How many batches there are; None where that is not known, as of a loader of an iterable dataset."""
    try:
        return len(data)
    except TypeError:
        return None


def batch_size(inputs: Any, targets: Any) -> int:
    """Number of samples: the length of the targets, or of the first input if the targets have none.

    Raises:
        DataError: if there is no tensor to tell it.
    """
    if (number := _num_samples(inputs, targets)) is None:
        given = f"inputs are a {type(inputs).__name__}, targets a {type(targets).__name__}"
        raise DataError(
            "cannot tell the number of samples, by which batches are weighted: neither targets nor inputs hold a "
            f"tensor with a dimension, alone or in tuples, lists or mappings ({given}); pass targets, or "
            "set reduction = 'sum' on the loss if it is a sum"
        )
    return number


def _num_samples(inputs: Any, targets: Any) -> int | None:
    return next((leaf.shape[0] for leaf in (*_tensors(targets), *_tensors(inputs)) if leaf.ndim > 0), None)


def is_empty(inputs: Any) -> bool:
    """Whether the first input that has a dimension has no sample."""
    return next((leaf.shape[0] == 0 for leaf in _tensors(inputs) if leaf.ndim), False)


def check_devices(inputs: Any, parameters: Mapping[str, Tensor]) -> None:
    """All synapses on one device, and the inputs, which are tensors, with them."""
    if isinstance(inputs, np.ndarray):
        raise DataError("the inputs are a NumPy array; torch.as_tensor makes a tensor of it")
    devices = {p.device: name for name, p in parameters.items()}
    if len(devices) > 1:
        where = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise DataError(f"the synapses must be on one device, found {where}")
    (device,) = devices
    for leaf in _tensors(inputs):
        if leaf.device != device:
            raise DataError(f"the model is on {device}, the data on {leaf.device}; move one of them")


def _tensors(part: Any) -> list[Tensor]:
    """The tensors in a part of the data, in mappings of any class too."""
    leaves = tree_leaves(part, is_leaf=lambda node: isinstance(node, Mapping))
    found = (_tensors(list(leaf.values())) if isinstance(leaf, Mapping) else [leaf] for leaf in leaves)
    return [t for tensors in found for t in tensors if isinstance(t, Tensor)]


def call_model(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs: tuples and lists are spread, dicts passed as keywords, all else as it is."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence):
        return model(*inputs)
    return model(inputs)


def check_loss(loss_fn: Any) -> None:
    """Refuse what is no function of outputs and targets, such as the class of a loss.

    Raises:
        LossError: names what was given.
    """
    if isinstance(loss_fn, type):
        raise LossError(f"loss_fn is the class {loss_fn.__name__}; pass an instance, {loss_fn.__name__}()")
    if not callable(loss_fn):
        raise LossError(f"loss_fn must be a function loss_fn(outputs, targets), got a {type(loss_fn).__name__}")


def reduces_by_sum(loss_fn: Any) -> bool:
    """Whether the loss says of itself that it sums over samples; every other loss is taken for a mean.

    It says so by an attribute ``reduction``, or by that keyword where it is a :func:`functools.partial`.
    """
    if isinstance(loss_fn, partial) and not hasattr(loss_fn, "reduction"):
        given = loss_fn.keywords.get("reduction")
        return reduces_by_sum(loss_fn.func) if given is None else given == "sum"
    return getattr(loss_fn, "reduction", "mean") == "sum"


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision is summed in single."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
