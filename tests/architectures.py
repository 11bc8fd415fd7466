"""One small network of each kind for images of 8×8 pixels in ten classes, as constructors by name."""

import torch
from torch import nn

__all__ = ["ARCHITECTURES"]


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 10),
    )


class Patches(nn.Module):
    """16 tokens, one for each patch of 2×2 pixels."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)

    def forward(self, x):
        return self.embed(x).flatten(2).mT


class ViT(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.patches = Patches(width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 17, width) / 10)
        layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=0.1, batch_first=True, norm_first=True, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoder(x)[:, 0]))


class Mixer(nn.Module):
    """MLP-Mixer: perceptrons across tokens and across channels in turn."""

    def __init__(self, width=16):
        super().__init__()
        self.patches = Patches(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.channels = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x)
        x = x + self.tokens(self.norm1(x).mT).mT
        x = x + self.channels(self.norm2(x))
        return self.head(self.norm(x).mean(1))


ARCHITECTURES = {"mlp": mlp, "cnn": cnn, "vit": ViT, "mixer": Mixer}
