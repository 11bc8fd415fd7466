"""Networks as data: each case makes a model, a loss and one batch, in double precision."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


class ResidualBatchNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(4, 6, 1, stride=2)
        self.head = nn.Linear(6, 3)
        for norm in (self.norm1, self.norm2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)

    def forward(self, x):
        x = F.relu(self.norm1(self.stem(x)), inplace=True)
        y = self.norm2(self.conv(x))
        y += x
        x = F.relu(y)
        x = torch.relu_(self.down(x) + self.skip(x))
        return self.head(x.mean((2, 3)))


class Concatenation(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.mix = nn.Conv2d(5, 4, 2, stride=2, dilation=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.cat([torch.tanh(self.left(x)), F.silu(self.right(x)) * 0.5], dim=1)
        return self.head(F.softplus(self.mix(x)).flatten(1))


class SharedWeights(nn.Module):
    """The same matrix three times, tied transposed at the end: P has cycles."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner = nn.Linear(5, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = torch.tanh(self.embed(x))
        for _ in range(3):
            h = torch.tanh(self.inner(h))
        return F.linear(h, self.embed.weight.t())


class Functional(nn.Module):
    """No layer module at all."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3))
        self.matrices = nn.ParameterList([nn.Parameter(torch.randn(4, 16) / 4), nn.Parameter(torch.randn(3, 4))])
        self.offset = nn.Parameter(torch.randn(4))

    def forward(self, x):
        x = torch.conv2d(x, self.kernel, self.offset, padding="same", groups=2)
        x = F.adaptive_avg_pool2d(F.gelu(x), 2).reshape(len(x), -1)
        return F.linear(torch.sigmoid(F.linear(x, self.matrices[0])), weight=self.matrices[1])


class MatrixProducts(nn.Module):
    """Weights on the right and on the left of @."""

    def __init__(self):
        super().__init__()
        self.right = nn.Parameter(torch.randn(4, 5))
        self.left = nn.Parameter(torch.randn(6, 3))
        self.last = nn.Parameter(torch.randn(5, 3))

    def forward(self, x):
        x = torch.tanh(x @ self.right)
        x = torch.tanh(torch.matmul(self.left, x))
        return torch.mm(x.mean(1), self.last)


class SplitWeight(nn.Module):
    """One matrix in three slices, as query, key and value of attention; softmax and layer norm on the paths."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.qkv = nn.Parameter(torch.randn(12, 4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(self.project(x))
        q, k, v = (F.linear(x, w) for w in self.qkv.chunk(3))
        attended = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        return self.head(attended + x).mean(1)


class Pyramid(nn.Module):
    """Grouped, strided, dilated and padded convolutions, max and average pooling."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
            nn.LeakyReLU(0.2),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
            nn.ELU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        return self.body(x)


def mlp():
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3))


def squared(outputs, targets):
    return ((outputs - targets) ** 2).sum(1).mean()


@dataclass(frozen=True)
class Case:
    model: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    loss: Callable = F.cross_entropy
    outputs: int = 3
    magnitude: bool = True
    """Whether all paths have absolute Jacobians."""

    def make(self, samples=6, seed=0):
        torch.manual_seed(seed)
        model = self.model().double().eval()
        x = torch.randn(samples, *self.input_shape, dtype=torch.float64)
        if self.loss is F.cross_entropy:
            return model, self.loss, (x, torch.randint(self.outputs, (samples,)))
        return model, self.loss, (x, torch.randn(samples, self.outputs, dtype=torch.float64))


CASES = {
    "mlp": Case(mlp, (5,)),
    "mlp_squared": Case(mlp, (5,), squared),
    "linear_only": Case(lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3)), (4,)),
    "cnn": Case(Pyramid, (2, 4, 4)),
    "residual_batch_norm": Case(ResidualBatchNorm, (2, 4, 4)),
    "concatenation": Case(Concatenation, (2, 4, 4)),
    "shared": Case(SharedWeights, (5,), squared, outputs=5),
    "functional": Case(Functional, (2, 4, 4)),
    "matrix_products": Case(MatrixProducts, (3, 4)),
    "split_weight": Case(SplitWeight, (3, 4), magnitude=False),
}
MAGNITUDE = {name: case for name, case in CASES.items() if case.magnitude}
