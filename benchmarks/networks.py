"""The networks that the benchmarks measure, in torch alone."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["mlp", "resnet18", "resnet50", "vit_as_initialised", "vit_small", "vit_tiny"]


class Residual(nn.Module):
    """relu(body(x) + skip(x))."""

    def __init__(self, before, after, stride, *body):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.skip = nn.Identity() if before == after and stride == 1 else _normed(before, after, 1, stride)

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x), inplace=True)


def _normed(before, after, kernel, stride=1):
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after))


def _basic(before, width, stride):
    body = _normed(before, width, 3, stride), nn.ReLU(inplace=True), _normed(width, width, 3)
    return Residual(before, width, stride, *body)


def _bottleneck(before, width, stride):
    first = _normed(before, width, 1), nn.ReLU(inplace=True), _normed(width, width, 3, stride), nn.ReLU(inplace=True)
    return Residual(before, 4 * width, stride, *first, _normed(width, 4 * width, 1))


def _resnet(block, depths, expansion, stem, classes):
    layers, before = list(stem), 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for number in range(depth):
            layers.append(block(before, width, 2 if stage and not number else 1))
            before = expansion * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def resnet18(classes=10):
    """ResNet-18 with the 3×3 stem for small images: 11.2 M weights."""
    return _resnet(_basic, (2, 2, 2, 2), 1, (_normed(3, 64, 3), nn.ReLU(inplace=True)), classes)


def resnet50(classes=10):
    """ResNet-50 with its 7×7 stem: 23.5 M weights."""
    stem = _normed(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    return _resnet(_bottleneck, (3, 4, 6, 3), 4, stem, classes)


class Encoder(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, size, patch, width, depth, heads, classes, channels=3):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) / 50)
        self.encoders = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoders(x)[:, 0]))


def vit_small(size=64, classes=10):
    """ViT-S/16: width 384, 12 encoders, 6 heads; 21.6 M weights. Gains of norms differ, as after training."""
    model = vit_as_initialised(size, classes)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def vit_as_initialised(size=64, classes=10):
    """ViT-S/16 with equal gains, as torch makes it: what layer norms send back of P 1 is rounding error."""
    return VisionTransformer(size, 16, 384, 12, 6, classes)


def vit_tiny():
    """For grey images of 8x8 pixels: patches of 2x2, width 64, 4 encoders, 4 heads."""
    return VisionTransformer(8, 2, 64, 4, 4, 10, channels=1)


def mlp():
    """784-100-50-10, the example of the line graph."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
