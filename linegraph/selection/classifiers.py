"""The classifier of a pre-trained model, and the features that enter it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from linegraph.errors import DataError
from linegraph.selection.features import arguments_of, sequence_of
from linegraph.selection.scoring import logits

__all__ = ["Found", "classified", "find_classifier", "num_features_of"]

CONVENTIONAL = ("fc", "classifier", "head", "heads", "score", "classification_head", "last_linear", "output_layer")
"""Names of the last part of a model, in torchvision, Hugging Face and timm."""

OF_MAPS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OF_HUGGING_FACE = ("classifier", "score", "classification_head")
ADVICE = (
    "pass classifier= with the name of the layer whose inputs are the features, or num_features= if the backbone "
    "itself returns features"
)


class Found(NamedTuple):
    """The name of the classifier in a model, None if the model returns features, and the number of its features."""

    name: str | None
    num_features: int


def find_classifier(model: nn.Module) -> Found:
    """Find the classifier of a model without running it.

    A model of timm names it itself (``get_classifier``). In a model of Hugging Face it is the last linear layer outside
    the ``base_model``; a model that is its own base returns features, as many as its ``config`` says. In any other
    model it is the last layer with a matrix of weights, in the order of registration, which must be linear. Whether the
    model returns the outputs of this layer shows in a forward pass, see :func:`classified`.

    Raises:
        DataError: if there is none, or several layers may be the classifier.
    """
    adapted: Any = model
    if callable(getattr(adapted, "get_base_model", None)):  # of PEFT
        return _under(model, adapted.get_base_model())
    if callable(getattr(model, "get_classifier", None)):
        return _of_timm(model)
    if isinstance(getattr(model, "base_model", None), nn.Module) and hasattr(model, "config"):
        return _of_hugging_face(model)
    return _found(model, _of_torch(model))


def num_features_of(model: nn.Module, name: str) -> int:
    """The number of features that enter a part of a model, by the weights (outputs, features, ...) of its first layer.

    Raises:
        DataError: if the model has no such part, or the part has no such weights.
    """
    try:
        part = model.get_submodule(name)
    except AttributeError:
        known = ", ".join(_name_in(model, layer) for layer in _linear(model)) or "none"
        raise DataError(f"the backbone has no layer {name!r}; its linear layers are {known}") from None
    weight = getattr(next(_weighted(part), None), "weight", None)
    if not isinstance(weight, Tensor) or isinstance(weight, UninitializedTensorMixin):
        raise DataError(
            f"{name!r} of the backbone, a {type(part).__name__}, does not start with a layer of known size; pass "
            "another layer as classifier= (call a lazy one once before)"
        )
    return int(weight.shape[1])


def classified(
    model: nn.Module, found: Found, inputs: tuple[Any, ...], named_inputs: dict[str, Any], *, confirm: bool
) -> tuple[Tensor, Tensor]:
    """What enters and leaves the classifier in one forward pass: features (N, F) and scores (N, classes).

    If the classifier acts on all tokens and the model returns the scores of one of them, the features are those of this
    token. Otherwise features and scores are means over tokens or positions.

    Args:
        model: the model.
        found: its classifier.
        inputs: the positional arguments of the model.
        named_inputs: its keyword arguments.
        confirm: check that the model returns the scores, as they are or after a softmax, log-softmax or sigmoid.

    Raises:
        DataError: if the classifier is not called once, or the model returns something else than its scores.
    """
    assert found.name is not None
    layer = model.get_submodule(found.name)
    calls: list[tuple[Any, Any]] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append((args[0] if args else next(iter(kwargs.values())), output))

    handle = layer.register_forward_hook(keep, with_kwargs=True)
    try:
        output = model(*inputs, **named_inputs)
    finally:
        handle.remove()
    if len(calls) != 1:
        raise DataError(
            f"the backbone calls its layer {found.name!r}, taken as its classifier, {len(calls)} times in a forward "
            f"pass, not once; {ADVICE}"
        )
    ((entering, leaving),) = calls
    if not isinstance(entering, Tensor) or not isinstance(leaving, Tensor):
        raise DataError(
            f"{found.name!r} of the backbone maps a {type(entering).__name__} to a {type(leaving).__name__}, not "
            f"features to scores; {ADVICE}"
        )
    returned = logits(output)
    returned = returned[0] if isinstance(returned, tuple) and returned else returned
    arguments = arguments_of(model, inputs, named_inputs)
    of_tokens = entering.shape[-1] == found.num_features and not isinstance(next(_weighted(layer)), OF_MAPS)
    token = _token_returned(leaving, returned) if of_tokens else None

    def of_samples(states: Tensor) -> Tensor:
        if states.ndim == 2:
            return states
        if token is not None:
            return states[torch.arange(len(states), device=states.device), token]
        return sequence_of(states.flatten(1, -2), output, arguments) if of_tokens else states.flatten(2).mean(2)

    features, scores = of_samples(entering), of_samples(leaving)
    if confirm and not any(_returns(one, returned) for one in (leaving, scores)):
        raise DataError(
            f"the backbone does not return the outputs of its layer {found.name!r}, which seemed to be its classifier; "
            f"{ADVICE}"
        )
    return features, scores


def _of_timm(model: Any) -> Found:
    layer = model.get_classifier()
    if isinstance(layer, (tuple, list, nn.ModuleList, nn.ModuleDict)):
        raise DataError(f"the backbone has {len(layer)} classifiers; {ADVICE}")
    if isinstance(layer, nn.Module) and not isinstance(layer, nn.Identity):
        inner = _linear(layer)
        return _found(model, inner[-1] if inner else layer)
    return Found(None, int(getattr(model, "head_hidden_size", None) or model.num_features))


def _of_hugging_face(model: Any) -> Found:
    base = model.base_model
    if base is not model:
        inside = set(map(id, base.modules()))
        outside = [layer for layer in _linear(model) if id(layer) not in inside]
        return _found(model, outside[-1]) if outside else _under(model, base)
    named = [part for name in OF_HUGGING_FACE if isinstance(part := getattr(model, name, None), nn.Module)]
    if named and (layers := _linear(named[-1])):  # of a class that names no base
        return _found(model, layers[-1])
    for name in ("hidden_size", "hidden_sizes", "embed_dim", "hidden_dim"):
        size = getattr(model.config, name, None)
        size = size[-1] if isinstance(size, (list, tuple)) and size else size
        if isinstance(size, int) and size > 0:
            return Found(None, size)
    raise DataError(
        f"the configuration of {type(model).__name__} does not say how many features the backbone returns; pass "
        "num_features="
    )


def _under(model: nn.Module, part: nn.Module) -> Found:
    """What is found in a part of a model, by its name in the model."""
    found = find_classifier(part)
    return found if found.name is None else Found(_name_in(model, part.get_submodule(found.name)), found.num_features)


def _of_torch(model: nn.Module) -> nn.Module:
    layers = list(_weighted(model))
    named = {
        name: inner[-1]
        for name in CONVENTIONAL
        if isinstance(part := getattr(model, name, None), nn.Module) and (inner := _linear(part))
    }
    last = layers[-1] if layers else None
    choices = {id(layer): layer for layer in named.values()}
    if isinstance(last, nn.Linear):
        choices[id(last)] = last
    if len(choices) == 1:
        return next(iter(choices.values()))
    if choices:
        names = ", ".join(repr(_name_in(model, layer)) for layer in choices.values())
        raise DataError(f"each of the layers {names} may be the classifier of the backbone; {ADVICE}")
    ends = "has no weights" if last is None else f"ends with {_name_in(model, last)!r}, a {type(last).__name__}"
    raise DataError(f"no classifier was found in the backbone, which {ends}; {ADVICE}")


def _weighted(model: nn.Module) -> Iterator[nn.Module]:
    """The layers with a matrix of weights, in the order of registration; a linear layer is not searched for parts."""
    if isinstance(model, nn.Linear) or any(p.ndim > 1 for p in model.parameters(recurse=False)):
        yield model
    if not isinstance(model, nn.Linear):
        for part in model.children():
            yield from _weighted(part)


def _linear(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in _weighted(model) if isinstance(layer, nn.Linear)]


def _found(model: nn.Module, layer: nn.Module) -> Found:
    name = _name_in(model, layer)
    return Found(name, num_features_of(model, name))


def _name_in(model: nn.Module, layer: nn.Module) -> str:
    return next(str(name) for name, part in model.named_modules() if part is layer)


def _token_returned(leaving: Tensor, returned: Any) -> Tensor | None:
    """Which token's scores (N, T, K) the model returns as (N, K), as indices (N,); None if it returns others."""
    if leaving.ndim != 3 or not isinstance(returned, Tensor) or returned.shape != (len(leaving), leaving.shape[2]):
        return None
    equal = (leaving.detach() == returned.detach().to(leaving.dtype).unsqueeze(1)).all(2)
    return equal.int().argmax(1) if bool(equal.any(1).all()) else None


def _returns(scores: Tensor, returned: Any) -> bool:
    """Whether the model returns these scores, or their softmax, log-softmax or sigmoid."""
    if returned is scores:
        return True
    if not isinstance(returned, Tensor) or returned.numel() != scores.numel() or len(returned) != len(scores):
        return False
    scores, returned = scores.detach().float(), returned.detach().float().reshape(scores.shape)
    known = scores, scores.sigmoid(), scores.softmax(1), scores.log_softmax(1)
    return any(torch.allclose(one, returned, rtol=1e-2, atol=1e-3, equal_nan=True) for one in known)
