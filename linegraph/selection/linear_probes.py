"""Linear classifiers of the states of a network: of what enters its last linear layer, and of what enters all layers.

Both are fitted to some labelled samples and tested on others. Samples whose label is negative, which losses ignore, are
left out of both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from linegraph.selection.features import arguments_of

__all__ = ["LastLinearInputs", "LayerInputs", "LayerProbe", "LinearProbe"]

PENALTY = 0.01
"""The penalty of :class:`LinearProbe`, in units of the mean square of its inputs."""

LAYER_PENALTY = 1.0
"""The penalty of :class:`LayerProbe`, in units of the mean square of its inputs."""

PLACES = 2
"""Places in each dimension to which the maps that enter a convolution are averaged."""

CONSTANT = 1e-6
"""A feature is constant if its standard deviation is below this part of 1 + |mean|: a mean over normalised states, such
as layer norm leaves, is a rounding error of states of order 1."""

AVERAGE: dict[int, Callable[..., Tensor]] = {
    3: F.adaptive_avg_pool1d,
    4: F.adaptive_avg_pool2d,
    5: F.adaptive_avg_pool3d,
}
"""The functions that average maps, by their number of dimensions."""


class _Inputs(ABC):
    """A context that sees what enters some layers of a model."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self._layers = layers

    def __enter__(self) -> Self:
        self._handles = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: self._keep(name, inputs))
            for name, layer in self._layers.items()
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    @abstractmethod
    def _keep(self, name: str, inputs: tuple[Any, ...]) -> None:
        """Keep what is wanted of the inputs of a layer."""


