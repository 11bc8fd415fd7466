"""The user's data: one (inputs, targets) pair or an iterable of pairs, and the number of samples in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import Dataset

from linegraph.errors import DataError
from linegraph.turns import reading

__all__ = [
    "batch_size",
    "batches",
    "call_model",
    "check_devices",
    "has_no_sample",
    "is_at_hand",
    "is_empty",
    "is_one_batch",
    "is_pair",
    "num_batches",
    "pairs",
    "tensors_in",
]


def is_pair(data: Any) -> bool:
    """Whether data is one (inputs, targets) pair rather than an iterable of pairs.

    Raises:
        DataError: if it may be either: a tuple ((x₁, y₁), (x₂, y₂)) may be two batches, or one batch of two inputs
            and two targets, if x₁ and x₂ have the same shape and type, and y₁ and y₂ too.
    """
    if isinstance(data, tuple) and len(data) == 2:
        if _are_alike(*data):
            raise DataError(
                "data is a tuple of two pairs of tensors of the same shapes, which may be two batches or one; pass a "
                "list of (inputs, targets) pairs for two batches, or the inputs as a list [x₁, x₂] for one pair of two "
                "inputs and two targets"
            )
        return True
    return isinstance(data, list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def _are_alike(first: Any, second: Any) -> bool:
    """Whether both are pairs of tensors that differ at most in their numbers of samples."""
    for part in (first, second):
        if not (isinstance(part, tuple) and len(part) == 2 and all(isinstance(t, Tensor) and t.ndim for t in part)):
            return False
    return all((a.shape[1:], a.dtype) == (b.shape[1:], b.dtype) for a, b in zip(first, second, strict=True))


def pairs(data: Any) -> Iterator[tuple[Any, Any]]:
    """The (inputs, targets) pairs of data, checked one by one.

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
    for index, item in enumerate(reading(items)):
        if isinstance(item, Mapping):
            raise DataError(
                f"item {index} of data is {_mapping(item)}; [(batch, batch.pop({_target(item)!r})) for batch in data] "
                "makes a list of pairs; for a DataLoader that shuffles, return such a pair from collate_fn="
            )
        if not isinstance(item, tuple | list) or len(item) != 2:
            size = f" of {len(item)} items" if isinstance(item, tuple | list) else ""
            raise DataError(f"item {index} of data is a {type(item).__name__}{size}, not an (inputs, targets) pair")
        yield _differentiable(item[0]), _differentiable(item[1])


def _differentiable(part: Any) -> Any:
    """Copy tensors that were made under ``torch.inference_mode``, since autograd refuses them."""
    with torch.inference_mode(False):
        return tree_map(lambda t: t.clone() if isinstance(t, Tensor) and t.is_inference() else t, part)


def batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of data that hold at least one sample; raises as :func:`pairs` does."""
    return (pair for pair in pairs(data) if not has_no_sample(*pair))


def _mapping(batch: Mapping[Any, Any]) -> str:
    keys = ", ".join(map(repr, batch)) or "none"
    return f"a {type(batch).__name__} with the keys {keys}, not an (inputs, targets) pair"


def _target(batch: Mapping[Any, Any]) -> Any:
    """The key of the targets, by its name; Hugging Face's is "labels"."""
    return next((key for key in batch if key in ("labels", "label", "targets", "target", "y")), "labels")


def num_batches(data: Any) -> int | None:
    """Number of batches; None if it is not known, as for a loader of an iterable dataset."""
    try:
        return len(data)
    except TypeError:
        return None


def is_at_hand(data: Any) -> bool:
    """Whether all batches are in memory, as a pair, list or tuple, so that reading them runs no code of the user's."""
    return type(data) in (list, tuple)


def is_one_batch(data: Any) -> bool:
    """Whether the data are certainly a single batch: a pair, or a list of one pair."""
    return is_pair(data) or (is_at_hand(data) and len(data) == 1)


# samples -------------------------------------------------------------------------------------------


