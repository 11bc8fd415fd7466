"""The data behind P: one (inputs, targets) pair, or an iterable of them, and the samples that a batch holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
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
                "makes pairs, and so does the like in collate_fn= of a DataLoader that shuffles"
            )
        if not isinstance(item, tuple | list) or len(item) != 2:
            size = f" of {len(item)} items" if isinstance(item, tuple | list) else ""
            raise DataError(f"item {index} of data is a {type(item).__name__}{size}, not an (inputs, targets) pair")
        yield _differentiable(item[0]), _differentiable(item[1])


def _differentiable(part: Any) -> Any:
    """Tensors that were made under ``torch.inference_mode``, which autograd does not take, in copies that it does."""
    with torch.inference_mode(False):
        return tree_map(lambda t: t.clone() if isinstance(t, Tensor) and t.is_inference() else t, part)


def batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of data that hold a sample; raises as :func:`pairs` does."""
    return (pair for pair in pairs(data) if not has_no_sample(*pair))


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


def is_at_hand(data: Any) -> bool:
    """Whether all batches are there, so that no code of the caller's gives them: of a pair, a list and a tuple."""
    return type(data) in (list, tuple)


def is_one_batch(data: Any) -> bool:
    """Whether it is certain that there is nothing to average: of a pair, and of a list of one."""
    return is_pair(data) or (is_at_hand(data) and len(data) == 1)


# samples -------------------------------------------------------------------------------------------


def batch_size(inputs: Any, targets: Any) -> int:
    """Number of samples of a batch, where all that could tell it agrees.

    What tells it is the first dimension of every tensor, the number of sequences of packed ones, and the length of a
    list with an item for each sample, as a list of the boxes in every image is. An item of ``inputs`` itself is an
    argument of the model, not a sample. Where the items of a list may be samples or tensors of the whole batch, the
    rest of the batch must decide.

    Raises:
        DataError: if there is nothing to tell it, or what tells it disagrees; names what was found.
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
        f"cannot tell the number of samples, by which batches are weighted: {why}; state the weight of a batch, as "
        "batch_weight=lambda inputs, targets: len(targets), pass targets with an item for each sample, or set "
        "reduction = 'sum' on the loss if it is a sum"
    )


def _is_sequence(part: Any) -> bool:
    return isinstance(part, tuple | list) and not isinstance(part, PackedSequence)


def _sizes(part: Any) -> set[int | None]:
    """The numbers of samples that a part may have; None where it tells nothing, nothing where it contradicts itself."""
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
    """What all can agree on."""
    return {size for size in {None}.union(*options) if all(size in sizes or None in sizes for sizes in options)}


def _lengths(name: str, part: Any) -> list[str]:
    """What stands where, for an error."""
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
    """Whether a batch is empty: its inputs are. A sample may have nothing in the targets, as an image without a box."""
    sizes = [len(leaf) for leaf in tensors_in(inputs) if leaf.ndim]
    if isinstance(targets, Tensor) and targets.ndim and not len(targets):
        return not sizes or not sizes[0]
    return bool(sizes) and not any(sizes)


def is_empty(inputs: Any) -> bool:
    """Whether the first input that has a dimension has no sample."""
    return next((leaf.shape[0] == 0 for leaf in tensors_in(inputs) if leaf.ndim), False)


# what the model gets -------------------------------------------------------------------------------


def check_devices(inputs: Any, parameters: Mapping[str, Tensor]) -> None:
    """All synapses on one device, and the inputs, which are tensors, with them."""
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
    """The tensors in a part of the data, in mappings of any class too."""
    leaves = tree_leaves(part, is_leaf=lambda node: isinstance(node, Mapping))
    found = (tensors_in(list(leaf.values())) if isinstance(leaf, Mapping) else [leaf] for leaf in leaves)
    return [t for tensors in found for t in tensors if isinstance(t, Tensor)]


def call_model(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs: tuples and lists are spread, dicts passed as keywords, all else as it is."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if _is_sequence(inputs) else model(inputs)