class LastLinearInputs(_Inputs):
    """A context that keeps what enters the last linear layer of each pass: the features that are classified."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__({name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)})
        self._last: list[Tensor] = []

    def take(self) -> Tensor | None:
        """The features (N, F) of the last pass, means over places or tokens; None if it called no linear layer."""
        if not self._last:
            return None
        states = self._last.pop()
        return states if states.ndim < 3 else states.flatten(1, -2).mean(1)

    def _keep(self, name: str, inputs: tuple[Any, ...]) -> None:
        self._last[:] = inputs[:1]


class LayerInputs(_Inputs):
    """A context that keeps, of each pass, what enters every layer with a trained weight of two dimensions or more.

    Maps (N, C, ...) that enter a convolution are averaged to at most 2 places a dimension, and states (N, T, F) that
    enter other layers are averaged over T: over the tokens, if the model is called with an ``attention_mask`` or a
    ``src_key_padding_mask`` (N, T). Kept is the first call of a layer.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__({name: layer for name, layer in model.named_modules() if _is_trained(layer)})
        self._model = model
        self._last: dict[str, list[Tensor]] = {}
        self._tokens: Tensor | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        self._handles.append(self._model.register_forward_pre_hook(self._see_padding, with_kwargs=True))
        return self

    def take(self, samples: int) -> dict[str, Tensor]:
        """The features (N, F) of the last pass by layer, where they are of so many samples N."""
        kept, self._last = self._last, {}
        fitting = {name: [x for x in states if len(x) == samples] for name, states in kept.items()}
        return {name: states[0] for name, states in fitting.items() if states}

    def _keep(self, name: str, inputs: tuple[Any, ...]) -> None:
        if name not in self._last and inputs and _has_rows(inputs[0]):
            self._last[name] = list(_averaged(inputs[0].detach(), self._layers[name], self._tokens))

    def _see_padding(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keep which states are tokens. Masks of other names are passed over, not refused as by a CapacitanceProbe."""
        arguments = arguments_of(model, inputs, named)
        mask, padding = arguments.get("attention_mask"), arguments.get("src_key_padding_mask")
        if isinstance(padding, Tensor) and padding.dtype == torch.bool:
            mask = ~padding
        self._tokens = mask != 0 if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _has_rows(x: Any) -> bool:
    """Whether an input is a dense tensor of numbers with rows; those of a nested or distributed one are elsewhere."""
    if not isinstance(x, Tensor) or x.is_nested or hasattr(x, "full_tensor"):
        return False
    return x.is_floating_point() and x.layout == torch.strided and x.ndim > 1


def _is_trained(layer: nn.Module) -> bool:
    """Whether a module is a layer of torch's, or one without parts, and has a trained weight of two dimensions."""
    whole = isinstance(layer, (nn.Linear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)) or not list(layer.children())
    return whole and any(p.ndim > 1 and p.requires_grad for p in layer.parameters())


def _averaged(x: Tensor, layer: nn.Module, tokens: Tensor | None) -> Iterator[Tensor]:
    """Features (N, F) of the inputs of a layer; of three dimensions also with N in the second, as of sequences."""
    if x.ndim in AVERAGE and any(p.ndim == x.ndim for p in layer.parameters()):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        yield AVERAGE[x.ndim](wide, tuple(min(PLACES, length) for length in x.shape[2:])).flatten(1)
        return
    if tokens is not None and tokens.shape == x.shape[:2] and x.ndim == 3:
        kept = _wide(x).masked_fill(~tokens.unsqueeze(2), 0)  # values at padding may be nan
        yield kept.sum(1) / tokens.sum(1, keepdim=True).clamp(min=1)
        return
    yield x.clone() if x.ndim == 2 else x.flatten(1, -2).mean(1)
    if x.ndim == 3:
        yield x.mean(0)


class LinearProbe:
    """A ridge regression of one-hot labels on features, and its accuracy on other samples.

    With features X (N, F + 1), whose last column is 1, and one-hot labels Y, W = (XᵀX + λ)⁻¹ XᵀY; λ is 1 % of the mean
    diagonal entry of XᵀX. The class of a sample is that of its largest entry in x W.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._weights: Tensor | None = None
        self._counted = _Counted()

    def add(self, features: Tensor | None, labels: Any) -> None:
        """Add samples to fit; they are left out if they are not features (N, F) with class indices (N,)."""
        if _are_of_samples(features, labels):
            assert features is not None
            self._seen.append(_of_classes(features, labels))

    def fit(self) -> None:
        """Fit the classifier to the samples that were added."""
        if not self._seen:
            return
        x, labels = (torch.cat(part) for part in zip(*self._seen, strict=True))
        self._seen = []
        if not len(x) or not x.isfinite().all():
            return
        one_hot = F.one_hot(labels).to(x.dtype)
        penalty = PENALTY * x.square().sum() / x.shape[1]
        if x.shape[1] > len(x):  # the smaller of two equal systems
            gram = x @ x.T
            self._weights = x.T @ torch.linalg.solve(gram + penalty * torch.eye(len(x)).to(x), one_hot)
        else:
            gram = x.T @ x
            self._weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(x), x.T @ one_hot)

    def test(self, features: Tensor | None, labels: Any) -> None:
        """Classify samples."""
        if self._weights is not None and _are_of_samples(features, labels):
            assert features is not None
            x, labels = _of_classes(features, labels)
            self._counted.add(x @ self._weights, labels)

    @property
    def accuracy(self) -> float:
        """The fraction of tested samples that were classified as labelled; nan if there are none."""
        return self._counted.accuracy


class LayerProbe:
    """A ridge regression of one-hot labels on the features of all layers, and its accuracy on other samples.

    The features of each layer are standardised, z = (x − mean)/deviation over the N samples of the fit, and divided by
    √F, so that all layers have the same weight whatever their width. With Z (N, ΣF) those of all L layers, and
    Y − Ȳ the one-hot labels less their means, W = Zᵀ (ZZᵀ + λ)⁻¹ (Y − Ȳ); λ is the mean diagonal entry of ZZᵀ. The
    class of a sample is that of its largest entry in z W + Ȳ.

    Cost: O(N² ΣF + N³) to fit, and O(min(C, N) ΣF) for each sample that is tested, of C classes; memory for
    O(min(C, N) ΣF + N ΣF) numbers.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[dict[str, Tensor], Tensor]] = []
        self._maps: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._means: Tensor | None = None
        self._dual: Tensor | None = None
        self._counted = _Counted()

    def add(self, features: dict[str, Tensor], labels: Any) -> None:
        """Add samples to fit: features (N, F) by layer, with class indices (N,); left out if labels are other."""
        if features and _are_classes(labels):
            self._seen.append(({name: x.to(labels.device) for name, x in features.items()}, labels))

    def fit(self) -> None:
        """Fit the classifier to the samples that were added, with the layers that all of them have."""
        if not self._seen:
            return
        batches, labels = [features for features, _ in self._seen], torch.cat([labels for _, labels in self._seen])
        self._seen = []
        kept = labels >= 0
        if kept.sum() < 2:  # which have no deviation
            return
        one_hot = _wide(F.one_hot(labels[kept].long()))
        parts = {
            name: _standardised(torch.cat([batch[name] for batch in batches])[kept])
            for name in batches[0]
            if len({batch[name].shape[1] if name in batch else None for batch in batches}) == 1
        }
        if not parts or not all(z.isfinite().all() for z, _, _ in parts.values()):
            return
        gram = sum(z @ z.T for z, _, _ in parts.values())
        assert isinstance(gram, Tensor)
        penalty = LAYER_PENALTY * gram.diagonal().mean()
        if not penalty:
            return
        self._means = one_hot.mean(0)
        dual = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(gram), one_hot - self._means)
        if dual.shape[1] > len(dual):  # more classes than samples: the factors of W are smaller than W
            self._dual = dual
        self._maps = {
            name: (mean, scale, z.T if self._dual is not None else z.T @ dual)
            for name, (z, mean, scale) in parts.items()
        }

    def test(self, features: dict[str, Tensor], labels: Any) -> None:
        """Classify samples that have features of all layers of the fit."""
        if self._means is None or not _are_classes(labels) or not self._maps.keys() <= features.keys():
            return
        kept = labels >= 0
        parts = [
            (_wide(features[name].to(mean.device)[kept]) - mean) * scale @ weights
            for name, (mean, scale, weights) in self._maps.items()
        ]
        scores = torch.stack(parts).sum(0)
        scores = scores if self._dual is None else scores @ self._dual
        self._counted.add(scores + self._means, labels[kept].long())

    @property
    def accuracy(self) -> float:
        """The fraction of tested samples that were classified as labelled; nan if there are none."""
        return self._counted.accuracy


