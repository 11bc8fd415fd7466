"""A small network, and samples of classes that depend on their first two inputs."""

import torch
from torch import nn


def net(features=6, classes=3):
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, features), nn.Tanh(), nn.Linear(features, classes))


def samples(n, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    return x, (x[:, 0] + 0.5 * torch.randn(n, generator=generator) > 0).long() + (x[:, 1] > 1).long() * (classes > 2)
