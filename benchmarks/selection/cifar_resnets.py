"""The published ResNets for CIFAR-10 (K. He et al., 2016; weights of Y. Idelbayev) without their classifiers."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}
FEATURES = 64


class Block(nn.Module):
    def __init__(self, before, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, 2 if before != channels else 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if x.shape[1] != y.shape[1]:  # half of the new channels before and half after the old ones
            half = (y.shape[1] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        stages = [(16, 16), (16, 32), (32, 64)]
        for stage, (before, channels) in enumerate(stages, 1):
            layers = [Block(before if not block else channels, channels) for block in range(blocks)]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


def published(name, data):
    """A body with the published weights, from the folder ``data`` with ``pretrained``."""
    weights = load_file(f"{data}/pretrained/{name}-cifar10.safetensors")
    body = CifarResNet(DEPTHS[name])
    missing, unexpected = body.load_state_dict(weights, strict=False)
    assert not [n for n in missing if "num_batches" not in n], missing
    assert set(unexpected) == {"linear.weight", "linear.bias"}, unexpected
    head = nn.Linear(FEATURES, 10)
    with torch.no_grad():
        head.weight.copy_(weights["linear.weight"])
        head.bias.copy_(weights["linear.bias"])
    return nn.Sequential(body, head)