class _Counted:
    """Samples that were classified, and how many of them rightly."""

    def __init__(self) -> None:
        self._right = self._total = 0

    def add(self, scores: Tensor, labels: Tensor) -> None:
        self._right, self._total = self._right + int((scores.argmax(1) == labels).sum()), self._total + len(labels)

    @property
    def accuracy(self) -> float:
        return self._right / self._total if self._total else math.nan


def _standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, F) as z = (x − mean) · scale, with 0 for constant ones; the means, and the scales."""
    x = _wide(x)
    deviation, mean = torch.std_mean(x, 0)
    varies = deviation > CONSTANT * (1 + mean.abs())
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1), 0) / math.sqrt(x.shape[1])
    return (x - mean) * scale, mean, scale


def _of_classes(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The samples that have a class: their features with a constant, and their labels."""
    kept = labels >= 0
    wide = _wide(features[kept])
    return torch.cat([wide, wide.new_ones(len(wide), 1)], 1), labels[kept].long()


def _wide(x: Tensor) -> Tensor:
    """A tensor in double precision, or single where a device has no other."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _are_classes(labels: Any) -> bool:
    """Whether labels are class indices (N,)."""
    integers = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return isinstance(labels, Tensor) and labels.ndim == 1 and labels.dtype in integers


def _are_of_samples(features: Tensor | None, labels: Any) -> bool:
    """Whether labels are class indices (N,), and features (N, F)."""
    return features is not None and features.ndim == 2 and _are_classes(labels) and len(labels) == len(features)