def batch_size(inputs: Any, targets: Any) -> int:
    """Number of samples of a batch, if all parts of the batch agree on it.

    A part may be a tensor, whose first dimension counts samples; packed sequences, whose number counts; or a list with
    an item for each sample, such as the boxes in each image, whose length counts. The items of a tuple or list
    ``inputs`` are arguments of the model, not samples. If a list may hold either samples or tensors of the whole batch,
    the other parts must decide.

    Raises:
        DataError: if no part has a number of samples, or parts disagree; names the lengths found.
    """
    arguments = list(inputs) if _is_sequence(inputs) else [inputs]
    if len(sizes := _common([_sizes(part) for part in (*arguments, targets)]) - {None}) == 1:
        return next(size for size in sizes if size is not None)
    if lengths := [*_lengths("inputs", inputs), *_lengths("targets", targets)]:
        why = f"tensors and lists do not agree on one length ({', '.join(lengths[:8])})"
    else:
        given = f"inputs are a {type(inputs).__name__}, targets a {type(targets).__name__}"
        why = f"neither targets nor inputs hold a tensor with a dimension, in tuples, lists or mappings ({given})"
    raise DataError(
        f"cannot tell the number of samples, by which batches are weighted: {why}; pass the weight of a batch, such as "
        "batch_weight=lambda inputs, targets: len(targets), pass targets with an item for each sample, or set "
        "loss_fn.reduction = 'sum' if the loss is a sum"
    )


def _is_sequence(part: Any) -> bool:
    return isinstance(part, tuple | list) and not isinstance(part, PackedSequence)


def _sizes(part: Any) -> set[int | None]:
    """The possible numbers of samples of a part; with None if it may be any, empty if the part contradicts itself."""
    if isinstance(part, Tensor):
        return {len(part) if part.ndim else None}
    if isinstance(part, PackedSequence):
        return {int(part.batch_sizes[0])}
    if isinstance(part, Mapping):
        return _common([_sizes(value) for value in part.values()])
    if not _is_sequence(part):
        return {None}
    if part and all(isinstance(item, Mapping) for item in part):
        return {len(part)}
    of_tensors = _common([_sizes(item) for item in part])
    return of_tensors if part and of_tensors == {None} else of_tensors | {len(part)}


def _common(options: list[set[int | None]]) -> set[int | None]:
    """The numbers that all parts can agree on; a part that contains None agrees with any."""
    return {size for size in {None}.union(*options) if all(size in sizes or None in sizes for sizes in options)}


def _lengths(name: str, part: Any) -> list[str]:
    """The lengths of a part and of the parts in it, for an error message."""
    if isinstance(part, Tensor):
        return [f"{name} {len(part)}"] if part.ndim else []
    if isinstance(part, PackedSequence):
        return [f"{name} {int(part.batch_sizes[0])}"]
    if _is_sequence(part):
        whole = [f"the list {name} {len(part)}"] if name != "inputs" else []
        return whole + [length for i, item in enumerate(part) for length in _lengths(f"{name}[{i}]", item)]
    if isinstance(part, Mapping):
        return [length for key, item in part.items() for length in _lengths(f"{name}[{key!r}]", item)]
    return []


def has_no_sample(inputs: Any, targets: Any) -> bool:
    """Whether a batch is empty. Its inputs decide: targets may be empty for a sample, as of an image without boxes."""
    sizes = [len(leaf) for leaf in tensors_in(inputs) if leaf.ndim]
    if isinstance(targets, Tensor) and targets.ndim and not len(targets):
        return not sizes or not sizes[0]
    return bool(sizes) and not any(sizes)


def is_empty(inputs: Any) -> bool:
    """Whether the first input that has a dimension has no sample."""
    return next((leaf.shape[0] == 0 for leaf in tensors_in(inputs) if leaf.ndim), False)


# arguments of the model -------------------------------------------------------------------------------


def check_devices(inputs: Any, parameters: Mapping[str, Tensor]) -> None:
    """Check that all synapses are on one device, and that the inputs are tensors there.

    Raises:
        DataError: names the devices found.
    """
    if isinstance(inputs, np.ndarray):
        raise DataError("the inputs are a NumPy array; torch.as_tensor makes a tensor of it")
    devices = {p.device: name for name, p in parameters.items()}
    if len(devices) > 1:
        where = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise DataError(f"the synapses must be on one device, found {where}")
    (device,) = devices
    for leaf in tensors_in(inputs):
        if leaf.device != device:
            raise DataError(f"the model is on {device}, the data on {leaf.device}; move one of them")


def tensors_in(part: Any) -> list[Tensor]:
    """The tensors in a part of the data, also inside mappings of any class."""
    leaves = tree_leaves(part, is_leaf=lambda node: isinstance(node, Mapping))
    found = (tensors_in(list(leaf.values())) if isinstance(leaf, Mapping) else [leaf] for leaf in leaves)
    return [t for tensors in found for t in tensors if isinstance(t, Tensor)]


def call_model(model: Callable[..., Any], inputs: Any) -> Any:
    """The model's outputs. Tuples and lists of inputs become positional arguments, mappings become keywords."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if _is_sequence(inputs) else model(inputs)
