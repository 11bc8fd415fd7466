"""Networks as data: each case makes a model, a loss and one batch, in double precision."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune


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


class Transposed(nn.Module):
    """Transposed convolutions with stride, groups, dilation, padding and output padding, in 1, 2 and 3 dimensions."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.wide = nn.ConvTranspose2d(4, 2, 2, dilation=2, bias=False)
        self.line = nn.ConvTranspose1d(2, 3, 3, padding=1)
        self.solid = nn.ConvTranspose3d(3, 2, 2)
        self.conv3 = nn.Conv3d(2, 3, 2, padding=1, padding_mode="replicate")
        self.conv1 = nn.Conv1d(3, 3, 2, stride=2, padding=1, padding_mode="reflect")

    def forward(self, x):
        x = torch.tanh(self.wide(F.silu(self.up(x))))
        x = torch.tanh(self.line(x.mean(2)))
        x = torch.tanh(self.solid(x[:, :, :2, None, None]))
        return self.conv1(torch.tanh(self.conv3(x)).flatten(2)).mean(2)


class LookUps(nn.Module):
    """Embeddings with padding, bags with offsets, padding and weights that a network makes."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(7, 4, padding_idx=2)
        self.tokens.weight.data[2] = 1.0
        self.weigh = nn.Linear(4, 1)
        self.bag = nn.EmbeddingBag(5, 4, mode="sum")
        self.mean = nn.EmbeddingBag(5, 4, padding_idx=1)
        self.largest = nn.EmbeddingBag(5, 4, mode="max", include_last_offset=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        index = (x * 100).long() % 7
        h = torch.tanh(self.tokens(index))
        small = index % 5
        weights = torch.tanh(self.weigh(h)).squeeze(-1)
        ends = torch.arange(0, small.numel() + 1, small.shape[1], device=x.device)
        bags = self.bag(small, per_sample_weights=weights) + self.mean(small) + self.largest(small.reshape(-1), ends)
        return self.head(torch.tanh(bags + h.mean(1)))


class Products(nn.Module):
    """Batched products, sums with products, matrices times vectors."""

    def __init__(self):
        super().__init__()
        self.heads = nn.Parameter(torch.randn(4, 2, 3) / 2)
        self.experts = nn.Parameter(torch.randn(2, 3, 3) / 2)
        self.left = nn.Parameter(torch.randn(2, 2, 3) / 2)
        self.added = nn.Parameter(torch.randn(6, 4) / 2)
        self.dotted = nn.Parameter(torch.randn(2, 4, 3) / 2)
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x):
        h = torch.tanh(torch.einsum("...td,dhk->...htk", x, self.heads))  # samples, 2, 3, 3
        h = torch.tanh(h @ self.experts)
        h = torch.tanh(torch.matmul(self.left, h))  # samples, 2, 2, 3
        h = h.permute(0, 2, 1, 3).reshape(-1, 6)
        h = torch.tanh(torch.addmm(self.bias, h, self.added, beta=0.5, alpha=2.0)).view(-1, 2, 4)
        return torch.tensordot(h, self.dotted, 2)


class Pair(nn.Module):
    """A bilinear form of two branches."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(5, 3), nn.Linear(5, 4)
        self.pair = nn.Bilinear(3, 4, 3)

    def forward(self, x):
        return self.pair(torch.tanh(self.left(x)), torch.tanh(self.right(x)))


