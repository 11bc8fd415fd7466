"""Predefined sets of candidate networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["digits_candidates"]


class ResidualBlock(nn.Module):
    """ReLU of x plus the output of two convolutions."""

    def __init__(self, channels: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, channels, batch_norm=batch_norm),
            nn.ReLU(),
            *_convolution(channels, channels, batch_norm=batch_norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Input and output (N, C, H, W)."""
        return torch.relu(x + self.body(x))


def digits_candidates() -> dict[str, Callable[[], nn.Module]]:
    """Constructors of ten networks for 8×8 images in ten classes, by name, from very poor to good ones.

    Perceptrons of several widths, depths and activations, convolutional networks with and without batch norm and
    residual connections.

    Example:
        >>> from linegraph.selection.candidates import digits_candidates
        >>> len(digits_candidates())
        10
    """
    return {
        "mlp-64-64": partial(_mlp, (64, 64)),
        "mlp-256-128": partial(_mlp, (256, 128)),
        "mlp-4-4": partial(_mlp, (4, 4)),
        "mlp-deep-tanh": partial(_mlp, (32,) * 6, nn.Tanh),
        "mlp-deep-sigmoid": partial(_mlp, (32,) * 3, nn.Sigmoid),
        "mlp-batchnorm": partial(_mlp, (64, 64), nn.ReLU, True),
        "cnn-8": partial(_cnn, 8, blocks=0, batch_norm=False),
        "cnn-batchnorm-16": partial(_cnn, 16, blocks=0, batch_norm=True),
        "resnet-8": partial(_cnn, 8, blocks=2, batch_norm=False),
        "resnet-batchnorm-16": partial(_cnn, 16, blocks=2, batch_norm=True),
    }


def _mlp(widths: tuple[int, ...], activation: type[nn.Module] = nn.ReLU, batch_norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    before = 64
    for width in widths:
        layers += [nn.Linear(before, width), *([nn.BatchNorm1d(width)] if batch_norm else []), activation()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 10))


def _cnn(channels: int, *, blocks: int, batch_norm: bool) -> nn.Module:
    return nn.Sequential(
        *_convolution(1, channels, batch_norm=batch_norm),
        nn.ReLU(),
        *(ResidualBlock(channels, batch_norm=batch_norm) for _ in range(blocks)),
        nn.MaxPool2d(2),
        *_convolution(channels, 2 * channels, batch_norm=batch_norm),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * channels, 10),
    )


def _convolution(before: int, after: int, *, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm)
    return [convolution, nn.BatchNorm2d(after)] if batch_norm else [convolution]
