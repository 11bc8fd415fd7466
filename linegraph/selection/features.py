"""Features (N, F) from the outputs of pre-trained models: averages over positions or tokens, without padding."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from linegraph.errors import DataError

__all__ = ["arguments_of", "pooled", "sequence_of"]

OF_NO_TOKENS = ("head_mask", "decoder_head_mask", "cross_attn_head_mask", "src_mask", "attn_mask")
"""Arguments named as masks that do not mark padding."""


def arguments_of(model: nn.Module, inputs: tuple[Any, ...], named_inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a call by the names of the parameters of ``model.forward``; others by their positions."""
    try:
        bound = inspect.signature(model.forward).bind(*inputs, **named_inputs)
    except (TypeError, ValueError):  # scripted, or a call that fails
        return dict(named_inputs)
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"positional input {k}": part for k, part in enumerate(value)}
        else:
            found[name] = value
    return found


def pooled(found: Any, size: int, arguments: dict[str, Any]) -> Tensor:
    """Features (N, ``size``) from the output of a model for given arguments.

    Raises:
        DataError: if they have another shape, or padding cannot be distinguished from tokens.
    """
    decoded = _part(found, "encoder_last_hidden_state") is not None
    taken = _part(found, "pooler_output")
    states = taken if taken is not None else _part(found, "last_hidden_state")
    states = _part(found, "logits") if states is None else states  # of a model whose classifier is an identity
    states = found if states is None else states
    if isinstance(states, PackedSequence):
        states, lengths = pad_packed_sequence(states, batch_first=True)
        arguments = {"lengths": lengths}
    if not isinstance(states, Tensor):
        raise DataError(
            f"the backbone returns a {type(states).__name__}, not features; wrap it in a module that returns them "
            "(a model of Hugging Face returns a tuple where return_dict is off)"
        )
    if states.is_nested:
        return _of_rows(states, size)
    shape = tuple(states.shape)
    if states.ndim == 3 and size in shape[1:]:
        if shape[1] == shape[2] and states is found:
            raise DataError(
                f"the backbone returns {shape}, which may be {size} maps of {size} places or {size} tokens of {size} "
                "features; wrap it in a module that returns their means (N, F)"
            )
        sequence = states if shape[2] == size else states.transpose(1, 2)
        states = _mean_of_tokens(sequence, None if taken is not None else _tokens(sequence, arguments, decoded))
    elif states.ndim > 2 and shape[1] == size:
        _refuse_padded_images(arguments)
        states = states.flatten(2).mean(2)
    if states.ndim != 2 or states.shape[1] != size:
        raise DataError(
            f"the backbone returns {shape}; a probe of {size} features reads (N, {size}), maps (N, {size}, ...) or "
            f"sequences (N, T, {size}); pass the right num_features=, or none to have the classifier found"
        )
    return states


def sequence_of(states: Tensor, found: Any, arguments: dict[str, Any]) -> Tensor:
    """Means of states (N, T, F) over tokens; ``found`` is the output of the model that formed them.

    Raises:
        DataError: if padding cannot be distinguished from tokens.
    """
    decoded = _part(found, "encoder_last_hidden_state") is not None
    return _mean_of_tokens(states, _tokens(states, arguments, decoded))


def _part(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)


def _of_rows(states: Tensor, size: int) -> Tensor:
    """The mean of each sequence in a nested tensor."""
    rows = states.unbind()
    if any(row.ndim != 2 or row.shape[1] != size for row in rows):
        raise DataError(
            f"the backbone returns a nested tensor of {tuple(rows[0].shape)}, ...; a probe of {size} features reads "
            f"sequences (T, {size})"
        )
    _refuse_empty(torch.tensor([len(row) for row in rows]))
    return torch.stack([row.mean(0) for row in rows])


def _mean_of_tokens(states: Tensor, tokens: Tensor | None) -> Tensor:
    """The mean of states (N, T, F) over T, or over the tokens (N, T) among them."""
    if tokens is None:
        return states.mean(1)
    count = tokens.sum(1)
    _refuse_empty(count)
    # Values at padding are arbitrary, even nan. In half precision, mean() accumulates in single and sum() does not.
    kept = states.masked_fill(~tokens.unsqueeze(2), 0)
    return kept.mean(1) * (tokens.shape[1] / count).to(states.dtype).unsqueeze(1)