class Tokens(nn.Module):
    """A class token, position codes, layer scale, and a norm whose weight is a node: the pieces of a transformer."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.position = nn.Parameter(torch.randn(1, 4, 4))
        self.norm = nn.LayerNorm(4)
        self.gamma = nn.Parameter(torch.randn(1, 1, 4))
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.project(x)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.gamma * self.mix(self.norm(x))
        return self.head(torch.tanh(x)).mean(1)


class Recurrent(nn.Module):
    """Recurrent layers, whose time steps share weights: P has cycles."""

    def __init__(self, kind, **options):
        super().__init__()
        self.cells = kind(4, 3, batch_first=True, **options)
        width = (options.get("proj_size") or 3) * (1 + options.get("bidirectional", False))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0]).mean(1)


class Packed(Recurrent):
    """Sequences of different lengths, packed."""

    def forward(self, x):
        lengths = torch.arange(len(x)) % x.shape[1] + 1
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.cells(packed)[0], batch_first=True)
        return self.head(out).mean(1)


class Cells(nn.Module):
    """The cells of recurrent layers, called step by step."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.plain = nn.LSTMCell(4, 3), nn.GRUCell(3, 3), nn.RNNCell(3, 3, bias=False)

    def forward(self, x):
        state, h, y = None, None, None
        for step in x.unbind(1):
            state = self.lstm(step, state)
            h = self.gru(state[0], h)
            y = self.plain(h, y)
        return y