def _refuse_empty(count: Tensor) -> None:
    if not bool((count > 0).all()):
        raise DataError(
            f"sample {int((count == 0).nonzero()[0])} of a batch has no token, only padding, so it has no "
            "features; leave it out"
        )


def _tokens(states: Tensor, arguments: dict[str, Any], decoded: bool) -> Tensor | None:
    """Which of the states (N, T, F) belong to tokens, as bool (N, T); None if no argument marks padding."""
    _refuse_padded_images(arguments)
    name = "decoder_attention_mask" if decoded else "attention_mask"
    if arguments.get(name) is not None:
        return _of_mask(name, arguments[name], states)
    if decoded:
        _refuse_padded_encoder(arguments)
        return None
    if (padding := arguments.get("src_key_padding_mask")) is not None:  # of torch's own encoders
        if padding.dtype != torch.bool:
            raise DataError(f"src_key_padding_mask must be of dtype bool, True at padding, got {padding.dtype}")
        return _of_mask("src_key_padding_mask", ~padding, states)
    if isinstance(lengths := arguments.get("lengths"), Tensor) and lengths.shape == states.shape[:1]:
        return torch.arange(states.shape[1], device=states.device) < lengths.to(states.device).unsqueeze(1)
    for other, value in arguments.items():
        if isinstance(value, Tensor) and _fits(value, states) and _may_be_mask(other, value):
            raise DataError(
                f"{other} of shape {tuple(value.shape)} may tell tokens from padding, and the probe does not know how; "
                "pass attention_mask= with 1 at tokens and 0 at padding, or wrap the backbone in a module that returns "
                "the means over tokens (N, F)"
            )
    return None


def _may_be_mask(name: str, value: Tensor) -> bool:
    """Whether an argument may be a mask: by its name or, if it is positional, by its values 0 and 1."""
    if name.startswith("positional input"):
        return bool(((value == 0) | (value == 1)).all())
    return name.endswith("mask") and name not in OF_NO_TOKENS


def _fits(mask: Tensor, states: Tensor) -> bool:
    return mask.ndim == 2 and mask.shape[1] == states.shape[1] and mask.shape[0] in (1, states.shape[0])


def _of_mask(name: str, mask: Any, states: Tensor) -> Tensor:
    """A mask (N, T) as bool, from bool or from values 0 and 1."""
    if not isinstance(mask, Tensor) or not _fits(mask, states):
        given = tuple(mask.shape) if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise DataError(
            f"{name} is {given}, the states that the backbone returns are {tuple(states.shape)}; to average over "
            "tokens the probe needs one number for each state (N, T), 1 at tokens and 0 at padding. Where states are "
            "other than the inputs, wrap the backbone in a module that returns their means (N, F)"
        )
    tokens = mask.detach() != 0
    if not bool((mask == tokens).all()):
        raise DataError(
            f"{name} holds other numbers than 0 and 1, as a mask that is added to scores does; pass the one of 1 at "
            "tokens and 0 at padding"
        )
    return tokens.to(states.device).expand(states.shape[:2])


def _refuse_padded_encoder(arguments: dict[str, Any]) -> None:
    mask = arguments.get("attention_mask")
    own = any(arguments.get(name) is not None for name in ("decoder_input_ids", "decoder_inputs_embeds"))
    if not own and isinstance(mask, Tensor) and not bool((mask == 1).all()):
        raise DataError(
            "the backbone is an encoder and a decoder, and which states of the decoder are padding is not known; pass "
            "decoder_attention_mask=, or probe the encoder alone (backbone.get_encoder())"
        )


def _refuse_padded_images(arguments: dict[str, Any]) -> None:
    mask = arguments.get("pixel_mask")
    if isinstance(mask, Tensor) and not bool((mask == 1).all()):
        raise DataError(
            "pixel_mask marks padded images, whose places the probe would average over; pass images of one size, or "
            "wrap the backbone in a module that returns features (N, F)"
        )