class Attention(nn.Module):
    """torch's own attention, with one matrix for queries, keys and values, and with three."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.own = nn.MultiheadAttention(4, 2, batch_first=True)
        self.cross = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True)
        self.key, self.value = nn.Linear(4, 3), nn.Linear(4, 5)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.tanh(self.project(x))
        x = x + self.own(x, x, x, need_weights=False)[0]
        x = x + self.cross(x, self.key(x), self.value(x))[0]
        return self.head(torch.tanh(x)).mean(1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layers(x)).mean(1)


class EncoderDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Transformer(4, 2, 1, 1, 6, batch_first=True, activation="gelu", norm_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.head(self.body(x, x.flip(1), tgt_mask=mask)).mean(1)


class Parametrised(nn.Module):
    """Weights that norms, masks and factors make of parameters: of linear, transposed and plain convolutions."""

    def __init__(self):
        super().__init__()
        norms = nn.utils.parametrizations
        self.conv = norms.weight_norm(nn.Conv2d(2, 4, 3, padding=1))
        self.up = norms.weight_norm(nn.ConvTranspose2d(4, 3, 2))  # its rows are input channels
        self.mix = norms.spectral_norm(nn.Conv2d(3, 4, 2))
        self.old = nn.utils.weight_norm(nn.Linear(64, 5), dim=None)
        self.pruned = prune.random_unstructured(nn.Linear(5, 5), "weight", 0.4)
        self.head = norms.spectral_norm(nn.Linear(5, 3))
        self.scale = nn.Parameter(torch.randn(3, 3))

    def forward(self, x):
        x = torch.tanh(self.mix(F.silu(self.up(torch.tanh(self.conv(x))))))
        x = torch.tanh(self.pruned(torch.tanh(self.old(x.flatten(1)))))
        return F.linear(torch.tanh(self.head(x)), self.scale * 0.5)


class Adjusted(nn.Module):
    """Weights to which something fixed is added, by quantisation, fixed weights or masks, and views of them."""

    def __init__(self):
        super().__init__()
        self.quantised, self.added, self.masked = weight(5, 4), weight(2, 1, 3), weight(5, 10)
        self.direction, self.length = weight(6, 5), nn.Parameter(torch.rand(6, 1) + 0.5)
        self.register_buffer("fixed", torch.randn(2, 1, 3))

    def forward(self, x):
        w = self.quantised
        x = torch.tanh(F.linear(x, w + (torch.round(w, decimals=1) - w).detach()))
        x = torch.tanh(F.conv1d(x.unsqueeze(1), self.fixed - 0.5 * self.added, padding=1).flatten(1))
        x = torch.tanh(x @ (self.masked * (self.masked.detach() > 0)).t())
        upper, lower = (self.direction / self.direction.norm(dim=1, keepdim=True) * self.length).chunk(2)
        return F.linear(x, upper) * torch.sigmoid(F.linear(x, lower))


class Standardised(nn.Module):
    """Weight standardisation as NFNet and BiT write it, and by hand."""

    def __init__(self):
        super().__init__()
        self.scaled, self.plain, self.by_hand = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 2), nn.Conv2d(4, 3, 2)
        self.gain = nn.Parameter(torch.rand(4, 1, 1, 1) + 0.5)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        w = self.scaled.weight
        gain = (self.gain * 0.7).view(-1)
        options = {"training": True, "momentum": 0.0, "eps": 1e-3}
        w = F.batch_norm(w.reshape(1, len(w), -1), None, None, gain, **options).reshape_as(w)
        x = torch.tanh(F.conv2d(x, w, self.scaled.bias, padding=1))
        w = self.plain.weight
        w = F.batch_norm(w.reshape(1, len(w), -1), None, None, **options).reshape_as(w)
        x = torch.tanh(F.conv2d(x, w, self.plain.bias))
        w = self.by_hand.weight
        variance, mean = torch.var_mean(w, dim=[1, 2, 3], keepdim=True, unbiased=False)
        w = (w - mean) / torch.sqrt(variance + 1e-3)
        return self.head(torch.tanh(F.conv2d(x, w, self.by_hand.bias)).flatten(1))


class Affines(nn.Module):
    """The affine maps of ResMLP, and other products that are added to something in one operation."""

    def __init__(self):
        super().__init__()
        self.project, self.mix, self.head = nn.Linear(4, 4), nn.Linear(3, 3), nn.Linear(4, 3)
        self.alpha, self.beta = weight(1, 1, 4), weight(1, 1, 4)
        self.divided, self.start, self.rate = weight(1, 1, 4), weight(3, 4), weight(3, 1)

    def forward(self, x):
        h = torch.tanh(self.project(x))
        h = h + self.mix(torch.addcmul(self.beta, self.alpha, h).transpose(1, 2)).transpose(1, 2)
        h = torch.addcdiv(h, self.divided, 2 + torch.sin(h), value=-0.5)
        h = torch.lerp(torch.lerp(self.start, h, 0.3), torch.tanh(h), self.rate)
        return self.head(torch.tanh(h)).mean(1)


class Written(nn.Module):
    """Parts, and a forward pass written as a function of the module and x."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def weight(*shape):
    return nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)


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
    driven: tuple[str, ...] = ()
    """The synapses directly followed by the loss, if not the last one alone."""

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
    "shared": Case(SharedWeights, (5,), squared, outputs=5, driven=("embed.weight",)),
    "functional": Case(Functional, (2, 4, 4), driven=("matrices.1",)),
    "matrix_products": Case(MatrixProducts, (3, 4)),
    "split_weight": Case(SplitWeight, (3, 4)),
    "transposed": Case(Transposed, (2, 3, 3), driven=("conv1.weight",)),
    "look_ups": Case(LookUps, (3,)),
    "products": Case(Products, (3, 4), driven=("dotted",)),
    "bilinear": Case(Pair, (5,)),
    "tokens": Case(Tokens, (3, 4)),
    "adjusted": Case(Adjusted, (4,), driven=("direction", "length")),
    "parametrised": Case(Parametrised, (2, 4, 4), driven=("scale",)),
    "standardised": Case(Standardised, (2, 4, 4)),
    "affines": Case(Affines, (3, 4)),
    "rnn": Case(lambda: Recurrent(nn.RNN, num_layers=2, bias=False, nonlinearity="relu"), (3, 4)),
    "gru": Case(lambda: Recurrent(nn.GRU, bidirectional=True), (3, 4)),
    "lstm": Case(lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True, proj_size=2), (3, 4)),
    "lstm_packed": Case(lambda: Packed(nn.LSTM, num_layers=2, bidirectional=True), (3, 4)),
    "cells": Case(Cells, (3, 4), squared, driven=("plain.weight_ih", "plain.weight_hh")),
    "attention": Case(Attention, (3, 4)),
    "encoder": Case(Encoder, (3, 4)),
    "encoder_decoder": Case(EncoderDecoder, (3, 4)),
}
